package ranged

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"github.com/strata-storage/strata/snapshot"
)

// Nodes are the blocks of the trees. All have the same header, with the
// generation of the checkpoint that wrote them and their own address, so that
// one which was written elsewhere, or is left over, is told.
const (
	nodeHeader = 48
	nodeSpace  = blockSize - nodeHeader
)

// Kinds of nodes.
const (
	mapNode  byte = 1 + iota // records by chunk
	eraNode                  // records by newest snapshot
	listNode                 // entries of one chunk, if they are many
)

// A key orders records: by chunk and oldest snapshot in the map, by newest
// snapshot and chunk among the eras. Both are numbers of 48 bits.
type key struct{ a, b uint64 }

const max48 = 1<<48 - 1

func (k key) less(x key) bool { return k.a < x.a || k.a == x.a && k.b < x.b }

// Sizes of records: that of a map is chunk 6, run 2, from 6, to 6, place 6;
// that of an era newest snapshot 6, chunk 6, run 2; that of inner nodes key 12,
// block 6, generation 6.
const (
	mapRecord   = 26
	eraRecord   = 14
	innerRecord = 24
	maxGroup    = 1<<16 - 1
)

func recordSize(kind byte, level int) int {
	switch {
	case level > 0:
		return innerRecord
	case kind == eraNode:
		return eraRecord
	}
	return mapRecord
}

func get48(b []byte) uint64 { return uint64(le.Uint32(b)) | uint64(le.Uint16(b[4:]))<<32 }

func put48(b []byte, v uint64) {
	le.PutUint32(b, uint32(v))
	le.PutUint16(b[4:], uint16(v>>32))
}

// A link is a reference to a node on the device, and to it in memory if it is
// there.
type link struct {
	addr int64
	gen  uint64
	p    atomic.Pointer[node]
	// gone: no tree has it any more. It belongs to the cache.
	gone bool
}

// A sheet is a node as it is on the device, while it is made or read.
type sheet struct {
	b     []byte
	kind  byte
	level int
	count int
	size  int // of a record
	kids  []*link
	link  *link
}

func (n *sheet) rec(i int) []byte { return n.b[nodeHeader+i*n.size:][:n.size] }

// keyAt returns the key of a record.
func (n *sheet) keyAt(i int) key {
	r := n.rec(i)
	if n.level == 0 && n.kind != eraNode {
		return key{get48(r), get48(r[8:])}
	}
	return key{get48(r), get48(r[6:])}
}

// run returns the first chunk and the number of chunks of a record of a leaf.
func (n *sheet) run(i int) (c, count int64) {
	r := n.rec(i)
	if n.kind != eraNode {
		return int64(get48(r)), int64(le.Uint16(r[6:]))
	}
	return int64(get48(r[6:])), int64(le.Uint16(r[12:]))
}

func putEntry(r []byte, c, n int64, e *entry) {
	put48(r, uint64(c))
	le.PutUint16(r[6:], uint16(n))
	put48(r[8:], uint64(e.from))
	put48(r[14:], uint64(e.to))
	put48(r[20:], uint64(e.slot)<<2|uint64(e.where))
}

// newSheet returns one without records.
func newSheet(g *geometry, kind byte, level int, l *link) *sheet {
	b := make([]byte, blockSize)
	copy(b, nodeMagic)
	b[12], b[13] = kind, byte(level)
	copy(b[16:], g.uuid[:])
	le.PutUint64(b[32:], l.gen)
	le.PutUint64(b[40:], uint64(l.addr))
	return &sheet{b: b, kind: kind, level: level, size: recordSize(kind, level), link: l}
}

// add appends a record, which the caller fills.
func (n *sheet) add() []byte {
	n.count++
	return n.rec(n.count - 1)
}

// seal completes it.
func (n *sheet) seal() {
	le.PutUint16(n.b[14:], uint16(n.count))
	seal(n.b)
}

// parseNode decodes a block that must be the node of a link.
func (g *geometry) parseNode(b []byte, l *link, kind byte, level int) (*node, error) {
	bad := func(what string, args ...any) (*node, error) {
		return nil, fmt.Errorf("the node at %d, of checkpoint %d: "+what+": %w", append(append([]any{l.addr, l.gen}, args...), snapshot.ErrDamaged)...)
	}
	switch {
	case !sealed(b, nodeMagic) || !bytes.Equal(b[16:32], g.uuid[:]):
		return bad("it is not what was written")
	case le.Uint64(b[32:]) != l.gen || int64(le.Uint64(b[40:])) != l.addr:
		return bad("there is the node for %d, of checkpoint %d", le.Uint64(b[40:]), le.Uint64(b[32:]))
	case b[12] != kind || int(b[13]) != level:
		return bad("it has kind %d and level %d, expected %d and %d", b[12], b[13], kind, level)
	}
	n := &sheet{b: b, kind: kind, level: level, size: recordSize(kind, level), count: int(le.Uint16(b[14:])), link: l}
	if n.count == 0 || n.count > nodeSpace/n.size {
		return bad("it has %d records", n.count)
	}
	if level > 0 {
		n.kids = make([]*link, 0, n.count)
	}
	for i := range n.count {
		if i > 0 && !n.keyAt(i-1).less(n.keyAt(i)) {
			return bad("record %d is out of order", i)
		}
		if level == 0 {
			if c, run := n.run(i); run == 0 || c+run > g.chunks() {
				return bad("record %d has %d chunks from %d on", i, run, c)
			}
			continue
		}
		r := n.rec(i)
		kid := &link{addr: int64(get48(r[12:])) * blockSize, gen: get48(r[18:])}
		if !g.valid(kid.addr) || kid.gen == 0 || kid.gen > l.gen {
			return bad("record %d refers to a node at %d, of checkpoint %d", i, kid.addr, kid.gen)
		}
		n.kids = append(n.kids, kid)
	}
	return n.node(), nil
}
