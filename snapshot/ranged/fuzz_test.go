package ranged

import (
	"bytes"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// fuzzGeometry is the layout that what is fuzzed belongs to.
func fuzzGeometry() geometry {
	g, err := newGeometry([16]byte{1, 2, 3}, 4<<20, 1<<20, 4096)
	if err != nil {
		panic(err)
	}
	return g
}

// sealedBlock makes a block out of what a fuzzer thinks up, which would never
// find the checksum.
func sealedBlock(data []byte, magic string) []byte {
	b := make([]byte, blockSize)
	copy(b, data)
	copy(b, magic)
	copy(b[16:], []byte{1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	seal(b)
	return b
}

// FuzzSuperblock: what is accepted is what would be written.
func FuzzSuperblock(f *testing.F) {
	g := fuzzGeometry()
	f.Add(g.superblock())
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parseSuper(data, 4<<20)
		b := sealedBlock(data, superMagic)
		// The checksum is also of what is behind the fields, which is free.
		if g, err := parseSuper(b, 4<<20); err == nil && !bytes.Equal(g.superblock()[12:80], b[12:80]) {
			t.Errorf("%+v is accepted", g)
		}
	})
}

// FuzzCheckpoint reads entries of the ring.
func FuzzCheckpoint(f *testing.F) {
	g := fuzzGeometry()
	c := checkpoint{gen: 7, seq: 9, log: g.base, ahead: g.start(1), image: g.start(2), blocks: 1}
	f.Add(c.encode(&g), byte(7))
	f.Fuzz(func(t *testing.T, data []byte, i byte) {
		c, ok := g.parseCheckpoint(sealedBlock(data, ringMagic), int(i%ringSlots))
		if ok && (!g.valid(c.log) || !g.valid(c.image) || c.blocks < 1) {
			t.Errorf("%+v is accepted", c)
		}
	})
}

// FuzzCommit reads frames and carries out the records in them.
func FuzzCommit(f *testing.F) {
	g := fuzzGeometry()
	var w writer
	for _, r := range []record{
		{op: opCreate, ids: []snapshot.ID{1}},
		{op: opMap, group: group{3, 2, []entry{{1, 1, snapshot.OnStore, 8, fresh}, {2, head, snapshot.Hole, 0, 0}}}, sums: []uint32{5, 6}},
		{op: opMap, group: group{3, 1, []entry{{1, 1, snapshot.Hole, 0, 0}}}, freed: []int64{8}},
		{op: opPut, name: "a", value: []byte("b")},
		{op: opDelete, ids: []snapshot.ID{1}},
		{op: opCursor, cursor: key{1, 4}},
		{op: opDrop, fall: fall{3, 2, 1, -1}},
		{op: opDrop, fall: fall{7, 1, 1, -1}},
	} {
		r.encode(&w)
	}
	fr := frame{magic: logMagic, uuid: g.uuid, seq: 1, self: g.base, next: g.start(1), last: true, data: w.b}
	f.Add(fr.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		fr, ok := g.parseFrame(sealedBlock(data, logMagic), logMagic, g.base)
		if !ok {
			return
		}
		s := newState(&g, &cache{geo: &g})
		r := &recovery{geo: &g, state: s}
		some := false
		for x, err := range r.decode(fr.data) {
			if err != nil || r.redoOne(t.Context(), x) != nil {
				break
			}
			some = true
		}
		for c, list := range s.mem.all() {
			if partial(list) {
				for i := range list {
					if e := &list[i]; *e != drop(e.to) || e.to == 0 || e.to >= s.next {
						t.Errorf("chunk %d: %+v is left out", c, *e)
					}
				}
			} else if err := s.validate(list, &g, 1); err != nil && some {
				t.Errorf("chunk %d: %v", c, err)
			}
		}
	})
}

// FuzzNode reads nodes of all kinds and looks for chunks in them.
func FuzzNode(f *testing.F) {
	g := fuzzGeometry()
	l := &link{addr: g.base, gen: 3}
	n := newSheet(&g, mapNode, 0, l)
	putEntry(n.add(), 3, 4, &entry{1, 2, snapshot.OnStore, 9, 0})
	putEntry(n.add(), 9, 1, &entry{from: 3, to: 100, slot: g.start(1) / blockSize})
	n.seal()
	f.Add(n.b, mapNode, byte(0))
	n = newSheet(&g, eraNode, 1, l)
	n.add()
	n.seal()
	f.Add(n.b, eraNode, byte(1))
	dev := blocktest.NewDevice(block.Info{Size: 4 << 20})
	f.Fuzz(func(t *testing.T, data []byte, kind, level byte) {
		b := sealedBlock(data, nodeMagic)
		kind, level = kind%4, level%maxLevel
		b[12], b[13] = kind, level
		le.PutUint64(b[32:], l.gen)
		le.PutUint64(b[40:], uint64(l.addr))
		seal(b)
		n, err := g.parseNode(b, l, kind, int(level))
		if err != nil {
			return
		}
		tr := &tree{kind: kind, root: &link{addr: l.addr, gen: l.gen}, level: int(level), cache: &cache{geo: &g, dev: dev, limit: 1 << 20}}
		tr.root.p.Store(n)
		for c := int64(0); c < 20; c++ {
			switch kind {
			case mapNode:
				if x, err := tr.find(t.Context(), c, nil, 0); err == nil && x.n < 1 {
					t.Errorf("%d chunks from %d on", x.n, c)
				}
			case eraNode:
				_, _, _, _, _ = tr.eraRun(t.Context(), key{uint64(c), uint64(c)})
			}
		}
	})
}

// FuzzImage reads the rest of checkpoints.
func FuzzImage(f *testing.F) {
	g := fuzzGeometry()
	s := newState(&g, &cache{geo: &g})
	s.live, s.next = []snapshot.ID{1, 4}, 5
	s.doomed = []span{{key{2, 7}, 3}}
	s.put("a", []byte("b"))
	if _, err := s.space.node(); err != nil {
		f.Fatal(err)
	}
	d := &draft{roll: s.roll, doomed: s.doomed, values: s.values, trees: s.trees, segs: s.space.freeze()}
	f.Add(append(d.describe(), d.describeSpace(&s.space, nil)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseImage(&g, &cache{geo: &g}, data)
		if err == nil && (s.space.nodes < 0 || s.space.all < 0 || s.next == 0) {
			t.Errorf("%+v is accepted", s)
		}
	})
}

// FuzzBitmap reads the places of segments.
func FuzzBitmap(f *testing.F) {
	g := fuzzGeometry()
	f.Add(g.encodeBitmap(3, []uint64{5}, g.base, 2), int32(2))
	f.Fuzz(func(t *testing.T, data []byte, used int32) {
		if words, err := g.parseBitmap(sealedBlock(data, bitmapMagic), 3, g.base, used); err == nil && count(words) != int64(used) {
			t.Errorf("%d places, expected %d", count(words), used)
		}
	})
}
