// Package load makes requests to devices as fast as they answer, and measures
// them.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strata-storage/strata/block"
)

// Limits of Options.
const (
	MaxSize   = 32 << 20
	MaxDepth  = 4096
	MaxMemory = 4 << 30
)

// Options say what to do to the devices. Reads, Size and Depth have no
// default.
type Options struct {
	// Reads is the share of reads in percent; the rest are writes.
	Reads int
	// Sequential makes requests one after the other instead of at random.
	Sequential bool
	// Size in bytes of each request.
	Size int
	// Depth is the number of requests in flight to each device.
	Depth int
	// Duration after which no more requests are made; 0 for no end.
	Duration time.Duration
	// Requests bounds their number; 0 for no bound.
	Requests int64
	// Seed of the offsets and of what is written.
	Seed uint64
	// Verify compares what is read with what this run has written there.
	Verify bool
}

// Run makes requests to every one of devs, which may be connections to the
// same disk, until the duration is over, the number of requests is reached or
// one fails. It returns when none is in flight. Writes destroy what is on the
// devices.
func Run(ctx context.Context, devs []block.Device, o Options) (*Result, error) {
	slots, err := o.check(devs)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{o: o, slots: slots, workers: int64(len(devs) * o.Depth), ctx: ctx, fail: cancel}
	if o.Duration > 0 {
		timer := time.AfterFunc(o.Duration, func() { r.stop.Store(true) })
		defer timer.Stop()
	}
	workers := make([]*worker, 0, r.workers)
	for i, dev := range devs {
		stream := new(atomic.Int64)
		stream.Store(slots / int64(len(devs)) * int64(i))
		for range o.Depth {
			workers = append(workers, r.worker(int64(len(workers)), dev, stream))
		}
	}
	start := time.Now()
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(w.loop)
	}
	all.Wait()
	elapsed := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return r.result(workers, elapsed), nil
}

// check returns the number of places for a request of the smallest device.
func (o Options) check(devs []block.Device) (slots int64, err error) {
	switch {
	case len(devs) == 0:
		return 0, errors.New("no device to make requests to")
	case o.Reads < 0 || o.Reads > 100:
		return 0, fmt.Errorf("%d%% reads: want 0 to 100", o.Reads)
	case o.Size < 1 || o.Size > MaxSize:
		return 0, fmt.Errorf("requests of %d bytes: want 1 to %d", o.Size, MaxSize)
	case o.Depth < 1 || o.Depth > MaxDepth:
		return 0, fmt.Errorf("%d requests in flight: want 1 to %d", o.Depth, MaxDepth)
	case o.Duration < 0 || o.Requests < 0:
		return 0, errors.New("the duration and the number of requests cannot be negative")
	case o.Verify && o.Size%8 != 0:
		return 0, fmt.Errorf("requests of %d bytes: to verify, want a multiple of 8", o.Size)
	}
	workers := int64(len(devs)) * int64(o.Depth)
	if workers*int64(o.Size) > MaxMemory {
		return 0, fmt.Errorf("%d requests of %d bytes in flight: want at most %d bytes", workers, o.Size, int64(MaxMemory))
	}
	for i, dev := range devs {
		info := dev.Info()
		switch err := info.CheckRead(0, o.Size); {
		case int64(o.Size) > info.Size:
			return 0, fmt.Errorf("a request of %d bytes does not fit on a device of %d bytes", o.Size, info.Size)
		case err != nil:
			return 0, err
		case o.Reads < 100 && info.ReadOnly:
			return 0, block.ErrReadOnly
		}
		if n := info.Size / int64(o.Size); i == 0 || n < slots {
			slots = n
		}
	}
	if o.Verify && slots < workers {
		return 0, fmt.Errorf("to verify, the device must hold the %d requests in flight side by side; it has room for %d", workers, slots)
	}
	return slots, nil
}

// A run is what its workers share.
type run struct {
	o       Options
	slots   int64
	workers int64
	ctx     context.Context
	fail    context.CancelCauseFunc
	stop    atomic.Bool
	made    atomic.Int64 // requests, if Options.Requests bounds them
}

// more reports whether another request is to be made.
func (r *run) more() bool {
	if r.stop.Load() || r.ctx.Err() != nil {
		return false
	}
	return r.o.Requests == 0 || r.made.Add(1) <= r.o.Requests
}

// A worker has one request in flight at a time.
type worker struct {
	*run
	id     int64
	dev    block.Device
	stream *atomic.Int64 // next place of the sequential stream of dev
	next   int64         // the same of this worker alone, to verify
	random *rand.Rand
	buf    []byte
	reads  series
	writes series
	// wrote has the generation of what this worker last wrote to a place.
	// To verify, every worker keeps to places of its own.
	wrote      map[int64]uint64
	generation uint64
}

func (r *run) worker(id int64, dev block.Device, stream *atomic.Int64) *worker {
	w := &worker{
		run: r, id: id, dev: dev, stream: stream,
		random: rand.New(rand.NewPCG(r.o.Seed, uint64(id))),
		buf:    make([]byte, r.o.Size),
		reads:  newSeries(r.o.Reads > 0),
		writes: newSeries(r.o.Reads < 100),
		wrote:  make(map[int64]uint64),
	}
	for i := range w.buf {
		w.buf[i] = byte(w.random.Uint32())
	}
	return w
}

func (w *worker) loop() {
	for w.more() {
		slot := w.place()
		var err error
		if w.random.IntN(100) < w.o.Reads {
			err = w.read(slot)
		} else {
			err = w.write(slot)
		}
		if err != nil {
			w.fail(err)
			return
		}
	}
}

// place chooses where the next request goes, in units of its size.
func (w *worker) place() int64 {
	switch {
	case w.o.Verify && w.o.Sequential:
		w.next++
		return w.own(w.next - 1)
	case w.o.Verify:
		return w.own(w.random.Int64N(w.slots))
	case w.o.Sequential:
		return (w.stream.Add(1) - 1) % w.slots
	}
	return w.random.Int64N(w.slots)
}

// own maps n to one of the places that belong to this worker.
func (w *worker) own(n int64) int64 { return n%(w.slots/w.workers)*w.workers + w.id }

func (w *worker) read(slot int64) error {
	off := slot * int64(w.o.Size)
	start := time.Now()
	if err := w.dev.ReadAt(w.ctx, w.buf, off, 0); err != nil {
		return w.located("read", off, err)
	}
	w.reads.record(time.Since(start), len(w.buf))
	if g, ok := w.wrote[slot]; ok && w.o.Verify {
		return w.verify(off, g)
	}
	return nil
}

// located says which request failed, unless the device has.
func (w *worker) located(what string, off int64, err error) error {
	if _, bare := err.(syscall.Errno); bare {
		return fmt.Errorf("%s of %d bytes at offset %d: %w", what, len(w.buf), off, err)
	}
	return err
}

func (w *worker) write(slot int64) error {
	off := slot * int64(w.o.Size)
	if w.o.Verify {
		w.generation++
		w.fill(off, w.generation)
	}
	start := time.Now()
	if err := w.dev.WriteAt(w.ctx, w.buf, off, 0); err != nil {
		return w.located("write", off, err)
	}
	w.writes.record(time.Since(start), len(w.buf))
	if w.o.Verify {
		w.wrote[slot] = w.generation
	}
	return nil
}
