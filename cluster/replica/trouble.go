package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// Pauses between attempts that cannot succeed at once.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// cutAfter is for how long a disk that serves others must not have answered before the
// volume is given up for that.
const cutAfter = 3 * time.Second

// A trial is the attempts of one request. The zero value is the beginning.
type trial struct {
	begun bool
	until time.Duration
	pause time.Duration
}

// over says that a request is not tried any more, if that is so.
func (t *trial) over(v *Volume, why error) error {
	now := v.clock.Now()
	if !t.begun {
		t.begun, t.until, t.pause = true, now+v.c.Limit, firstPause
	}
	if now < t.until {
		return nil
	}
	return fmt.Errorf("given up after %v: %w", v.c.Limit, why)
}

// lasts is for how long a request has been tried since its first fault.
func (t *trial) lasts(v *Volume) time.Duration { return v.clock.Now() - (t.until - v.c.Limit) }

// rest pauses, longer each time.
func (t *trial) rest(v *Volume) error {
	d := t.pause
	t.pause = min(2*t.pause, lastPause)
	return v.pause(d)
}

// A fault is the error of a call to a disk.
type fault struct {
	group  int
	member record.Member
	err    error
	// joins: it is a joining disk, of which nothing depends.
	joins bool
	// spare: the disk has no room, and enough others have done what was asked.
	spare bool
}

func (f *fault) Error() string {
	return fmt.Sprintf("group %d, disk %s: %v", f.group, f.member.Disk, f.err)
}

func (f *fault) Unwrap() error { return f.err }

// answered notes that a disk has answered, whatever it said.
func (l *link) answered() {
	if l.fails.Load() != 0 {
		l.fails.Store(0)
	}
}

// blame notes what a call in session w has come to.
func (l *link) blame(w *Writer, err error) {
	switch {
	case err == nil:
		l.answered()
	case unknown(err):
		l.fails.Add(1)
		if w != nil {
			l.broken(w)
		}
	case errors.Is(err, ErrSession):
		l.answered()
		if w != nil {
			l.broken(w)
		}
	default:
		l.answered()
	}
}

