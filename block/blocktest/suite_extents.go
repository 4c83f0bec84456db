package blocktest

import (
	"errors"

	"github.com/strata-storage/strata/block"
)

// testExtents: extents of any range have the promised shape, the caller may
// stop, and an unknown context is ErrInvalid.
func testExtents(p *probe) error {
	m, err := p.model(0, 128<<10)
	if err != nil {
		return err
	}
	if !p.info.ReadOnly {
		n := p.limit(4096+p.unit-1) &^ (p.unit - 1)
		err := p.do(m, Op{Kind: Zero, Len: 128 << 10}, Op{Kind: Write, Off: 2 * n, Len: n, Seed: 1},
			Op{Kind: Trim, Off: 64 << 10, Len: 64 << 10})
		if err != nil {
			return err
		}
	}
	whole := span{0, p.info.Size}
	for _, s := range append(p.places(), span{0, 0}, span{p.info.Size, 0}, whole) {
		if err := p.do(m, Op{Kind: Extents, Off: s.off, Len: s.n}); err != nil {
			return err
		}
	}
	for _, mc := range p.info.Contexts {
		if _, err := collectExtents(p.dev.Extents(p.ctx, mc, 0, p.info.Size), 0, p.info.Size); err != nil {
			return errors.Join(err, errors.New("in context "+mc))
		}
	}
	if err := p.stopExtents(); err != nil {
		return err
	}
	for _, mc := range []string{"", "base:", "base:none", "blocktest:unknown"} {
		_, err := collectExtents(p.dev.Extents(p.ctx, mc, 0, p.unit), 0, p.unit)
		if !errors.Is(err, block.ErrInvalid) {
			return broken("extents in the unknown context %q returned %s, want %q", mc, told(err), block.ErrInvalid)
		}
	}
	return nil
}

// stopExtents stops after one extent and after two.
func (p *probe) stopExtents() error {
	for stop := 1; stop <= 2; stop++ {
		calls := 0
		p.dev.Extents(p.ctx, block.Allocation, 0, p.info.Size)(func(block.Extent, error) bool {
			calls++
			return calls < stop
		})
		if calls > stop {
			return broken("extents went on after the caller had stopped")
		}
	}
	return nil
}

// testExtentsInside: the caller may use the device while it walks through the
// extents.
func testExtentsInside(p *probe) error {
	if !p.info.ReadOnly {
		if err := p.dev.Zero(p.ctx, 0, 64<<10, 0); err != nil {
			return err
		}
	}
	buf := filled(0, p.unit, 9)
	count := 0
	for e, err := range p.dev.Extents(p.ctx, block.Allocation, 0, p.info.Size) {
		if err != nil {
			return err
		}
		if count++; count > 100 {
			break
		}
		if err := p.dev.ReadAt(p.ctx, make([]byte, p.unit), e.Off, 0); err != nil {
			return err
		}
		if p.info.ReadOnly {
			continue
		}
		if err := p.dev.WriteAt(p.ctx, buf, e.End()-p.unit, 0); err != nil {
			return err
		}
		if err := p.dev.Flush(p.ctx); err != nil {
			return err
		}
	}
	return nil
}
