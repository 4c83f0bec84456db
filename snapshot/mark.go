package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/bond"
)

// ErrNotTheStore: the origin has been used with a store, and this is not it, or
// not in the state that it had then.
var ErrNotTheStore = bond.ErrOther

// Forget makes an origin take any store the next time.
func Forget(origin block.Device) error { return bond.Forget(origin) }

// markValue is the key of the value of the store that has its mark.
const markValue = "mark"

// expectStore fails if the origin has a store and there is none on the device.
// It reports whether there is one.
func (s *Set) expectStore(ctx context.Context) (exists bool, err error) {
	kind, err := Identify(ctx, s.dev)
	if err != nil || s.o.Format == Always {
		return false, err
	}
	m, err := bond.Of(s.bare)
	switch {
	case errors.Is(err, block.ErrNotSupported):
		err = nil
	case m != nil && kind == "":
		err = fmt.Errorf("there is no store on the device, and the origin belongs to %s: %w", m.Name(), ErrNotTheStore)
	}
	return kind != "", err
}

// remark compares the marks of origin and store, unless the store is new by
// decree, and counts one more use. Where a mark cannot be made the disk is of
// more use than its mark.
func (s *Set) remark(ctx context.Context, compare bool) error {
	theirs, unable := bond.Of(s.bare)
	if unable != nil && !errors.Is(unable, block.ErrNotSupported) {
		return unable
	}
	ours, err := s.storeMark()
	if err != nil {
		return err
	}
	if !compare {
		theirs = nil
	} else if err := bond.Compare(theirs, ours, s.o.Kind); err != nil {
		return err
	}
	if s.o.ReadOnly || s.info.ReadOnly || !s.caps.Values || !s.caps.Persistent {
		return nil
	}
	next := ours.Next(theirs, s.o.Kind)
	if unable == nil && (ours == nil || *ours != next) {
		if unable = s.putMark(ctx, next); unable != nil && !errors.Is(unable, block.ErrNoSpace) {
			return unable
		}
	}
	if unable == nil {
		unable = bond.Set(s.bare, next)
	}
	if unable != nil && s.o.Format != Never {
		s.notify(Event{Kind: Unmarked, Err: unable})
	}
	return nil
}

func (s *Set) storeMark() (*bond.Mark, error) {
	for k, v := range s.store.Values() {
		if k == markValue {
			m, err := bond.Parse(string(v))
			if err != nil {
				return nil, fmt.Errorf("the mark of the store: %w: %w", err, ErrDamaged)
			}
			return &m, nil
		}
	}
	return nil, nil
}

// putMark makes the mark of the store durable.
func (s *Set) putMark(ctx context.Context, m bond.Mark) error {
	if err := s.store.Put(ctx, markValue, []byte(m.String())); err != nil {
		return err
	}
	s.toStore.Dirty()
	return s.toStore.Wait(ctx)
}
