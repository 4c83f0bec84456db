package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// Join makes the disk, which is in the record of a group as a joining one, a member.
// It goes on through changes of the record, and returns nil when the disk is a member.
// The error is ErrNoMember if the disk is removed; after any error Join may be
// called again, and goes on where it was. If there is no room for what the group has, it
// leaves the record unless writes need it, and the error wraps block.ErrNoSpace.
func (m *Member) Join(ctx context.Context, groups *Groups, number int) error {
	for {
		err := m.join(ctx, groups, number)
		var stale *EpochError
		switch {
		case full(err):
			return errors.Join(err, m.decline(ctx, groups, number))
		case !errors.As(err, &stale):
			return err
		}
		if err := m.c.Agreed.Wait(ctx, stale.Known); err != nil {
			return err
		}
	}
}

// decline takes the disk out of the record of a group that it joins.
func (m *Member) decline(ctx context.Context, groups *Groups, number int) error {
	rec, _ := m.c.Agreed.Group(number)
	copies, _ := record.SplitGroup(number)
	for _, o := range rec.Joining {
		if o.Disk == m.c.ID && o.Incarnation == m.c.Incarnation {
			return groups.decline(ctx, number, o, m.c.Agreed.Needed(copies))
		}
	}
	return nil
}

// join is Join at one epoch.
func (m *Member) join(ctx context.Context, groups *Groups, number int) error {
	// If this side does not know the newest record, the promotion says so.
	rec, epoch := m.c.Agreed.Group(number)
	to := To{m.c.ID, m.c.Incarnation, number, epoch}
	p, err := m.admit(ctx, &to)
	if err != nil {
		return err
	}
	// It does not stay inside: it would keep the next epoch out.
	p.leave()
	if p.role == belongs {
		return nil
	}
	j := p.joining
	j.stay(epoch)
	s := m.sourceAt(rec, number, epoch)
	j.begin(s.member)
	if err := m.forget(ctx, number); err != nil {
		return err
	}
	if err := m.pullAll(ctx, j, s); err != nil {
		return err
	}
	if m.c.Finish != nil {
		if err := m.c.Finish(ctx); err != nil {
			return err
		}
	}
	if err := m.c.Disk.Flush(ctx); err != nil {
		return err
	}
	if !j.promote(epoch) {
		return &EpochError{number, epoch}
	}
	next, err := groups.promote(ctx, number, j.as, rec, epoch)
	var stale *EpochError
	if errors.As(err, &stale) {
		return err
	}
	if err != nil {
		return fmt.Errorf("it is not known whether disk %s is a member of group %d: %w", m.c.ID, number, err)
	}
	return m.c.Agreed.Wait(ctx, next)
}

// pullAll pulls what differs, and what is asked for again meanwhile.
func (m *Member) pullAll(ctx context.Context, j *joining, s source) error {
	if err := m.pullListed(ctx, j, s); err != nil {
		return err
	}
	first, last := m.rangeOf(s.to.Group)
	for d, err := range m.c.Disk.Dirty(ctx, first, last) {
		// Equal metadata say nothing of these.
		if err == nil && d.Unsettled && m.has(s.to.Group, d.Object) {
			err = m.pullPaced(ctx, j, s, d.Object)
		}
		if err != nil {
			return err
		}
	}
	for {
		o, ok := j.rest()
		if !ok {
			return nil
		}
		if err := m.pull(ctx, j, s, o); err != nil {
			return err
		}
	}
}

// pullListed compares the lists of the two disks.
func (m *Member) pullListed(ctx context.Context, j *joining, s source) error {
	for from, more := uint64(0), true; more; {
		var differ []disk.Object
		var err error
		look := func(ctx context.Context, _ int) (bool, int64, error) {
			differ, from, more, err = m.compareLists(ctx, s, from)
			return false, 0, err
		}
		if err := m.pace()(ctx, look); err != nil {
			return err
		}
		for _, o := range differ {
			if m.c.Progress != nil {
				m.c.Progress(ctx, m.position(s.to.Group, o))
			}
			if err := m.pullPaced(ctx, j, s, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareLists compares the lists of the two disks from one hash on, as far as the source
// sends its own at once, and tells what differs and where the next ones begin.
func (m *Member) compareLists(ctx context.Context, s source, from uint64) (differ []disk.Object, next uint64, more bool, err error) {
	theirs, more, err := s.peer.List(ctx, s.to, from)
	if err != nil {
		return nil, from, false, err
	}
	first, last := m.rangeOf(s.to.Group)
	if more {
		last = theirs[len(theirs)-1].Hash()
	}
	differ, err = m.differ(ctx, s.to.Group, max(first, from), last, theirs)
	return differ, last + 1, more, err
}

// position is where an object is in its group, from 0 to 1.
func (m *Member) position(group int, o disk.Object) float64 {
	first, last := m.rangeOf(group)
	return float64(o.Hash()-first) / float64(last-first)
}

// differ returns the objects with hashes from one up to another that this disk has in
// another state.
func (m *Member) differ(ctx context.Context, group int, first, last uint64, theirs []disk.Summary) (list []disk.Object, err error) {
	states := make(map[disk.Object]uint64, len(theirs))
	for _, s := range theirs {
		states[s.Object] = s.Digest
	}
	for s, err := range m.c.Disk.List(ctx, first, last) {
		if err != nil {
			return nil, err
		}
		if !m.has(group, s.Object) {
			continue
		}
		if d, ok := states[s.Object]; !ok || d != s.Digest {
			list = append(list, s.Object)
		}
		delete(states, s.Object)
	}
	for _, s := range theirs {
		if _, ok := states[s.Object]; ok {
			list = append(list, s.Object)
		}
	}
	return list, nil
}
