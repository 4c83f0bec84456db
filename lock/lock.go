package lock

import (
	"context"
	"errors"
)

var (
	// ErrLost: the hold is over, because it was lost or unlocked. Whoever gets
	// it must write nothing more on the strength of that hold. The text of the
	// error that wraps it says why.
	ErrLost = errors.New("the lock is not held any more")
	// ErrClosed: the Lock was closed.
	ErrClosed = errors.New("the lock is closed")
)

// A Lock is the access of one party to a lock. Its methods may be called from
// any goroutine at any time.
type Lock interface {
	// Lock waits until no other party has the lock, and takes it. It does not
	// count: a second Lock of the same party waits for the Unlock of the
	// first. Waiting parties get their turn: one that unlocks and locks again
	// does not overtake those who wait, at least not always.
	//
	// When ctx is cancelled it returns context.Cause(ctx) soon, or a hold if
	// it got that at the same moment; ctx is about the waiting, not about the
	// hold. After Close it returns ErrClosed. Other errors are those of the
	// transport: the lock cannot be had now, and trying again later is
	// sensible. With an error the lock is not held.
	Lock(ctx context.Context) (Hold, error)

	// Close gives up the lock if it is held, which the hold sees as a loss,
	// and ends calls of Lock with ErrClosed. It returns when nothing of the
	// Lock is alive: no goroutine, file or connection. A second Close returns
	// ErrClosed.
	Close() error
}

// A Hold is the time that a party has the lock. Its methods may be called from
// any goroutine at any time, also when it is over.
type Hold interface {
	// Generation is the fencing token of the hold, see the package. It
	// changes only by Raise. It is 0 only if there is nothing to be fenced
	// against, with None.
	Generation() uint64

	// HeldByOther says whether another party has had the lock since this one
	// last unlocked it, or, if it never has, since there was the lock. It is
	// also true if the last hold of this party ended by a loss. It is the
	// truth, not a guess: false means that nothing protected by the lock can
	// have changed.
	HeldByOther() bool

	// Err returns nil while the lock is held, and then an error that wraps
	// ErrLost. It looks closely and costs up to some microseconds: it may know
	// before Lost is closed, because it reads the clock, or the lock file,
	// itself. Call it right before writing what the lock protects.
	Err() error

	// Lost returns a channel that is closed when the lock is lost. Unlock does
	// not close it.
	Lost() <-chan struct{}

	// Contended says whether another party waits for the lock now. It costs a
	// microsecond at most, so that it can be asked between steps of work.
	Contended() bool

	// Waiting returns a channel that is closed when another party waits, at
	// once or later. The channel stays closed when that party has given up;
	// the next call returns one that is open again.
	Waiting() <-chan struct{}

	// Raise makes the generation greater than above, durably, if it is not
	// greater already. It must be below 1<<62. Later holds have at least that
	// generation.
	Raise(ctx context.Context, above uint64) error

	// Unlock ends the hold. It returns nil if it was valid until now: nobody
	// else can have had the lock from Lock to Unlock. Otherwise it returns an
	// error that wraps ErrLost and does nothing.
	Unlock() error
}

// lost makes the error of a hold that ended for that reason.
func lost(why string) error { return &lostError{why} }

type lostError struct{ why string }

func (e *lostError) Error() string { return ErrLost.Error() + ": " + e.why }
func (e *lostError) Unwrap() error { return ErrLost }

// errUnlocked is that of a hold after Unlock.
var errUnlocked = lost("it was unlocked")
