package ranged

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// A tracker remembers which blocks have been written.
type tracker struct {
	block.Pass
	mu      sync.Mutex
	written map[int64]int
}

func (d *tracker) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.mu.Lock()
	d.written[off]++
	d.mu.Unlock()
	return d.Device.WriteAt(ctx, p, off, flags)
}

// taken returns what was written since it was called last.
func (d *tracker) taken() map[int64]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer clear(d.written)
	return maps.Clone(d.written)
}

// Data that are written again and again get another place each time only until
// two commits have been made, which no client asks for.
func TestRewritesComeToRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const chunk, n = 4096, 128
		disk := func(size int64) block.Device {
			return blocktest.NewDevice(block.Info{Size: size, NoWait: true, FastZeros: true})
		}
		store := &tracker{Pass: block.Pass{Device: disk(16 << 20)}, written: map[int64]int{}}
		s, err := snapshot.New(disk(4<<20), store, snapshot.Options{Kind: "ranged", Format: snapshot.Always, Policy: snapshot.Redirect})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ctx := t.Context()
		if err := s.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Create(ctx, "a", snapshot.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, chunk)
		write := func() map[int64]int {
			store.taken()
			for c := range int64(n) {
				if err := s.Origin().WriteAt(ctx, p, c*chunk, 0); err != nil {
					t.Fatal(err)
				}
			}
			return store.taken()
		}
		places := write()
		again := write()
		kept := 0
		for off := range places {
			kept += again[off]
		}
		if kept > n/2 {
			t.Fatalf("%d of %d places were written in place before they were proved", kept, n)
		}
		// Few are never worth the commits by themselves, but add up.
		for range 1000 {
			synctest.Wait()
			if places, again = again, write(); len(again) == n && maps.Equal(places, again) {
				return
			}
		}
		t.Error("writes do not come to rest")
	})
}
