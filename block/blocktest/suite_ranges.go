package blocktest

import (
	"bytes"
	"errors"
	"math"
	"reflect"

	"github.com/strata-storage/strata/block"
)

// testInfo: Info is constant and makes sense.
func testInfo(p *probe) error {
	i := p.info
	powerOfTwo := func(n int) bool { return n > 0 && n&(n-1) == 0 }
	switch {
	case i.Size < 0:
		return broken("Info().Size is %d", i.Size)
	case i.MinBlock != 0 && (!powerOfTwo(i.MinBlock) || i.MinBlock > 64<<10):
		return broken("Info().MinBlock is %d, want 0 or a power of two up to 65536", i.MinBlock)
	case i.Size%p.unit != 0:
		return broken("Info().Size is %d, not a multiple of MinBlock %d", i.Size, i.MinBlock)
	case i.PreferredBlock != 0 && (!powerOfTwo(i.PreferredBlock) || i.PreferredBlock < max(512, i.MinBlock)):
		return broken("Info().PreferredBlock is %d, want 0 or a power of two, at least 512 and MinBlock %d", i.PreferredBlock, i.MinBlock)
	case i.MaxBlock < 0 || i.MaxBlock%int(p.unit) != 0:
		return broken("Info().MaxBlock is %d, want a multiple of MinBlock %d", i.MaxBlock, i.MinBlock)
	}
	for _, mc := range i.Contexts {
		if mc == block.Allocation {
			return broken("Info().Contexts names %q, which every device has", mc)
		}
	}
	if err := p.dev.ReadAt(p.ctx, make([]byte, p.unit), 0, 0); err != nil {
		return err
	}
	if again := p.dev.Info(); !reflect.DeepEqual(again, i) {
		return broken("Info changed from %+v to %+v", i, again)
	}
	return nil
}

// span is a range of bytes.
type span struct{ off, n int64 }

// testRanges: what does not lie inside the device is ErrRange and changes
// nothing; a length of zero inside is allowed.
func testRanges(p *probe) error {
	size, u := p.info.Size, p.unit
	top := int64(math.MaxInt64) &^ (u - 1)
	short := []span{{size, u}, {size - u, 2 * u}, {-u, u}, {-u, 2 * u}, {top, u}, {-top, u}, {size + u, 0}, {-u, 0}, {top, 0}}
	long := []span{{0, size + u}, {u, size}, {u, top}, {top, top}, {0, -u}, {size, -u}, {2 * u, -u}, {-u, size + u}}

	begin, err := p.model(0, 4096)
	if err != nil {
		return err
	}
	if err := begin.Learn(p.ctx, p.dev, max(0, size-4096), 4096); err != nil {
		return err
	}
	for _, s := range short {
		if s.n > p.limit(s.n) {
			continue
		}
		if err := p.refused(s, Read|Write|Zero|Trim|Extents); err != nil {
			return err
		}
	}
	for _, s := range long {
		if err := p.refused(s, Zero|Trim|Extents); err != nil {
			return err
		}
	}
	for _, off := range []int64{0, 4096 * u, size} {
		if err := p.nothing(min(off, size)); err != nil {
			return err
		}
	}
	return begin.Verify(p.ctx, p.dev)
}

// requests sends the request of each of the kinds for s, and hands its error
// to f.
func (p *probe) requests(s span, kinds Kind, f func(op Op, err error) error) error {
	for _, kind := range []Kind{Read, Write, Zero, Trim, Extents} {
		if kind&kinds == 0 {
			continue
		}
		op := Op{Kind: kind, Off: s.off, Len: s.n, Seed: 1}
		var err error
		switch kind {
		case Read:
			err = p.dev.ReadAt(p.ctx, make([]byte, s.n), s.off, 0)
		case Write:
			err = p.dev.WriteAt(p.ctx, filled(0, s.n, 1), s.off, 0)
		case Zero:
			err = p.dev.Zero(p.ctx, s.off, s.n, 0)
		case Trim:
			err = p.dev.Trim(p.ctx, s.off, s.n, 0)
		case Extents:
			_, err = collectExtents(p.dev.Extents(p.ctx, block.Allocation, s.off, s.n), s.off, s.n)
		}
		if err := f(op, err); err != nil {
			return err
		}
	}
	return nil
}

