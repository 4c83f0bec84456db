package blocktest

import (
	"math/rand/v2"

	"github.com/strata-storage/strata/block"
)

// Generate returns a history of n random operations for a device with this
// Info. The same arguments give the same history. Offsets and lengths gather
// at the places where devices go wrong: both ends, and multiples of sectors,
// pages and chunks, and a little beside them.
func Generate(seed uint64, info block.Info, n int) History {
	return generate(seed, info, 0, info.Size, n)
}

// generate is Generate for the size bytes at base of the device.
func generate(seed uint64, info block.Info, base, size int64, n int) History {
	g := generator{
		rng:  rand.New(rand.NewPCG(seed, 0x626c6f636b)),
		info: info, base: base, size: size,
		unit: max(1, int64(info.MinBlock)),
	}
	if size < g.unit {
		return nil
	}
	g.chooseAnchors()
	h := make(History, 0, n)
	for range n {
		h = append(h, g.op())
	}
	return h
}

// A generator makes the operations of one history.
type generator struct {
	rng        *rand.Rand
	info       block.Info
	base, size int64
	unit       int64
	// anchors are offsets near which the history works.
	anchors []int64
}

// steps are the units that devices are made of.
var steps = []int64{512, 4 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20}

func (g *generator) chooseAnchors() {
	g.anchors = []int64{0, g.size}
	for range 3 {
		step := steps[g.rng.IntN(len(steps))]
		g.anchors = append(g.anchors, g.rng.Int64N(g.size/step+1)*step)
	}
}

func (g *generator) op() Op {
	op := Op{Kind: g.kind()}
	if op.Kind == Flush {
		return op
	}
	op.Off, op.Len = g.span()
	if op.Kind&(Read|Write) != 0 {
		limit := int64(1 << 20)
		if g.info.MaxBlock > 0 {
			limit = min(limit, int64(g.info.MaxBlock))
		}
		op.Len = min(op.Len, limit) &^ (g.unit - 1)
	}
	if op.Kind == Write {
		op.Seed = g.rng.Uint64N(1 << 20)
	}
	for _, f := range flagNames {
		if f.of&op.Kind != 0 && g.rng.IntN(5) == 0 {
			op.Flags |= f.flag
		}
	}
	return op
}

// kind draws a kind. A read-only device gets a change now and then, to refuse.
func (g *generator) kind() Kind {
	if g.info.ReadOnly && g.rng.IntN(10) > 0 {
		return []Kind{Read, Read, Read, Extents, Flush}[g.rng.IntN(5)]
	}
	switch k := g.rng.IntN(100); {
	case k < 36:
		return Write
	case k < 70:
		return Read
	case k < 79:
		return Zero
	case k < 88:
		return Trim
	case k < 93:
		return Extents
	}
	return Flush
}

// span draws a range.
func (g *generator) span() (off, n int64) {
	if g.rng.IntN(60) == 0 {
		return g.base, g.size &^ (g.unit - 1)
	}
	off = g.anchors[g.rng.IntN(len(g.anchors))] + g.delta()
	n = g.length()
	if g.rng.IntN(3) == 0 {
		off -= n
	}
	off = min(max(off, 0), g.size) &^ (g.unit - 1)
	n = min(n, g.size-off) &^ (g.unit - 1)
	return g.base + off, n
}

// delta draws a small distance from an anchor, mostly a multiple of sectors.
func (g *generator) delta() int64 {
	switch k := g.rng.IntN(10); {
	case k < 3:
		return 0
	case k < 8:
		return (g.rng.Int64N(65) - 32) * sectorSize
	case k < 9:
		return (g.rng.Int64N(9) - 4) * 4096
	}
	return g.rng.Int64N(1025) - 512
}

// length draws a length, short ones more often than long ones.
func (g *generator) length() int64 {
	n := int64(1) << g.rng.IntN(22)
	switch k := g.rng.IntN(10); {
	case k < 4:
		n = max(n, sectorSize)
	case k < 7:
		n = (1 + g.rng.Int64N(24)) * sectorSize
	case k < 8:
		n = g.rng.Int64N(n + 1)
	case k < 9:
		n += g.rng.Int64N(2*sectorSize) - sectorSize
	}
	n = min(max(n, 0), 2<<20)
	if n > 64<<10 && g.rng.IntN(8) > 0 {
		n = 32<<10 + n%(32<<10)
	}
	if n&(g.unit-1) != 0 {
		n = n&^(g.unit-1) + g.unit
	}
	return n
}
