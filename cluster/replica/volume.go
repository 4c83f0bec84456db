package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/rangelock"
)

// Config says what a Volume is. The last four may be zero.
type Config struct {
	Groups *Groups
	Agreed Agreed
	Trees  disk.Trees
	// Peer returns the way to a disk. It does not block.
	Peer func(record.Member) Peer
	// Lease is what the attachment vanishes with, Generation what Claim returned.
	Lease      *coord.Lease
	Head       Head
	Generation coord.Revision
	// Tree is a revision of the family's tree that has the head.
	Tree uint64

	Size, ObjectSize int64
	// Copies is how many there are to be of the family's objects. Count is the
	// number of groups of the pool, a power of two, for each number of copies.
	Copies, Count int

	// Near reports whether reads from a disk cost less than from others.
	Near func(record.Member) bool
	// Lives reports whether the process of a disk runs, as far as is known. If one that
	// is needed does, and does not answer, the volume fails with ErrCut.
	Lives func(record.Member) bool
	// Removed, if not nil, is told of each removal of a disk from the record of a group, and
	// of the error that was the reason. It must not block.
	Removed func(group int, m record.Member, why error)
	// Limit bounds how long a request that cannot be carried out is tried, 30 s if
	// 0.
	Limit time.Duration
}

func (c *Config) check() error {
	switch {
	case c.Size < 0:
		return fmt.Errorf("a volume of %d bytes: %w", c.Size, block.ErrInvalid)
	case c.ObjectSize < disk.BlockSize || c.ObjectSize > disk.MaxObject || c.ObjectSize&(c.ObjectSize-1) != 0:
		return fmt.Errorf("objects of %d bytes, expected a power of two from %d to %d: %w", c.ObjectSize, disk.BlockSize, disk.MaxObject, block.ErrInvalid)
	case c.Count < 1 || c.Count&(c.Count-1) != 0:
		return fmt.Errorf("%d groups, expected a power of two: %w", c.Count, block.ErrInvalid)
	case c.Copies < 1 || c.Copies > record.MaxCopies:
		return fmt.Errorf("%d copies, expected 1 to %d: %w", c.Copies, record.MaxCopies, block.ErrInvalid)
	}
	c.Limit = cmp.Or(c.Limit, 30*time.Second)
	return nil
}

// A Volume is the gateway's side of one head.
type Volume struct {
	c     Config
	clock coord.Clock
	// info changes when the volume grows.
	info atomic.Pointer[block.Info]
	// ctx is that of calls to disks: those that have begun are not interrupted by
	// clients.
	ctx    context.Context
	cancel context.CancelCauseFunc

	// head changes while the whole of locks is held.
	head  atomic.Pointer[heading]
	locks rangelock.Lock
	gate  block.Gate
	// failure is why nothing works any more.
	failure atomic.Pointer[error]

	// growing is held while the volume grows.
	growing sync.Mutex

	mu    sync.Mutex
	links map[linkKey]*link
	// parts are the groups in which there are objects.
	parts   map[int]*served
	flusher flusher
	// doubts are the objects that may differ; some is their number.
	doubts map[uint64]doubt
	some   atomic.Int64
}

// A heading is what the volume is at a time.
type heading struct {
	Head
	generation coord.Revision
	tree       uint64
}

// served is what a gateway knows of a group.
type served struct {
	revived uint64
	// unflushed: something was acknowledged and not flushed. flushing: a flush is
	// under way for what had been.
	unflushed, flushing bool
	// ways are those to its disks, as far as they were needed.
	ways []*way
}

var _ block.Device = (*Volume)(nil)

// Attach makes all disks of a head's groups refuse older gateways and makes them
// equal, and returns the head as a device. The head must have been claimed.
func Attach(ctx context.Context, c Config) (*Volume, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	v := newVolume(ctx, c)
	go v.followRecords()
	stop := context.AfterFunc(ctx, func() { v.cancel(context.Cause(ctx)) })
	defer stop()
	if err := v.prepareAll(ctx); err != nil {
		v.cancel(err)
		return nil, err
	}
	return v, nil
}

// newVolume returns a volume of which nothing is ready.
func newVolume(ctx context.Context, c Config) *Volume {
	v := &Volume{c: c, clock: c.Groups.Store.Clock(), links: map[linkKey]*link{}, parts: map[int]*served{}, doubts: map[uint64]doubt{}}
	v.info.Store(infoOf(c.Size))
	v.ctx, v.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	v.head.Store(&heading{c.Head, c.Generation, c.Tree})
	v.flusher.clock, v.flusher.flushAll = v.clock, v.flushAll
	return v
}

// groupOf is the group of one of its objects.
func (v *Volume) groupOf(index uint64) int {
	return GroupOf(disk.Object{Family: v.c.Head.Family, Index: index}, v.c.Copies, v.c.Count)
}

