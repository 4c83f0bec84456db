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
var ErrOtherBase = fmt.Errorf("difference file belongs to another base: %w", block.ErrInvalid)

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

// A complaint is an error with a text of its own that wraps another.
type complaint struct {
	text string
	is   error
}

func (e *complaint) Error() string { return e.text }
func (e *complaint) Unwrap() error { return e.is }

// damaged says what is wrong with a difference file.
func damaged(format string, args ...any) error {
	return &complaint{"difference file is damaged: " + fmt.Sprintf(format, args...), ErrDamaged}
}

// otherBase says why a difference file does not belong to a base.
func otherBase(format string, args ...any) error {
	return &complaint{"the difference file belongs to another base" + fmt.Sprintf(format, args...), ErrOtherBase}
}

// isDamage reports whether err is about the content of a file and not about
// reading it.
func isDamage(err error) bool {
	var version *VersionError
	return errors.Is(err, ErrDamaged) || errors.As(err, &version) || errors.Is(err, errNoHeader)
}
