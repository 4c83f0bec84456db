package upkeep

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/source"
)

const blockTime = 20 * time.Microsecond

// A pulled object has so many blocks left; the steps that it took are noted.
type pulled struct {
	left    int
	longest int // step, but for the first ones
	steps   int
}

func (p *pulled) step(_ context.Context, n int) (more bool, moved int64, err error) {
	n = min(n, p.left)
	time.Sleep(time.Duration(n) * blockTime)
	p.left -= n
	if p.steps++; p.steps > 3 {
		p.longest = max(p.longest, n)
	}
	return p.left > 0, int64(n) * disk.BlockSize, nil
}

// Groups that a disk joins are pulled at the same time, unless there are clients: then one
// after the other, in short steps, for a part of the time.
func TestJoinsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const groups, blocks, alone = 12, 1024, 1024 * blockTime
		d := NewDisk("disk", 1<<30, nil, Options{})
		board := job.NewBoard()
		var all sync.WaitGroup
		join := func(g int, urgent bool, note func(*pulled)) {
			ctx, j := d.Joins(t.Context(), board, g, urgent)
			all.Go(func() {
				defer j.End()
				p := &pulled{left: blocks}
				err := d.Pace(ctx, p.step)
				if s := j.Status(); err != nil || s.Moved != blocks*disk.BlockSize {
					t.Errorf("group %d: %d bytes, %v", g, s.Moved, err)
				}
				note(p)
			})
		}
		begin := time.Now()
		for g := range groups {
			join(g, false, func(*pulled) {})
		}
		if all.Wait(); time.Since(begin) != groups/idlePulls*alone {
			t.Errorf("without clients it took %v, expected %v", time.Since(begin), groups/idlePulls*alone)
		}

		d.throttle.Enter()
		defer d.throttle.Leave()
		var ended []int
		var mu sync.Mutex
		begin = time.Now()
		for g := range groups {
			join(g, g == groups-1, func(p *pulled) {
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, g)
				if took := time.Duration(p.longest) * blockTime; g > 0 && took > pullTime {
					t.Errorf("a step of group %d takes %v where there are clients", g, took)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		// The first one was alone when it began.
		want := []int{0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
		if took, least := time.Since(begin), groups*alone*4; took < least || took > 2*least {
			t.Errorf("with clients it took %v, expected %v to %v", took, least, 2*least)
		}
		if !slices.Equal(ended, want) {
			t.Errorf("groups were whole in the order %v, expected %v", ended, want)
		}
	})
}

// Groups that are whole are finished together, seldom where there are clients, or at once if it is
// urgent.
func TestFinishTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := NewDisk("disk", 1<<30, nil, Options{})
		board := job.NewBoard()
		finish := func(urgent bool) {
			ctx, j := d.Joins(t.Context(), board, 1, urgent)
			defer j.End()
			if err := d.Finish(ctx); err != nil {
				t.Error(err)
			}
		}
		together := func(want time.Duration) {
			t.Helper()
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					if finish(false); time.Since(d.since) != want {
						t.Errorf("it is finished at %v, expected %v", time.Since(d.since), want)
					}
				})
				time.Sleep(finishEvery / 10)
			}
			all.Wait()
		}
		together(finishEvery)
		d.throttle.Enter()
		defer d.throttle.Leave()
		begin := time.Now()
		if finish(true); time.Since(begin) != 0 {
			t.Errorf("if one copy is left it is finished after %v", time.Since(begin))
		}
		together(finishBusy)
	})
}

// Who does not want to wait any longer leaves the line, also when its turn comes just then.
func TestLineIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l line
		gone := errors.New("gone")
		for range 100 {
			if err := l.enter(t.Context(), stand{number: 1}, 1); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			var all sync.WaitGroup
			all.Go(func() {
				if err := l.enter(ctx, stand{number: 2}, 1); err == nil {
					l.leave(1)
				} else if !errors.Is(err, gone) {
					t.Errorf("leaving the line: %v", err)
				}
			})
			synctest.Wait()
			all.Go(func() { l.leave(1) })
			all.Go(func() { cancel(gone) })
			all.Wait()
		}
		if l.inside > 0 || len(l.waiting) > 0 {
			t.Error("somebody is in the line still")
		}
	})
}

// The flush of a disk that joins a group is no request of a client: pulls of others go on at
// full speed.
func TestOwnFlush(t *testing.T) {
	t.Parallel()
	c := disk.Config{Slab: must(source.Mem(t.Context(), source.MemOptions{Size: 64 << 20})), Dir: t.TempDir(), Trees: noTrees{}}
	if _, err := disk.Format(t.Context(), c, false); err != nil {
		t.Fatal(err)
	}
	own, err := disk.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDisk("disk", 64<<20, own, Options{})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, j := d.Joins(t.Context(), job.NewBoard(), 1, false)
	defer j.End()
	if err := d.Flush(ctx); err != nil || d.throttle.Busy() {
		t.Errorf("after its own flush: %v, busy %t", err, d.throttle.Busy())
	}
}

// noTrees knows no family.
type noTrees struct{}

func (noTrees) Tree(context.Context, uint64, uint64) (*family.Tree, error) {
	return nil, block.ErrInvalid
}

func must(dev block.Device, err error) block.Device {
	if err != nil {
		panic(err)
	}
	return dev
}
