package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/strata-storage/strata/snapshot"
)

// engineOpen fills a store with exceptions that hold no data, leaves it as a
// crash does, opens it, and looks chunks up.
func (l *snapLab) engineOpen(ctx context.Context, e *engineFigures) error {
	n := l.o.exceptions
	size := int64(n) * 2 * chunk
	o := snapshot.Options{Policy: snapshot.Redirect, Manual: true}
	path, err := l.crashed(ctx, size, n, o)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	before := heap()
	r := &rig{path: path}
	o.Args = map[string]string{"memory": "1G"} // for all of them
	start := time.Now()
	if err := e.spendOn("open", func() error { return r.open(ctx, size, o) }); err != nil {
		return err
	}
	e.opening, e.exceptions = time.Since(start), n
	if err := r.warm(ctx, n); err != nil {
		return err
	}
	e.memory = float64(heap()-before) / float64(n)
	err = e.spendOn("look up", func() (err error) {
		e.lookup, err = r.lookUp(ctx, n)
		return err
	})
	return errors.Join(err, r.set.Close())
}

// crashed makes a store with n exceptions and returns its path. It is never
// closed as it should be.
func (l *snapLab) crashed(ctx context.Context, size int64, n int, o snapshot.Options) (string, error) {
	r, err := l.newRig(ctx, size, o)
	if err != nil {
		return "", err
	}
	defer r.store.Device.Close()
	if err := r.snapshot(ctx); err != nil {
		return "", err
	}
	const batch = 100_000
	return r.path, r.store.lazily(ctx, func() (err error) {
		for from := 0; from < n && err == nil; from += batch {
			err = parallel(min(batch, n-from), 2, func(i int) error {
				return r.disk.Zero(ctx, int64(from+i)*2*chunk, chunk, 0)
			})
			err = errors.Join(err, r.disk.Flush(ctx))
		}
		return err
	})
}

// warm reads every node of the map, which is opened without any.
func (r *rig) warm(ctx context.Context, n int) error {
	const few = 16 // much less than a node has
	p := make([]byte, smallChunk)
	for i := 0; i < n; i += few {
		if err := r.disk.ReadAt(ctx, p, int64(i)*2*chunk, 0); err != nil {
			return err
		}
	}
	return nil
}

// lookUp is how long a read of an exception without data takes, which is mostly
// to look it up.
func (r *rig) lookUp(ctx context.Context, n int) (time.Duration, error) {
	const reads = 1_000_000
	random, p := rand.New(rand.NewPCG(1, 1)), make([]byte, smallChunk)
	start := time.Now()
	for range reads {
		if err := r.disk.ReadAt(ctx, p, random.Int64N(int64(n))*2*chunk, 0); err != nil {
			return 0, err
		}
	}
	return time.Since(start) / reads, nil
}

// heap is the memory in use by Go.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// engineFlush counts what a flush after 32 random first writes costs.
func (l *snapLab) engineFlush(ctx context.Context, e *engineFigures) error {
	r, err := l.newRig(ctx, smallDisk, snapshot.Options{Policy: snapshot.Redirect, Manual: true})
	if err != nil {
		return err
	}
	const flushes = 200
	order, p := rand.New(rand.NewPCG(1, 1)).Perm(smallDisk/chunk), make([]byte, chunk)
	err = r.snapshot(ctx)
	bytes, barriers := r.store.bytes.Load(), r.store.flushes.Load()
	for i := 0; i < flushes && err == nil; i++ {
		err = e.spendOn("flush", func() error {
			err := parallel(inFlight, inFlight, func(j int) error {
				return r.disk.WriteAt(ctx, p, int64(order[i*inFlight+j])*chunk, 0)
			})
			return errors.Join(err, r.disk.Flush(ctx))
		})
	}
	e.amplification = float64(r.store.bytes.Load()-bytes) / (flushes * inFlight * chunk)
	e.barriers = float64(r.store.flushes.Load()-barriers) / flushes
	return errors.Join(err, r.close())
}
