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
// before.
func (s *Set) makeRoom(ctx context.Context, try int, seen uint64) bool {
	s.control.Lock()
	defer s.control.Unlock()
	if s.closed() || s.suspended.Load() {
		return true // to find that out
	}
	if try < patientTries && s.toStore.Done() != seen {
		return true // there may be room since, which would not be noticed below
	}
	before := s.store.Stats().Free
	if s.reclaim(ctx, before) {
		return true
	}
	victims := s.victims()
	s.notify(Event{Kind: Full})
	if len(victims) == 0 || s.shared(ctx, func() error { return s.giveUp(ctx, victims) }) != nil {
		return false
	}
	s.reclaim(ctx, before)
	return true
}

// reclaim does pending work until there is more free space than before.
func (s *Set) reclaim(ctx context.Context, before int64) bool {
	for {
		st := s.store.Stats()
		if st.Free > before {
			return true
		}
		_, p, err := s.step(ctx, true)
		if err != nil || s.shared(ctx, func() error { return s.toStore.Wait(ctx) }) != nil {
			return false
		}
		if !p.More && st.Pending > 0 {
			// Others may take what comes back.
			s.pins.wait(ctx)
			return true
		}
		if !p.More {
			return s.store.Stats().Free > before
		}
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
