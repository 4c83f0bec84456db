package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/kinds" // those to measure
	"github.com/strata-storage/strata/source"
)

// engineFigures are what is measured within this process, with the default kind
// of store in a file.
type engineFigures struct {
	// A commit of one block by itself, and taking a snapshot of a small disk,
	// of a large one, and of one with many snapshots.
	commit, small, large, many time.Duration
	pause                      paused
	// deleting is how long Delete took, rate how many exceptions the
	// background freed in a second, and the others are ratios of times.
	deleting               time.Duration
	rate                   float64
	batch, tree, latency   float64
	suspending             time.Duration
	opening                time.Duration
	exceptions             int     // that were opened
	memory                 float64 // bytes for each
	lookup                 time.Duration
	amplification          float64
	barriers               float64       // for each flush of a client
	handOver, slowHandOver time.Duration // median and p99
	// The same within a process, and how many of all were made while there
	// was work in the background.
	localHandOver, slowLocalHandOver time.Duration
	busyHandOvers                    int
	deleted, snapshotsMany           int
	// To learn of commits of another engine, and with a store ten times as
	// large.
	refresh, refreshLarge []refreshing
	spent                 map[string]*spending // by what was measured
}

// spendOn notes what f uses.
func (e *engineFigures) spendOn(what string, f func() error) error {
	if e.spent == nil {
		e.spent = map[string]*spending{}
	}
	if e.spent[what] == nil {
		e.spent[what] = &spending{}
	}
	return e.spent[what].spend(f)
}

const (
	smallDisk = 1 << 30
	largeDisk = 64 << 40
	// manySnapshots is how many are many.
	manySnapshots = 10_000
	defaultStore  = "ranged"
)

// A rig is a set that is measured within this process.
type rig struct {
	set   *snapshot.Set
	disk  block.Device
	path  string // of the store
	next  int
	store *counted
}

// newRig makes a set of an origin that reads as zeros and a new store in a file.
func (l *snapLab) newRig(ctx context.Context, size int64, o snapshot.Options) (*rig, error) {
	l.count++
	r := &rig{path: filepath.Join(l.o.dir, fmt.Sprintf("rig%d", l.count))}
	return r, r.open(ctx, size, o)
}

func (r *rig) open(ctx context.Context, size int64, o snapshot.Options) error {
	origin, err := source.Null(ctx, source.NullOptions{Size: size})
	if err != nil {
		return err
	}
	const room = 16 << 30 // sparse
	store, err := source.File(ctx, source.FileOptions{Path: r.path, Create: true, Size: room, Shared: o.Lock != nil})
	if err != nil {
		return err
	}
	r.store = &counted{Pass: block.Pass{Device: store}}
	o.Kind, o.Format = defaultStore, snapshot.IfBlank
	if r.set, err = snapshot.New(origin, r.store, o); err != nil {
		return errors.Join(err, store.Close())
	}
	r.disk = r.set.Origin()
	return r.set.Resume(ctx)
}

func (r *rig) close() error {
	return errors.Join(r.set.Close(), os.Remove(r.path))
}

func (r *rig) snapshot(ctx context.Context) error {
	r.next++
	return r.set.Create(ctx, snapshotName(r.next), snapshot.CreateOptions{})
}

// snapshots takes n of them.
func (r *rig) snapshots(ctx context.Context, n int) error {
	return r.store.lazily(ctx, func() (err error) {
		for i := 0; i < n && err == nil; i++ {
			err = r.snapshot(ctx)
		}
		return err
	})
}

// work does all background work.
func (r *rig) work(ctx context.Context) error {
	for {
		if p, err := r.set.Work(ctx); err != nil || !p.More {
			return err
		}
	}
}

// A counted device counts what is written to it.
type counted struct {
	block.Pass
	bytes, flushes atomic.Int64
	// lazy: flushes do nothing, which is quicker where only what comes
	// afterwards is measured.
	lazy atomic.Bool
}

// lazily calls f without flushes, and flushes.
func (c *counted) lazily(ctx context.Context, f func() error) error {
	c.lazy.Store(true)
	err := f()
	c.lazy.Store(false)
	return errors.Join(err, c.Flush(ctx))
}

func (c *counted) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	c.bytes.Add(int64(len(p)))
	return c.Pass.WriteAt(ctx, p, off, flags)
}

func (c *counted) Flush(ctx context.Context) error {
	if c.lazy.Load() {
		return nil
	}
	c.flushes.Add(1)
	return c.Pass.Flush(ctx)
}

// parallel calls f for 0 to n-1, so many at a time.
func parallel(n, lanes int, f func(i int) error) error {
	errs := make([]error, lanes)
	var all sync.WaitGroup
	for lane := range lanes {
		all.Go(func() {
			for i := lane; i < n && errs[lane] == nil; i += lanes {
				errs[lane] = f(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// measureEngine measures all that is in engineFigures.
func (l *snapLab) measureEngine(ctx context.Context) error {
	e := &engineFigures{}
	done := false
	for _, m := range []struct {
		what string
		f    func(context.Context, *engineFigures) error
	}{
		{"create", l.engineCreate}, {"pause", l.enginePause}, {"delete", l.engineDelete}, {"latency", l.engineLatency},
		{"batch", l.engineBatch}, {"open", l.engineOpen}, {"flush", l.engineFlush}, {"lock", l.engineLock}, {"refresh", l.engineRefresh},
	} {
		if !l.o.only.MatchString(l.site + ": engine " + m.what) {
			continue
		}
		if err := m.f(ctx, e); err != nil {
			return fmt.Errorf("engine, %s: %w", m.what, err)
		}
		done = true
	}
	if done {
		l.report.engine[l.site] = e
		fmt.Printf("%s: engine: %+v\n", l.site, *e)
	}
	return nil
}

// creations is how often a snapshot is taken for a figure.
const creations = 100

func (l *snapLab) engineCreate(ctx context.Context, e *engineFigures) (err error) {
	var rigs []*rig
	defer func() {
		for _, r := range rigs {
			err = errors.Join(err, r.close())
		}
	}()
	for _, size := range []int64{smallDisk, largeDisk, smallDisk} {
		r, err := l.newRig(ctx, size, snapshot.Options{})
		if err != nil {
			return err
		}
		rigs = append(rigs, r)
	}
	if err := rigs[2].snapshots(ctx, manySnapshots); err != nil {
		return err
	}
	e.snapshotsMany = manySnapshots
	f, err := os.Create(filepath.Join(l.o.dir, "commits"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([][]time.Duration, len(rigs)+1)
	for range creations {
		for i, r := range rigs {
			start := time.Now()
			if err := e.spendOn("create", func() error { return r.snapshot(ctx) }); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(start))
		}
		start := time.Now()
		if _, err := f.Write(make([]byte, chunk)); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		took[len(rigs)] = append(took[len(rigs)], time.Since(start))
	}
	e.small, e.large, e.many, e.commit = quantile(took[0], 0.5), quantile(took[1], 0.5), quantile(took[2], 0.5), quantile(took[3], 0.5)
	return nil
}
