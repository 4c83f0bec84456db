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

// makeRoom is called when the store is full. It reports whether it is worth
// trying again.
func (s *Set) makeRoom(ctx context.Context) bool {
	s.control.Lock()
	defer s.control.Unlock()
	if s.closed() || s.suspended.Load() {
		return true // to find that out
	}
	before := s.store.Stats().Free
	if s.reclaim(ctx, before) {
		return true
	}
	var victims []string
	switch s.o.WhenFull {
	case DropLowest:
		victims = s.lowest(1)
	case Invalidate:
		victims = s.lowest(-1)
	}
	s.notify(Event{Kind: Full})
	if len(victims) == 0 || s.shared(ctx, func() error { return s.delete(ctx, victims) }) != nil {
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
		if !p.More {
			// Others may have taken what came back.
			return st.Pending > 0 || s.store.Stats().Free > before
		}
	}
}

// lowest returns the first n snapshots, or all, that may be given up: those
// that nobody uses, by priority and age.
func (s *Set) lowest(n int) []string {
	var all []Snapshot
	for _, x := range s.List() {
		if !x.Open && !x.RollingBack {
			all = append(all, x)
		}
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return cmp.Compare(a.Priority, b.Priority) })
	var names []string
	for _, x := range all {
		if n--; n == -1 {
			break
		}
		names = append(names, x.Name)
	}
	return names
}
