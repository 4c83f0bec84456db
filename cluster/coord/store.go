package coord

import (
	"context"
	"iter"
	"time"
)

// A Revision counts changes, see the package. That of an absent entry is 0.
type Revision int64

// A LeaseID names a lease for as long as the store exists. 0 is no lease.
type LeaseID int64

// An Entry is a key with its value. An absent one has only a key.
type Entry struct {
	// Key is the key.
	Key string
	// Value is the value. It belongs to whoever got the entry.
	Value []byte
	// Revision is that of the change that put the entry, 0 if there is none.
	Revision Revision
	// Lease is the lease that the entry vanishes with, 0 if with none.
	Lease LeaseID
}

// An Event is what a change did to one key.
type Event struct {
	// Entry is what was put. Of a deleted one there are the key and the
	// revision of the deletion.
	Entry
	// Deleted says that the entry is gone.
	Deleted bool
}

// A Change is what happened at one revision to the keys that are watched, in the
// order of keys.
type Change struct {
	Revision Revision
	Events   []Event
}

// A Store is the access of one client to the agreed state; the package says what
// is promised of it. Its methods may be called from any goroutine at any time.
//
// When ctx is cancelled, methods return context.Cause(ctx) soon. Without that
// they end too: in some seconds with ErrUnavailable if the store cannot be
// reached, after Close with ErrClosed. Only Watch waits for as long as it takes.
type Store interface {
	// Get returns the entry of key, and the revision at which it was so.
	Get(ctx context.Context, key string) (Entry, Revision, error)

	// List returns all entries whose keys begin with prefix, in the order of
	// keys, as they were at one revision, and that revision. They are kept in
	// memory all together; the prefix may be empty.
	List(ctx context.Context, prefix string) ([]Entry, Revision, error)

	// Txn does a transaction, or finds that a comparison is not true, which is
	// not an error. The values in t must not be changed before it returns and
	// are not kept.
	Txn(ctx context.Context, t Txn) (Result, error)

	// Watch returns the changes under prefix with revisions above after, those
	// of the past first, and then those that come while the loop runs. If it
	// starts at the revision of a List, nothing is missed in between.
	//
	// It ends with an error, the last value of the sequence: of ctx, ErrClosed,
	// ErrInvalid, or ErrCompacted if the changes that come next are not kept any
	// more; then List again. That the store cannot be reached is no error here:
	// the watch goes on where it was when it can.
	//
	// Nothing is read ahead without limit: a loop that is slow is late. One that
	// is left early leaves nothing behind.
	Watch(ctx context.Context, prefix string, after Revision) iter.Seq2[Change, error]

	// Grant makes a lease that does not expire before ttl has passed, counted
	// from the call, and returns its name and true time to live, which may be
	// longer. Package users call NewLease, which also keeps it alive.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error)

	// Renew lets the lease begin again and returns its time to live, counted
	// from the call. If there is no such lease any more it returns ErrNoLease,
	// and then all its entries are gone.
	Renew(ctx context.Context, id LeaseID) (time.Duration, error)

	// Revoke ends the lease and deletes its entries, in one change if there are
	// any. It is no error if the lease was over.
	Revoke(ctx context.Context, id LeaseID) error

	// Clock is the clock by which leases from this store are to be measured on
	// this side.
	Clock() Clock

	// Close ends all calls and watches of this client soon with ErrClosed, and
	// frees what they use. Leases are left to expire. A second Close returns
	// ErrClosed.
	Close() error
}

// A Clock is where the time of one side comes from.
type Clock interface {
	// Now is the time since a moment that stays the same. It never goes back,
	// and should go on while the machine sleeps.
	Now() time.Duration
	// AfterFunc calls f in a goroutine of its own when d has passed, unless
	// stop is called before; stop tells whether it was in time.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// Sleep waits for d by a clock, but not longer than ctx. It reports whether ctx still lives.
func Sleep(ctx context.Context, c Clock, d time.Duration) bool {
	over := make(chan struct{})
	defer c.AfterFunc(d, func() { close(over) })()
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}
