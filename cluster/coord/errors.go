package coord

import "errors"

var (
	// ErrInvalid: a key, value, transaction or time to live is not within the
	// limits. The text says which and what was expected.
	ErrInvalid = errors.New("not valid for coordination")
	// ErrNoLease: the lease is over, or never was.
	ErrNoLease = errors.New("there is no such lease")
	// ErrFull: the store has no room for more; what got it may just have been
	// the last that was done. Deleting is still possible.
	ErrFull = errors.New("the coordination store is full")
	// ErrCompacted: changes that a watch has to tell of are not kept any more.
	ErrCompacted = errors.New("the changes since that revision are not kept any more")
	// ErrUnavailable: the store cannot be reached, or has no majority. See the
	// package for what that means for a transaction.
	ErrUnavailable = errors.New("the coordination store is not available")
	// ErrClosed: the Store was closed.
	ErrClosed = errors.New("the coordination store is closed")

	// ErrInDoubt: nothing was heard of the lease for so long that it may be over
	// soon. It may end well.
	ErrInDoubt = errors.New("the lease is in doubt")
	// ErrLeaseLost: the lease is over for good.
	ErrLeaseLost = errors.New("the lease is lost")
	// ErrNotLeader: the leadership is over for good.
	ErrNotLeader = errors.New("not the leader any more")
)
