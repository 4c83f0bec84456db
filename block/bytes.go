package block

import (
	"context"
	"iter"
	"sync"
)

// FromBytes returns a device whose bytes are p. It writes through to p, which
// belongs to the device until it is closed. Nothing is durable: Flush has no
// stable storage to reach.
func FromBytes(p []byte) Device {
	return &bytesDevice{p: p, info: Info{Size: int64(len(p)), FastZeros: true, NativeFUA: true, NoWait: true}}
}

type bytesDevice struct {
	gate Gate
	info Info
	mu   sync.RWMutex
	p    []byte
}

func (d *bytesDevice) Info() Info { return d.info }

func (d *bytesDevice) ReadAt(ctx context.Context, p []byte, off int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	copy(p, d.p[off:])
	return nil
}

func (d *bytesDevice) WriteAt(ctx context.Context, p []byte, off int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckWrite(off, len(p)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.p[off:], p)
	return nil
}

func (d *bytesDevice) Zero(ctx context.Context, off, n int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckChange(off, n); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.p[off : off+n])
	return nil
}

func (d *bytesDevice) Trim(ctx context.Context, off, n int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return d.info.CheckChange(off, n)
}

func (d *bytesDevice) Flush(ctx context.Context) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	d.gate.Leave()
	return nil
}

func (d *bytesDevice) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[Extent, error] {
	return plainExtents(&d.gate, &d.info, mc, off, n)
}

func (d *bytesDevice) Close() error { return d.gate.Close() }
