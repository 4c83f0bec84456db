package replica

import (
	"context"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
)

// To says which disk a request is for, and on what grounds.
type To struct {
	// Disk and Incarnation are those of the member. Another incarnation refuses.
	Disk, Incarnation string
	// Group is the number of the placement group, Epoch that of the record by
	// which the disk has it.
	Group int
	Epoch coord.Revision
}

// A Head is a version that can be written.
type Head struct{ Family, Version uint64 }

// A Writer is a gateway that is attached to a head.
type Writer struct {
	Head
	// Generation is the revision of the attachment. Session counts how often this
	// attachment has opened the disk.
	Generation coord.Revision
	Session    uint64
}

// A Request is about one object of a head. Offsets and lengths are those within
// the object, and multiples of disk.BlockSize.
type Request struct {
	To
	Writer
	// Index is that of the object. Tree is the revision of the family's tree that
	// the disk needs to know.
	Index, Tree uint64
	Off         int64
}

// Object is the object that the request is about.
func (r *Request) Object() disk.Object { return disk.Object{Family: r.Family, Index: r.Index} }

// A Standing is what one disk knows of an object.
type Standing struct {
	disk.State
	Dirty, Unsettled bool
}

// A Peer is one disk, of this node or of another one. Methods may be called from any
// goroutine at any time. The caller's buffers and requests are not used any more when
// a method returns.
//
// Each method ends in bounded time, with ErrUnreachable if the other side has not
// answered. The request may be executed all the same, even later. When ctx ends it
// may return before. Any other error is the answer of the other side: then the
// request is over there.
//
// *Member is the Peer of a disk of the same process.
type Peer interface {
	// Open makes the disk refuse requests of this head by writers with a smaller
	// (generation, session), and returns when none of them is under way.
	Open(ctx context.Context, disk, incarnation string, w Writer) error
	// Read fills p with what the head has. For a snapshot, of which nobody is the
	// writer, the generation is 0 and there is no session.
	Read(ctx context.Context, r *Request, p []byte) error
	// Map tells what n bytes are, as disk.Disk.Map does, with the admission of Read:
	// the first extents of them, at least one and at most MaxExtents. since is a
	// snapshot, or 0.
	Map(ctx context.Context, r *Request, n int64, since uint64) ([]block.Extent, error)
	// Write makes p what the head has.
	Write(ctx context.Context, r *Request, p []byte) error
	// Zero makes n bytes zeros.
	Zero(ctx context.Context, r *Request, n int64) error
	// Flush makes durable what has been executed on the disk before. The group
	// and epoch of r do not matter.
	Flush(ctx context.Context, r *Request) error

	// Standing returns the state of the object of r.
	Standing(ctx context.Context, r *Request) (Standing, error)
	// Verify returns which blocks of the head do not have their checksums.
	Verify(ctx context.Context, r *Request) (bad []uint32, err error)
	// Fix marks the object of a member dirty and replaces entries of the head, see
	// disk.Disk.Repair.
	Fix(ctx context.Context, r *Request, fixes []disk.Fix) (made int, err error)
	// Again makes a joining disk forget that clients have written the object of r
	// under this head, and pull it again.
	Again(ctx context.Context, r *Request) error
	// Clear takes the mark of the object of r back, see disk.Disk.Clear, unless there
	// is a block without its checksum.
	Clear(ctx context.Context, r *Request, s disk.State) (cleared bool, err error)

	// List returns up to MaxList objects of the group whose hashes are at least from,
	// with their states, and whether there are more. All of one hash are returned
	// together.
	List(ctx context.Context, to To, from uint64) (list []disk.Summary, more bool, err error)
	// Dirty does the same for dirty objects.
	Dirty(ctx context.Context, to To, from uint64) (list []disk.DirtyObject, more bool, err error)
	// Entries returns what all versions of an object have in the n blocks from one
	// on.
	Entries(ctx context.Context, to To, o disk.Object, from, n uint32) ([]disk.Entry, error)
	// RawBlocks reads blocks as they are, up to MaxRaw of them, and returns an entry
	// for each, see disk.Disk.RawBlocks.
	RawBlocks(ctx context.Context, to To, o disk.Object, version uint64, from uint32, p []byte) ([]disk.Entry, error)
}

// A Starter is a Peer that can begin a write and let the caller do something else
// until it has ended, such as to begin the next one.
type Starter interface {
	// StartWrite begins what Write does, and sends it at the end of b. It returns nil
	// instead if that is not possible without waiting. The arguments but b are in use
	// until the write has ended.
	StartWrite(ctx context.Context, r *Request, p []byte, b *block.Burst) Pending
}

// A Pending is a write under way. Wait or Then must be called once.
type Pending interface {
	// Wait returns what Write returns.
	Wait(ctx context.Context) error
	// Then has e told that, once, perhaps before it returns.
	Then(e block.Ender, b *block.Burst)
	// Cancel is what the end of the context is for Wait. It does not wait. It must be
	// called between Then and the return of Ended.
	Cancel(err error)
}

// MaxRaw bounds how many blocks RawBlocks reads.
const MaxRaw = 256

// MaxList bounds what List and Dirty return at a time, but for objects with the
// same hash. MaxEntries bounds what Entries returns.
const (
	MaxList    = 1024
	MaxEntries = 1 << 20
)
