// Package bond is about what an origin and its store note of each other, so that
// a store that is missing, another one, or an older copy of either is refused
// instead of giving a disk that never was.
package bond

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/strata-storage/strata/block"
)

// A Mark says which store an origin belongs to, in which state. The origin has
// it as a note, and the store as a value. Both count how often they were used
// together, the store first, so that it is one ahead after a crash at the worst
// moment.
type Mark struct {
	// Kind of the store, and its ID.
	Kind, ID string
	// Used counts the uses.
	Used uint64
}

const (
	// note is the key of the note.
	note = "store"
	// idSize is the length of the IDs of stores in bytes.
	idSize = 8
)

// ErrOther: the origin has been used with a store, and this is not it, or not in
// the state that it had then.
var ErrOther error = other{}

type other struct{}

func (other) Error() string { return "that is not the store of this origin" }
func (other) Unwrap() error { return syscall.EINVAL }

// String returns the mark as it is kept.
func (m Mark) String() string { return fmt.Sprintf("%s %s %d", m.Kind, m.ID, m.Used) }

// Name says which store it is, for people.
func (m Mark) Name() string { return fmt.Sprintf("the %s store %s", m.Kind, m.ID) }

// Parse is the opposite of String.
func Parse(text string) (m Mark, err error) {
	if f := strings.Split(text, " "); len(f) == 3 {
		m = Mark{Kind: f[0], ID: f[1]}
		raw, e := hex.DecodeString(m.ID)
		if m.Used, err = strconv.ParseUint(f[2], 10, 64); err == nil && e == nil && len(raw) == idSize && m.Kind != "" && m.String() == text {
			return m, nil
		}
	}
	return Mark{}, fmt.Errorf("%.100q does not say which store it is, as in %q", text, Mark{"KIND", strings.Repeat("0", 2*idSize), 1})
}

// Of returns the mark that an origin has as a note, or nil. It is
// block.ErrNotSupported if it can have none.
func Of(origin block.Device) (*Mark, error) {
	n := block.NoterOf(origin)
	if n == nil {
		return nil, block.ErrNotSupported
	}
	text, err := n.Note(note)
	switch {
	case errors.Is(err, block.ErrNotSupported) || text == "" && err == nil:
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("which store the origin belongs to: %w", err)
	}
	m, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("which store the origin belongs to: %w: %w", err, ErrOther)
	}
	return &m, nil
}

// Set makes an origin have a mark.
func Set(origin block.Device, m Mark) error {
	return block.NoterOf(origin).SetNote(note, m.String())
}

// Forget makes an origin take any store the next time.
func Forget(origin block.Device) error {
	n := block.NoterOf(origin)
	if n == nil {
		return fmt.Errorf("it keeps no note of a store: only files do: %w", block.ErrNotSupported)
	}
	return n.SetNote(note, "")
}

// Next returns the marks after one more use, of a store of a kind that has the
// mark m, if it is not nil, and an origin. The store is never ahead by more than
// one.
func (m *Mark) Next(origin *Mark, kind string) Mark {
	switch {
	case m == nil:
		var id [idSize]byte
		rand.Read(id[:])
		return Mark{kind, hex.EncodeToString(id[:]), 1}
	case origin != nil && origin.Used == m.Used:
		return Mark{m.Kind, m.ID, m.Used + 1}
	}
	return *m
}

// Compare fails if an origin with one mark and a store with another do not
// belong together. A mark that is nil is none.
func Compare(origin, store *Mark, kind string) error {
	switch {
	case origin == nil:
		return nil // never used, or copied without its note
	case store == nil:
		return fmt.Errorf("the origin belongs to %s, this one, of the kind %s, is another: %w", origin.Name(), kind, ErrOther)
	case store.Kind != origin.Kind || store.ID != origin.ID:
		return fmt.Errorf("the origin belongs to %s, this is %s: %w", origin.Name(), store.Name(), ErrOther)
	case store.Used < origin.Used:
		return fmt.Errorf("the store is an older copy: it has been used %d times, with the origin as it is %d times: %w", store.Used, origin.Used, ErrOther)
	case store.Used > origin.Used+1:
		return fmt.Errorf("the origin is an older copy: it has been used %d times, with the store as it is %d times: %w", origin.Used, store.Used, ErrOther)
	}
	return nil
}
