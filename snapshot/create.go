package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/strata-storage/strata/block"
)

// CreateOptions are the options of Create.
type CreateOptions struct {
	// Of names the snapshot to take a snapshot of; empty is the origin.
	Of string
	// Priority decides which snapshot is given up first, if it must be: the
	// one with the lowest.
	Priority int
	// Created is the time that the snapshot is said to be of; zero is now.
	Created time.Time
}

// Create takes a snapshot. It has everything written by requests that returned
// before Create was called, nothing of those issued after it has returned, and
// is durable. Writes wait while those inside finish, reads do not.
func (s *Set) Create(ctx context.Context, name string, o CreateOptions) error {
	s.control.Lock()
	defer s.control.Unlock()
	return s.shared(ctx, func() error {
		_, err := s.create(ctx, name, o)
		return err
	})
}

func (s *Set) create(ctx context.Context, name string, o CreateOptions) (*record, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := s.mayChange(); err != nil {
		return nil, err
	}
	if _, err := s.names.get(name); err == nil {
		return nil, fmt.Errorf("snapshot %q: %w", name, ErrExists)
	}
	if m := s.merging.Load(); m != nil {
		return nil, fmt.Errorf("a snapshot can be taken when the rollback has ended: %w", ErrBusy)
	}
	if o.Created.IsZero() {
		o.Created = s.o.Now()
	}
	r := &record{Name: name, Priority: o.Priority, Created: o.Created.UnixNano()}
	if o.Of != "" {
		of, err := s.names.get(o.Of)
		switch {
		case err != nil:
			return nil, err
		case !s.caps.Clones:
			return nil, fmt.Errorf("this kind of store takes no snapshots of snapshots: %w", block.ErrNotSupported)
		}
		r.Of = of.id
	}
	if err := s.admitted(func() error { return s.stageCreate(ctx, r) }); err != nil {
		return nil, err
	}
	if err := s.sync(ctx); err != nil {
		// Nobody was told that it exists.
		return nil, errors.Join(err, s.unstage(ctx, r))
	}
	s.names.add(r)
	s.notify(Event{Kind: Created, Name: name})
	return r, nil
}

// stageCreate makes a snapshot while no write is inside.
func (s *Set) stageCreate(ctx context.Context, r *record) error {
	id, err := s.store.Create(ctx, r.Of)
	if err != nil {
		return err
	}
	r.id = id
	s.unshared.Reset()
	if err = s.putName(ctx, r, true); err != nil {
		err = errors.Join(err, s.store.Delete(ctx, []ID{id}))
		raise(&s.deleted, s.toStore.Dirty())
	}
	s.toStore.Dirty()
	return err
}

func (s *Set) unstage(ctx context.Context, r *record) error {
	return s.admitted(func() error {
		err := errors.Join(s.store.Delete(ctx, []ID{r.id}), s.putName(ctx, r, false))
		raise(&s.deleted, s.toStore.Dirty())
		return err
	})
}

// admitted calls f while no write is inside and no plan is open. A step of
// background work, which may wait for barriers, is let out first: writes go on
// until that has ended.
func (s *Set) admitted(f func() error) error {
	s.worker.inside <- struct{}{}
	defer func() { <-s.worker.inside }()
	s.writes.hold()
	defer s.writes.release()
	return f()
}

// mayChange reports whether snapshots can be changed now.
func (s *Set) mayChange() error {
	switch {
	case s.closed():
		return block.ErrClosed
	case !s.loaded:
		return fmt.Errorf("the snapshots have not been resumed: %w", ErrBusy)
	case s.suspended.Load():
		return fmt.Errorf("the snapshots are suspended: %w", ErrBusy)
	case s.o.ReadOnly:
		return block.ErrReadOnly
	}
	return nil
}

// Delete deletes snapshots, all or none. It returns when that is durable; what
// they alone used comes back in the background, in one pass for all of them.
// Snapshots in use are ErrBusy.
func (s *Set) Delete(ctx context.Context, names ...string) error {
	s.control.Lock()
	defer s.control.Unlock()
	return s.shared(ctx, func() error { return s.delete(ctx, names) })
}

func (s *Set) delete(ctx context.Context, names []string) error {
	records, err := s.toDelete(names)
	if err != nil {
		return err
	}
	for _, r := range records {
		if s.inUse(r) {
			return fmt.Errorf("snapshot %q is in use: %w", r.Name, ErrBusy)
		}
	}
	if err := s.admitted(func() error { return s.stageDelete(ctx, records) }); err != nil {
		return err
	}
	return s.endDelete(ctx, names, nil)
}

