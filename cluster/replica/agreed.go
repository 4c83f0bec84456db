package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// Agreed is a node's copy of what is agreed, which may be late. It is one copy: all
// answers after one that shows a revision are as of that revision at least. The
// answers must not be changed. The first two methods are called with every request.
type Agreed interface {
	// Group returns the record of a group and its epoch, 0 if there is none.
	Group(number int) (record.Group, coord.Revision)
	// Attachment returns the generation of the attachment of a head, 0 if there is
	// none.
	Attachment(h Head) coord.Revision
	// Copies returns how many copies the objects of a family have, 0 if it is not
	// known. It never changes.
	Copies(family uint64) int
	// Needed returns how many disks need to have each write of the families with so
	// many copies, see record.View.Needed. It is called with every write.
	Needed(copies int) int
	// Frozen reports whether a version is a snapshot, which nobody writes any more.
	Frozen(h Head) bool
	// Changed returns a channel that is closed when the copy has changed since.
	Changed() <-chan struct{}
	// Wait returns when the copy has seen what was agreed at this revision, or with
	// context.Cause(ctx).
	Wait(ctx context.Context, r coord.Revision) error
}

// Groups changes the records of groups by those of the steps that gateways and joining
// disks make; the others are the steward's. Each method returns the epoch at which
// things are as was asked, also if they had been so before.
type Groups struct {
	Store coord.Store

	promotions promotions
}

// Get returns the record of a group as it is agreed now.
func (s *Groups) Get(ctx context.Context, number int) (record.Group, coord.Revision, error) {
	e, _, err := s.Store.Get(ctx, record.GroupKey(number))
	if err != nil {
		return record.Group{}, 0, err
	}
	var g record.Group
	if e.Revision != 0 {
		if err := json.Unmarshal(e.Value, &g); err != nil {
			return g, 0, fmt.Errorf("the record of group %d: %w", number, err)
		}
	}
	return g, e.Revision, nil
}

// Remove removes a disk, and reports whether that was still to be done. A member stays, and
// the error is ErrTooFew, if fewer members would be left than are needed, or none.
func (s *Groups) Remove(ctx context.Context, number int, m record.Member, needed int) (epoch coord.Revision, removed bool, err error) {
	epoch, err = s.step(ctx, number, func(g *record.Group, _ coord.Revision) (bool, error) {
		is := func(o record.Member) bool { return o == m }
		removed = slices.ContainsFunc(g.Joining, is) || slices.ContainsFunc(g.Members, is)
		if slices.ContainsFunc(g.Joining, is) {
			g.Joining = slices.DeleteFunc(g.Joining, is)
			return true, nil
		}
		if !slices.ContainsFunc(g.Members, is) {
			return false, nil
		}
		if left := len(g.Members) - 1; left < max(1, needed) {
			return false, fmt.Errorf("group %d would have %d members left without disk %s, needed are %d: %w", number, left, m.Disk, max(1, needed), ErrTooFew)
		}
		g.Members = slices.DeleteFunc(g.Members, is)
		return true, nil
	})
	return epoch, removed && err == nil, err
}

// decline takes a joining disk out of the record, if as many disks as are needed are left.
func (s *Groups) decline(ctx context.Context, number int, m record.Member, needed int) error {
	_, err := s.step(ctx, number, func(g *record.Group, _ coord.Revision) (bool, error) {
		is := func(o record.Member) bool { return o == m }
		if !slices.ContainsFunc(g.Joining, is) || len(g.Members)+len(g.Joining)-1 < needed {
			return false, nil
		}
		g.Joining = slices.DeleteFunc(g.Joining, is)
		return true, nil
	})
	return err
}

// step replaces a record by what f makes of it, if f wants that. f may be called
// again: also if it is not known whether the record was replaced.
func (s *Groups) step(ctx context.Context, number int, f func(*record.Group, coord.Revision) (bool, error)) (coord.Revision, error) {
	for {
		g, epoch, err := s.Get(ctx, number)
		if err != nil {
			return 0, err
		}
		if change, err := f(&g, epoch); err != nil || !change {
			return epoch, err
		}
		value, err := json.Marshal(g)
		if err != nil {
			return 0, err
		}
		key := record.GroupKey(number)
		r, err := s.Store.Txn(ctx, coord.Txn{
			If:   []coord.Compare{coord.IfRevision(key, epoch)},
			Then: []coord.Op{coord.Put(key, value)},
		})
		if err != nil {
			return 0, err
		}
		if r.Done {
			return r.Revision, nil
		}
	}
}