// refused checks that requests for s are out of range.
func (p *probe) refused(s span, kinds Kind) error {
	return p.requests(s, kinds, func(op Op, err error) error {
		readOnly := p.info.ReadOnly && op.Kind&Changes != 0 && errors.Is(err, block.ErrReadOnly)
		if !readOnly && !errors.Is(err, block.ErrRange) {
			return broken("%v on a device of %d bytes returned %s, want %q", op, p.info.Size, told(err), block.ErrRange)
		}
		return nil
	})
}

// nothing checks that requests of length zero are allowed at off.
func (p *probe) nothing(off int64) error {
	kinds := Any
	if p.info.ReadOnly {
		kinds = Read | Extents
	}
	return p.requests(span{off, 0}, kinds, func(op Op, err error) error {
		if err != nil {
			return broken("%v on a device of %d bytes returned %s, want success", op, p.info.Size, told(err))
		}
		return nil
	})
}

// testAlignment: misaligned and too long requests are ErrInvalid and change
// nothing.
func testAlignment(p *probe) error {
	var bad []span
	if u := p.unit; u > 1 {
		bad = []span{{0, 1}, {1, u}, {0, u / 2}, {u / 2, u}, {u, u + 1}, {u / 2, 0}}
	}
	m, err := p.model(0, max(4096, 3*p.unit))
	if err != nil {
		return err
	}
	refuse := func(op Op, err error) error {
		readOnly := p.info.ReadOnly && op.Kind&Changes != 0 && errors.Is(err, block.ErrReadOnly)
		if !readOnly && !errors.Is(err, block.ErrInvalid) {
			return broken("%v with MinBlock %d and MaxBlock %d returned %s, want %q", op, p.info.MinBlock, p.info.MaxBlock, told(err), block.ErrInvalid)
		}
		return nil
	}
	for _, s := range bad {
		if err := p.requests(s, Any, refuse); err != nil {
			return err
		}
	}
	if n := int64(p.info.MaxBlock); n > 0 {
		if tooLong := (span{0, n + p.unit}); tooLong.n <= min(p.info.Size, maxBuffer) {
			if err := p.requests(tooLong, Read|Write, refuse); err != nil {
				return err
			}
		}
		if err := p.longest(n); err != nil {
			return err
		}
	}
	return m.Verify(p.ctx, p.dev)
}

// longest checks that a read of MaxBlock is allowed.
func (p *probe) longest(n int64) error {
	if n > min(p.info.Size, maxBuffer) {
		return nil
	}
	if err := p.dev.ReadAt(p.ctx, make([]byte, n), 0, 0); err != nil {
		return broken("read 0 %d with MaxBlock %d returned %s, want success", n, p.info.MaxBlock, told(err))
	}
	return nil
}

// testReadOnly: a read-only device refuses every change and keeps its bytes.
func testReadOnly(p *probe) error {
	if !p.info.ReadOnly {
		return errSkip
	}
	before := make([]byte, p.limit(64<<10))
	if err := p.dev.ReadAt(p.ctx, before, 0, 0); err != nil {
		return err
	}
	for _, s := range []span{{0, p.unit}, {0, p.limit(64 << 10)}, {p.info.Size - p.unit, p.unit}} {
		err := p.requests(s, Write|Zero|Trim, func(op Op, err error) error {
			if !errors.Is(err, block.ErrReadOnly) {
				return broken("%v on a read-only device returned %s, want %q", op, told(err), block.ErrReadOnly)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, flags := range []block.Flags{block.FUA, block.NoHole, block.FastZero} {
		if err := p.dev.Zero(p.ctx, 0, p.unit, flags); !errors.Is(err, block.ErrReadOnly) {
			return broken("zero with flags %d on a read-only device returned %s, want %q", flags, told(err), block.ErrReadOnly)
		}
	}
	after := make([]byte, len(before))
	if err := p.dev.ReadAt(p.ctx, after, 0, 0); err != nil {
		return err
	}
	if !bytes.Equal(before, after) {
		return broken("refused requests changed a read-only device")
	}
	return nil
}
