package blocktest

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
)

// A Fault makes one request fail.
type Fault struct {
	// Kinds are the kinds of requests that count; 0 is Any.
	Kinds Kind
	// N is the number of the request that fails, counted from 1 among those
	// that count, over all devices.
	N int
	// Err is the error; nil is block.ErrIO.
	Err error
	// Done says how much of a write, zero or trim has taken place when it
	// fails; the other kinds fail before they do anything.
	Done Progress
	// Sticky: the requests that count and come later fail as well, without
	// taking place.
	Sticky bool
}

// Progress is how much of a failing request takes place.
type Progress int

// How much of a request takes place.
const (
	// None of it.
	None Progress = iota
	// Half of it, up to the border of a sector and of MinBlock; none of it if
	// there is no such border.
	Half
	// All of it: it is done and reported as failed.
	All
)

var progressNames = [...]string{"not done", "half done", "done"}

// String says how far a request got.
func (p Progress) String() string {
	if p < 0 || int(p) >= len(progressNames) {
		return fmt.Sprintf("Progress(%d)", int(p))
	}
	return progressNames[p]
}

// Faults is a plan of failures, shared by the devices that Wrap returned.
type Faults struct {
	mu     sync.Mutex
	faults []Fault
	counts []int
	fired  []string
	off    bool
}

// NewFaults returns a plan of these faults.
func NewFaults(faults ...Fault) *Faults {
	f := &Faults{counts: make([]int, len(faults))}
	for _, fault := range faults {
		if fault.Kinds == 0 {
			fault.Kinds = Any
		}
		if fault.Err == nil {
			fault.Err = block.ErrIO
		}
		f.faults = append(f.faults, fault)
	}
	return f
}

// Wrap returns dev with the faults of the plan, and owns it.
func (f *Faults) Wrap(dev block.Device) block.Device {
	return &faulty{block.Pass{Device: dev}, f}
}

// Stop ends the failures for good: what a test calls before it compares.
func (f *Faults) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

// Fired returns the requests that failed, one line each.
func (f *Faults) Fired() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.fired...)
}

// hit counts op and returns the fault that it meets, nil if none.
func (f *Faults) hit(op Op) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return nil
	}
	var found *Fault
	for i, fault := range f.faults {
		if fault.Kinds&op.Kind == 0 {
			continue
		}
		f.counts[i]++
		if n := f.counts[i]; n == fault.N || n > fault.N && fault.Sticky {
			if n > fault.N {
				fault.Done = None
			}
			f.fired = append(f.fired, fmt.Sprintf("%v failed, %v: %v", op, fault.Done, fault.Err))
			found = &fault
		}
	}
	return found
}

// faulty is a device with faults.
type faulty struct {
	block.Pass
	plan *Faults
}

func (d *faulty) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if fault := d.plan.hit(Op{Kind: Read, Off: off, Len: int64(len(p)), Flags: flags}); fault != nil {
		Fill(p, 0, poison)
		return fault.Err
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *faulty) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	op := Op{Kind: Write, Off: off, Len: int64(len(p)), Flags: flags}
	return d.change(op, func(n int64) error { return d.Pass.WriteAt(ctx, p[:n], off, flags) })
}

func (d *faulty) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	op := Op{Kind: Zero, Off: off, Len: n, Flags: flags}
	return d.change(op, func(n int64) error { return d.Pass.Zero(ctx, off, n, flags) })
}

func (d *faulty) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	op := Op{Kind: Trim, Off: off, Len: n, Flags: flags}
	return d.change(op, func(n int64) error { return d.Pass.Trim(ctx, off, n, flags) })
}

// change carries out op, or as much of it as its fault lets.
func (d *faulty) change(op Op, do func(n int64) error) error {
	fault := d.plan.hit(op)
	if fault == nil {
		return do(op.Len)
	}
	info := d.Info()
	n := int64(0)
	switch fault.Done {
	case Half:
		border := (op.Off + op.Len/2) &^ (max(sectorSize, int64(info.MinBlock)) - 1)
		n = max(0, border-op.Off)
	case All:
		n = op.Len
	}
	if n > 0 && info.CheckRange(op.Off, op.Len) == nil {
		if err := do(n); err != nil {
			return err
		}
	}
	return fault.Err
}

func (d *faulty) Flush(ctx context.Context) error {
	if fault := d.plan.hit(Op{Kind: Flush}); fault != nil {
		return fault.Err
	}
	return d.Pass.Flush(ctx)
}

func (d *faulty) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if fault := d.plan.hit(Op{Kind: Extents, Off: off, Len: n}); fault != nil {
		return block.FailExtents(fault.Err)
	}
	return d.Pass.Extents(ctx, mc, off, n)
}

// EachFault tests that a layer survives the failure of every request that it
// makes. It calls run again and again with a new plan: in the first rounds the
// first request of any kind fails, then the second, and so on until no request
// is left to fail, each not done, half done and done. run wraps the devices
// under the layer with f.Wrap, works with the layer, usually by Model.Do, calls
// f.Stop, and returns what is wrong.
func EachFault(t testing.TB, run func(f *Faults) error) {
	t.Helper()
	if err := eachFault(run); err != nil {
		t.Fatal(err)
	}
}

func eachFault(run func(f *Faults) error) error {
	for n := 1; ; n++ {
		fired := 0
		for _, done := range []Progress{None, Half, All} {
			f := NewFaults(Fault{N: n, Done: done})
			if err := run(f); err != nil {
				return fmt.Errorf("request %d of the devices below, %v: %w", n, f.Fired(), err)
			}
			fired += len(f.Fired())
		}
		if fired == 0 {
			return nil
		}
	}
}

// PlayFaults is Play for a device that may fail: errors of the device, which
// leave the ranges of their requests undefined, do not end it. It does not
// verify.
func (m *Model) PlayFaults(ctx context.Context, dev block.Device, h History) error {
	for i, op := range h {
		if err := m.Do(ctx, dev, op); isBroken(err) {
			return fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	return nil
}
