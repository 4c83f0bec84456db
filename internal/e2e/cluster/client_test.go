package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

// A client has a volume open at one node, and goes to others when that does not
// answer, as multipath does: what has no reply is sent again. It measures how long
// requests take. It is a device.
type client struct {
	block.Pass
	l      *lab
	volume string

	mu     sync.Mutex
	at     int // index of the node
	was    int // the same when pause was called last
	stays  bool
	conn   net.Conn
	next   int                      // what the next request is called
	flying map[int]time.Time        // since when requests are under way
	slow   map[string]time.Duration // the longest request of each kind
	wrong  []string
	// stalls is what stalled was at the last look.
	stalls time.Duration
}

// open opens a volume at a node.
func (l *lab) open(volume string, at int) *client {
	l.t.Helper()
	c := &client{l: l, volume: volume, at: at, slow: map[string]time.Duration{}, flying: map[int]time.Time{}, stalls: time.Duration(stalled.Load())}
	d := nbd.Dialer{Connect: c.connect, Reconnect: nbd.Reconnect{Limit: patience, First: 10 * time.Millisecond, Max: 200 * time.Millisecond}}
	var dev *nbd.Client
	// A node may not have heard of the volume yet.
	until(l.t, "the volume "+volume, func() (done bool) {
		var err error
		dev, err = d.Dial(l.t.Context(), "nbd://cluster/"+volume)
		return err == nil
	})
	c.Device = dev
	l.t.Cleanup(func() { dev.Close() })
	return c
}

// connect connects to the node that was chosen, or else to any if the client does not
// stay.
func (c *client) connect(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []string
	for i := range c.l.nodes {
		if i > 0 && c.stays {
			break
		}
		at := (c.at + i) % len(c.l.nodes)
		n := c.l.nodes[at]
		conn, err := net.DialTimeout("unix", filepath.Join(n.sockets, "nbd"), time.Second)
		if err == nil {
			c.at, c.conn = at, conn
			return conn, nil
		}
		errs = append(errs, err.Error())
	}
	return nil, fmt.Errorf("no node answers: %s", strings.Join(errs, "; "))
}

// move lets the client go to another node.
func (c *client) move(to int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = to
	c.conn.Close()
}

// stay says whether the client waits for its node rather than go to another one.
func (c *client) stay(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stays = yes
}

// where is the node that the client is connected to.
func (c *client) where() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// do carries out a request, and notes how it went.
func (c *client) do(kind string, f func() error) error {
	c.mu.Lock()
	c.flying[c.next] = time.Now()
	id := c.next
	c.next++
	c.mu.Unlock()
	err := f()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slow[kind] = max(c.slow[kind], time.Since(c.flying[id]))
	delete(c.flying, id)
	if err != nil {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: %v", kind, err))
	}
	return err
}

// settle waits until all requests have ended that are under way.
func (c *client) settle() {
	c.mu.Lock()
	before := c.next
	c.mu.Unlock()
	until(c.l.t, "requests to "+c.volume, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for id := range c.flying {
			if id < before {
				return false
			}
		}
		return true
	})
}

// pause says and returns how long the longest request took since it was called last, and
// fails the test if there were errors. That it is more than allowed only fails where the
// machine has nothing else to do, which STRATA_E2E_TIMES says.
func (c *client) pause(t testing.TB, what string, allowed time.Duration) time.Duration {
	t.Helper()
	c.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	longest := time.Duration(0)
	for _, d := range c.slow {
		longest = max(longest, d)
	}
	t.Logf("%-44s %-4s paused for %6v at most (read %v, write %v, flush %v), allowed %v", what, c.volume, longest.Round(time.Millisecond),
		c.slow["read"].Round(time.Millisecond), c.slow["write"].Round(time.Millisecond), c.slow["flush"].Round(time.Millisecond), allowed)
	// After a stall leases may be over.
	if stall := time.Duration(stalled.Load()) - c.stalls; stall > 0 {
		c.stalls += stall
		allowed += 2*stall + afterSilence
		t.Logf("%s: the machine stood still for %v, so that %v are allowed", what, stall.Round(time.Millisecond), allowed.Round(time.Millisecond))
	}
	if longest > allowed {
		report := t.Logf
		if os.Getenv("STRATA_E2E_TIMES") != "" {
			report = t.Errorf
		}
		report("%s: requests to %s waited for %v, allowed %v", what, c.volume, longest, allowed)
	}
	if len(c.wrong) > 0 {
		t.Errorf("%s: %d requests to %s have failed: %s", what, len(c.wrong), c.volume, c.wrong[0])
	}
	clear(c.slow)
	c.wrong, c.was = nil, c.at
	return longest
}

// ReadAt is that of block.Device, and so are the next ones.
func (c *client) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock
	}
	return c.do("read", func() error { return c.Device.ReadAt(ctx, p, off, flags) })
}

func (c *client) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock
	}
	return c.do("write", func() error { return c.Device.WriteAt(ctx, p, off, flags) })
}

func (c *client) Flush(ctx context.Context) error {
	return c.do("flush", func() error { return c.Device.Flush(ctx) })
}
