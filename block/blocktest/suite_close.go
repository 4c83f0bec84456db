package blocktest

import (
	"errors"

	"github.com/strata-storage/strata/block"
)

// testClose: requests after Close, and a second Close, are ErrClosed.
func testClose(p *probe) error {
	if err := p.dev.Close(); err != nil {
		return broken("Close returned %q", err)
	}
	closed := func(what any, err error) error {
		if !errors.Is(err, block.ErrClosed) {
			return broken("%v after Close returned %s, want %q", what, told(err), block.ErrClosed)
		}
		return nil
	}
	for _, n := range []int64{p.unit, 0} {
		err := p.requests(span{0, n}, Any, func(op Op, err error) error {
			if p.info.ReadOnly && op.Kind&Changes != 0 && errors.Is(err, block.ErrReadOnly) {
				return nil
			}
			return closed(op, err)
		})
		if err != nil {
			return err
		}
	}
	if err := closed("flush", p.dev.Flush(p.ctx)); err != nil {
		return err
	}
	if !p.info.ReadOnly {
		if err := closed("zero with FastZero", p.dev.Zero(p.ctx, 0, p.unit, block.FastZero)); err != nil {
			return err
		}
	}
	return closed("a second Close", p.dev.Close())
}

// testCloseInFlight: requests that Close meets are done or ErrClosed.
func testCloseInFlight(p *probe) error {
	const workers = 6
	n := max(p.unit, p.limit(16<<10)&^(p.unit-1))
	started := make(chan struct{}, workers)
	go func() {
		for range workers {
			<-started
		}
		p.dev.Close()
	}()
	return together(workers, func(w int) error {
		for round := uint64(0); ; round++ {
			op := Op{Kind: []Kind{Read, Write, Zero, Trim, Flush, Extents}[w%6], Off: int64(w%2) * n, Len: n, Seed: round}
			if p.info.ReadOnly && op.Kind&(Write|Zero|Trim) != 0 {
				op.Kind = Read
			}
			err := NewModel(p.info).request(p.ctx, p.dev, op)
			if round == 0 {
				started <- struct{}{}
			}
			if errors.Is(err, block.ErrClosed) {
				return nil
			}
			if err != nil {
				return broken("%v during Close returned %s, want success or %q", op, told(err), block.ErrClosed)
			}
		}
	})
}
