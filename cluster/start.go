package cluster

import (
	"context"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A startedWrite is one of a device for which nobody waits.
type startedWrite struct {
	d      *device
	volume *active
	ctx    context.Context
	p      []byte
	off    int64
	ender  block.Ender
}

var startedWrites = sync.Pool{New: func() any { return new(startedWrite) }}

var _ block.Starter = (*device)(nil)

// StartWrite is that of block.Starter: if this node has attached the volume.
func (d *device) StartWrite(ctx context.Context, p []byte, off int64, flags block.Flags, b *block.Burst, e block.Ender) bool {
	v := d.enterNow()
	if v == nil {
		return false
	}
	s := startedWrites.Get().(*startedWrite)
	*s = startedWrite{d, v, ctx, p, off, e}
	if v.own.StartWrite(ctx, p, off, flags, b, s) {
		return true
	}
	s.free()
	d.hold.fence.leave(d.session)
	d.gate.Leave()
	return false
}

// enterNow passes gate and fence if that is possible without waiting and the volume is
// attached here, and returns nil otherwise.
func (d *device) enterNow() *active {
	if d.gate.Enter() != nil {
		return nil
	}
	v := d.hold.active.Load()
	if v == nil || v.own == nil || v.Err() != nil || d.end != nil && v != d.route || !d.hold.fence.enterNow(d.session) {
		d.gate.Leave()
		return nil
	}
	return v
}

func (s *startedWrite) free() {
	*s = startedWrite{}
	startedWrites.Put(s)
}

// Ended is that of block.Ender.
func (s *startedWrite) Ended(err error, b *block.Burst) {
	s.d.hold.fence.leave(s.d.session)
	if err == nil || s.volume.Err() == nil {
		s.end(err, b)
		return
	}
	go func() {
		var b block.Burst
		t := turn{change: true, n: 1, volume: s.volume, err: err}
		s.end(s.d.attempt(s.ctx, &t, func(ctx context.Context, v *active) error { return v.WriteAt(ctx, s.p, s.off, 0) }), &b)
		b.End()
	}()
}

func (s *startedWrite) end(err error, b *block.Burst) {
	d, e := s.d, s.ender
	s.free()
	d.gate.Leave()
	e.Ended(err, b)
}
