package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/coordtest"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/internal/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a system whose clients are set up by join.
func open(join func(c *memory.Client)) func(t *testing.T) coordtest.System {
	return func(*testing.T) coordtest.System {
		server := memory.NewServer(memory.Options{})
		return coordtest.System{
			Join: func() coord.Store {
				c := server.Client(memory.ClientOptions{Patience: 2 * time.Second})
				join(c)
				return c
			},
			Cut: func(s coord.Store, requests, replies bool) {
				s.(*memory.Client).Cut(requests, replies)
			},
			Compact: server.Compact,
			TTL:     time.Second,
		}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	coordtest.Run(t, coordtest.Options{Simulated: true}, open(func(*memory.Client) {}))
}

// The same in a network where everything takes some time.
func TestConformanceDelayed(t *testing.T) {
	t.Parallel()
	coordtest.Run(t, coordtest.Options{Simulated: true}, open(func(c *memory.Client) {
		rnd := rand.New(rand.NewPCG(1, 2))
		c.Delay(func() time.Duration { return time.Duration(rnd.IntN(3000)) * time.Microsecond })
	}))
}

// A drifting clock runs at another speed than that of package time.
type drifting struct{ percent time.Duration }

func (d drifting) Now() time.Duration { return clock.System{}.Now() / 100 * d.percent }

func (d drifting) AfterFunc(t time.Duration, f func()) func() bool {
	return clock.System{}.AfterFunc(t*100/d.percent, f)
}

// Holders whose clocks run as much too slow as the margin allows are in doubt
// before the lease is over.
func TestLeaseOfDriftingClock(t *testing.T) {
	t.Parallel()
	for _, percent := range []time.Duration{88, 95, 100, 105, 200} {
		t.Run(fmt.Sprint(int(percent)), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := memory.NewServer(memory.Options{})
				c := server.Client(memory.ClientOptions{Clock: drifting{percent}})
				defer c.Close()
				other := server.Client(memory.ClientOptions{})
				defer other.Close()
				l, err := coord.NewLease(t.Context(), c, 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.PutLeased(l.ID(), "k", nil)}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if err := l.Err(); err != nil {
					t.Fatalf("a lease that is kept alive: %v", err)
				}
				c.Cut(true, true)
				<-l.Doubt()
				if err := l.Err(); !errors.Is(err, coord.ErrInDoubt) {
					t.Errorf("the lease: %v", err)
				}
				if e, _, err := other.Get(t.Context(), "k"); err != nil || e.Revision == 0 {
					t.Errorf("the lease was over before the holder was in doubt: %+v, %v", e, err)
				}
				c.Cut(false, false)
				if err := l.Wait(t.Context()); err != nil && percent >= 100 {
					t.Errorf("the lease in a network that is whole again: %v", err)
				}
				if err := l.Revoke(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A stopped clock has timers that do not fire, like those of a process that does
// not run.
type stopped struct{ clock.System }

func (stopped) AfterFunc(time.Duration, func()) func() bool { return func() bool { return true } }

// Err knows of the doubt when timers do not.
func TestLeaseOfStoppedTimers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(memory.Options{})
		c := server.Client(memory.ClientOptions{Clock: stopped{}})
		defer c.Close()
		l, err := coord.NewLease(t.Context(), c, 8*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		e, err := coord.Elect(t.Context(), l, "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(7*time.Second - time.Nanosecond)
		if err, left := l.Err(), l.Left(); err != nil || left != 1 {
			t.Errorf("before the end of what is sure: %v, %v are left", err, left)
		}
		time.Sleep(time.Nanosecond)
		if err := e.Err(); !errors.Is(err, coord.ErrNotLeader) || !errors.Is(err, coord.ErrInDoubt) {
			t.Errorf("the leadership after that: %v", err)
		}
		<-l.Doubt()
		<-e.Lost()
		time.Sleep(time.Second)
		if err := l.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A request that was given up arrives all the same.
func TestLateRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(memory.Options{})
		c := server.Client(memory.ClientOptions{})
		c.Delay(func() time.Duration { return time.Second })
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		before := server.Revision()
		if _, err := c.Txn(ctx, coord.Txn{Then: []coord.Op{coord.Put("k", nil)}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Txn: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if r := server.Revision(); r != before {
			t.Errorf("revision %d after %d", r, before)
		}
		time.Sleep(time.Second)
		if r := server.Revision(); r != before+1 {
			t.Errorf("revision %d after %d", r, before)
		}
	})
}

// What is lost is given up after a while.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(memory.Options{})
		c := server.Client(memory.ClientOptions{Patience: 3 * time.Second})
		defer c.Close()
		for _, cut := range [][2]bool{{true, false}, {false, true}, {true, true}} {
			c.Cut(cut[0], cut[1])
			begin := time.Now()
			_, err := c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put(fmt.Sprint("k", cut[0]), nil)}})
			if !errors.Is(err, coord.ErrUnavailable) || time.Since(begin) != 3*time.Second {
				t.Errorf("%v: %v after %v", cut, err, time.Since(begin))
			}
		}
		c.Cut(false, false)
		es, _, err := c.List(t.Context(), "")
		if err != nil || len(es) != 1 || es[0].Key != "kfalse" {
			t.Errorf("%+v, %v; want the one whose request was not lost", es, err)
		}
	})
}

func TestExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(memory.Options{})
		c := server.Client(memory.ClientOptions{})
		defer c.Close()
		l, err := coord.NewLease(t.Context(), c, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if !server.Expire(l.ID()) || server.Expire(l.ID()) {
			t.Error("a lease expires once")
		}
		<-l.Lost()
		if err := l.Err(); !errors.Is(err, coord.ErrNoLease) {
			t.Errorf("the lease: %v", err)
		}
	})
}

func TestQuota(t *testing.T) {
	t.Parallel()
	server := memory.NewServer(memory.Options{Quota: 100})
	c := server.Client(memory.ClientOptions{})
	defer c.Close()
	put := func(n int) error {
		_, err := c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put("k", make([]byte, n))}})
		return err
	}
	if err := put(49); err != nil {
		t.Fatal(err)
	}
	if err := put(60); !errors.Is(err, coord.ErrFull) {
		t.Errorf("too much: %v", err)
	}
	if _, err := c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Delete("k")}}); err != nil {
		t.Errorf("deleting: %v", err)
	}
	if err := put(99); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// History is bounded, and keeps what was promised.
func TestHistory(t *testing.T) {
	t.Parallel()
	server := memory.NewServer(memory.Options{History: 10})
	c := server.Client(memory.ClientOptions{})
	defer c.Close()
	for range 100 {
		if _, err := c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put("k", nil)}}); err != nil {
			t.Fatal(err)
		}
	}
	last := server.Revision()
	n := 0
	for change, err := range c.Watch(t.Context(), "", last-10) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; change.Revision == last {
			break
		}
	}
	if n != 10 {
		t.Errorf("%d changes of the last 10 are kept", n)
	}
	for _, err := range c.Watch(t.Context(), "", last-30) {
		if !errors.Is(err, coord.ErrCompacted) {
			t.Errorf("a watch of what is not kept: %v", err)
		}
	}
}
