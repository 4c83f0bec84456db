package blocktest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/strata-storage/strata/block"
)

// together runs n calls of f at once and returns their errors.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// testNeighbours: requests in flight for neighbouring units, be they parts of
// one sector, do not disturb each other.
func testNeighbours(p *probe) error {
	const workers, each = 4, 4
	unit := max(p.unit, 64)
	if unit*workers*each > p.info.Size {
		return errSkip
	}
	return together(workers, func(w int) error {
		n := neighbour{probe: p, unit: unit, last: make(map[int64][]byte)}
		rng := rand.New(rand.NewPCG(uint64(w), 1))
		for round := range 60 {
			off := (rng.Int64N(each)*workers + int64(w)) * unit
			if err := n.change(off, round, uint64(w)<<32|uint64(round)); err != nil {
				return err
			}
			if err := n.check(); err != nil {
				return err
			}
		}
		return n.check()
	})
}

// A neighbour is a goroutine that changes units between those of others.
type neighbour struct {
	*probe
	unit int64
	// last is what the unit at an offset must hold.
	last map[int64][]byte
}

// change writes or zeroes the unit at off and flushes now and then.
func (n *neighbour) change(off int64, round int, seed uint64) error {
	buf := filled(off, n.unit, seed)
	n.last[off] = buf
	if round%16 == 7 {
		if err := n.dev.Flush(n.ctx); err != nil {
			return err
		}
	}
	if round%5 == 4 {
		clear(buf)
		return n.dev.Zero(n.ctx, off, n.unit, 0)
	}
	return n.dev.WriteAt(n.ctx, buf, off, 0)
}

// check reads its units.
func (n *neighbour) check() error {
	for off, want := range n.last {
		got := filled(off, n.unit, poison)
		if err := n.dev.ReadAt(n.ctx, got, off, 0); err != nil {
			return err
		}
		if !n.lossy && !bytes.Equal(got, want) {
			return broken("bytes %d %d lost what was written to them while others wrote beside them", off, n.unit)
		}
	}
	return nil
}

// testOverlap: of overlapping writes in flight each sector shows one, to
// readers at the same time as well.
func testOverlap(p *probe) error {
	const workers = 4
	n := p.limit(max(32<<10, p.unit)) &^ (max(sectorSize, p.unit) - 1)
	if n == 0 {
		return errSkip
	}
	for round := range 6 {
		m, err := p.model(0, n)
		if err != nil {
			return err
		}
		for w := range workers {
			m.effect(Op{Kind: Write, Len: n, Seed: uint64(round*workers + w)}, false)
		}
		err = together(workers+2, func(w int) error {
			switch w {
			case workers:
				return p.dev.Flush(p.ctx)
			case workers + 1:
				got := filled(0, n, poison)
				if err := p.dev.ReadAt(p.ctx, got, 0, 0); err != nil {
					return err
				}
				return m.check(got, 0)
			}
			return p.dev.WriteAt(p.ctx, filled(0, n, uint64(round*workers+w)), 0, 0)
		})
		if err != nil {
			return err
		}
		if !p.lossy {
			m = NewModel(p.info)
			m.effect(Op{Kind: Write, Len: n, Seed: uint64(round * workers)}, true)
			for w := 1; w < workers; w++ {
				m.effect(Op{Kind: Write, Len: n, Seed: uint64(round*workers + w)}, false)
			}
		}
		if err := m.Verify(p.ctx, p.dev); err != nil {
			return err
		}
	}
	return nil
}

var errCause = errors.New("blocktest: cancelled")

// testCancel: a request whose context is cancelled, before or meanwhile, is
// done or fails with the cause, and is dead when it returns.
func testCancel(p *probe) error {
	n := max(p.unit, p.limit(16<<10)&^(p.unit-1))
	m, err := p.model(0, n)
	if err != nil {
		return err
	}
	for i := range 16 {
		ctx, cancel := context.WithCancelCause(p.ctx)
		if i%2 == 0 {
			cancel(errCause)
		} else {
			go cancel(errCause)
		}
		err := p.cancelled(ctx, m, n, i)
		cancel(nil)
		if err != nil {
			return err
		}
	}
	return m.Verify(p.ctx, p.dev)
}

// cancelled makes one request of each kind with ctx, and looks at its effect
// with p.ctx.
func (p *probe) cancelled(ctx context.Context, m *Model, n int64, i int) error {
	kinds := []Kind{Read, Flush, Extents}
	if !p.info.ReadOnly {
		kinds = append(kinds, Write, Zero, Write, Trim)
	}
	buf := make([]byte, n)
	for k, kind := range kinds {
		op := Op{Kind: kind, Len: n, Seed: uint64(i*len(kinds) + k)}
		var err error
		switch kind {
		case Read:
			err = p.dev.ReadAt(ctx, buf, 0, 0)
		case Write:
			Fill(buf, 0, op.Seed)
			err = p.dev.WriteAt(ctx, buf, 0, 0)
		default:
			err = m.request(ctx, p.dev, op)
		}
		if err != nil && !errors.Is(err, errCause) {
			return broken("%v with a cancelled context returned %s, want success or context.Cause", op, told(err))
		}
		// From here on buf is ours again.
		Fill(buf, 0, poison)
		if kind != Flush {
			m.effect(op, err == nil)
		}
		if err := p.do(m, Op{Kind: Read, Len: n}); err != nil {
			return errors.Join(err, errors.New("after "+op.String()+" with a cancelled context"))
		}
		if !bytes.Equal(buf, filled(0, n, poison)) {
			return broken("a request whose context was cancelled stored bytes after its return")
		}
	}
	return nil
}

// testNoWait: requests with NoWait are done or would block, and never the
// latter if Info does not say so.
func testNoWait(p *probe) error {
	n := max(p.unit, p.limit(16<<10)&^(p.unit-1))
	m, err := p.model(0, 4*n)
	if err != nil {
		return err
	}
	kinds := []Kind{Read}
	if !p.info.ReadOnly {
		kinds = []Kind{Read, Write, Read}
	}
	for round := range uint64(20) {
		for _, kind := range kinds {
			op := Op{Kind: kind, Off: int64(round%3) * n, Len: n, Seed: round, Flags: block.NoWait}
			if round%4 == 3 && kind == Write {
				op.Flags |= block.FUA
			}
			if err := p.do(m, op); err != nil {
				return err
			}
		}
	}
	return m.Verify(p.ctx, p.dev)
}
