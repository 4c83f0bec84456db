package snapshot

import (
	"context"
	"iter"

	"github.com/strata-storage/strata/block"
)

// An ID names a view to a store. Users never see it.
type ID uint64

// Origin is the ID of the origin. Those of snapshots are made by the store.
const Origin ID = 0

// A Store maps the chunks of views to places and makes the mapping durable.
//
// Concurrency. Every method may be called from any goroutine at any time, but
// the engine promises:
//   - Load is called first, Close last, neither during other calls;
//   - between a Plan and the Apply or Abandon that ends it there is no other
//     Plan, nor a Home, that concerns one of its chunks in any view;
//   - during Create, Delete and Refresh no plan is open.
//
// Step and Commit run while plans are open and while other methods run: what
// Step does to a chunk of an open plan must leave that plan valid, and Apply
// must not trust positions in the map that Plan found. Map never waits for a
// Commit or Step to finish.
//
// Durability. Changes (Apply, Home, Create, Delete, Step, Put) are staged:
// visible at once to all methods, durable after Commit. What is staged must
// become durable in order, as a prefix, all changes of one commit in one piece.
// A change that returned an error has changed nothing.
//
// Space. A place that a change freed may be given away again when the commit
// that has the change is durable and a function that was handed to
// Config.Retire afterwards has been called; but what Plan allocated and Abandon
// gave back is free at once. Delete, Step, Put and Commit must work on a full
// store: keep a reserve for them.
//
// Errors have an errno meaning; those about the format wrap one of the errors
// of this package. A snapshot that does not exist is [ErrNoSnapshot]. A context
// matters to reads of metadata only.
type Store interface {
	// Load reads the store, or formats the device as Config.Format says. It
	// returns an error that wraps ErrNoStore if the device holds no store,
	// ErrMismatch if it holds one for another origin, chunk size or kind,
	// ErrDamaged if it cannot be used as it is. Work that was interrupted
	// goes on with the next Step.
	Load(ctx context.Context) error

	// Close makes everything durable and the store quick to load, and
	// releases what New and Load took, also when it fails. It does not close
	// the device. Of a store that was not loaded it is called as well.
	Close(ctx context.Context) error

	// Caps says what the store can do. It does not change after Load.
	Caps() Caps

	// Map returns the place of the chunks of a view from c on: the longest
	// run of at most n chunks, and at least one, that the store finds without
	// much work and whose places are adjacent. It is called for every read
	// and most writes: no allocation, no lock that others hold for long.
	// With NoWait in flags it returns block.ErrWouldBlock instead of reading
	// metadata. The place stays readable while the caller is pinned.
	Map(ctx context.Context, v ID, c, n int64, flags block.Flags) (Segment, error)

	// Plan finds out what has to be copied and allocates the places for what
	// the request asks for. It changes nothing that Map or Commit would
	// show. The plan may be for fewer chunks than asked, at least one.
	// block.ErrNoSpace: the store is full. Requests that Caps excludes are
	// block.ErrNotSupported.
	Plan(ctx context.Context, r Request) (*Plan, error)

	// Apply stages what a plan is for, after the engine has written all that
	// it says. With Caps().Sums the plan has checksums of that now. When it
	// fails the plan is still open.
	Apply(ctx context.Context, p *Plan) error

	// Abandon ends a plan that is not carried out. Its places may hold
	// anything.
	Abandon(p *Plan)

	// Home stages that chunks have come home. The origin device holds now,
	// durably, what v has in these n chunks, and if a snapshot has the origin
	// device as its place it has the same content there. The origin, v, and
	// every view whose place is the same as v's get the origin device as
	// their place; what the origin and v had before is freed if nobody uses
	// it. For Caps().Home only.
	Home(ctx context.Context, v ID, c, n int64) error

	// Create stages a new snapshot of a view, in constant time, and returns
	// its ID, which is greater than all before and never used again. More
	// snapshots than Caps().MaxSnapshots is ErrTooMany. A snapshot of a
	// snapshot without Caps().Clones is block.ErrNotSupported.
	Create(ctx context.Context, of ID) (ID, error)

	// Delete stages that snapshots do not exist any more. It is quick: what
	// they alone used is freed by Step. A batch costs one walk.
	Delete(ctx context.Context, ids []ID) error

	// Snapshots returns those that exist, in ascending order.
	Snapshots() []ID

	// Step does a piece of the work that is pending: what follows a Delete,
	// and whatever else the store does in the background. It visits about
	// budget entries of its map (one is always possible) and stages what it
	// did together with the position it has reached, so that the work goes on
	// there after a crash. The zero Progress says that nothing was pending.
	Step(ctx context.Context, budget int) (Progress, error)

	// Put stages a small value under a key; nil removes it. Keys have up to
	// 64 bytes, values up to MaxValue. Without Caps().Values it is
	// block.ErrNotSupported. The store keeps no reference to value.
	Put(ctx context.Context, key string, value []byte) error

	// Values returns all keys with their values, in any order.
	Values() iter.Seq2[string, []byte]

	// Commit makes durable all that was staged before it was called, together
	// with the data that the applied plans are about, and all other data that
	// was written to the store device before. It returns when the store
	// device has been flushed: once, wherever the format allows it. After an
	// error what was staged stays staged, and the next Commit tries again.
	//
	// token, if not 0, is the fencing token of the cluster lock: it becomes a
	// part of the commit, and a store that finds a greater one on the device
	// returns ErrFenced and never writes again.
	Commit(ctx context.Context, token uint64) error

	// Refresh reads what another engine has committed since the last Load,
	// Refresh or Commit, for which nothing may be staged. Its cost grows with
	// that, not with the store. Unless listed is set, Snapshots and Values are
	// what they were. Without Caps().Cluster it is never called.
	Refresh(ctx context.Context) (listed bool, err error)

	// Stats costs little.
	Stats() Stats

	// Usage returns the space of snapshots, in the order of ids. It may walk
	// the whole map.
	Usage(ctx context.Context, ids []ID) ([]Usage, error)

	// Check reads all metadata as it is on the device, verifies every
	// invariant, and tells what is wrong to report, one sentence each. It
	// works after a Load that failed, as far as possible. The error is about
	// the check itself. Nothing else is called meanwhile but Map.
	Check(ctx context.Context, report func(problem error)) error
}