// InfoOf is what Info returns for a volume of that size.
func InfoOf(size int64) block.Info { return *infoOf(size) }

func infoOf(size int64) *block.Info {
	return &block.Info{Size: size, PreferredBlock: disk.BlockSize, Trims: true, FastZeros: true, CheapExtents: true, NoWait: true}
}

// Info is that of block.Device.
func (v *Volume) Info() block.Info { return *v.info.Load() }

// Err returns nil, or why the volume does not work any more and has to be attached
// anew.
func (v *Volume) Err() error {
	if err := v.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes an error the one of all later requests.
func (v *Volume) fail(err error) error {
	v.failure.CompareAndSwap(nil, &err)
	return v.Err()
}

// Abandon ends all requests, also those that wait for disks, with an error that wraps
// why. What was acknowledged and not flushed stays on the disks that have it.
func (v *Volume) Abandon(why error) { v.cancel(v.fail(why)) }

// serve begins a request, which must leave the gate.
func (v *Volume) serve(ctx context.Context) error {
	if err := v.gate.Enter(); err != nil {
		return err
	}
	err := v.Err()
	if err == nil {
		err = v.c.Lease.Err()
	}
	if errors.Is(err, coord.ErrInDoubt) {
		err = v.inTime(ctx, v.c.Lease.Wait)
	}
	if errors.Is(err, coord.ErrLeaseLost) {
		err = v.fail(fmt.Errorf("%w: %w", ErrFenced, err))
	}
	if err != nil {
		v.gate.Leave()
	}
	return err
}

// inTime calls f with the limit of a request.
func (v *Volume) inTime(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer v.clock.AfterFunc(v.c.Limit, func() { cancel(fmt.Errorf("after %v: %w", v.c.Limit, ErrTooFew)) })()
	defer cancel(nil)
	return f(ctx)
}

// lock gets the blocks of a range of which no object is in doubt.
func (v *Volume) lock(ctx context.Context, off, n int64, shared bool) (*rangelock.Range, error) {
	from := off &^ (disk.BlockSize - 1)
	end := (off + n + disk.BlockSize - 1) &^ (disk.BlockSize - 1)
	for {
		var r *rangelock.Range
		var err error
		if shared {
			r, err = v.locks.RLock(ctx, from, end-from)
		} else {
			r, err = v.locks.Lock(ctx, from, end-from)
		}
		if err != nil || v.some.Load() == 0 {
			return r, err
		}
		index, ok := v.doubtful(off, n)
		if !ok {
			return r, nil
		}
		r.Unlock()
		if err := v.settle(ctx, index); err != nil {
			return nil, err
		}
	}
}

// ReadAt is that of block.Device.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := v.info.Load().CheckRead(off, len(p)); err != nil {
		return err
	}
	if flags&block.NoWait != 0 {
		return v.readNow(p, off)
	}
	if err := v.serve(ctx); err != nil {
		return err
	}
	defer v.gate.Leave()
	lock, err := v.lock(ctx, off, int64(len(p)), true)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return v.pieces(off, int64(len(p)), func(index uint64, at, from, n int64) error {
		return v.readPart(index, p[from:from+n], at)
	})
}

// maxSpread is how many objects a request is about at the same time.
const maxSpread = 8

// pieces calls f for the part of a range in each object, several at the same time: at is
// where it begins there, from where it begins in the range.
func (v *Volume) pieces(off, n int64, f func(index uint64, at, from, n int64) error) error {
	size := v.c.ObjectSize
	first := off / size
	if at := off - first*size; n <= size-at {
		if n == 0 {
			return nil
		}
		return f(uint64(first), at, 0, n)
	}
	return each(int((off+n-1)/size-first)+1, maxSpread, func(i int) error {
		begin := max(off, (first+int64(i))*size)
		end := min(off+n, (first+int64(i)+1)*size)
		return f(uint64(first)+uint64(i), begin%size, begin-off, end-begin)
	})
}

// readPart reads from one object.
func (v *Volume) readPart(index uint64, p []byte, at int64) error {
	if (at|int64(len(p)))%disk.BlockSize == 0 {
		return v.read(index, p, at)
	}
	from, end := at&^(disk.BlockSize-1), (at+int64(len(p))+disk.BlockSize-1)&^(disk.BlockSize-1)
	b := make([]byte, end-from)
	err := v.read(index, b, from)
	copy(p, b[at-from:])
	return err
}

// WriteAt is that of block.Device.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := v.info.Load().CheckWrite(off, len(p)); err != nil {
		return err
	}
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock // for other disks
	}
	return v.change(ctx, off, int64(len(p)), flags, func() error {
		return v.pieces(off, int64(len(p)), func(index uint64, at, from, n int64) error {
			return v.writePart(index, p[from:from+n], at)
		})
	})
}

