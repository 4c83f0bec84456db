package kinds_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/lock"
	"github.com/strata-storage/strata/snapshot"
)

// Two sets that take turns know of each other's snapshots, names and rollbacks,
// whatever one of them did before in the same turn.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var l lock.Local
		origin, store := block.FromBytes(make([]byte, 1<<20)), block.FromBytes(make([]byte, 16<<20))
		var sets [2]*snapshot.Set
		for i := range sets {
			s, err := snapshot.New(block.Keep(origin), block.Keep(store),
				snapshot.Options{Kind: "ranged", Format: snapshot.IfBlank, Lock: l.Join(), Manual: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			sets[i] = s
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		p := make([]byte, chunk)
		for i := range 20 {
			a, b := sets[i%2], sets[1-i%2]
			must(a.Origin().WriteAt(ctx, p, int64(i)*chunk, 0))
			switch name := fmt.Sprint(i); i % 5 {
			case 0, 1:
				must(a.Create(ctx, name, snapshot.CreateOptions{}))
			case 2:
				must(a.Rename(ctx, fmt.Sprint(i-1), name))
			case 3:
				must(a.Rollback(ctx, fmt.Sprint(i-1)))
			case 4:
				for more := true; more; {
					w, err := a.Work(ctx)
					must(err)
					more = w.More
				}
				must(a.Delete(ctx, fmt.Sprint(i-4)))
			}
			for range 2 { // the second time nothing has changed
				begin := time.Now()
				must(b.Refresh(ctx))
				if d := time.Since(begin); d > 5*time.Millisecond {
					t.Errorf("step %d: the lock changes hands in %v", i, d)
				}
				if x, y := fmt.Sprint(a.List()), fmt.Sprint(b.List()); x != y {
					t.Fatalf("step %d: one has the snapshots %s, the other %s", i, x, y)
				}
				must(a.Refresh(ctx))
			}
		}
		for _, s := range sets {
			must(s.Close())
		}
	})
}
