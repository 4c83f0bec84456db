// Package block defines what a disk is.
//
// Everything in Strata that can be read and written as a disk is a [Device]:
// a file, a remote NBD server, a mirror of both. A [Layer] makes a device out
// of a device. The comments of Device are the whole contract: code that
// serves, stacks or tests devices relies on them and on nothing else, and
// package blocktest proves them.
//
// The package imports the standard library only.
package block

import (
	"context"
	"iter"
)

// A Device is a fixed-size array of bytes that can be read, written, zeroed,
// trimmed and flushed.
//
// All or an error. A method that returns nil has done all that was asked.
// There are no short reads or writes. After an error the bytes of the range
// that was to be written, zeroed or trimmed are undefined: each sector of it
// holds what it held before or what the request would have left there.
//
// Ranges. Offsets and lengths are in bytes. A range that is negative, that
// overflows or that ends past Info().Size is refused with [ErrRange] before
// any byte moves. Ranges that are not multiples of Info().MinBlock are
// refused with [ErrInvalid]. A length of zero inside the device is allowed
// and does nothing. [CheckRange] is this rule.
//
// Concurrency. Every method may be called from any goroutine at any time,
// Close included. Methods may block. Requests in flight at the same time
// have no order among each other, and overlapping ones may mix sector by
// sector. A write, zero or trim that has returned is seen by every request
// that starts later, whichever goroutine or connection issues it.
//
// Ownership. A buffer belongs to the caller. The device uses it only until
// the method returns, and never returns while anything still uses it: also
// not when the context is cancelled.
//
// Cancellation. A cancelled context makes a method return soon, with an
// error that wraps context.Cause, or lets it finish; either way nothing of
// the request is alive after the return. A device that cannot interrupt a
// request finishes it.
//
// Durability. Flush and FUA are the only promises about stable storage; see
// there.
//
// Errors carry an errno meaning, see [Errno]. An error is about one request:
// the device stays usable unless the error is [ErrClosed].
type Device interface {
	// Info describes the device. It never changes and costs nothing.
	Info() Info

	// ReadAt fills p with the bytes at off. With NoWait it may return
	// ErrWouldBlock instead. After an error p holds anything.
	ReadAt(ctx context.Context, p []byte, off int64, flags Flags) error

	// WriteAt stores p at off. With FUA the bytes, and whatever is needed
	// to find them again, are on stable storage when it returns. It never
	// modifies p. Writing to a read-only device is ErrReadOnly.
	WriteAt(ctx context.Context, p []byte, off int64, flags Flags) error

	// Zero makes the n bytes at off read as zeros. Storage may be released
	// unless NoHole is given, in which case later writes to the range must
	// not fail for want of space if the device can promise that at all.
	// With FastZero it returns ErrNotSupported, at once and having changed
	// nothing, if zeroing is not faster than writing zeros. FUA is as for
	// WriteAt. n may be as large as the device.
	Zero(ctx context.Context, off, n int64, flags Flags) error

	// Trim says that the content of the n bytes at off is not needed any
	// more. A later read of any sector of it returns the old bytes or
	// zeros, and may change its mind until the sector is written again. It
	// never returns anything else. A device that cannot release storage
	// returns nil and does nothing. FUA: what the trim did is durable. n
	// may be as large as the device.
	Trim(ctx context.Context, off, n int64, flags Flags) error

	// Flush returns nil when the effects of every write, zero and trim that
	// had returned nil before Flush was called are on stable storage: they
	// survive the loss of power. It covers the requests of every goroutine
	// and connection. A failed Flush leaves undefined which of them are
	// durable, and a later Flush must not report success on their behalf
	// unless they are.
	Flush(ctx context.Context) error

	// Extents tells the status of the n bytes at off in the metadata
	// context named by mc: [Allocation], or one of Info().Contexts. It
	// yields adjacent, non-empty extents in order, the first starting at
	// off, the last ending at off+n exactly; neighbours may have equal
	// status. A non-nil error ends the sequence and its extent is
	// meaningless. An unknown context is ErrInvalid. The caller may stop at
	// any time. Status is advice about a moment: it may be out of date as
	// soon as another request changes the range, but a range reported Zero
	// that nobody writes reads as zeros.
	Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[Extent, error]

	// Close releases the device and the devices it was made of; what was
	// written and not flushed is as durable as before. The first call waits
	// for the requests in flight. Requests that start later, and a second
	// Close, return ErrClosed.
	Close() error
}

// A Layer makes a device out of another one and owns it: closing the result
// closes dev. It is to devices what middleware is to HTTP handlers.
type Layer func(dev Device) Device

// Info says what a device is and what it does well. Every method of a device
// works whatever Info says, but for ReadOnly: the fields let callers choose,
// they never excuse a device from the contract. A layer passes on the Info of
// the device under it, with its own changes.
type Info struct {
	// Size of the device in bytes, a multiple of MinBlock.
	Size int64

	// MinBlock is the unit in bytes that every offset and length must be a
	// multiple of: a power of two up to 64 KiB, 0 meaning 1.
	MinBlock int
	// PreferredBlock is the smallest unit in bytes that is efficient: a
	// power of two, at least 512 and MinBlock. 0 means 4096.
	PreferredBlock int
	// MaxBlock bounds the length in bytes of one read or write, a multiple
	// of MinBlock. 0 means no bound. Longer requests are ErrInvalid.
	MaxBlock int

	// ReadOnly: writes, zeros and trims fail with ErrReadOnly.
	ReadOnly bool
	// Rotational: nearby offsets are faster than random ones.
	Rotational bool

	// Trims: Trim releases storage.
	Trims bool
	// FastZeros: Zero with FastZero usually succeeds.
	FastZeros bool
	// NativeFUA: a write with FUA is cheaper than a write and a Flush.
	NativeFUA bool
	// CheapExtents: asking for extents costs much less than reading the
	// range and comparing it with zeros.
	CheapExtents bool
	// NoWait: the flag NoWait is honoured, so that a caller may issue
	// requests with it from a goroutine that must not block.
	NoWait bool

	// Contexts names the metadata contexts of Extents other than
	// Allocation, in the form namespace:leaf. Treat as immutable.
	Contexts []string
}

// Flags modify one request. A flag that a method does not know is ignored.
type Flags uint16

const (
	// FUA (force unit access): the request is durable when it returns.
	FUA Flags = 1 << iota
	// NoHole keeps Zero from releasing storage.
	NoHole
	// FastZero makes Zero fail with ErrNotSupported rather than be slow.
	FastZero
	// NoWait makes ReadAt and WriteAt return ErrWouldBlock rather than wait
	// for a disk, a network or another request. The range of a write that
	// returned ErrWouldBlock is undefined: repeat it without the flag. A
	// device without Info().NoWait ignores the flag and may block; a layer
	// that may wait on its own account answers ErrWouldBlock itself or
	// clears Info().NoWait.
	NoWait
)

// Allocation is the metadata context that every device has. Its status is a
// combination of Hole and Zero. The name and the bits are those of the NBD
// protocol.
const Allocation = "base:allocation"

// Status bits of the context Allocation.
const (
	// Hole: no storage is allocated for the extent.
	Hole uint64 = 1 << 0
	// Zero: the extent reads as zeros.
	Zero uint64 = 1 << 1
)

// An Extent is a part of a device with one status.
type Extent struct {
	Off, Len int64
	// Status is defined by the metadata context.
	Status uint64
}

// End is the offset of the first byte behind the extent.
func (e Extent) End() int64 { return e.Off + e.Len }
