package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// Token makes a token by which any number of nodes can join for that long.
func (n *Node) Token(ctx context.Context, valid time.Duration) (string, error) {
	return n.NewToken(ctx, valid, false)
}

// A journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// has waits for a while until the log has a text, and reports whether it does.
func (j *journal) has(text string) bool {
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for range 5000 {
		j.mu.Lock()
		found := strings.Contains(j.text.String(), text)
		j.mu.Unlock()
		if found {
			return true
		}
		<-ticks.C
	}
	return false
}

// Whoever cannot join is told why, and so is the operator of the node that refuses.
func TestJoinRefused(t *testing.T) {
	t.Parallel()
	var log journal
	a := several(t, 1, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })[0]
	b := several(t, 1)[0]
	token := func(n *Node, valid time.Duration) string {
		text, err := n.Token(t.Context(), valid)
		must(t, err)
		return text
	}
	withdrawn := token(a, time.Minute)
	list, err := a.Tokens(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].Once || strings.Contains(withdrawn, list[0].Digest) {
		t.Errorf("the tokens are %+v", list)
	}
	must(t, a.Withdraw(t.Context(), list[0].Digest[:8]))
	good := token(a, time.Minute)
	for _, x := range []struct{ token, says, logged string }{
		{token(b, time.Minute), "this is not the cluster of the token: another authority is shown than the token names", "does not take this for the cluster of its token: remote error: tls: bad certificate"},
		{token(a, -time.Minute), "it is refused: identity: the token has expired at ", "the token has expired"},
		{withdrawn, "it is refused: the token is not one of this cluster, was used up, or was withdrawn", "was withdrawn"},
		{"hello", `identity: the token begins with "hello", expected "strata1-": it is something else`, ""},
		{good[:len(good)-4], "a part is missing", ""},
		{strings.Replace(good, good[20:24], "AAAA", 1), "its checksum does not fit", ""},
	} {
		o := networked(t)
		o.Join, o.Token = a.o.Door, x.token
		if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("joined with the token of something else: %v, expected %q", err, x.says)
		}
		if x.logged != "" && !log.has(x.logged) {
			t.Errorf("the node has not said %q", x.logged)
		}
	}
	// Another port of the node, and something that is none.
	other, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { other.Close() })
	go func() {
		for c, err := other.Accept(); err == nil; c, err = other.Accept() {
			_, _ = c.Write([]byte("NBDMAGIC"))
			c.Close()
		}
	}()
	for _, address := range []string{a.listener.Addr().String(), other.Addr().String()} {
		o := networked(t)
		o.Join, o.Token = address, good
		if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "it is not where nodes join") {
			t.Errorf("joined at another port: %v", err)
		}
	}
	if n := a.View().Nodes.Len(); n != 1 {
		t.Errorf("there are %d nodes", n)
	}
}

// A token that is used up lets nobody else in, and what is withdrawn is known by its
// digest.
func TestTokens(t *testing.T) {
	t.Parallel()
	a := several(t, 1)[0]
	once, err := a.NewToken(t.Context(), time.Minute, true)
	must(t, err)
	_, err = a.Token(t.Context(), -time.Minute)
	must(t, err)
	o := networked(t)
	o.Join, o.Token = a.o.Door, once
	start(t, o)
	second := networked(t)
	second.Join, second.Token = o.Join, o.Token
	if _, err := Start(t.Context(), second); err == nil || !strings.Contains(err.Error(), ErrToken.Error()) {
		t.Errorf("a token was used twice: %v", err)
	}
	if list, err := a.Tokens(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the tokens are %+v, %v", list, err)
	}
	if err := a.Withdraw(t.Context(), "abc"); !errors.Is(err, record.ErrInvalid) {
		t.Errorf("withdrawn by 3 characters: %v", err)
	}
	if err := a.Withdraw(t.Context(), "abcdef"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("withdrawn what is not there: %v", err)
	}
}
