package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// A way is a gateway's way to a disk that has a part in a group. It ends when a later
// record does not have the disk any more: nothing depends on it then, so that nobody
// has to wait for it.
type way struct {
	*link
	member record.Member
	// ctx is that of calls, end ends it, nil if it is only for a moment.
	ctx context.Context
	end context.CancelCauseFunc

	mu sync.Mutex
	// flying is the first of the attempts for which nobody waits.
	flying *leg
}

// errParted: a later record does not have the disk.
var errParted = errors.New("a later record of the group does not have the disk any more")

// lookEvery is how often records are looked at for disks that they do not have any more.
// It gives a disk that lives a moment to say itself that it has heard of a later one.
const lookEvery = 100 * time.Millisecond

// way returns the way to a disk as a part of a group.
func (v *Volume) way(group int, m record.Member) *way {
	v.mu.Lock()
	s := v.parts[group]
	if s == nil {
		v.mu.Unlock()
		return &way{link: v.link(m), member: m, ctx: v.ctx}
	}
	for _, w := range s.ways {
		if w.member == m {
			v.mu.Unlock()
			return w
		}
	}
	w := &way{link: v.linkTo(m), member: m}
	w.ctx, w.end = context.WithCancelCause(v.ctx)
	context.AfterFunc(w.ctx, w.clear)
	s.ways = append(s.ways, w)
	v.mu.Unlock()
	// It may be out of date already, and nobody would look at it again.
	v.part(group)
	return w
}

// part ends the ways to disks that the record of a group does not have any more.
func (v *Volume) part(group int) {
	rec, epoch := v.c.Agreed.Group(group)
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.parts[group]
	s.ways = slices.DeleteFunc(s.ways, func(w *way) bool {
		if slices.Contains(rec.Members, w.member) || slices.Contains(rec.Joining, w.member) {
			return false
		}
		w.end(fmt.Errorf("group %d, disk %s, epoch %d: %w", group, w.member.Disk, epoch, errParted))
		return true
	})
}

// followRecords is the goroutine that ends ways.
func (v *Volume) followRecords() {
	for {
		changed := v.c.Agreed.Changed()
		v.mu.Lock()
		groups := slices.Collect(maps.Keys(v.parts))
		v.mu.Unlock()
		for _, g := range groups {
			v.part(g)
		}
		if wait(v.ctx, changed) != nil || v.pause(lookEvery) != nil {
			return
		}
	}
}

// pause waits by the clock.
func (v *Volume) pause(d time.Duration) error {
	if coord.Sleep(v.ctx, v.clock, d) {
		return nil
	}
	return context.Cause(v.ctx)
}

// outcome notes what a call in session s has come to, and returns it. That of one that was
// abandoned is not known, but nothing has to be done for it: whatever the disk is asked
// in this group from now on has a later epoch, before which it is over.
func (w *way) outcome(s *Writer, err error) error {
	if err != nil {
		if why := context.Cause(w.ctx); errors.Is(why, errParted) {
			return why
		}
	}
	w.blame(s, err)
	return err
}

// call makes a call to a disk in a session.
func (w *way) call(f func(context.Context, Peer, *Writer) error) error {
	s, err := w.session(w.ctx)
	if err == nil {
		err = f(w.ctx, w.peer, s)
	}
	return w.outcome(s, err)
}
