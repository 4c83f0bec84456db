package replica

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/disk"
)

// An awaited is an Ender whose end somebody waits for.
type awaited chan error

func (a awaited) Ended(err error, _ *block.Burst) { a <- err }

// begun writes by way of StartWrite, if that is possible.
func begun(ctx context.Context, v block.Starter, p []byte, off int64, flags block.Flags) error {
	var b block.Burst
	end := make(awaited, 1)
	if v.StartWrite(ctx, p, off, flags, &b, end) {
		b.End()
		return <-end
	}
	b.End()
	return v.WriteAt(ctx, p, off, flags)
}

// A beginner is a volume whose writes are begun.
type beginner struct{ *Volume }

func (v beginner) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return begun(ctx, v.Volume, p, off, flags)
}

// A promptPlatter writes for those who do not wait, now and then.
type promptPlatter struct {
	Disk
	r *chance
}

func (p promptPlatter) ReadNow(disk.At, []byte, int64) bool { return false }

func (p promptPlatter) WriteNow(at disk.At, b []byte, off int64) (bool, error) {
	if p.r.n(3) == 0 {
		return false, nil
	}
	return true, p.Write(context.Background(), at, b, off)
}

// So it is when writes are begun, on disks of the same node.
func TestBegunConformance(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		r := newChance(1)
		v, _ := smallCluster(t, 3, func(trees disk.Trees) Disk {
			p := newPlatter(r)
			p.still = true
			return promptPlatter{p.open(nil, trees), r}
		})
		return beginner{v}
	})
}

// Writes that are begun end with the volume, though other nodes do not answer; those that
// one disk has failed are tried again.
func TestBegunWrites(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(3)
		must(t, err)
		for i := range uint64(20) {
			must(t, begun(t.Context(), v, content(i+1), 0, 0))
		}
		expect(t, v, 20)
		s.holds(v, 20)
		begin := func(value uint64, n int64) awaited {
			end := make(awaited, 1)
			var b block.Burst
			for !v.StartWrite(t.Context(), content(value), n*disk.BlockSize, 0, &b, end) {
				time.Sleep(time.Millisecond)
			}
			b.End()
			return end
		}
		// One who is cut off is removed.
		s.cut(3, nodeOfBlock0, true)
		must(t, <-begin(21, 0))
		expect(t, v, 21)
		if rec, _ := s.state.Group(groupOfBlock0); len(rec.Members) != simCopies-1 {
			t.Errorf("members %v", rec.Members)
		}
		s.heal()
		for id := range simNodes {
			s.cut(3, id, true)
		}
		end := begin(22, 1)
		time.Sleep(patience / 10)
		why := errors.New("enough")
		before := time.Now()
		v.Abandon(why)
		if err := <-end; !errors.Is(err, why) || time.Since(before) > patience/10 {
			t.Errorf("%v after %v", err, time.Since(before))
		}
		must(t, v.Close())
	})
}
