package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/snapshot"
)

// smallChunk is the size of the chunks where their number matters.
const smallChunk = 512

// alternate writes every other of 2n chunks, so that none can be joined with its
// neighbour, behind so many that are left out.
func (r *rig) alternate(ctx context.Context, from, n int) error {
	p := make([]byte, smallChunk)
	err := parallel(n, inFlight, func(i int) error { return r.disk.WriteAt(ctx, p, int64(from+i)*2*smallChunk, 0) })
	return errors.Join(err, r.disk.Flush(ctx))
}

// layered makes a set in which each snapshot but the first alone has so many
// exceptions.
func (l *snapLab) layered(ctx context.Context, snapshots, exceptions int, manual bool) (*rig, error) {
	o := snapshot.Options{Policy: snapshot.Redirect, Chunk: smallChunk, Manual: manual}
	r, err := l.newRig(ctx, smallDisk, o)
	if err != nil {
		return nil, err
	}
	err = r.store.lazily(ctx, func() (err error) {
		for i := 0; i < snapshots && err == nil; i++ {
			err = errors.Join(r.snapshot(ctx), r.alternate(ctx, 0, exceptions))
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// names are those of the snapshots from first to last.
func names(first, last int) (all []string) {
	for i := first; i <= last; i++ {
		all = append(all, snapshotName(i))
	}
	return all
}

// free deletes snapshots of a manual rig and says how long Delete and how long
// the rest took.
func (e *engineFigures) free(ctx context.Context, r *rig, first, last int) (deleting, working time.Duration, err error) {
	start := time.Now()
	if err := r.set.Delete(ctx, names(first, last)...); err != nil {
		return 0, 0, err
	}
	deleting = time.Since(start)
	err = e.spendOn("delete", func() error { return r.work(ctx) })
	return deleting, time.Since(start) - deleting, err
}

// engineDelete measures the rate, and that it does not depend on what else
// there is.
func (l *snapLab) engineDelete(ctx context.Context, e *engineFigures) error {
	each := max(l.o.exceptions/200, 1)
	var times [2]time.Duration
	for i, snapshots := range []int{2, 12} {
		r, err := l.layered(ctx, snapshots, each, true)
		if err != nil {
			return err
		}
		before := r.set.Stats().Store.Exceptions
		e.deleting, times[i], err = e.free(ctx, r, 2, 2)
		freed := before - r.set.Stats().Store.Exceptions
		if freed != int64(each) {
			err = errors.Join(err, fmt.Errorf("%d exceptions were freed, not %d", freed, each))
		}
		if err := errors.Join(err, r.close()); err != nil {
			return err
		}
	}
	e.deleted = each
	e.rate = float64(each) / times[0].Seconds()
	e.tree = quotient(float64(times[1]), float64(times[0]))
	return nil
}

// batchSize is how many snapshots are deleted in one pass.
const batchSize = 100

// engineBatch compares the deletion of many snapshots, each with exceptions of
// its own, with that of one that has all of them.
func (l *snapLab) engineBatch(ctx context.Context, e *engineFigures) error {
	all := max(l.o.exceptions/20/batchSize, 1) * batchSize
	var times [2]time.Duration
	for i, n := range []int{batchSize, 1} {
		r, err := l.layered(ctx, 1, all, true)
		if err != nil {
			return err
		}
		err = r.store.lazily(ctx, func() (err error) {
			for j := 0; j < n && err == nil; j++ {
				err = errors.Join(r.snapshot(ctx), r.alternate(ctx, all/n*j, all/n))
			}
			return err
		})
		if err == nil {
			_, times[i], err = e.free(ctx, r, 2, n+1)
		}
		if left := r.set.Stats().Store.Exceptions; left != int64(all) {
			err = errors.Join(err, fmt.Errorf("%d exceptions are left, not %d", left, all))
		}
		if err := errors.Join(err, r.close()); err != nil {
			return err
		}
	}
	e.batch = quotient(float64(times[0]), float64(times[1]))
	return nil
}

// engineLatency compares the p99 of a load while snapshots are deleted with that
// before, and suspends in the middle of it.
func (l *snapLab) engineLatency(ctx context.Context, e *engineFigures) error {
	const snapshots = 10
	each := max(l.o.exceptions/200, 1)
	r, err := l.layered(ctx, snapshots+1, each, false)
	if err != nil {
		return err
	}
	quiet, err := r.foreground(ctx, each, func() error {
		time.Sleep(time.Duration(l.o.seconds) * time.Second)
		return nil
	})
	if err != nil {
		return errors.Join(err, r.close())
	}
	busy, err := r.foreground(ctx, each, func() error {
		return e.spendOn("latency", func() error {
			if err := r.set.Delete(ctx, names(2, snapshots)...); err != nil {
				return err
			}
			return r.waitFreed(ctx, int64(2*each))
		})
	})
	e.latency = quotient(float64(busy), float64(quiet))
	err = errors.Join(err, r.set.Delete(ctx, names(snapshots+1, snapshots+1)...))
	start := time.Now()
	err = errors.Join(err, r.set.Suspend(ctx))
	e.suspending = time.Since(start)
	return errors.Join(err, r.close())
}

// waitFreed waits until no more than so many exceptions are left.
func (r *rig) waitFreed(ctx context.Context, left int64) error {
	for start := time.Now(); r.set.Stats().Store.Exceptions > left; time.Sleep(time.Millisecond) {
		if time.Since(start) > settleMax || ctx.Err() != nil {
			return fmt.Errorf("%d exceptions are left, not %d", r.set.Stats().Store.Exceptions, left)
		}
	}
	return nil
}

// foreground reads and writes chunks that have been written while f runs, and
// returns the p99.
func (r *rig) foreground(ctx context.Context, written int, f func() error) (time.Duration, error) {
	const lanes = 16
	var stop atomic.Bool
	took := make([][]time.Duration, lanes)
	ended := make(chan error, 1)
	go func() {
		ended <- parallel(lanes, lanes, func(lane int) error {
			random, p := rand.New(rand.NewPCG(1, uint64(lane))), make([]byte, smallChunk)
			for i := 0; !stop.Load(); i++ {
				off, start := random.Int64N(int64(written))*2*smallChunk, time.Now()
				err := r.request(ctx, i%2 == 0, p, off)
				if err != nil {
					return err
				}
				took[lane] = append(took[lane], time.Since(start))
				runtime.Gosched() // not in the middle of a request
			}
			return nil
		})
	}()
	err := f()
	stop.Store(true)
	err = errors.Join(err, <-ended)
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	return quantile(all, 0.99), err
}

func (r *rig) request(ctx context.Context, read bool, p []byte, off int64) error {
	if read {
		return r.disk.ReadAt(ctx, p, off, 0)
	}
	return r.disk.WriteAt(ctx, p, off, 0)
}
