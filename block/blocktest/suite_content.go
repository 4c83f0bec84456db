package blocktest

import (
	"bytes"
	"errors"
	"slices"

	"github.com/strata-storage/strata/block"
)

// places returns ranges at which devices go wrong: both ends, and across the
// borders of sectors, pages and chunks.
func (p *probe) places() []span {
	var list []span
	for _, at := range []int64{0, 512, 4096, 32 << 10, 64 << 10, 1 << 20, p.info.Size / 2, p.info.Size} {
		for _, n := range []int64{1, 512, 4096, 4608, 65536} {
			for _, before := range []int64{0, n / 2, n} {
				s := span{(at - before) &^ (p.unit - 1), max(p.unit, n&^(p.unit-1))}
				s.n = p.limit(s.n)
				if s.off >= 0 && s.off+s.n <= p.info.Size && !slices.Contains(list, s) {
					list = append(list, s)
				}
			}
		}
	}
	return list
}

// testRead: a read fills its buffer, all of it and nothing else, the same way
// each time and however it is divided.
func testRead(p *probe) error {
	const guard = 64
	for _, s := range p.places() {
		one, two := filled(0, s.n+2*guard, 1), filled(0, s.n+2*guard, 2)
		for seed, buf := range [][]byte{one, two} {
			if err := p.dev.ReadAt(p.ctx, buf[guard:guard+s.n], s.off, 0); err != nil {
				return err
			}
			want := filled(0, s.n+2*guard, uint64(seed+1))
			if !bytes.Equal(buf[:guard], want[:guard]) || !bytes.Equal(buf[guard+s.n:], want[guard+s.n:]) {
				return broken("read %d %d stored bytes outside its buffer", s.off, s.n)
			}
		}
		if !bytes.Equal(one[guard:guard+s.n], two[guard:guard+s.n]) {
			return broken("read %d %d gave other bytes the second time, or did not fill its buffer", s.off, s.n)
		}
		got := filled(0, s.n, poison)
		for at := int64(0); at < s.n; at += max(512, p.unit) {
			k := min(max(512, p.unit), s.n-at)
			if err := p.dev.ReadAt(p.ctx, got[at:at+k], s.off+at, 0); err != nil {
				return err
			}
		}
		if !bytes.Equal(got, one[guard:guard+s.n]) {
			return broken("read %d %d gave other bytes in one request than in several", s.off, s.n)
		}
	}
	return nil
}

// testWrite: a write stores the bytes, all of them and nothing else, leaves
// its buffer alone and does not keep it.
func testWrite(p *probe) error {
	for i, s := range p.places() {
		m, err := p.model(max(0, s.off-4096), s.n+8192)
		if err != nil {
			return err
		}
		op := Op{Kind: Write, Off: s.off, Len: s.n, Seed: uint64(100 + i)}
		if i%3 == 0 {
			op.Flags = block.FUA
		}
		buf := filled(s.off, s.n, op.Seed)
		if err := p.dev.WriteAt(p.ctx, buf, op.Off, op.Flags); err != nil {
			return err
		}
		if !bytes.Equal(buf, filled(s.off, s.n, op.Seed)) {
			return broken("%v modified its buffer", op)
		}
		Fill(buf, 0, poison)
		m.effect(op, true)
		if err := m.Verify(p.ctx, p.dev); err != nil {
			return errors.Join(err, errors.New("after "+op.String()))
		}
	}
	return nil
}

// testWriteFirst: writes to parts that nobody has read before work.
func testWriteFirst(p *probe) error {
	m := NewModel(p.info)
	m.lossy = p.lossy
	unit := max(sectorSize, p.unit)
	for i, s := range p.places() {
		op := Op{Kind: Write, Off: s.off &^ (unit - 1), Len: unit, Seed: uint64(i)}
		if op.Off+op.Len > p.info.Size {
			continue
		}
		if err := p.do(m, op); err != nil {
			return err
		}
	}
	return m.Verify(p.ctx, p.dev)
}

