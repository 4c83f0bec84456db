package record

import (
	"cmp"
	"context"
	"fmt"

	"github.com/strata-storage/strata/cluster/coord"
)

// A Spec says how a volume is made. Size is needed; the zero values of the others
// are the defaults.
type Spec struct {
	// Size is in bytes.
	Size int64
	// ObjectSize is in bytes, a power of two, 4 MiB if 0.
	ObjectSize int64
	// Copies is how many there should be, 3 if 0, and MinCopies how many there
	// must be for writes, more than half of the copies if 0: see [View.Needed].
	Copies, MinCopies int
	// Zones is among how many zones the copies are at least, if not 0.
	Zones int
}

const (
	defaultObjectSize = 4 << 20
	defaultCopies     = 3
)

// Create makes a volume, the first of a family.
func (c *Catalog) Create(ctx context.Context, name string, s Spec) (h Head, err error) {
	s.Copies = cmp.Or(s.Copies, defaultCopies)
	h.Called = name
	revision, err := c.try(ctx, func(e *edit) error {
		if err := e.absent(name); err != nil {
			return err
		}
		next, err := read[Next](e, NextKey)
		if err != nil {
			return err
		}
		fid := max(next.Record.Family, 1)
		e.put(NextKey, Next{fid + 1})
		h.Name.Record = Name{Family: fid, Line: 1, Head: 1, Size: s.Size, Created: c.now()}
		h.Volume.Record = Volume{
			Family:      fid,
			ObjectSize:  cmp.Or(s.ObjectSize, defaultObjectSize),
			Copies:      s.Copies,
			MinCopies:   cmp.Or(s.MinCopies, Majority(s.Copies)),
			Zones:       s.Zones,
			NextVersion: 2,
		}
		e.put(NameKey(name), h.Name.Record)
		e.put(VolumeKey(fid), h.Volume.Record)
		e.put(VersionKey(fid, 1), Version{ID: 1, Line: 1, Created: h.Name.Record.Created})
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("creating the volume %.200q: %w", name, err)
	}
	h.Name.Revision, h.Volume.Revision = revision, revision
	return h, nil
}

// Rename gives a volume another name. It may be attached.
func (c *Catalog) Rename(ctx context.Context, name, to string) (h Head, err error) {
	revision, err := c.try(ctx, func(e *edit) (err error) {
		if h, err = e.head(name); err != nil {
			return err
		}
		if err := e.absent(to); err != nil {
			return err
		}
		e.remove(NameKey(name))
		e.put(NameKey(to), h.Name.Record)
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("renaming the volume %.200q to %.200q: %w", name, to, err)
	}
	h.Called, h.Name.Revision = to, revision
	return h, nil
}

// Resize changes the size of a volume. It may be attached to grow. To shrink, it has
// to be the caller who has attached it, and who has trimmed what will be beyond the
// end before: that would be there again if the volume grew.
func (c *Catalog) Resize(ctx context.Context, name string, size int64, generation coord.Revision) (h Head, err error) {
	revision, err := c.try(ctx, func(e *edit) (err error) {
		if h, err = e.head(name); err != nil {
			return err
		}
		if size < h.Name.Record.Size {
			if generation == 0 {
				return invalid("%d bytes, expected %d or more where the volume is not attached: what is beyond the end would have to be trimmed", size, h.Name.Record.Size)
			}
			if err := e.held(h, generation); err != nil {
				return err
			}
		}
		h.Name.Record.Size = size
		e.put(NameKey(name), h.Name.Record)
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("resizing the volume %.200q: %w", name, err)
	}
	h.Name.Revision = revision
	return h, nil
}

// Delete deletes a volume that is not attached and has no snapshots: its head is
// doomed. Clones of former snapshots stay as they are.
func (c *Catalog) Delete(ctx context.Context, name string) error {
	_, err := c.try(ctx, func(e *edit) error {
		h, err := e.head(name)
		if err != nil {
			return err
		}
		if n := h.Name.Record.Snapshots; n > 0 {
			return fmt.Errorf("it has %d snapshots: %w", n, ErrInUse)
		}
		if err := e.held(h, 0); err != nil {
			return err
		}
		v, err := e.version(h, h.Name.Record.Head)
		if err != nil {
			return err
		}
		v.Doomed, v.Created = true, c.now()
		e.remove(NameKey(name))
		e.putVersions(h, v)
		return nil
	})
	if err != nil {
		return fmt.Errorf("deleting the volume %.200q: %w", name, err)
	}
	return nil
}

// putVersions puts versions of a family, and so makes a new revision of its tree.
func (e *edit) putVersions(h Head, versions ...Version) {
	fid := h.Line().Family
	e.put(VolumeKey(fid), h.Volume.Record)
	for _, v := range versions {
		e.put(VersionKey(fid, v.ID), v)
	}
}
