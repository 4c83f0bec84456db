package ranged

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// Operations of records.
const (
	opMap byte = 1 + iota
	opCreate
	opDelete
	opCursor
	opPut
	opDrop
)

// maxRun bounds the chunks of a record, as the engine bounds those of a plan.
const maxRun = 1024

// fresh marks entries whose place this record is the first to use.
const fresh = ^uint64(0)

// A record is a change of the state. Those of the map say what is, or what is
// not any more, so that to carry them out nothing has to be read.
type record struct {
	op byte
	// The group has the new entries; freed are the places of the first chunk
	// that are not used any more, those of the others are behind them.
	group
	freed []int64
	// sums are the checksums of the fresh places, chunk by chunk.
	sums []uint32
	ids  []snapshot.ID
	// cursor is where the walk over the eras has come.
	cursor key
	name   string
	value  []byte
	fall   fall
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
	case opMap:
		r.encodeMap(w)
	case opCreate, opDelete:
		w.num(uint64(len(r.ids)))
		for _, id := range r.ids {
			w.num(uint64(id))
		}
	case opCursor:
		w.num(r.cursor.a, r.cursor.b)
	case opPut:
		w.bytes([]byte(r.name))
		w.flag(r.value != nil)
		w.bytes(r.value)
	case opDrop:
		f := &r.fall
		w.num(uint64(f.chunk), uint64(f.n), uint64(f.to), uint64(f.slot+1))
	}
}

func (r *record) encodeMap(w *writer) {
	w.num(uint64(r.chunk), uint64(r.n), uint64(len(r.list)))
	for i := range r.list {
		e := &r.list[i]
		to, kind := uint64(0), uint64(e.where)
		if e.to != head {
			to = uint64(e.to-e.from) + 1
		}
		if e.born == fresh {
			kind |= 4
		}
		w.num(uint64(e.from), to, kind)
		if e.where == snapshot.OnStore {
			w.num(uint64(e.slot))
		}
	}
	w.num(uint64(len(r.freed)))
	for _, slot := range r.freed {
		w.num(uint64(slot))
	}
	for _, s := range r.sums {
		w.b = le.AppendUint32(w.b, s)
	}
}

// newSlots appends the fresh places of the first chunk to slots, each once.
func newSlots(slots []int64, list []entry) []int64 {
	for i := range list {
		if e := &list[i]; e.born == fresh && e.where == snapshot.OnStore && !slices.Contains(slots, e.slot) {
			slots = append(slots, e.slot)
		}
	}
	return slots
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
	n := r.upTo(int64(limit), what)
	if n > int64(len(r.b)) {
		r.fail("%s is %d, of which %d are there", what, n, len(r.b))
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

// record decodes the next record.
func (r *reader) record(g *geometry) (x record) {
	x = record{op: byte(r.upTo(255, "an operation"))}
	switch x.op {
	case opMap:
		r.mapRecord(g, &x)
	case opCreate, opDelete:
		for range r.upTo(int64(len(r.b)), "a number of snapshots") {
			x.ids = append(x.ids, snapshot.ID(r.num()))
		}
	case opCursor:
		x.cursor = key{uint64(r.upTo(max48, "a snapshot")), uint64(r.upTo(max48, "a chunk"))}
	case opPut:
		x.name = string(r.bytes(64, "the length of a key"))
		has := r.upTo(1, "a flag") == 1
		if v := r.bytes(snapshot.MaxValue, "the length of a value"); has {
			x.value = append([]byte{}, v...)
		}
	case opDrop:
		f := &x.fall
		f.chunk = r.upTo(g.chunks()-1, "a chunk")
		f.n = r.run(g, f.chunk)
		f.to = snapshot.ID(r.upTo(max48, "a snapshot"))
		f.slot = r.upTo(g.slots()-f.n+1, "a place") - 1
	default:
		r.fail("unknown operation %d", x.op)
	}
	return x
}

// run returns for how many chunks from one on something is.
func (r *reader) run(g *geometry, chunk int64) int64 {
	n := r.upTo(min(g.chunks()-chunk, maxRun), "a number of chunks")
	if n == 0 {
		r.fail("there are no chunks in a record")
	}
	return n
}

func (r *reader) mapRecord(g *geometry, x *record) {
	x.chunk = r.upTo(g.chunks()-1, "a chunk")
	x.n = r.run(g, x.chunk)
	for range r.upTo(int64(len(r.b)), "a number of entries") {
		e := entry{from: snapshot.ID(r.upTo(max48, "a snapshot")), to: head}
		if to := r.upTo(max48, "a number of snapshots"); to > 0 {
			e.to = e.from + snapshot.ID(to) - 1
		}
		kind := r.upTo(7, "a kind of place")
		e.where = snapshot.Where(kind & 3)
		if kind&4 != 0 {
			e.born = fresh
		}
		if e.where == snapshot.OnStore {
			e.slot = r.upTo(g.slots()-x.n, "a place")
		}
		x.list = append(x.list, e)
	}
	for range r.upTo(int64(len(r.b)), "a number of places") {
		x.freed = append(x.freed, r.upTo(g.slots()-x.n, "a place"))
	}
	n := int64(len(newSlots(nil, x.list))) * x.n
	if int64(len(r.b)) < 4*n {
		r.fail("%d checksums are cut short", n)
		return
	}
	for i := range n {
		x.sums = append(x.sums, le.Uint32(r.b[4*i:]))
	}
	r.b = r.b[4*n:]
}
