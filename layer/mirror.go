package layer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/rangelock"
)

// MirrorOptions are the options of Mirror.
type MirrorOptions struct {
	_ struct{} `doc:"Keeps the same data on every device (RAID 1); one that fails is left out." long:"Writes go to all devices, each read to one of them. A device that fails is not used any more until the mirror is opened again. Resynchronising is not part of this layer: after a device has failed, or after the power was lost during writes, make the devices equal with strata copy before using them together again."`

	// Failed, if not nil, is called once for each device that fails, with
	// its place in the list and the reason, by the request that noticed it
	// and before that returns.
	Failed func(i int, err error)
}

// Mirror returns a device that keeps the same bytes on all of devs. Its size
// is that of the smallest one; bytes beyond that are not used.
//
// Each read goes to one side: to the one at which a sequential reader is, else
// to one with the fewest reads in flight. Writes, zeros and trims go to
// all sides at once and cannot be cancelled on the way; overlapping ones take
// turns, so that all sides end up with the same bytes. Flush flushes all
// sides.
//
// A side fails when it could not do what another one could. It is never used
// again by this device, and the request goes on without it. A request that no
// side can do fails; if it was a write or zero, the sides may differ now, and
// all but one fail, unless they merely refused it. The last side in use never
// fails: its errors are those of the device. [MirrorSides] tells the state.
//
// The state is not remembered. Nothing here finds out whether the sides are
// equal when they are put together: after a failed side, or a loss of power
// with writes in flight, the sides differ, and reads may return either
// content. Copy one good side over the others first.
//
// Metadata contexts other than block.Allocation are those of one side and are
// not passed on.
func Mirror(devs []block.Device, o MirrorOptions) (block.Device, error) {
	m := &mirror{failed: o.Failed}
	if err := m.init(devs); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	m.info.Size = m.smallest()
	if b := int64(m.info.MinBlock); b > 1 {
		m.info.Size -= m.info.Size % b
	}
	m.info.Contexts = nil
	m.sides = make([]side, len(devs))
	m.left = len(devs)
	return m, nil
}

type mirror struct {
	group
	// writes keeps overlapping changes apart.
	writes rangelock.Lock
	sides  []side
	failed func(i int, err error)

	mu sync.Mutex
	// left counts the sides in use; it never falls below 1.
	left int
}

// A side is what a mirror knows about one of its devices.
type side struct {
	// failed is set under mirror.mu before any request that this side has
	// missed returns.
	failed atomic.Bool
	err    error
	reads  atomic.Int64
	// end is where the last read ended.
	end atomic.Int64
}

// A Side is the state of one device of a mirror.
type Side struct {
	// Err is nil while the device is in use, else the error that made it
	// fail.
	Err error
}

// MirrorSides returns the state of every device of a mirror, in the order in
// which they were given, or nil if dev was not made by [Mirror].
func MirrorSides(dev block.Device) []Side {
	m, ok := dev.(*mirror)
	if !ok {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sides := make([]Side, len(m.sides))
	for i := range m.sides {
		sides[i].Err = m.sides[i].err
	}
	return sides
}

func (m *mirror) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := m.info.CheckWrite(off, len(p)); err != nil {
		return m.refuse(err)
	}
	if flags&block.NoWait != 0 && m.info.NoWait {
		return m.refuse(block.ErrWouldBlock)
	}
	return m.change(ctx, OpWrite, p, off, int64(len(p)), flags&^block.NoWait)
}

func (m *mirror) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := m.info.CheckChange(off, n); err != nil {
		return m.refuse(err)
	}
	return m.change(ctx, OpZero, nil, off, n, flags&^block.NoWait)
}

func (m *mirror) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := m.info.CheckChange(off, n); err != nil {
		return m.refuse(err)
	}
	return m.change(ctx, OpTrim, nil, off, n, flags&^block.NoWait)
}

// change carries out a write, zero or trim on all sides.
func (m *mirror) change(ctx context.Context, op Op, p []byte, off, n int64, flags block.Flags) error {
	if err := m.gate.Enter(); err != nil {
		return err
	}
	defer m.gate.Leave()
	r, err := m.writes.Lock(ctx, off, n)
	if err != nil {
		return err
	}
	defer r.Unlock()
	// A change that reached some sides only would leave them different.
	s := newScatter(context.WithoutCancel(ctx), op, p, flags)
	defer s.free()
	m.toAll(s, off, n)
	s.run()
	if s.parts[0].err != nil && !s.begun && flags&block.FastZero != 0 && op == OpZero {
		return s.parts[0].err
	}
	return m.settle(s)
}

// Flush flushes all sides. It succeeds if one that is still in use has done
// it; those that have not are left out.
func (m *mirror) Flush(ctx context.Context) error {
	if err := m.gate.Enter(); err != nil {
		return err
	}
	defer m.gate.Leave()
	s := newScatter(ctx, OpFlush, nil, 0)
	defer s.free()
	m.toAll(s, 0, 0)
	s.run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return m.settle(s)
}

// toAll makes a part of the request for each side in use.
func (m *mirror) toAll(s *scatter, off, n int64) {
	s.all = true
	for i, dev := range m.devs {
		if !m.sides[i].failed.Load() {
			s.parts = append(s.parts, part{dev: dev, member: i, off: off, n: n})
		}
	}
}

// settle looks at the outcome of a request that went to all sides: it returns
// nil if a side that is still in use succeeded, and takes the others out of
// use.
func (m *mirror) settle(s *scatter) error {
	if !s.failed.Load() {
		return nil
	}
	errs := make([]error, len(m.sides))
	m.mu.Lock()
	keep, refused := m.best(s.parts)
	// Otherwise no side has done what would make it differ from the others.
	if keep.err == nil || !refused && s.op != OpTrim && s.op != OpFlush {
		for i := range s.parts {
			if p := &s.parts[i]; p != keep {
				errs[p.member] = p.err
			}
		}
		m.drop(errs)
	}
	m.mu.Unlock()
	m.tell(errs)
	return m.memberError(keep.member, keep.err)
}

// best returns the part of a side in use that succeeded or, if there is none,
// the first of any side in use, and whether all of those were refused. The
// caller holds mu.
func (m *mirror) best(parts []part) (keep *part, refused bool) {
	refused = true
	for i := range parts {
		p := &parts[i]
		if m.sides[p.member].err != nil {
			continue
		}
		if p.err == nil {
			return p, false
		}
		if keep == nil {
			keep = p
		}
		refused = refused && isRefusal(p.err)
	}
	return keep, refused
}

// isRefusal reports whether err means by its nature that a request has not
// been begun.
func isRefusal(err error) bool {
	return errors.Is(err, block.ErrInvalid) || errors.Is(err, block.ErrReadOnly) ||
		errors.Is(err, block.ErrPermission) || errors.Is(err, block.ErrNotSupported)
}

// drop takes the sides that have an error out of use, but for the last side,
// and clears the errors of those that it leaves alone. The caller holds mu.
func (m *mirror) drop(errs []error) {
	for i, err := range errs {
		s := &m.sides[i]
		if err == nil || s.err != nil || m.left == 1 {
			errs[i] = nil
			continue
		}
		m.left--
		s.err = err
		s.failed.Store(true)
	}
}

// tell reports the sides that drop has taken out of use.
func (m *mirror) tell(errs []error) {
	for i, err := range errs {
		if err != nil && m.failed != nil {
			m.failed(i, err)
		}
	}
}
