package record

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/cluster/coord"
)

// Snapshot makes a snapshot of a volume: its head becomes that, and has a child
// that is the new head. If it was attached, its generation is the revision of the
// head's entries now.
func (c *Catalog) Snapshot(ctx context.Context, volume, name string, generation coord.Revision) (Head, error) {
	return c.SnapshotOf(ctx, volume, name, "", generation)
}

// SnapshotOf is Snapshot of a volume that holds a copy of another snapshot, whose ID
// is origin.
func (c *Catalog) SnapshotOf(ctx context.Context, volume, name, origin string, generation coord.Revision) (h Head, err error) {
	revision, err := c.try(ctx, func(e *edit) (err error) {
		if h, err = e.head(volume); err != nil {
			return err
		}
		if err := e.behead(h, generation); err != nil {
			return err
		}
		old, err := c.keep(e, &h, name)
		if err != nil {
			return err
		}
		old.Origin = origin
		head := h.newHead(old.ID, h.Line().Line, old.Created)
		e.put(NameKey(volume), h.Name.Record)
		e.putVersions(h, old, head)
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("making the snapshot %.200q@%.200q: %w", volume, name, err)
	}
	h.Name.Revision, h.Volume.Revision = revision, revision
	return h, nil
}

// keep returns the head as a snapshot, and puts its name.
func (c *Catalog) keep(e *edit, h *Head, name string) (Version, error) {
	if err := e.noSnapshot(*h, name); err != nil {
		return Version{}, err
	}
	old, err := e.version(*h, h.Name.Record.Head)
	if err != nil {
		return Version{}, err
	}
	old.Name, old.Size, old.Created = name, h.Name.Record.Size, c.now()
	h.Name.Record.Snapshots++
	e.put(SnapshotKey(h.Line().Family, h.Line().Line, name), Snapshot{old.ID})
	return old, nil
}

// Clone makes a volume that begins as a snapshot of another one. They share what
// they have in common for as long as both have it.
func (c *Catalog) Clone(ctx context.Context, volume, snapshot, to string) (h Head, err error) {
	revision, err := c.try(ctx, func(e *edit) (err error) {
		if h, err = e.head(volume); err != nil {
			return err
		}
		of, err := e.snapshot(h, snapshot)
		if err != nil {
			return err
		}
		if err := e.absent(to); err != nil {
			return err
		}
		now := c.now()
		vid := h.Volume.Record.NextVersion
		head := h.newHead(of.ID, vid, now)
		h.Called = to
		h.Name.Record = Name{Family: h.Volume.Record.Family, Line: vid, Head: vid, Size: of.Size, Created: now}
		e.put(NameKey(to), h.Name.Record)
		e.putVersions(h, head)
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("cloning %.200q@%.200q to %.200q: %w", volume, snapshot, to, err)
	}
	h.Name.Revision, h.Volume.Revision = revision, revision
	return h, nil
}

// Rollback lets a volume go on from one of its snapshots, with the snapshot's size:
// it gets a new head. The old one becomes the snapshot keep, or is doomed if that
// is empty. Other snapshots stay.
func (c *Catalog) Rollback(ctx context.Context, volume, snapshot, keep string, generation coord.Revision) (h Head, err error) {
	revision, err := c.try(ctx, func(e *edit) (err error) {
		if h, err = e.head(volume); err != nil {
			return err
		}
		if err := e.behead(h, generation); err != nil {
			return err
		}
		to, err := e.snapshot(h, snapshot)
		if err != nil {
			return err
		}
		var old Version
		if keep != "" {
			old, err = c.keep(e, &h, keep)
		} else if old, err = e.version(h, h.Name.Record.Head); err == nil {
			old.Doomed, old.Created = true, c.now()
		}
		if err != nil {
			return err
		}
		head := h.newHead(to.ID, h.Line().Line, old.Created)
		h.Name.Record.Size = to.Size
		e.put(NameKey(volume), h.Name.Record)
		e.putVersions(h, old, head)
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("rolling back the volume %.200q to %.200q: %w", volume, snapshot, err)
	}
	h.Name.Revision, h.Volume.Revision = revision, revision
	return h, nil
}

// Adopt lets a volume go on from a snapshot of a younger one of the family, as from one of
// its own, which it becomes: the other one has it no more. The old head is doomed.
func (c *Catalog) Adopt(ctx context.Context, volume, from, snapshot string, generation coord.Revision) (h Head, err error) {
	revision, err := c.try(ctx, func(e *edit) (err error) {
		if h, err = e.head(volume); err != nil {
			return err
		}
		if err := e.behead(h, generation); err != nil {
			return err
		}
		other, err := e.head(from)
		if err != nil {
			return err
		}
		if other.Line().Family != h.Line().Family || other.Line().Line <= h.Line().Line {
			return invalid("a snapshot of %q, expected one of a clone of the volume", from)
		}
		if err := e.noSnapshot(h, snapshot); err != nil {
			return err
		}
		s, err := e.snapshot(other, snapshot)
		if err != nil {
			return err
		}
		old, err := e.version(h, h.Name.Record.Head)
		if err != nil {
			return err
		}
		old.Doomed, old.Created = true, c.now()
		e.remove(SnapshotKey(h.Line().Family, other.Line().Line, snapshot))
		s.Line = h.Line().Line
		e.put(SnapshotKey(h.Line().Family, s.Line, snapshot), Snapshot{s.ID})
		head := h.newHead(s.ID, s.Line, old.Created)
		h.Name.Record.Size = s.Size
		h.Name.Record.Snapshots++
		other.Name.Record.Snapshots--
		e.put(NameKey(from), other.Name.Record)
		e.put(NameKey(volume), h.Name.Record)
		e.putVersions(h, old, s, head)
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("letting the volume %.200q go on from %.200q@%.200q: %w", volume, from, snapshot, err)
	}
	h.Name.Revision, h.Volume.Revision = revision, revision
	return h, nil
}

// DeleteSnapshot deletes a snapshot: its version is doomed. Later snapshots and
// clones keep what they need of it.
func (c *Catalog) DeleteSnapshot(ctx context.Context, volume, name string) error {
	_, err := c.try(ctx, func(e *edit) error {
		h, err := e.head(volume)
		if err != nil {
			return err
		}
		v, err := e.snapshot(h, name)
		if err != nil {
			return err
		}
		v.Doomed, v.Name, v.Size, v.Origin, v.Created = true, "", 0, "", c.now()
		h.Name.Record.Snapshots--
		e.put(NameKey(volume), h.Name.Record)
		e.remove(SnapshotKey(h.Line().Family, h.Line().Line, name))
		e.putVersions(h, v)
		return nil
	})
	if err != nil {
		return fmt.Errorf("deleting the snapshot %.200q@%.200q: %w", volume, name, err)
	}
	return nil
}
