package disk

import (
	"context"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
)

// markDirty makes sure that the mark of the object is durable, and stays as long
// as the request. A mark of an earlier run that ended well is renewed: should this
// one not end well, it must be known that the object was written in it.
func (r *request) markDirty(ctx context.Context) error {
	o, d := r.o, r.d
	o.mu.Lock()
	for !d.marked(o) {
		if m := o.marking; m != nil {
			o.mu.Unlock()
			select {
			case <-m:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			o.mu.Lock()
			if err := d.failed(); err != nil {
				o.mu.Unlock()
				return err
			}
			continue
		}
		done := make(chan struct{})
		o.marking = done
		o.mu.Unlock()
		m := mark{run: d.run.number}
		err := d.putMark(o.Object, m, pebble.Sync)
		o.mu.Lock()
		if err == nil {
			o.dirty, o.mark = true, m
			d.stats.marks.Add(1)
		}
		o.marking = nil
		close(done)
		if err != nil {
			o.mu.Unlock()
			return err
		}
	}
	o.writers++
	o.removed, r.wrote = false, true
	o.mu.Unlock()
	return nil
}

// marked reports whether an object has a mark of this run, or one that is as good. Its
// mutex is held.
func (d *Disk) marked(o *object) bool {
	return o.dirty && (o.mark.run == d.run.number || d.unsettled(o.mark))
}

func (d *Disk) putMark(o Object, m mark, how *pebble.WriteOptions) error {
	if err := d.meta.db.Set(objectKey(nil, tableDirty, o), m.encode(nil), how); err != nil {
		d.fail(err)
	}
	return d.failed()
}

// tear notes that blocks of the object may not have their checksums, because a
// write in place has failed. It need not be durable: if the power fails, the
// object is one that was dirty then.
func (r *request) tear() {
	o := r.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.mark.torn {
		o.mark.torn = true
		// An error is one of the whole disk.
		_ = r.d.putMark(o.Object, o.mark, pebble.NoSync)
	}
}

// A DirtyObject is one that may differ from its replicas.
type DirtyObject struct {
	Object
	// Unsettled: blocks may not have their checksums, because the power failed
	// or the slab returned an error while the object was written. They are
	// unfinished writes.
	Unsettled bool
}

// Dirty lists the objects that have been changed and not cleared since, in the
// order of their hashes, from one hash up to another, both included.
func (d *Disk) Dirty(ctx context.Context, from, to uint64) iter.Seq2[DirtyObject, error] {
	return func(yield func(DirtyObject, error) bool) {
		if err := d.enter(); err != nil {
			yield(DirtyObject{}, err)
			return
		}
		defer d.gate.Leave()
		stopped := false
		err := d.meta.scan(d.meta.db, hashKey(tableDirty, from), hashEnd(tableDirty, to), func(key, value []byte) (bool, error) {
			if err := context.Cause(ctx); err != nil {
				return false, err
			}
			o, err := parseObjectKey(key, tableDirty)
			if err != nil {
				return false, err
			}
			var m mark
			if err := m.decode(value); err != nil {
				return false, fmt.Errorf("object %v: %w", o, err)
			}
			stopped = !yield(DirtyObject{o, d.unsettled(m)}, nil)
			return !stopped, nil
		})
		if err != nil && !stopped {
			yield(DirtyObject{}, err)
		}
	}
}

// hashEnd is the smallest key behind those of objects with this hash.
func hashEnd(table byte, hash uint64) []byte {
	if hash == lastHash {
		return []byte{table + 1}
	}
	return hashKey(table, hash+1)
}

// Clear takes the mark of an object back, which says that all members of its
// group are known to have the same as this disk in this state. It reports false,
// and does nothing, if the object is in another state by now, is being changed,
// or has changes that are not durable. Clear an unsettled object only after Verify
// has found nothing: what is unfinished now is rot when it is cleared.
//
// That it was cleared becomes durable some time later: after a crash the object
// may be dirty again.
func (d *Disk) Clear(ctx context.Context, id Object, s State) (cleared bool, err error) {
	if err := d.enter(); err != nil {
		return false, err
	}
	defer d.gate.Leave()
	r, err := d.hold(At{Object: id}, nil)
	if err != nil {
		return false, err
	}
	defer r.end()
	o := r.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.dirty {
		return o.head.State == s, nil
	}
	if o.head.State != s || !o.quiet() {
		return false, nil
	}
	d.unmark(o)
	err = d.failed()
	return err == nil, err
}
