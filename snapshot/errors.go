package snapshot

import "github.com/strata-storage/strata/block"

// The errors of snapshots, by their meaning.
var (
	// ErrNoSnapshot: there is no snapshot of that name or ID.
	ErrNoSnapshot error = &meaning{"no such snapshot", block.ErrNoView}
	// ErrExists: the name is taken.
	ErrExists error = &meaning{"the name is in use", block.ErrInvalid}
	// ErrTooMany: the store cannot have one more snapshot.
	ErrTooMany error = &meaning{"the store has no room for another snapshot", block.ErrNoSpace}
	// ErrBusy: something else must end first.
	ErrBusy error = &meaning{"busy", block.ErrPermission}
	// ErrNoStore: the device holds no store.
	ErrNoStore error = &meaning{"there is no snapshot store on the device", block.ErrInvalid}
	// ErrMismatch: the store is for something else.
	ErrMismatch error = &meaning{"the snapshot store does not fit", block.ErrInvalid}
	// ErrDamaged: the store is not what was written.
	ErrDamaged error = &meaning{"the snapshot store is damaged", block.ErrIO}
	// ErrGone: a snapshot was given up, or deleted by another who shares the
	// lock, while somebody used it.
	ErrGone error = &meaning{"the snapshot was given up while it was in use", block.ErrIO}
	// ErrFenced: another host has taken over.
	ErrFenced error = &meaning{"fenced off: another holder of the lock has taken over", block.ErrPermission}
)

// meaning is an error with a text of its own and the meaning of an errno.
type meaning struct {
	text  string
	errno error
}

func (e *meaning) Error() string { return e.text }
func (e *meaning) Unwrap() error { return e.errno }
