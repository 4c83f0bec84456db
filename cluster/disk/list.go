package disk

import (
	"context"
	"fmt"
	"iter"
	"slices"
)

// State returns the state of an object. If there is none, its Digest is 0.
func (d *Disk) State(ctx context.Context, id Object) (State, error) {
	if err := d.enter(); err != nil {
		return State{}, err
	}
	defer d.gate.Leave()
	r, err := d.hold(At{Object: id}, nil)
	if err != nil {
		return State{}, err
	}
	defer r.end()
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	return r.o.head.State, nil
}

// A Summary is what is listed about an object.
type Summary struct {
	Object
	State
	// Blocks is the number of its blocks, those of all versions.
	Blocks uint64
}

// List lists the objects that have entries, in the order of their hashes, from
// one hash up to another, both included. Changes that are made meanwhile are
// seen or not, object by object.
func (d *Disk) List(ctx context.Context, from, to uint64) iter.Seq2[Summary, error] {
	return func(yield func(Summary, error) bool) {
		if err := d.enter(); err != nil {
			yield(Summary{}, err)
			return
		}
		defer d.gate.Leave()
		if err := d.listObjects(ctx, from, to, yield); err != nil {
			yield(Summary{}, err)
		}
	}
}

// listObjects merges the objects in the metadata with those that have changed
// since.
func (d *Disk) listObjects(ctx context.Context, from, to uint64, yield func(Summary, error) bool) error {
	// An object that was flushed after the snapshot is in the list all the same.
	recent := d.recent(from, to)
	snap := d.meta.db.NewSnapshot()
	defer snap.Close()
	stopped := false
	flush := func(upTo *Object) bool {
		for len(recent) > 0 && (upTo == nil || recent[0].compare(*upTo) <= 0) {
			s := recent[0]
			recent = recent[1:]
			if s.Digest != 0 || s.Blocks != 0 {
				stopped = stopped || !yield(s, nil)
			}
			if stopped {
				return false
			}
			if upTo != nil && s.Object == *upTo {
				return false
			}
		}
		return true
	}
	err := d.meta.scan(snap, hashKey(tableObject, from), hashEnd(tableObject, to), func(key, value []byte) (bool, error) {
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
		o, err := parseObjectKey(key, tableObject)
		if err != nil {
			return false, err
		}
		var h header
		if err := h.decode(value); err != nil {
			return false, fmt.Errorf("object %v: %w", o, err)
		}
		if flush(&o) {
			stopped = !yield(Summary{o, h.State, h.data}, nil)
		}
		return !stopped, nil
	})
	if err != nil || stopped {
		return err
	}
	flush(nil)
	return nil
}

// recent returns the objects that the metadata do not have as they are.
func (d *Disk) recent(from, to uint64) []Summary {
	var held []*object
	d.listMu.Lock()
	for _, objects := range [][]*object{d.list, d.batch.objects} {
		for _, o := range objects {
			if h := o.Hash(); h >= from && h <= to {
				d.cache.again(o)
				held = append(held, o)
			}
		}
	}
	d.listMu.Unlock()
	var list []Summary
	for _, o := range held {
		o.mu.Lock()
		list = append(list, Summary{o.Object, o.head.State, o.head.data})
		o.mu.Unlock()
		d.cache.put(o)
	}
	// One that was captured and changed again is there twice: the later state,
	// which is as good.
	slices.SortStableFunc(list, func(a, b Summary) int { return a.compare(b.Object) })
	return slices.CompactFunc(list, func(a, b Summary) bool { return a.Object == b.Object })
}

// Entries lists what the versions of an object have, piece by piece, in each from
// the youngest version on. Changes that are made meanwhile are seen or not, piece
// by piece.
func (d *Disk) Entries(ctx context.Context, id Object) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := d.enter(); err != nil {
			yield(Entry{}, err)
			return
		}
		defer d.gate.Leave()
		r, err := d.hold(At{Object: id}, nil)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer r.end()
		for piece, err := range r.allPieces() {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for e, err := range r.entries(piece) {
				if err == nil {
					err = context.Cause(ctx)
				}
				if !yield(e.Entry, err) || err != nil {
					return
				}
			}
		}
	}
}

// pieces returns the next pieces in which there is something, from one on.
func (r *request) pieces(from uint16) (list []uint16, more bool, err error) {
	if from >= maxPieces {
		return nil, false, nil
	}
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	return r.d.piecesOf(r.o, make([]uint16, 0, 64), from, maxPieces-1)
}

// allPieces yields the pieces in which there is something. An error is the last that
// it yields.
func (r *request) allPieces() iter.Seq2[uint16, error] { return r.piecesFrom(0) }

// piecesFrom is allPieces from one on.
func (r *request) piecesFrom(from uint16) iter.Seq2[uint16, error] {
	return func(yield func(uint16, error) bool) {
		for from, more := from, true; more; {
			list, again, err := r.pieces(from)
			if err != nil {
				yield(0, err)
				return
			}
			for _, piece := range list {
				if from = piece + 1; !yield(piece, nil) {
					return
				}
			}
			more = again
		}
	}
}

// A placed is an entry and where its data are.
type placed struct {
	Entry
	place uint64
}

// someEntries is about how many entries are held in memory at a time.
const someEntries = 1024

// entries yields what the versions have in a piece, from the youngest on. An error
// is the last that it yields.
func (r *request) entries(piece uint16) iter.Seq2[placed, error] {
	return func(yield func(placed, error) bool) {
		for limit := ^uint64(0); limit != 0; {
			list, next, err := r.entriesFrom(piece, limit)
			if err != nil {
				yield(placed{}, err)
				return
			}
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
			limit = next
		}
	}
}

// entriesFrom returns entries of versions up to limit, and where to go on, which
// is 0 at the end.
func (r *request) entriesFrom(piece uint16, limit uint64) (list []placed, next uint64, err error) {
	o, d := r.o, r.d
	o.mu.Lock()
	defer o.mu.Unlock()
	l := lookup{d: d, o: o, piece: piece}
	defer func() {
		if cerr := l.close(); err == nil {
			err = cerr
		}
	}()
	for limit != 0 && len(list) < someEntries {
		version, rec, err := l.youngest(limit)
		if err != nil || version == 0 {
			return list, 0, err
		}
		v := view{version: version, piece: piece, own: *rec}
		for i := range pieceBlocks {
			if e := v.entry(i); e.Kind != None {
				list = append(list, placed{e, v.places[i]})
			}
		}
		limit = version - 1
	}
	return list, limit, nil
}
