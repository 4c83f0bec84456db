package record

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// maxAdopted is how many children get another parent in one transaction.
const maxAdopted = 64

// MaxDeletion is how many versions of a family are deleted at a time.
const MaxDeletion = 32

// A Deletion says which doomed versions of a family all disks take apart now. There is
// one at a time in a family: what one version has may become another one's by it, which
// must not be forgotten then.
type Deletion struct {
	// Versions are those, the youngest first.
	Versions []uint64 `json:"versions"`
}

// A Pass is one way of a scrub through a disk.
type Pass struct {
	// Ordered is when somebody has last asked for one, Begun and Ended when the last
	// ones have. One that has begun after the last one ended is going on.
	Ordered time.Time `json:"ordered,omitzero"`
	Begun   time.Time `json:"begun,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Cursor is where it goes on after a restart of the disk: all that is before,
	// in the order of groups or hashes, has been done.
	Cursor uint64 `json:"cursor,omitempty"`
	// Objects and Bytes are how much it has looked at, Bad how many blocks or objects
	// were not what they should be, and Mended how many of those are again.
	Objects int64 `json:"objects,omitempty"`
	Bytes   int64 `json:"bytes,omitempty"`
	Bad     int64 `json:"bad,omitempty"`
	Mended  int64 `json:"mended,omitempty"`
}

// A Health is what a disk says about itself, now and then.
type Health struct {
	// Used and Size are in bytes. Full: it takes no more.
	Used int64 `json:"used"`
	Size int64 `json:"size"`
	Full bool  `json:"full,omitempty"`
	// Digests and Data are the scrubs of either kind.
	Digests Pass `json:"digests,omitzero"`
	Data    Pass `json:"data,omitzero"`
}

func (d Deletion) check(k Key) error {
	if n := len(d.Versions); n < 1 || n > MaxDeletion {
		return invalid("%d versions, expected 1 to %d", n, MaxDeletion)
	}
	for i, v := range d.Versions {
		if v == 0 || i > 0 && v >= d.Versions[i-1] {
			return invalid("version %d at %d, expected none to be 0, and each to be older than the one before", v, i)
		}
	}
	return k.is(KindDeletion)
}

func (h Health) check(k Key) error {
	if h.Used < 0 || h.Size < 1 {
		return invalid("%d of %d bytes, expected 0 or more of 1 or more", h.Used, h.Size)
	}
	return k.is(KindHealth)
}

// DeletionKey is the key of the deletion that is under way in a family.
func DeletionKey(fid uint64) string { return Key{Kind: KindDeletion, Family: fid}.String() }

// HealthKey is the key of what a disk says about itself.
func HealthKey(disk string) string { return Key{Kind: KindHealth, ID: disk}.String() }

// Doom begins the deletion of doomed versions of f, which has to be the newest, unless
// there is one in the family: then the error is ErrConflict.
func (c *Catalog) Doom(ctx context.Context, f *Family, versions []uint64) (coord.Revision, error) {
	fail := func(err error) (coord.Revision, error) {
		return 0, fmt.Errorf("beginning to delete versions of family %d: %w", f.ID, err)
	}
	for _, vid := range versions {
		if v, ok := f.Versions.Get(vid); !ok || !v.Doomed {
			return fail(fmt.Errorf("version %d is not there and doomed: %w", vid, ErrInvalid))
		}
	}
	var e edit
	key := DeletionKey(f.ID)
	e.If = []coord.Compare{coord.IfRevision(VolumeKey(f.ID), f.Volume.Revision), coord.IfAbsent(key)}
	if e.put(key, Deletion{versions}); e.err != nil {
		return fail(e.err)
	}
	r, err := c.Store.Txn(ctx, e.Txn)
	if err == nil && !r.Done {
		err = ErrConflict
	}
	if err != nil {
		return fail(err)
	}
	return r.Revision, nil
}

// Forget ends the deletion d in f, which has to be the newest, and takes those of its
// versions out of the tree that no disk has anything of. Their children get the next
// ancestor that stays as their parent, some at a time: as long as it returns false it has
// to be called again with a newer f. With its last version the family vanishes.
func (c *Catalog) Forget(ctx context.Context, f *Family, d Entry[Deletion], gone []uint64) (done bool, err error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("forgetting versions %v of family %d: %w", gone, f.ID, err)
	}
	var e edit
	key := DeletionKey(f.ID)
	e.If = []coord.Compare{coord.IfRevision(VolumeKey(f.ID), f.Volume.Revision), coord.IfRevision(key, d.Revision)}
	for _, vid := range gone {
		v, ok := f.Versions.Get(vid)
		switch {
		case !ok:
			return fail(fmt.Errorf("version %d: %w", vid, ErrNotFound))
		case !v.Doomed:
			return fail(fmt.Errorf("version %d is not doomed: %w", vid, ErrInUse))
		case !slices.Contains(d.Record.Versions, vid):
			return fail(fmt.Errorf("version %d is not one of %v, which were taken apart: %w", vid, d.Record.Versions, ErrInvalid))
		}
	}
	if done, err = e.adopt(f, gone); err != nil {
		return fail(err)
	}
	if done {
		for _, vid := range gone {
			e.remove(VersionKey(f.ID, vid))
		}
		if d.Revision != 0 {
			e.remove(key)
		}
	}
	if f.Versions.Len() == len(gone) {
		e.remove(VolumeKey(f.ID))
	} else if len(gone) > 0 {
		e.put(VolumeKey(f.ID), f.Volume.Record)
	}
	if e.err != nil {
		return fail(e.err)
	}
	switch r, err := c.Store.Txn(ctx, e.Txn); {
	case err != nil:
		return fail(fmt.Errorf("it is not known whether it was done: %w", err))
	case !r.Done:
		return fail(ErrConflict)
	}
	return done, nil
}

// adopt gives children of versions that go another parent, and reports whether those
// were all.
func (e *edit) adopt(f *Family, gone []uint64) (all bool, err error) {
	tree, err := f.Tree()
	if err != nil {
		return false, err
	}
	adopted := 0
	for _, vid := range gone {
		parent := vid
		for slices.Contains(gone, parent) {
			v, _ := f.Versions.Get(parent)
			parent = v.Parent
		}
		for _, id := range tree.Children(vid) {
			if slices.Contains(gone, id) {
				continue
			}
			if adopted == maxAdopted {
				return false, nil
			}
			child, _ := f.Versions.Get(id)
			child.Parent = parent
			e.put(VersionKey(f.ID, id), child)
			adopted++
		}
	}
	return true, nil
}
