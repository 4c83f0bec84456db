package ranged

import (
	"encoding/binary"
	"fmt"

	"github.com/strata-storage/strata/snapshot"
)

// Operations of records.
const (
	opSet byte = 1 + iota
	opDetach
	opHome
	opCreate
	opDelete
	opPrune
	opPut
)

// maxRun bounds the chunks of a record, as the engine bounds those of a plan.
const maxRun = 1024

// A record is a change of the state. Carried out in the same order on the same
// state, records have the same effect.
type record struct {
	op       byte
	view     snapshot.ID
	chunk, n int64
	where    snapshot.Where
	// slot is the new place, spare that of a copy for the snapshots behind
	// view; -1 is none.
	slot, spare int64
	gaps        []gap
	// sums are the checksums of the chunks at slot or in the gaps, spareSums
	// of those at spare.
	sums, spareSums []uint32
	ids             []snapshot.ID
	// chunks were looked at; cursor is the next one, dead says that there is
	// more to look at.
	chunks []int64
	cursor int64
	dead   bool
	key    string
	value  []byte
}

// A gap is a range of snapshots on the origin device, which get a place.
type gap struct {
	from, to snapshot.ID
	slot     int64
}

// writer encodes numbers.
type writer struct{ b []byte }

func (w *writer) num(v ...uint64) {
	for _, x := range v {
		w.b = binary.AppendUvarint(w.b, x)
	}
}

func (w *writer) bytes(p []byte) {
	w.num(uint64(len(p)))
	w.b = append(w.b, p...)
}

func (w *writer) sums(all []uint32) {
	for _, s := range all {
		w.b = le.AppendUint32(w.b, s)
	}
}

func (w *writer) flag(v bool) {
	if v {
		w.num(1)
	} else {
		w.num(0)
	}
}

// encode appends a record.
func (r *record) encode(w *writer) {
	w.num(uint64(r.op))
	switch r.op {
	case opSet:
		w.num(uint64(r.view), uint64(r.chunk), uint64(r.n), uint64(r.where), uint64(r.slot+1), uint64(r.spare+1))
		if r.slot >= 0 {
			w.sums(r.sums)
		}
		if r.spare >= 0 {
			w.sums(r.spareSums)
		}
	case opDetach:
		w.num(uint64(r.chunk), uint64(r.n), uint64(len(r.gaps)))
		for _, g := range r.gaps {
			w.num(uint64(g.from), uint64(g.to), uint64(g.slot))
		}
		w.sums(r.sums)
	case opHome:
		w.num(uint64(r.view), uint64(r.chunk), uint64(r.n))
	case opCreate, opDelete:
		w.num(uint64(len(r.ids)))
		for _, id := range r.ids {
			w.num(uint64(id))
		}
	case opPrune:
		w.num(uint64(r.cursor))
		w.flag(r.dead)
		w.num(uint64(len(r.chunks)))
		last := int64(0)
		for _, c := range r.chunks {
			w.num(uint64(c - last))
			last = c
		}
	case opPut:
		w.bytes([]byte(r.key))
		w.flag(r.value != nil)
		w.bytes(r.value)
	}
}

// reader decodes what writer encodes. After an error all values are zero.
type reader struct {
	b   []byte
	bad error
}

func (r *reader) fail(format string, args ...any) {
	if r.bad == nil {
		r.bad = fmt.Errorf(format+": %w", append(args, snapshot.ErrDamaged)...)
	}
	r.b = nil
}

func (r *reader) num() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("a number is cut short")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// upTo returns a number that must not exceed a limit.
func (r *reader) upTo(limit int64, what string) int64 {
	v := r.num()
	if v > uint64(max(limit, 0)) {
		r.fail("%s is %d, expected at most %d", what, v, limit)
		return 0
	}
	return int64(v)
}

func (r *reader) bytes(limit int, what string) []byte {
	n := r.upTo(int64(min(limit, len(r.b))), what)
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) sums(n int64) []uint32 {
	if int64(len(r.b)) < 4*n {
		r.fail("%d checksums are cut short", n)
		return nil
	}
	all := make([]uint32, n)
	for i := range all {
		all[i] = le.Uint32(r.b[4*i:])
	}
	r.b = r.b[4*n:]
	return all
}

// run reads chunks of the origin.
func (r *reader) run(g *geometry) (c, n int64) {
	c = r.upTo(g.chunks()-1, "a chunk")
	n = r.upTo(min(g.chunks()-c, maxRun), "a number of chunks")
	if n == 0 {
		r.fail("there are no chunks in a record")
	}
	return c, n
}

// place reads a slot for n chunks, or -1.
func (r *reader) place(g *geometry, n int64) int64 { return r.upTo(g.slots()-n+1, "a place") - 1 }

// record decodes the next record.
func (r *reader) record(g *geometry) (x record) {
	x = record{op: byte(r.upTo(255, "an operation")), slot: -1, spare: -1}
	switch x.op {
	case opSet:
		x.view = snapshot.ID(r.num())
		x.chunk, x.n = r.run(g)
		x.where = snapshot.Where(r.upTo(2, "a kind of place"))
		x.slot, x.spare = r.place(g, x.n), r.place(g, x.n)
		if x.where == snapshot.OnOrigin || x.where == snapshot.OnStore != (x.slot >= 0) {
			r.fail("chunk %d gets a place of kind %d", x.chunk, x.where)
		}
		if x.slot >= 0 {
			x.sums = r.sums(x.n)
		}
		if x.spare >= 0 {
			x.spareSums = r.sums(x.n)
		}
	case opDetach:
		x.chunk, x.n = r.run(g)
		for range r.upTo(int64(len(r.b)), "a number of ranges") {
			gap := gap{snapshot.ID(r.num()), snapshot.ID(r.num()), r.upTo(g.slots()-x.n, "a place")}
			x.gaps = append(x.gaps, gap)
		}
		x.sums = r.sums(x.n)
	case opHome:
		x.view = snapshot.ID(r.num())
		x.chunk = r.upTo(g.chunks()-1, "a chunk")
		x.n = r.upTo(g.chunks()-x.chunk, "a number of chunks")
	case opCreate, opDelete:
		for range r.upTo(int64(len(r.b)), "a number of snapshots") {
			x.ids = append(x.ids, snapshot.ID(r.num()))
		}
	case opPrune:
		x.cursor = r.upTo(g.chunks(), "a cursor")
		x.dead = r.upTo(1, "a flag") == 1
		last := int64(0)
		for range r.upTo(int64(len(r.b)), "a number of chunks") {
			last += r.upTo(g.chunks()-1-last, "a chunk")
			x.chunks = append(x.chunks, last)
		}
	case opPut:
		x.key = string(r.bytes(64, "the length of a key"))
		has := r.upTo(1, "a flag") == 1
		if v := r.bytes(snapshot.MaxValue, "the length of a value"); has {
			x.value = append([]byte{}, v...)
		}
	default:
		r.fail("unknown operation %d", x.op)
	}
	return x
}
