package snapshot

import (
	"fmt"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/lock"
)

// A Policy says where the first write to a chunk of the origin goes when
// snapshots share it.
type Policy int

const (
	// Staged writes to the store, and in the background brings the data home
	// and gives the snapshots their copies. It is Redirect or CopyOut if the
	// store can do no more.
	Staged Policy = iota
	// CopyOut copies the old data to the store and then writes to the origin
	// device, which is a valid image of the origin at every moment.
	CopyOut
	// Redirect writes to the store and leaves the origin device alone.
	Redirect
)

var policies = [...]string{"staged", "copyout", "redirect"}

// String returns the name of p in lower case.
func (p Policy) String() string { return policies[p] }

// ParsePolicy is the opposite of Policy.String.
func ParsePolicy(name string) (Policy, error) {
	for i, s := range policies {
		if s == name {
			return Policy(i), nil
		}
	}
	return 0, fmt.Errorf("unknown policy %q, expected one of %q: %w", name, policies, block.ErrInvalid)
}

// WhenFull says what happens when the store is full and a write needs space.
type WhenFull int

const (
	// Preserve fails the write with block.ErrNoSpace. No snapshot is lost.
	Preserve WhenFull = iota
	// DropLowest deletes the snapshot with the lowest priority, the oldest
	// among equals, as often as it takes.
	DropLowest
	// Invalidate deletes all snapshots, also those in use: who uses one gets
	// ErrGone from then on.
	Invalidate
)

var fullPolicies = [...]string{"preserve", "drop", "invalidate"}

// String returns the name of w in lower case.
func (w WhenFull) String() string { return fullPolicies[w] }

// ParseWhenFull is the opposite of WhenFull.String.
func ParseWhenFull(name string) (WhenFull, error) {
	for i, s := range fullPolicies {
		if s == name {
			return WhenFull(i), nil
		}
	}
	return 0, fmt.Errorf("unknown policy for a full store %q, expected one of %q: %w", name, fullPolicies, block.ErrInvalid)
}

// Options are the options of New. The zero value is good but for Kind.
type Options struct {
	// Kind of the store.
	Kind string
	// Args are the arguments of the kind, which only the kind looks at.
	Args map[string]string
	// Chunk is the size of chunks in bytes, a power of two from MinChunk to
	// MaxChunk; 0 is what the store has, or DefaultChunk.
	Chunk int64
	// Format says whether to make a store.
	Format Format
	// ReadOnly: nothing may be written.
	ReadOnly bool
	// Policy of the origin.
	Policy Policy
	// WhenFull is the policy for a full store.
	WhenFull WhenFull
	// Low is the free space in bytes below which an event is sent; 0 is a
	// tenth of the store.
	Low int64
	// Writable: the snapshots that Origin has as views can be written.
	Writable bool
	// OpenCreates: opening a view of Origin that does not exist takes a
	// snapshot of that name.
	OpenCreates bool
	// Copies bounds how many requests copy at a time; 0 is 64.
	Copies int
	// Manual: there is no background work but by Set.Work.
	Manual bool
	// Lock, if not nil, is shared with other Sets of the same devices, in
	// other processes or on other hosts. The Set owns it.
	Lock lock.Lock
	// Notify is told what happens, if not nil. It must not block or call
	// methods of the Set.
	Notify func(Event)
	// Now is the clock for the times of snapshots; nil is time.Now.
	Now func() time.Time
}

func (o Options) validate(origin, store block.Info) (Options, error) {
	unit := int64(max(origin.MinBlock, store.MinBlock, 1))
	switch c := o.Chunk; {
	case c != 0 && (c < MinChunk || c > MaxChunk || c&(c-1) != 0):
		return o, fmt.Errorf("chunk is %d bytes, must be a power of two from %d to %d: %w", c, MinChunk, MaxChunk, block.ErrInvalid)
	case c != 0 && c < unit:
		return o, fmt.Errorf("chunk is %d bytes, must be at least %d, the block size of the devices: %w", c, unit, block.ErrInvalid)
	case origin.Size%unit != 0:
		return o, fmt.Errorf("the origin has %d bytes, must be a multiple of %d, the block size of the store: %w", origin.Size, unit, block.ErrInvalid)
	case int(o.Policy) >= len(policies) || o.Policy < 0:
		return o, fmt.Errorf("unknown policy %d: %w", int(o.Policy), block.ErrInvalid)
	case int(o.WhenFull) >= len(fullPolicies) || o.WhenFull < 0:
		return o, fmt.Errorf("unknown policy for a full store %d: %w", int(o.WhenFull), block.ErrInvalid)
	}
	if o.Copies <= 0 {
		o.Copies = 64
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.ReadOnly = o.ReadOnly || store.ReadOnly
	return o, nil
}

// An Event is something that happened to a Set.
type Event struct {
	Kind EventKind
	// Name of the snapshot that it is about, if any.
	Name string
	// Err is what went wrong, if something did: why a snapshot was deleted
	// that nobody wanted to delete, for one.
	Err error
}

// An EventKind is a kind of event.
type EventKind int

// The kinds of events.
const (
	// Created, Deleted and Renamed: the snapshots are not what they were.
	Created EventKind = iota
	Deleted
	Renamed
	// RollbackStarted and RollbackDone: of the snapshot Name.
	RollbackStarted
	RollbackDone
	// LowSpace: the free space of the store has fallen below Options.Low.
	LowSpace
	// Full: a write failed or snapshots were given up for want of space.
	Full
	// Failed: background work failed and will be tried again.
	Failed
	// Formatted: a new store was made.
	Formatted
	// Unmarked: the origin keeps no note of which store it belongs to, so that
	// nobody will miss the store.
	Unmarked
)

var eventKinds = [...]string{
	"created", "deleted", "renamed", "rollback started", "rollback done", "low space", "full", "background work failed",
	"made a new store", "the origin cannot note which store it belongs to",
}

// String says what happened.
func (k EventKind) String() string { return eventKinds[k] }
