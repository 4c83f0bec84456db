package cow

import (
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// ErrDamaged is wrapped by errors that say that a difference file is not as it
// was written. Its meaning is block.ErrIO.
var ErrDamaged = fmt.Errorf("difference file is damaged: %w", block.ErrIO)

// ErrOtherBase is wrapped by errors that say that a difference file belongs to
// another base. Its meaning is block.ErrInvalid.
var ErrOtherBase = fmt.Errorf("not the base of the difference file: %w", block.ErrInvalid)

// errNoHeader: both headers lack the magic.
var errNoHeader = fmt.Errorf("not a difference file, it does not begin with %q: %w", headerMagic, block.ErrInvalid)

// A VersionError says that a difference file has a version of the format that
// this program does not know.
type VersionError struct{ Version Version }

func (e *VersionError) Error() string {
	return fmt.Sprintf("difference file has format version %d, this program knows version %d", e.Version, Version1)
}

// Unwrap returns block.ErrInvalid.
func (e *VersionError) Unwrap() error { return block.ErrInvalid }

// damage says what is wrong with a difference file.
type damage struct{ text string }

func damaged(format string, args ...any) error {
	return &damage{fmt.Sprintf(format, args...)}
}

func (e *damage) Error() string { return "difference file is damaged: " + e.text }
func (e *damage) Unwrap() error { return ErrDamaged }

// isDamage reports whether err is about the content of a file and not about
// reading it.
func isDamage(err error) bool {
	var version *VersionError
	return errors.Is(err, ErrDamaged) || errors.As(err, &version) || errors.Is(err, errNoHeader)
}