// unknown reports whether an error leaves open what has been done.
func unknown(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// final reports whether an error is about the request and not about the disk. What a disk
// has failed of is not, though it may have been a file system that is full.
func final(err error) bool {
	if errors.Is(err, disk.ErrFailed) {
		return false
	}
	return full(err) || errors.Is(err, block.ErrInvalid) || errors.Is(err, block.ErrNoMemory)
}

// full reports whether a disk has no room for a request.
func full(err error) bool { return errors.Is(err, block.ErrNoSpace) && !errors.Is(err, disk.ErrFailed) }

// ends reports whether the request ends with the fault, rather than the disk's part in the
// group.
func (f *fault) ends() bool {
	if full(f.err) {
		return !f.spare
	}
	return final(f.err) && !f.joins
}

// mend does what a fault asks for, so that the request can be tried again: it waits
// for a later record, or removes the disk. It returns an error if the request cannot
// be tried again.
func (v *Volume) mend(t *trial, f *fault) error {
	if v.ctx.Err() != nil {
		return context.Cause(v.ctx)
	}
	if err := t.over(v, f); err != nil {
		return err
	}
	var stale *EpochError
	switch err := f.err; {
	case errors.Is(err, errParted):
		return nil // the copy has the later record
	case errors.As(err, &stale):
		return v.catchUp(t, stale.Known)
	case errors.Is(err, ErrFenced):
		return v.fail(err)
	case errors.Is(err, ErrSession):
		return nil
	case f.ends():
		return f
	case errors.Is(err, ErrNoMember):
		return t.rest(v) // the copy will say more
	case unknown(err) && v.link(f.member).fails.Load() < 2:
		return nil // once more, in a new session
	}
	return v.remove(t, f)
}

// catchUp waits until the copy shows a revision.
func (v *Volume) catchUp(t *trial, r coord.Revision) error {
	ctx, cancel := context.WithCancelCause(v.ctx)
	defer cancel(nil)
	defer v.clock.AfterFunc(t.until-v.clock.Now(), func() {
		cancel(fmt.Errorf("this node has not heard of revision %d: %w", r, ErrTooFew))
	})()
	return v.c.Agreed.Wait(ctx, r)
}

// remove removes a disk from the record of a group, or waits for a while if it must
// not be.
func (v *Volume) remove(t *trial, f *fault) error {
	if unknown(f.err) {
		v.forgo(f)
	}
	epoch, err := v.expel(f.group, f.member, f.err)
	if errors.Is(err, ErrTooFew) && unknown(f.err) && t.lasts(v) >= cutAfter && v.c.Lives != nil && v.c.Lives(f.member) {
		return v.fail(fmt.Errorf("%w: %w", ErrCut, f))
	}
	if err != nil {
		// Too few, or coordination does not answer.
		return t.rest(v)
	}
	return v.catchUp(t, epoch)
}

// expel removes a disk from the record of a group, because of an error.
func (v *Volume) expel(group int, m record.Member, why error) (coord.Revision, error) {
	epoch, removed, err := v.c.Groups.Remove(v.ctx, group, m, v.c.Agreed.Needed(v.c.Copies))
	if removed && v.c.Removed != nil {
		v.c.Removed(group, m, why)
	}
	return epoch, err
}

// forgo begins to remove a disk that does not answer from all groups of the volume, so that
// requests in the others need not find that out one by one.
func (v *Volume) forgo(f *fault) {
	l := v.link(f.member)
	if !l.forgoing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer l.forgoing.Store(false)
		others := v.removable(f)
		_ = each(len(others), maxPrepare, func(i int) error {
			if l.fails.Load() == 0 {
				return errAnswers
			}
			_, err := v.expel(others[i].group, others[i].member, f.err)
			if errors.Is(err, ErrTooFew) {
				return nil
			}
			return err
		})
	}()
}

var errAnswers = errors.New("it answers again")

// removable are the parts that a disk has in other groups of the volume, where it may be
// removed as far as this node knows.
func (v *Volume) removable(f *fault) (list []fault) {
	v.mu.Lock()
	groups := slices.Sorted(maps.Keys(v.parts))
	v.mu.Unlock()
	least := max(1, v.c.Agreed.Needed(v.c.Copies))
	for _, g := range groups {
		if g == f.group {
			continue
		}
		rec, _ := v.c.Agreed.Group(g)
		disks := rec.Joining
		if len(rec.Members) > least {
			disks = slices.Concat(disks, rec.Members)
		}
		for _, m := range disks {
			if m.Disk == f.member.Disk && m.Incarnation == f.member.Incarnation {
				list = append(list, fault{group: g, member: m})
			}
		}
	}
	return list
}

// scarce returns an error if a record has fewer disks, joining ones included, than
// writes need.
func (v *Volume) scarce(group int, rec record.Group) error {
	have, needed := len(rec.Members)+len(rec.Joining), v.c.Agreed.Needed(v.c.Copies)
	if have >= needed {
		return nil
	}
	return fmt.Errorf("group %d has %d disks, writes need %d: %w", group, have, needed, ErrTooFew)
}

// later waits for a while because of an error, or says that the request is not tried any
// more.
func (v *Volume) later(t *trial, why error) error {
	if err := t.over(v, why); err != nil {
		return err
	}
	return t.rest(v)
}

// record returns the record of a group, if it still has what this volume has written.
func (v *Volume) record(group int) (record.Group, coord.Revision, error) {
	rec, epoch := v.c.Agreed.Group(group)
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.parts[group]
	if s == nil || s.revived == rec.Revived {
		return rec, epoch, v.Err()
	}
	err := ErrRevived
	if s.unflushed || s.flushing {
		err = ErrLost
	}
	return rec, epoch, v.fail(fmt.Errorf("group %d: %w", group, err))
}
