package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// A member is one of several, which can crash.
type member struct {
	*Server
	options ServerOptions
}

// crash stops a member without a word to the others.
func (m *member) crash() {
	m.etcd.Server.HardStop()
	m.Close()
}

func (m *member) again(t testing.TB) {
	t.Helper()
	s, err := Start(t.Context(), m.options)
	ok(t, err)
	m.Server = s
}

// startAll starts a cluster, with options that were set up.
func startAll(t testing.TB, members map[string][]string, setup ...func(*ServerOptions)) map[string]*member {
	t.Helper()
	all := map[string]*member{}
	var starting sync.WaitGroup
	for name, urls := range members {
		m := &member{options: quick(name, tempDir(t))}
		m.options.PeerURLs, m.options.Members = urls, members
		for _, f := range setup {
			f(&m.options)
		}
		all[name] = m
		starting.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			var err error
			if m.Server, err = Start(ctx, m.options); err != nil {
				t.Errorf("member %s: %v", name, err)
			}
		})
	}
	starting.Wait()
	t.Cleanup(func() {
		var closing sync.WaitGroup
		for _, m := range all {
			if m.Server != nil {
				closing.Go(m.crash)
			}
		}
		closing.Wait()
	})
	if t.Failed() {
		t.FailNow()
	}
	return all
}

// Of three members each may die, the leader too, and nobody notices for long.
func TestThreeMembers(t *testing.T) {
	t.Parallel()
	members := map[string][]string{}
	for _, name := range []string{"a", "b", "c"} {
		members[name] = []string{freeURL(t, "http")}
	}
	servers := startAll(t, members)
	var endpoints []string
	for _, s := range servers {
		endpoints = append(endpoints, s.Endpoint())
	}
	c := dial(t, Options{Endpoints: endpoints, Timeout: time.Second})
	l, err := coord.NewLease(t.Context(), c, 20*time.Second)
	ok(t, err)
	first := put(t, c, "k/0", nil)
	i := 0
	for _, s := range servers {
		s.crash()
		for range 3 {
			i++
			put(t, c, fmt.Sprint("k/", i), nil)
		}
		ok(t, l.Wait(t.Context()))
		s.again(t)
	}
	last := put(t, c, "k/last", nil)
	seen := map[string]bool{}
	after := first - 1
	for change, err := range c.Watch(t.Context(), "k/", after) {
		ok(t, err)
		if change.Revision <= after {
			t.Errorf("revision %d after %d", change.Revision, after)
		}
		after = change.Revision
		seen[change.Events[0].Key] = true
		if change.Revision == last {
			break
		}
	}
	if len(seen) != i+2 {
		t.Errorf("a watch has seen %d keys, want %d", len(seen), i+2)
	}
	ok(t, l.Revoke(t.Context()))
}

// A server that knows no leader is passed over.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	members := map[string][]string{"a": {freeURL(t, "http")}, "b": {freeURL(t, "http")}}
	servers := startAll(t, members)
	servers["a"].crash()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for servers["b"].etcd.Server.Leader() != 0 {
		<-look.C
	}
	// The other endpoint is of another cluster, which is no matter here.
	one := start(t, quick("one", tempDir(t)))
	c := dial(t, Options{Endpoints: []string{servers["b"].Endpoint(), one.Endpoint()}, Timeout: time.Minute})
	begin := time.Now()
	for i := range 6 {
		put(t, c, fmt.Sprint("k/", i), nil)
		_, _, err := c.Get(t.Context(), "k/0")
		ok(t, err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

// When most members are lost, what one of them knows is made a cluster again, which
// goes on by itself and may grow.
func TestRecover(t *testing.T) {
	t.Parallel()
	members := map[string][]string{"a": {freeURL(t, "http")}, "b": {freeURL(t, "http")}}
	all := startAll(t, members)
	a := all["a"]
	r := put(t, dial(t, Options{Endpoints: []string{a.Endpoint()}}), "k", []byte("v"))
	for _, m := range all {
		m.crash()
	}
	a.options.Recover = true
	if _, err := Start(t.Context(), a.options); err == nil || !strings.Contains(err.Error(), "to recover alone, and to be with others") {
		t.Errorf("recovering with others: %v", err)
	}
	a.options.Members = nil
	empty := a.options
	empty.Dir = tempDir(t)
	if _, err := Start(t.Context(), empty); err == nil || !strings.Contains(err.Error(), "nothing to recover") {
		t.Errorf("recovering nothing: %v", err)
	}
	for range 2 {
		a.again(t)
		c := dial(t, Options{Endpoints: []string{a.Endpoint()}})
		e, _, err := c.Get(t.Context(), "k")
		if err != nil || string(e.Value) != "v" || e.Revision != r {
			t.Errorf("after recovery: %+v, %v", e, err)
		}
		if next := put(t, c, "l", nil); next <= r {
			t.Errorf("revision %d after %d", next, r)
		}
		left, err := c.Cluster().Members(t.Context())
		if err != nil || len(left) != 1 || left[0].Name != "a" || left[0].PeerURLs[0] != members["a"][0] {
			t.Errorf("the members are %+v, %v", left, err)
		}
		a.crash()
		a.options.Recover = false
	}
}
