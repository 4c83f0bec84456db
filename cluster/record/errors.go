package record

import "errors"

// The errors of this package, beside those of package coord.
var (
	// ErrInvalid: a key, a record, a name or a size cannot be. The text says what
	// was expected.
	ErrInvalid = errors.New("not valid")
	// ErrNewer: a record has what this program does not know.
	ErrNewer = errors.New("written by a newer version of this program")
	// ErrExists: there is a volume or a snapshot of that name.
	ErrExists = errors.New("exists already")
	// ErrNotFound: there is no such volume, snapshot or version.
	ErrNotFound = errors.New("not found")
	// ErrInUse: the volume is attached, or has snapshots.
	ErrInUse = errors.New("in use")
	// ErrDetached: the attachment that the caller had is over.
	ErrDetached = errors.New("the attachment is over")
	// ErrConflict: others changed the same all the time, or have changed it since
	// it was read. Nothing was done; it may be tried again.
	ErrConflict = errors.New("changed by others at the same time")
	// ErrClosed: the State was closed.
	ErrClosed = errors.New("the copy of the agreed records is closed")
)
