package blocktest

import (
	"context"
	"fmt"
	"iter"

	"github.com/strata-storage/strata/block"
)

// openDisk is a Disk as a device.
type openDisk struct {
	disk  *Disk
	cycle int
	gate  block.Gate
}

var errPower = fmt.Errorf("the power was cut: %w", block.ErrIO)

func (o *openDisk) Info() block.Info { return o.disk.info }

// Era names the time since the power came on: nothing that was written in it is
// lost before its end.
func (o *openDisk) Era() string { return fmt.Sprintf("cycle %d", o.cycle) }

// begin admits a request that wants what check says, and locks the machine.
func (o *openDisk) begin(check error) error {
	if err := o.gate.Enter(); err != nil {
		return err
	}
	o.disk.machine.mu.Lock()
	err := check
	if m := o.disk.machine; m.off || m.cycle != o.cycle {
		err = errPower
	}
	if err != nil {
		o.end()
	}
	return err
}

func (o *openDisk) end() {
	o.disk.machine.mu.Unlock()
	o.gate.Leave()
}

func (o *openDisk) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d := o.disk
	if err := o.begin(d.info.CheckRead(off, len(p))); err != nil {
		return err
	}
	defer o.end()
	if o.wouldBlock(flags) {
		return block.ErrWouldBlock
	}
	d.read(p, off)
	d.counts.note(Op{Kind: Read, Len: int64(len(p))})
	return nil
}

// wouldBlock draws whether a request with these flags would block.
func (o *openDisk) wouldBlock(flags block.Flags) bool {
	return flags&block.NoWait != 0 && o.disk.info.NoWait && o.disk.machine.coin()
}

// coin draws one of two sides.
func (m *Machine) coin() bool { return m.rng.IntN(2) == 0 }

func (o *openDisk) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d := o.disk
	if err := o.begin(d.info.CheckWrite(off, len(p))); err != nil {
		return err
	}
	defer o.end()
	if p == nil {
		p = []byte{}
	}
	op := Op{Kind: Write, Off: off, Len: int64(len(p)), Flags: flags}
	if o.wouldBlock(flags) {
		d.store(change{off: off, n: op.Len, data: p}, d.machine.coin)
		return block.ErrWouldBlock
	}
	return o.change(op, p, nil)
}

func (o *openDisk) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	d := o.disk
	if err := o.begin(d.info.CheckChange(off, n)); err != nil {
		return err
	}
	defer o.end()
	if flags&block.FastZero != 0 && !d.info.FastZeros {
		return block.ErrNotSupported
	}
	return o.change(Op{Kind: Zero, Off: off, Len: n, Flags: flags}, nil, nil)
}

// Trim makes some of the sectors zeros and keeps the others.
func (o *openDisk) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	d := o.disk
	if err := o.begin(d.info.CheckChange(off, n)); err != nil {
		return err
	}
	defer o.end()
	return o.change(Op{Kind: Trim, Off: off, Len: n, Flags: flags}, nil, d.machine.coin)
}

// change carries out a write, zero or trim of the sectors that pick wants.
func (o *openDisk) change(op Op, data []byte, pick func() bool) error {
	d := o.disk
	c := change{off: op.Off, n: op.Len, data: data}
	if d.machine.change(d, op) {
		d.store(c, pick)
		return errPower
	}
	c.durable = op.Flags&block.FUA != 0
	d.store(c, pick)
	d.counts.note(op)
	return nil
}

func (o *openDisk) Flush(ctx context.Context) error {
	if err := o.begin(nil); err != nil {
		return err
	}
	defer o.end()
	op := Op{Kind: Flush}
	if o.disk.machine.change(o.disk, op) {
		return errPower
	}
	o.disk.flush()
	o.disk.counts.note(op)
	return nil
}

func (o *openDisk) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := o.begin(o.disk.info.CheckExtents(mc, off, n)); err != nil {
		return block.FailExtents(err)
	}
	defer o.end()
	list := o.disk.extents(off, n)
	return func(yield func(block.Extent, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (o *openDisk) Close() error { return o.gate.Close() }