// MaxValue bounds the values of Put, in bytes.
const MaxValue = 16 << 10

// Caps are the capabilities of a store.
type Caps struct {
	// Chunk is the size of a chunk in bytes.
	Chunk int64
	// MaxSnapshots that exist at a time; 0 is no limit.
	MaxSnapshots int
	// Persistent: what was committed is there after Close and Load.
	Persistent bool
	// Writable: Write and Clear are possible for snapshots.
	Writable bool
	// Redirect: Write and Clear are possible for the origin.
	Redirect bool
	// Home: chunks can come home.
	Home bool
	// Clones: snapshots can be taken of snapshots.
	Clones bool
	// Values: Put works.
	Values bool
	// Sums: plans that are applied need checksums.
	Sums bool
	// Cluster: Refresh works, and commits carry a fencing token.
	Cluster bool
}

// Progress says how far background work has come, in entries. Total is an
// estimate.
type Progress struct {
	Done, Total int64
	// More work is pending.
	More bool
}

// Stats are figures of a store. Sizes are in bytes.
type Stats struct {
	// Size is the space for data and metadata, Free what is not in use,
	// Pending what becomes free by itself: by Step, Commit, or as soon as
	// readers are done. Pending is an estimate.
	Size, Free, Pending int64
	// Data and Meta are the space in use.
	Data, Meta int64
	// Exceptions is the number of chunks on the store.
	Exceptions int64
	// Commits and Visits, of entries or nodes of the map by Step, since Load.
	Commits, Visits int64
}

// Usage is the space of a snapshot on the store, in bytes.
type Usage struct {
	// Exclusive would be freed if it were deleted, Shared is in use by other
	// views as well.
	Exclusive, Shared int64
}