// change carries out a change of a range.
func (v *Volume) change(ctx context.Context, off, n int64, flags block.Flags, f func() error) error {
	if err := v.serve(ctx); err != nil {
		return err
	}
	defer v.gate.Leave()
	lock, err := v.lock(ctx, off, n, false)
	if err != nil {
		return err
	}
	err = f()
	lock.Unlock()
	if err == nil && flags&block.FUA != 0 {
		err = v.flusher.flush(ctx)
	}
	return err
}

// writePart writes to one object. What is missing of blocks is read.
func (v *Volume) writePart(index uint64, p []byte, at int64) error {
	if (at|int64(len(p)))%disk.BlockSize == 0 {
		return v.write(index, p, at)
	}
	from, end := at&^(disk.BlockSize-1), (at+int64(len(p))+disk.BlockSize-1)&^(disk.BlockSize-1)
	b := make([]byte, end-from)
	if err := v.read(index, b[:disk.BlockSize], from); err != nil {
		return err
	}
	if last := int64(len(b)) - disk.BlockSize; last > 0 {
		if err := v.read(index, b[last:], from+last); err != nil {
			return err
		}
	}
	copy(b[at-from:], p)
	return v.write(index, b, from)
}

// Zero is that of block.Device.
func (v *Volume) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return v.zero(ctx, off, n, flags, true)
}

// Trim is that of block.Device. It makes whole blocks zeros.
func (v *Volume) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return v.zero(ctx, off, n, flags, false)
}

func (v *Volume) zero(ctx context.Context, off, n int64, flags block.Flags, edges bool) error {
	if err := v.info.Load().CheckChange(off, n); err != nil {
		return err
	}
	// A range may be as long as the volume: others get their turn in between.
	for end := off + n; ; {
		k := min(end-off, 64*v.c.ObjectSize-off%v.c.ObjectSize)
		last := off+k == end
		err := v.change(ctx, off, k, flags&^block.FUA, func() error {
			return v.pieces(off, k, func(index uint64, at, _, n int64) error {
				return v.zeroPart(index, at, n, edges)
			})
		})
		if err != nil {
			return err
		}
		if off += k; last {
			break
		}
	}
	if flags&block.FUA != 0 {
		return v.Flush(ctx)
	}
	return nil
}

var zeros [disk.BlockSize]byte

// zeroPart zeroes a part of one object.
func (v *Volume) zeroPart(index uint64, at, n int64, edges bool) error {
	from, end := (at+disk.BlockSize-1)&^(disk.BlockSize-1), (at+n)&^(disk.BlockSize-1)
	if edges {
		if from > end {
			return v.writePart(index, zeros[:n], at)
		}
		if from > at {
			if err := v.writePart(index, zeros[:from-at], at); err != nil {
				return err
			}
		}
		if end < at+n {
			if err := v.writePart(index, zeros[:at+n-end], end); err != nil {
				return err
			}
		}
	}
	if from >= end {
		return nil
	}
	return v.clear(index, from, end-from)
}

// Flush is that of block.Device.
func (v *Volume) Flush(ctx context.Context) error {
	if err := v.serve(ctx); err != nil {
		return err
	}
	defer v.gate.Leave()
	return v.flusher.flush(ctx)
}

// Extents is that of block.Device.
func (v *Volume) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := v.gate.Enter(); err != nil {
		return block.FailExtents(err)
	}
	v.gate.Leave()
	return allocation(v.info.Load(), mc, off, n, func(off, n int64) iter.Seq2[block.Extent, error] { return v.Map(ctx, 0, off, n) })
}

// Close is that of block.Device. It does not release the head.
func (v *Volume) Close() error {
	if err := v.gate.Close(); err != nil {
		return err
	}
	v.cancel(block.ErrClosed)
	return nil
}

// Freeze makes everything durable, calls f while no request is under way, and goes on
// with the head that f returns: it has made what was the head before a snapshot, and
// claimed its child. If f fails it must not have done so; if it is not known, f has
// to find out, or to return an error that wraps ErrFenced.
func (v *Volume) Freeze(ctx context.Context, f func(context.Context) (h Head, generation coord.Revision, tree uint64, err error)) error {
	if err := v.serve(ctx); err != nil {
		return err
	}
	defer v.gate.Leave()
	lock, err := v.lock(ctx, 0, everything, false)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := v.flusher.flush(ctx); err != nil {
		return err
	}
	h, generation, tree, err := f(ctx)
	if errors.Is(err, ErrFenced) {
		return v.fail(err)
	}
	if err != nil {
		return err
	}
	v.head.Store(&heading{h, generation, tree})
	return nil
}
