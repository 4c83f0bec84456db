package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-storage/strata/lock"
	"github.com/strata-storage/strata/snapshot"
)

// foreign are numbers of commits that another engine has made.
var foreign = []int{1, 10, 100, 1000}

// A refreshing is how long it took to learn of so many commits.
type refreshing struct {
	commits int
	took    time.Duration
}

// each is the time for one of them.
func (r refreshing) each() float64 { return quotient(float64(r.took), float64(r.commits)) }

// afterIdle is when the lock has been given back by whoever does nothing.
const afterIdle = 200 * time.Millisecond

// engineRefresh measures how long one of two sets takes to learn what the other
// has committed, with a store and with one ten times as large.
func (l *snapLab) engineRefresh(ctx context.Context, e *engineFigures) error {
	small := max(l.o.exceptions/1000, 10)
	for _, size := range []int{small, 10 * small} {
		all, err := l.refreshes(ctx, e, size)
		if err != nil {
			return err
		}
		if size == small {
			e.refresh = all
		} else {
			e.refreshLarge = all
		}
	}
	return nil
}

func (l *snapLab) refreshes(ctx context.Context, e *engineFigures, exceptions int) (all []refreshing, err error) {
	var shared lock.Local
	rigs, err := l.pair(ctx, snapshot.Options{Policy: snapshot.Redirect, Chunk: smallChunk, Manual: true}, func() (lock.Lock, error) {
		return shared.Join(), nil
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closePair(rigs)) }()
	if err := errors.Join(rigs[0].snapshot(ctx), rigs[0].alternate(ctx, 0, exceptions)); err != nil {
		return nil, err
	}
	next := exceptions
	for _, n := range foreign {
		var took []time.Duration
		for range 3 {
			if err := rigs[1].set.Refresh(ctx); err != nil {
				return nil, err
			}
			// What is measured is to read commits, not to make them.
			err := rigs[0].store.lazily(ctx, func() (err error) {
				for range n {
					err = errors.Join(err, rigs[0].alternate(ctx, next, 1))
					next++
				}
				return err
			})
			if err != nil {
				return nil, err
			}
			time.Sleep(afterIdle)
			start := time.Now()
			if err := e.spendOn("refresh", func() error { return rigs[1].set.Refresh(ctx) }); err != nil {
				return nil, err
			}
			took = append(took, time.Since(start))
		}
		all = append(all, refreshing{n, quantile(took, 0.5)})
	}
	return all, nil
}

// pair makes two sets that share a store under a lock.
func (l *snapLab) pair(ctx context.Context, o snapshot.Options, join func() (lock.Lock, error)) (rigs []*rig, err error) {
	for len(rigs) < 2 {
		var r *rig
		if o.Lock, err = join(); err == nil {
			if len(rigs) == 0 {
				r, err = l.newRig(ctx, smallDisk, o)
			} else {
				r = &rig{path: rigs[0].path}
				err = r.open(ctx, smallDisk, o)
			}
		}
		if err != nil {
			return nil, errors.Join(err, closePair(rigs))
		}
		rigs = append(rigs, r)
	}
	return rigs, nil
}

// closePair closes the sets of pair and removes their store.
func closePair(rigs []*rig) error {
	var errs []error
	for i := len(rigs) - 1; i >= 0; i-- {
		errs = append(errs, rigs[i].set.Close())
	}
	if len(rigs) > 0 {
		errs = append(errs, os.Remove(rigs[0].path))
	}
	return errors.Join(errs...)
}

// handOvers is how often the lock changes hands for a figure.
const handOvers = 100

// engineLock lets two sets write in turns while snapshots are being deleted,
// under a lock on a file and under one within the process.
func (l *snapLab) engineLock(ctx context.Context, e *engineFigures) error {
	file := filepath.Join(l.o.dir, "lock")
	defer os.Remove(file)
	var local lock.Local
	for _, kind := range []struct {
		join         func() (lock.Lock, error)
		median, slow *time.Duration
	}{
		{func() (lock.Lock, error) { return lock.File(file) }, &e.handOver, &e.slowHandOver},
		{func() (lock.Lock, error) { return local.Join(), nil }, &e.localHandOver, &e.slowLocalHandOver},
	} {
		rigs, err := l.pair(ctx, snapshot.Options{Policy: snapshot.Redirect, Chunk: smallChunk}, kind.join)
		if err != nil {
			return err
		}
		took, err := e.turns(ctx, rigs, max(l.o.exceptions/200, 1))
		*kind.median, *kind.slow = quantile(took, 0.5), quantile(took, 0.99)
		if err := errors.Join(err, closePair(rigs)); err != nil {
			return err
		}
	}
	return nil
}

// turns is how long writes took that were made by each of rigs in turn while
// there was something left to delete; or all, if that was too quick.
func (e *engineFigures) turns(ctx context.Context, rigs []*rig, exceptions int) ([]time.Duration, error) {
	for range 4 {
		if err := errors.Join(rigs[0].snapshot(ctx), rigs[0].alternate(ctx, 0, exceptions)); err != nil {
			return nil, err
		}
	}
	if err := rigs[0].set.Delete(ctx, names(2, 4)...); err != nil {
		return nil, err
	}
	var took, busy []time.Duration
	p := make([]byte, smallChunk)
	err := e.spendOn("lock", func() error {
		for i := range handOvers {
			r, start := rigs[i%2], time.Now()
			if err := r.disk.WriteAt(ctx, p, 0, 0); err != nil {
				return err
			}
			took = append(took, time.Since(start))
			if r.set.Stats().Store.Exceptions > int64(exceptions)+1 {
				busy = append(busy, took[i])
			}
		}
		return nil
	})
	if e.busyHandOvers += len(busy); len(busy) > 0 {
		took = busy
	}
	return took, err
}
