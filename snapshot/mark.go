package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/strata-storage/strata/block"
)

// A mark says which store an origin belongs to, in which state. The origin has
// it as a note, and the store as a value. Both count how often they were used
// together, the store first, so that it is one ahead after a crash at the worst
// moment. A store that is missing, another one, or an older copy of either
// device is refused then, instead of giving a disk that never was.
//
// Without a block.Noter for an origin there are no marks.
type mark struct {
	kind, id string
	used     uint64
}

const (
	// markNote is the key of the note of the origin, markValue that of the
	// value of the store.
	markNote  = "store"
	markValue = "mark"
	// idSize is the length of the IDs of stores in bytes.
	idSize = 8
)

func (m mark) String() string { return fmt.Sprintf("%s %s %d", m.kind, m.id, m.used) }

// parseMark is the opposite of String.
func parseMark(text string) (m mark, err error) {
	f := strings.Split(text, " ")
	if len(f) == 3 {
		m = mark{kind: f[0], id: f[1]}
		raw, e := hex.DecodeString(m.id)
		if m.used, err = strconv.ParseUint(f[2], 10, 64); err == nil && e == nil && len(raw) == idSize && m.kind != "" && m.String() == text {
			return m, nil
		}
	}
	return mark{}, fmt.Errorf("%.100q does not say which store it is, as in %q", text, mark{"KIND", strings.Repeat("0", 2*idSize), 1})
}

// MarkOf says which store an origin has been used with, for people; empty if
// that is not known.
func MarkOf(origin block.Device) (string, error) {
	m, err := noted(origin)
	if err != nil || m == nil {
		return "", err
	}
	return m.name(), nil
}

// Forget makes an origin take any store the next time.
func Forget(origin block.Device) error {
	n := block.NoterOf(origin)
	if n == nil {
		return fmt.Errorf("it keeps no note of a store: only files do: %w", block.ErrNotSupported)
	}
	return n.SetNote(markNote, "")
}

func (m *mark) name() string { return fmt.Sprintf("the %s store %s", m.kind, m.id) }

// noted returns the mark of an origin, or nil.
func noted(origin block.Device) (*mark, error) {
	n := block.NoterOf(origin)
	if n == nil {
		return nil, nil
	}
	text, err := n.Note(markNote)
	if errors.Is(err, block.ErrNotSupported) || text == "" && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("which store the origin belongs to: %w", err)
	}
	m, err := parseMark(text)
	if err != nil {
		return nil, fmt.Errorf("which store the origin belongs to: %w: %w", err, ErrNotTheStore)
	}
	return &m, nil
}

// expectStore fails if the origin has a store and there is none on the device.
// It reports whether there is one.
func (s *Set) expectStore(ctx context.Context) (exists bool, err error) {
	kind, err := Identify(ctx, s.dev)
	if err != nil || s.o.Format == Always {
		return false, err
	}
	m, err := noted(s.bare)
	if err == nil && m != nil && kind == "" {
		err = fmt.Errorf("there is no store on the device, and the origin belongs to %s: %w", m.name(), ErrNotTheStore)
	}
	return kind != "", err
}

// remark compares the marks of origin and store, unless the store is new by
// decree, and counts one more use. Where a mark cannot be made the disk is of
// more use than its mark.
func (s *Set) remark(ctx context.Context, compare bool) error {
	theirs, err := noted(s.bare)
	if err != nil {
		return err
	}
	ours, err := s.storeMark()
	if err != nil {
		return err
	}
	if !compare {
		theirs = nil
	} else if err := compareMarks(theirs, ours, s.o.Kind); err != nil {
		return err
	}
	if s.o.ReadOnly || s.info.ReadOnly || !s.caps.Values || !s.caps.Persistent {
		return nil
	}
	next := ours.next(theirs, s.o.Kind)
	n := block.NoterOf(s.bare)
	if n == nil {
		err = block.ErrNotSupported
	} else if _, err = n.Note(markNote); err == nil {
		if ours == nil || *ours != next {
			err = s.putMark(ctx, next)
			if err != nil && !errors.Is(err, block.ErrNoSpace) {
				return err
			}
		}
		if err == nil {
			err = n.SetNote(markNote, next.String())
		}
	}
	if err != nil && s.o.Format != Never {
		s.notify(Event{Kind: Unmarked, Err: err})
	}
	return nil
}

// next returns the mark after one more use, of a store with the mark m and an
// origin. The store is never ahead by more than one.
func (m *mark) next(origin *mark, kind string) mark {
	switch {
	case m == nil:
		var id [idSize]byte
		rand.Read(id[:])
		return mark{kind, hex.EncodeToString(id[:]), 1}
	case origin != nil && origin.used == m.used:
		return mark{m.kind, m.id, m.used + 1}
	}
	return *m
}

func (s *Set) storeMark() (*mark, error) {
	for k, v := range s.store.Values() {
		if k == markValue {
			m, err := parseMark(string(v))
			if err != nil {
				return nil, fmt.Errorf("the mark of the store: %w: %w", err, ErrDamaged)
			}
			return &m, nil
		}
	}
	return nil, nil
}

// putMark makes the mark of the store durable.
func (s *Set) putMark(ctx context.Context, m mark) error {
	if err := s.store.Put(ctx, markValue, []byte(m.String())); err != nil {
		return err
	}
	s.toStore.dirty()
	return s.toStore.wait(ctx)
}

// compareMarks fails if an origin with one mark and a store with another do not
// belong together. A mark that is nil is none.
func compareMarks(origin, store *mark, kind string) error {
	switch {
	case origin == nil:
		return nil // never used, or copied without its note
	case store == nil:
		return fmt.Errorf("the origin belongs to %s, this one, of the kind %s, is another: %w", origin.name(), kind, ErrNotTheStore)
	case store.kind != origin.kind || store.id != origin.id:
		return fmt.Errorf("the origin belongs to %s, this is %s: %w", origin.name(), store.name(), ErrNotTheStore)
	case store.used < origin.used:
		return fmt.Errorf("the store is an older copy: it has been used %d times, with the origin as it is %d times: %w", store.used, origin.used, ErrNotTheStore)
	case store.used > origin.used+1:
		return fmt.Errorf("the origin is an older copy: it has been used %d times, with the store as it is %d times: %w", origin.used, store.used, ErrNotTheStore)
	}
	return nil
}
