package layer

import (
	"context"
	"errors"
	"iter"

	"github.com/strata-storage/strata/block"
)

const (
	// maxLead is how many reads a side may have in flight and still be the
	// choice of a sequential reader.
	maxLead = 4
	// regionBits is the binary logarithm of the regions whose reads go to
	// the same side, all else being equal: it caches them best.
	regionBits = 18
)

func (m *mirror) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := m.info.CheckRead(off, len(p)); err != nil {
		return m.refuse(err)
	}
	i := m.choose(off)
	err := m.readFrom(ctx, i, p, off, flags)
	if err == nil || errors.Is(err, block.ErrWouldBlock) {
		return err
	}
	return m.readElsewhere(ctx, i, err, p, off)
}

// choose returns the side in use that shall read at off.
func (m *mirror) choose(off int64) int {
	least := -1
	var reads int64
	// Among equals the offset decides, so that none has to count turns.
	first := int(uint32(off>>regionBits) % uint32(len(m.sides)))
	for k := range m.sides {
		i := first + k
		if i >= len(m.sides) {
			i -= len(m.sides)
		}
		s := &m.sides[i]
		if s.failed.Load() {
			continue
		}
		n := s.reads.Load()
		if n < maxLead && s.end.Load() == off {
			return i
		}
		if least < 0 || n < reads {
			least, reads = i, n
		}
	}
	return least
}

func (m *mirror) readFrom(ctx context.Context, i int, p []byte, off int64, flags block.Flags) error {
	s := &m.sides[i]
	s.reads.Add(1)
	err := m.devs[i].ReadAt(ctx, p, off, flags)
	s.reads.Add(-1)
	if err == nil {
		s.end.Store(off + int64(len(p)))
	}
	return err
}

// readElsewhere repeats a read that has failed on one side on the others. The
// sides that could not do it fail if there is one that can.
func (m *mirror) readElsewhere(ctx context.Context, first int, err error, p []byte, off int64) error {
	if err := m.gate.Enter(); err != nil {
		return err
	}
	defer m.gate.Leave()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	errs := make([]error, len(m.sides))
	errs[first] = err
	for i := range m.sides {
		if i == first || m.sides[i].failed.Load() {
			continue
		}
		if errs[i] = m.readFrom(ctx, i, p, off, 0); errs[i] == nil {
			m.mu.Lock()
			m.drop(errs)
			m.mu.Unlock()
			m.tell(errs)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return m.memberError(first, err)
}

// Extents reports as holes and zeros what all sides in use report so: after a
// trim one of them may read as zeros and another one not. A side that cannot
// tell counts as one that has data everywhere.
func (m *mirror) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := m.checkExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return block.MergeExtents(func(yield func(block.Extent, error) bool) {
		cursors := make([]cursor, len(m.devs))
		for i := range m.devs {
			if !m.sides[i].failed.Load() {
				cursors[i].start(m.memberExtents(ctx, mc, i, off, n, 0))
				defer cursors[i].stop()
			}
		}
		for off, end := off, off+n; off < end; {
			e, err := m.nextExtent(ctx, cursors, off, end)
			if !yield(e, err) || err != nil {
				return
			}
			off = e.End()
		}
	})
}

// nextExtent returns the extent at off in which no side changes its status.
func (m *mirror) nextExtent(ctx context.Context, cursors []cursor, off, end int64) (block.Extent, error) {
	e := block.Extent{Off: off, Len: end - off, Status: block.Hole | block.Zero}
	told := false
	var failure error
	for i := range cursors {
		if m.sides[i].failed.Load() {
			continue
		}
		status, n, err := cursors[i].at(off)
		if err != nil {
			status, n, failure = 0, e.Len, err
		} else {
			told = true
		}
		e.Len = min(e.Len, n)
		e.Status &= status
	}
	switch {
	case ctx.Err() != nil:
		return e, context.Cause(ctx)
	case !told:
		return e, failure
	}
	return e, nil
}
