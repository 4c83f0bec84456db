package upkeep

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/cluster/job"
)

// Groups that a disk joins are pulled at the same time, unless there are clients: then
// one object at a time, and half of the time nothing, also if each group has one only.
func TestJoinsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const groups, long = 10, 10 * time.Millisecond
		d := NewDisk("disk", 1<<30, nil, Options{})
		board := job.NewBoard()
		join := func() time.Duration {
			begin := time.Now()
			var all sync.WaitGroup
			for g := range groups {
				all.Go(func() {
					ctx, j := d.Joins(t.Context(), board, g)
					defer j.End()
					err := d.Pace(ctx, func() (int64, error) { time.Sleep(long); return 4 << 20, nil })
					if s := j.Status(); err != nil || s.Moved != 4<<20 {
						t.Errorf("group %d: %d bytes, %v", g, s.Moved, err)
					}
				})
			}
			all.Wait()
			return time.Since(begin)
		}
		if took := join(); took != long {
			t.Errorf("without clients it took %v, expected %v", took, long)
		}
		d.throttle.Enter()
		defer d.throttle.Leave()
		if took, want := join(), (2*groups-1)*long; took != want {
			t.Errorf("with clients it took %v, expected %v", took, want)
		}
	})
}
