package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/nbd"
)

const (
	chunk = 4 << 10
	// inFlight is the depth of all rows of snapshots, and the number of
	// writes between two flushes.
	inFlight = 32
)

// A writer writes random chunks, none of them twice.
type writer struct {
	c     *nbd.Client
	order []int
	data  []byte
	took  []time.Duration
}

// newWriter connects to a disk; the seed decides on the order.
func newWriter(ctx context.Context, uri string, seed uint64) (*writer, error) {
	c, err := (&nbd.Dialer{}).Dial(ctx, uri)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(seed, 1))
	w := &writer{c: c, order: r.Perm(int(c.Info().Size / chunk)), data: make([]byte, chunk)}
	for i := range w.data {
		w.data[i] = byte(r.Uint32())
	}
	return w, nil
}

// write writes n chunks, up to inFlight of them at a time, and flushes.
func (w *writer) write(ctx context.Context, n int) error {
	n = min(n, len(w.order))
	batch := w.order[:n]
	w.order = w.order[n:]
	errs, took := make([]error, inFlight), make([]time.Duration, n)
	var all sync.WaitGroup
	for lane := range min(inFlight, n) {
		all.Go(func() {
			for i := lane; i < n && errs[lane] == nil; i += inFlight {
				start := time.Now()
				errs[lane] = w.c.WriteAt(ctx, w.data, int64(batch[i])*chunk, 0)
				took[i] = time.Since(start)
			}
		})
	}
	all.Wait()
	w.took = append(w.took, took...)
	return errors.Join(append(errs, w.c.Flush(ctx))...)
}

// flushing writes chunks with a flush after every inFlight of them. fio cannot:
// with requests in flight its option fsync flushes after about every second.
func flushing(ctx context.Context, uri string, seed uint64, chunks int) (f figure, total int64, err error) {
	w, err := newWriter(ctx, uri, seed)
	if err != nil {
		return f, 0, err
	}
	defer w.c.Close()
	chunks = min(chunks, len(w.order))
	var spent spending
	err = spent.spend(func() error {
		for done := 0; done < chunks; done += inFlight {
			if err := w.write(ctx, min(inFlight, chunks-done)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return f, 0, err
	}
	f.iops = float64(chunks) / spent.wall.Seconds()
	f.busy = spent.cpu.Seconds() / spent.wall.Seconds()
	f.p50, f.p99 = quantile(w.took, 0.5), quantile(w.took, 0.99)
	return f, int64(chunks), nil
}

// quantile sorts what it is given.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// populate takes n snapshots, with an equal part of so many first writes after
// each.
func populate(ctx context.Context, s stack, n, chunks int) error {
	var order []int
	for i := range n {
		if err := s.snapshot(ctx); err != nil {
			return fmt.Errorf("snapshot %d: %w", i+1, err)
		}
		w, err := newWriter(ctx, s.server().uri, 7)
		if err != nil {
			return err
		}
		if order != nil {
			w.order = order
		}
		err = w.write(ctx, chunks*(i+1)/n-chunks*i/n)
		order = w.order
		if err = errors.Join(err, w.c.Close()); err != nil {
			return err
		}
	}
	return nil
}
