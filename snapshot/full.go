package snapshot

import (
	"cmp"
	"context"
	"slices"
)

// checkSpace tells the user when space becomes short.
func (s *Set) checkSpace() {
	st := s.store.Stats()
	low := s.o.Low
	if low == 0 {
		low = st.Size / 10
	}
	if is := st.Free < low; s.low.Load() != is && s.low.CompareAndSwap(!is, is) && is {
		s.notify(Event{Kind: LowSpace})
	}
}

// patientTries is how often what others make durable is a reason to try again
// before snapshots are given up.
const patientTries = 10

// makeRoom is called when the store was full for the try-th time. It reports
// whether it is worth trying again. seen is how far the barrier of the store was
// before, free how much was free, or less.
func (s *Set) makeRoom(ctx context.Context, try int, seen uint64, free int64) bool {
	s.control.Lock()
	defer s.control.Unlock()
	if s.closed() || s.suspended.Load() {
		return true // to find that out
	}
	if try < patientTries && s.toStore.Done() != seen {
		return true // there may be room since
	}
	if s.reclaim(ctx, free) {
		return true
	}
	victims := s.victims()
	s.notify(Event{Kind: Full})
	if len(victims) == 0 || s.shared(ctx, func() error { return s.giveUp(ctx, victims) }) != nil {
		return false
	}
	s.reclaim(ctx, free)
	return true
}

// reclaim does pending work until there is more free space than before. If all
// is done it waits for readers, who may be all that keeps space from being free.
func (s *Set) reclaim(ctx context.Context, before int64) bool {
	pending := int64(0)
	for {
		st := s.store.Stats()
		if st.Free > before {
			return true
		}
		pending += st.Pending
		_, p, err := s.step(ctx, true)
		if err != nil || s.shared(ctx, func() error { return s.toStore.Wait(ctx) }) != nil {
			return false
		}
		if p.More {
			continue
		}
		st = s.store.Stats()
		if pending += st.Pending; pending > 0 {
			s.pins.wait(ctx)
		}
		// Others may have taken what came back.
		return st.Free > before || pending > 0
	}
}

// victims returns the snapshots to give up: the one of the lowest priority, the
// oldest among equals, that nobody uses, or all. That to which the origin is
// being set back is the disk, and stays.
func (s *Set) victims() (names []string) {
	all := s.List()
	slices.SortStableFunc(all, func(a, b Snapshot) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, x := range all {
		switch {
		case x.RollingBack:
		case s.o.WhenFull == DropLowest && !x.Open:
			return []string{x.Name}
		case s.o.WhenFull == Invalidate:
			names = append(names, x.Name)
		}
	}
	return names
}