// giveUp is delete for want of space, of snapshots that may be in use: from
// then on those who use them get ErrGone.
func (s *Set) giveUp(ctx context.Context, names []string) error {
	records, err := s.toDelete(names)
	if err != nil {
		return err
	}
	err = s.admitted(func() error {
		// Readers who know where a chunk lies must be done before it is
		// overwritten without regard for them.
		s.reads.hold()
		defer s.reads.release()
		return s.stageDelete(ctx, records)
	})
	if err != nil {
		return err
	}
	return s.endDelete(ctx, names, fmt.Errorf("given up for want of space: %w", block.ErrNoSpace))
}

// toDelete returns the records of snapshots that are to be deleted.
func (s *Set) toDelete(names []string) (records []*record, err error) {
	if err := s.mayChange(); err != nil {
		return nil, err
	}
	for _, name := range names {
		r, err := s.names.get(name)
		if err != nil {
			return nil, err
		}
		if m := s.merging.Load(); m != nil && m.id == r.id {
			return nil, fmt.Errorf("the origin is being set back to snapshot %q: %w", name, ErrBusy)
		}
		records = append(records, r)
	}
	return records, nil
}

func (s *Set) stageDelete(ctx context.Context, records []*record) error {
	if len(records) == 0 {
		return nil
	}
	var ids []ID
	for _, r := range records {
		ids = append(ids, r.id)
	}
	if err := s.store.Delete(ctx, ids); err != nil {
		return err
	}
	raise(&s.deleted, s.toStore.Dirty())
	for _, r := range records {
		s.names.remove(r)
		if err := s.putName(ctx, r, false); err != nil {
			return err
		}
		s.toStore.Dirty()
	}
	raise(&s.deleted, s.toStore.Dirty())
	return nil
}

func (s *Set) endDelete(ctx context.Context, names []string, why error) error {
	for _, name := range names {
		s.notify(Event{Kind: Deleted, Name: name, Err: why})
	}
	s.worker.kick()
	return s.toStore.Wait(ctx)
}

func (s *Set) inUse(r *record) bool {
	s.names.RLock()
	defer s.names.RUnlock()
	return r.open > 0
}

// Rename gives a snapshot another name.
func (s *Set) Rename(ctx context.Context, from, to string) error {
	s.control.Lock()
	defer s.control.Unlock()
	return s.shared(ctx, func() error { return s.rename(ctx, from, to) })
}

func (s *Set) rename(ctx context.Context, from, to string) error {
	if err := errors.Join(checkName(to), s.mayChange()); err != nil {
		return err
	}
	r, err := s.names.get(from)
	if err != nil {
		return err
	}
	if _, err := s.names.get(to); err == nil {
		return fmt.Errorf("snapshot %q: %w", to, ErrExists)
	}
	if !s.caps.Values {
		return fmt.Errorf("this kind of store keeps no names: %w", block.ErrNotSupported)
	}
	if err := s.putName(ctx, &record{Name: to, Created: r.Created, Priority: r.Priority, Of: r.Of, id: r.id}, true); err != nil {
		return err
	}
	s.toStore.Dirty()
	s.names.remove(r)
	s.names.Lock()
	r.Name = to
	s.names.Unlock()
	s.names.add(r)
	s.notify(Event{Kind: Renamed, Name: to})
	return s.toStore.Wait(ctx)
}

// OpenOptions are the options of Open.
type OpenOptions struct {
	// Write: the snapshot may be written.
	Write bool
	// Create: a snapshot that does not exist is created.
	Create bool
}

// Open returns a snapshot as a device. It is in use until the device is
// closed; the Set must be closed last.
func (s *Set) Open(ctx context.Context, name string, o OpenOptions) (block.Device, error) {
	s.control.Lock()
	defer s.control.Unlock()
	if err := s.share(ctx); err != nil {
		return nil, err
	}
	defer s.unshare()
	switch {
	case s.closed():
		return nil, block.ErrClosed
	case !s.loaded:
		return nil, fmt.Errorf("the snapshots have not been resumed: %w", ErrBusy)
	case o.Write && !s.caps.Writable:
		return nil, fmt.Errorf("snapshots in this kind of store cannot be written: %w", block.ErrReadOnly)
	}
	r, err := s.names.get(name)
	if errors.Is(err, ErrNoSnapshot) && o.Create {
		r, err = s.create(ctx, name, CreateOptions{})
	}
	if err != nil {
		return nil, err
	}
	s.names.use(r, 1)
	v := &view{set: s, id: r.id, info: s.info, closed: func() error {
		s.names.use(r, -1)
		return nil
	}}
	v.info.ReadOnly = !o.Write || s.o.ReadOnly
	v.info.Trims = !v.info.ReadOnly
	return v, nil
}
