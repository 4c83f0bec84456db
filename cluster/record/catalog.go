package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// attempts is how often a transaction is tried that others were in the way of. Each
// time at least one of them got on.
const attempts = 64

// A Catalog makes the transactions on volumes and their versions. Each method is
// one transaction, that is done as a whole or not at all: it reads what it needs
// from the store, and is done, or refused, only if all of that was so at one moment.
//
// What changes which version is written takes a generation: that of the caller's
// own attachment, whose gateway has no write under way, or 0 if the volume is not
// attached. Otherwise it is refused with ErrInUse or ErrDetached. With another head the
// attachment gets another generation, which is the revision of the transaction.
//
// After an error of the store, see package coord, it is not known whether the
// transaction was done; the errors here say so.
type Catalog struct {
	Store coord.Store
	// Now is the time for records. Nil is time.Now.
	Now func() time.Time
}

func (c *Catalog) now() time.Time {
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	return now().UTC().Round(0)
}

// errAgain: it was changed between two reads.
var errAgain = errors.New("read while it was changed")

// An edit is a transaction that is being made. It compares all that was read for it.
type edit struct {
	coord.Txn
	ctx   context.Context
	store coord.Store
	err   error // the first one of a record that is put
}

// get reads an entry.
func (e *edit) get(key string) (coord.Entry, error) {
	entry, _, err := e.store.Get(e.ctx, key)
	if err != nil {
		return entry, err
	}
	for _, c := range e.If {
		if c.Key == key {
			if c.Revision != entry.Revision {
				err = errAgain
			}
			return entry, err
		}
	}
	e.If = append(e.If, coord.IfRevision(key, entry.Revision))
	return entry, nil
}

// read returns a record, with the revision 0 if there is none.
func read[T Record](e *edit, key string) (Entry[T], error) {
	entry, err := e.get(key)
	if err != nil || entry.Revision == 0 {
		return Entry[T]{}, err
	}
	r, err := Decode[T](key, entry.Value)
	return Entry[T]{r, entry.Revision}, err
}

// put puts a record.
func (e *edit) put(key string, r Record) {
	value, err := Encode(key, r)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.Then = append(e.Then, coord.Put(key, value))
}

// remove deletes an entry.
func (e *edit) remove(key string) { e.Then = append(e.Then, coord.Delete(key)) }

// try makes transactions until one is done, and returns its revision. prepare fills
// an edit from what it reads.
func (c *Catalog) try(ctx context.Context, prepare func(e *edit) error) (coord.Revision, error) {
	for range attempts {
		e := edit{ctx: ctx, store: c.Store}
		refused := prepare(&e)
		if errors.Is(refused, errAgain) {
			continue
		}
		if refused == nil {
			refused = e.err
		}
		if refused != nil {
			// Was it all so at the same time?
			e.Then = nil
			if r, err := c.Store.Txn(ctx, e.Txn); err == nil && !r.Done {
				continue
			}
			return 0, refused
		}
		r, err := c.Store.Txn(ctx, e.Txn)
		switch {
		case errors.Is(err, coord.ErrInvalid) || errors.Is(err, coord.ErrNoLease):
			return 0, fmt.Errorf("it was not done: %w", err)
		case err != nil:
			return 0, fmt.Errorf("it is not known whether it was done: %w", err)
		case r.Done:
			return r.Revision, nil
		}
	}
	return 0, fmt.Errorf("tried %d times: %w", attempts, ErrConflict)
}

// head returns the volume of that name.
func (e *edit) head(name string) (Head, error) {
	if err := CheckName(name); err != nil {
		return Head{}, err
	}
	n, err := read[Name](e, NameKey(name))
	if err != nil {
		return Head{}, err
	}
	if n.Revision == 0 {
		return Head{}, fmt.Errorf("the volume %s: %w", name, ErrNotFound)
	}
	v, err := read[Volume](e, VolumeKey(n.Record.Family))
	if err != nil {
		return Head{}, err
	}
	if v.Revision == 0 {
		return Head{}, fmt.Errorf("the family %d of the volume %s: %w", n.Record.Family, name, ErrNotFound)
	}
	return Head{name, n, v}, nil
}

// absent refuses names that volumes have.
func (e *edit) absent(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	n, err := read[Name](e, NameKey(name))
	if err != nil {
		return err
	}
	if n.Revision != 0 {
		return fmt.Errorf("the volume %s: %w", name, ErrExists)
	}
	return nil
}

// noSnapshot refuses names that snapshots of the volume have.
func (e *edit) noSnapshot(h Head, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s, err := read[Snapshot](e, SnapshotKey(h.Line().Family, h.Line().Line, name))
	if err != nil {
		return err
	}
	if s.Revision != 0 {
		return fmt.Errorf("the snapshot %s@%s: %w", h.Called, name, ErrExists)
	}
	return nil
}

// snapshot returns a snapshot of the volume.
func (e *edit) snapshot(h Head, name string) (Version, error) {
	if err := CheckName(name); err != nil {
		return Version{}, err
	}
	s, err := read[Snapshot](e, SnapshotKey(h.Line().Family, h.Line().Line, name))
	if err != nil {
		return Version{}, err
	}
	if s.Revision == 0 {
		return Version{}, fmt.Errorf("the snapshot %s@%s: %w", h.Called, name, ErrNotFound)
	}
	return e.version(h, s.Record.Version)
}

// version returns a version of the family.
func (e *edit) version(h Head, vid uint64) (Version, error) {
	v, err := read[Version](e, VersionKey(h.Line().Family, vid))
	if err == nil && v.Revision == 0 {
		err = fmt.Errorf("version %d of family %d: %w", vid, h.Line().Family, ErrNotFound)
	}
	return v.Record, err
}

// held refuses all generations of the attachment but the one it has.
func (e *edit) held(h Head, generation coord.Revision) error {
	_, err := e.attachment(h, generation)
	return err
}

// attachment returns the one of that generation, and refuses all others.
func (e *edit) attachment(h Head, generation coord.Revision) (coord.Entry, error) {
	key := AttachmentKey(h.Line().Family, h.Line().Line)
	entry, err := e.get(key)
	switch {
	case err != nil || entry.Revision == generation:
		return entry, err
	case generation != 0:
		return entry, fmt.Errorf("the volume %s in generation %d, it is in %d now: %w", h.Called, generation, entry.Revision, ErrDetached)
	}
	a, err := Decode[Attachment](key, entry.Value)
	if err != nil {
		return entry, err
	}
	return entry, fmt.Errorf("the volume %s is attached by node %s: %w", h.Called, a.Node, ErrInUse)
}

// behead is held for a transaction that makes another version the head: the
// attachment is put anew, so that disks that have heard of its generation have heard
// of the new head, too.
func (e *edit) behead(h Head, generation coord.Revision) error {
	a, err := e.attachment(h, generation)
	if err == nil && generation != 0 {
		e.Then = append(e.Then, coord.PutLeased(a.Lease, a.Key, a.Value))
	}
	return err
}
