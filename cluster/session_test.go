package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
)

// What is under way of an older connection ends before the later one begins, and the rest
// of it is refused.
func TestFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var f fence
		first, second, third := Session{7, 1}, Session{7, 2}, Session{7, 3}
		must(t, f.enter(ctx, first))
		must(t, f.enter(ctx, first))
		must(t, f.enter(ctx, Session{8, 1})) // somebody else
		var mu sync.Mutex
		var order []uint64
		begin := func(ctx context.Context, s Session) {
			go func() {
				err := f.enter(ctx, s)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					order = append(order, s.Number)
				} else if errors.Is(err, errOld) {
					order = append(order, 100+s.Number)
				}
			}()
			synctest.Wait()
		}
		begun := func(want ...uint64) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(order) != len(want) {
				t.Fatalf("%v, expected %v", order, want)
			}
			for i := range want {
				if order[i] != want[i] {
					t.Fatalf("%v, expected %v", order, want)
				}
			}
			order = nil
		}
		cancelled, cancel := context.WithCancel(ctx)
		begin(ctx, second)
		begin(cancelled, second)
		begin(ctx, first)
		begun(101)
		cancel()
		begun()
		f.leave(first)
		begun()
		begin(ctx, third)
		begun()
		f.leave(first)
		synctest.Wait()
		mu.Lock()
		slices.Sort(order)
		mu.Unlock()
		begun(3, 102)
		f.leave(third)
		f.leave(Session{8, 1})
		for i := range uint64(2 * maxClients) {
			s := Session{100 + i, 1}
			must(t, f.enter(ctx, s))
			f.leave(s)
		}
		if n := len(f.clients); n > maxClients {
			t.Errorf("%d clients are remembered", n)
		}
		must(t, f.enter(ctx, Session{}))
		f.leave(Session{})
	})
}

// A write that is left of a client's connection to one node is not carried out when the
// client has gone on at another one, whichever of them has attached the volume.
func TestSessions(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	near, _ := shared(t, nodes, 1, 0)
	defer near.Close()
	openAs := func(n *Node, s Session) block.Device {
		dev, err := n.OpenFor(t.Context(), "vm1", s, nil)
		must(t, err)
		t.Cleanup(func() { _ = dev.Close() })
		return dev
	}
	for i := range 2 {
		a, b := nodes[i], nodes[1-i]
		client := uint64(10 + i)
		old := openAs(a, Session{client, 1})
		fill(t, old, 0, 8192, 1)
		now := openAs(b, Session{client, 2})
		check(t, old, 0, 8192, 1)
		fill(t, old, 4096, 4096, 2) // the later one has not written yet
		fill(t, now, 0, 8192, 3)
		for name, err := range map[string]error{
			"write": old.WriteAt(t.Context(), make([]byte, 4096), 0, 0),
			"zero":  old.Zero(t.Context(), 0, 4096, 0),
			"trim":  old.Trim(t.Context(), 0, 4096, 0),
		} {
			if !errors.Is(err, block.ErrIO) {
				t.Errorf("%s of an older connection: %v", name, err)
			}
		}
		check(t, now, 0, 8192, 3)
		check(t, old, 0, 8192, 3)
		must(t, now.Flush(t.Context()))
	}
}