// testZero: a zeroed range reads as zeros with every combination of flags, and
// FastZero may refuse if it changes nothing.
func testZero(p *probe) error {
	all := []block.Flags{block.FUA, block.NoHole, block.FastZero}
	for i, s := range p.places() {
		var flags block.Flags
		for bit, f := range all {
			if i&(1<<bit) != 0 {
				flags |= f
			}
		}
		if err := p.changed(s, Op{Kind: Zero, Off: s.off, Len: s.n, Flags: flags}); err != nil {
			return err
		}
	}
	return nil
}

// testTrim: a trimmed range reads as its old bytes or as zeros.
func testTrim(p *probe) error {
	for i, s := range p.places() {
		op := Op{Kind: Trim, Off: s.off, Len: s.n}
		if i%2 == 1 {
			op.Flags = block.FUA
		}
		if err := p.changed(s, op); err != nil {
			return err
		}
	}
	return nil
}

// changed writes to s, carries out op and compares, also after a later write
// to the middle.
func (p *probe) changed(s span, op Op) error {
	m, err := p.model(max(0, s.off-4096), s.n+8192)
	if err != nil {
		return err
	}
	middle := Op{Kind: Write, Off: s.off + s.n/2&^(p.unit-1), Len: p.unit, Seed: 3}
	err = p.do(m,
		Op{Kind: Write, Off: s.off, Len: s.n, Seed: 2},
		op,
		Op{Kind: Read, Off: s.off, Len: s.n},
		Op{Kind: Extents, Off: s.off, Len: s.n},
		middle,
		Op{Kind: Extents, Off: s.off, Len: s.n})
	if err == nil {
		err = m.Verify(p.ctx, p.dev)
	}
	if err != nil {
		return errors.Join(err, errors.New("after "+op.String()))
	}
	return nil
}

// wholeLimit is the size in bytes up to which a device is zeroed as a whole
// although it says that zeroing is slow.
const wholeLimit = 64 << 20

// testWhole: trims and zeros may be as large as the device.
func testWhole(p *probe) error {
	m, err := p.model(0, 64<<10)
	if err != nil {
		return err
	}
	size := p.info.Size
	for _, at := range []int64{size / 2 &^ 65535, max(0, size-64<<10)} {
		if err := m.Learn(p.ctx, p.dev, at, 64<<10); err != nil {
			return err
		}
	}
	for seed, op := range []Op{
		{Kind: Trim, Len: size},
		{Kind: Zero, Len: size, Flags: block.FastZero},
		{Kind: Zero, Len: size},
		{Kind: Trim, Len: size, Flags: block.FUA},
	} {
		if op.Kind == Zero && op.Flags == 0 && size > wholeLimit && !p.info.FastZeros {
			continue
		}
		n := p.limit(4096+p.unit-1) &^ (p.unit - 1)
		for _, at := range []int64{0, size / 2 &^ 65535, size - n} {
			if err := p.do(m, Op{Kind: Write, Off: at, Len: n, Seed: uint64(seed)}); err != nil {
				return err
			}
		}
		if err := p.do(m, Op{Kind: Extents, Len: size}, op, Op{Kind: Extents, Len: size}, Op{Kind: Flush}); err != nil {
			return err
		}
		if err := m.Verify(p.ctx, p.dev); err != nil {
			return errors.Join(err, errors.New("after "+op.String()))
		}
	}
	return nil
}

// testFlush: a flush succeeds, with and without something to flush.
func testFlush(p *probe) error {
	m, err := p.model(0, 64<<10)
	if err != nil {
		return err
	}
	if err := p.do(m, Op{Kind: Flush}, Op{Kind: Flush}); err != nil || p.info.ReadOnly {
		return err
	}
	err = p.do(m, Op{Kind: Write, Len: p.unit, Seed: 1}, Op{Kind: Flush},
		Op{Kind: Write, Off: p.unit, Len: p.unit, Seed: 2, Flags: block.FUA},
		Op{Kind: Zero, Off: p.unit, Len: p.unit, Flags: block.FUA}, Op{Kind: Flush})
	if err != nil {
		return err
	}
	return m.Verify(p.ctx, p.dev)
}
