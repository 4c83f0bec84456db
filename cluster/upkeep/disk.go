package upkeep

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/internal/pace"
)

// maxRotten bounds how many blocks wait to be mended because clients have met them. What
// is beyond that is found by the next scrub.
const maxRotten = 256

// A Disk is a disk of this node as clients use it: it tells the throttle of their requests,
// and the keeper of what is wrong.
type Disk struct {
	*disk.Disk
	// ID is how records name it, Size how large it is in bytes.
	ID   string
	Size int64
	// Member is what others see of it. It is set before the keeper begins.
	Member *replica.Member

	throttle *job.Throttle
	rotten   chan *disk.BlockError
	// failure is why it counts as failed, nil if it does not.
	failure    atomic.Pointer[error]
	unreadable atomic.Int64
	limit      int64
	// begun counts the groups that it has begun to join since; those who pull for them stand
	// in the line.
	since time.Time
	begun atomic.Int64
	line  line

	bad, mended atomic.Int64
	mu          sync.Mutex
	passes      map[uint64]*pass // by family
	// pulls says how many blocks fit into a small step.
	pulls pace.Pace
}

var _ replica.Disk = (*Disk)(nil)

// NewDisk returns a disk of this node.
func NewDisk(id string, size int64, d *disk.Disk, o Options) *Disk {
	return &Disk{
		Disk: d, ID: id, Size: size, throttle: job.NewThrottle(), rotten: make(chan *disk.BlockError, maxRotten),
		limit: int64(o.withDefaults().Unreadable), passes: map[uint64]*pass{}, since: time.Now(),
		pulls: pace.Pace{Time: pullTime, Min: leastPull, Max: mostPull},
	}
}

// Read is that of disk.Disk, for a client.
func (d *Disk) Read(ctx context.Context, at disk.At, p []byte, off int64) error {
	d.throttle.Enter()
	defer d.throttle.Leave()
	err := d.Disk.Read(ctx, at, p, off)
	if err != nil {
		d.met(err, false)
	}
	return err
}

// Write is that of disk.Disk, for a client.
func (d *Disk) Write(ctx context.Context, at disk.At, p []byte, off int64) error {
	d.throttle.Enter()
	defer d.throttle.Leave()
	err := d.Disk.Write(ctx, at, p, off)
	if err != nil {
		d.met(err, true)
	}
	return err
}

// Zero is that of disk.Disk, for a client.
func (d *Disk) Zero(ctx context.Context, at disk.At, off, n int64) error {
	d.throttle.Enter()
	defer d.throttle.Leave()
	err := d.Disk.Zero(ctx, at, off, n)
	if err != nil {
		d.met(err, true)
	}
	return err
}

// Flush is that of disk.Disk, for a client, or for a job with a context of Joins, to which
// the disk is as idle as before. A slab that has found out only now that it has
// no room, as one on thin storage may, has failed: nobody knows what of it is stored, and
// the next flush of it may claim that all is.
func (d *Disk) Flush(ctx context.Context) error {
	if _, isJob := ctx.Value(joinKey{}).(*joins); !isJob {
		d.throttle.Enter()
		defer d.throttle.Leave()
	}
	err := d.Disk.Flush(ctx)
	if errors.Is(err, block.ErrNoSpace) && !errors.Is(err, disk.ErrFailed) {
		err = fmt.Errorf("%w: %w", disk.ErrFailed, err)
	}
	if err != nil {
		d.met(err, true)
	}
	return err
}

// ReadNow is that of disk.Disk, for a client.
func (d *Disk) ReadNow(at disk.At, p []byte, off int64) bool {
	d.throttle.Touch()
	return d.Disk.ReadNow(at, p, off)
}

// WriteNow is that of disk.Disk, for a client.
func (d *Disk) WriteNow(at disk.At, p []byte, off int64) (done bool, err error) {
	d.throttle.Touch()
	if done, err = d.Disk.WriteNow(at, p, off); err != nil {
		d.met(err, true)
	}
	return done, err
}

// Where there are clients, a step in which a disk pulls something is to take no longer than
// pullTime, as clients wait for its end. It has as many blocks as fit into that, and at least
// leastPull; otherwise as many as one request can move, and there are some at a time, so that
// disks and network have something to do.
const (
	pullTime  = 500 * time.Microsecond
	leastPull = 8
	mostPull  = replica.MaxRaw
	idlePulls = 4
)

// How often a disk becomes a member of groups, of all that are whole by then: they share a flush
// and a transaction, in which all nodes take part. Where there are clients, their writes meet
// that.
const (
	finishEvery = 50 * time.Millisecond
	finishBusy  = 500 * time.Millisecond
)

// width is how many groups are pulled at the same time.
func (d *Disk) width() int {
	if d.throttle.Busy() {
		return 1
	}
	return idlePulls
}

// Pace is for replica.MemberConfig: what a disk pulls to join groups are steps of jobs, which
// are small where there are clients. The context is one of Joins.
func (d *Disk) Pace(ctx context.Context, step replica.Step) error {
	j, ok := ctx.Value(joinKey{}).(*joins)
	if !ok {
		return fmt.Errorf("disk %s pulls, and joins no group: %w", d.ID, block.ErrInvalid)
	}
	if err := d.line.enter(ctx, j.stand, d.width()); err != nil {
		return err
	}
	defer func() { d.line.leave(d.width()) }()
	for more := true; more; {
		err := j.Step(ctx, func() (err error) {
			more, err = d.pull(ctx, j, step)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pull does a step.
func (d *Disk) pull(ctx context.Context, j *joins, step replica.Step) (more bool, err error) {
	n, small := mostPull, d.throttle.Busy()
	if small {
		d.mu.Lock()
		n = d.pulls.Next()
		d.mu.Unlock()
	}
	began := time.Now()
	more, moved, err := step(ctx, n)
	if small && moved == int64(n)*disk.BlockSize {
		d.mu.Lock()
		d.pulls.Took(time.Since(began))
		d.mu.Unlock()
	}
	j.Add(0, moved)
	return more, err
}

// Finish is for replica.MemberConfig, too. Where one copy is left nobody waits.
func (d *Disk) Finish(ctx context.Context) error {
	j, ok := ctx.Value(joinKey{}).(*joins)
	if !ok || j.stand.urgent {
		return nil
	}
	every := finishEvery
	if d.throttle.Busy() {
		every = finishBusy
	}
	timer := time.NewTimer(every - time.Since(d.since)%every)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Progress is for replica.MemberConfig, too.
func (d *Disk) Progress(ctx context.Context, part float64) {
	if j, ok := ctx.Value(joinKey{}).(*joins); ok {
		j.Set(int64(part*permille), permille)
	}
}

// permille is the whole of a join: nobody knows how much has to be moved.
const permille = 1000

type joinKey struct{}

// joins is a job that joins a group.
type joins struct {
	*job.Job
	stand stand
}

// Joins returns a context for replica.Member.Join whose pulls are a job on the board
// until it is ended. It is urgent if one copy is left.
func (d *Disk) Joins(ctx context.Context, b *job.Board, group int, urgent bool) (context.Context, *job.Job) {
	j := b.Begin(job.What{Kind: job.Join, Disk: d.ID, Group: group, Unit: "permille", Urgent: urgent}, d.throttle)
	j.Set(0, permille)
	return context.WithValue(ctx, joinKey{}, &joins{j, stand{urgent, d.begun.Add(1)}}), j
}

// met notes an error that a request has met.
func (d *Disk) met(err error, change bool) {
	var bad *disk.BlockError
	isBad := errors.As(err, &bad)
	switch {
	case errors.Is(err, disk.ErrFailed):
		d.fail(err)
	case isBad && errors.Is(err, disk.ErrUnfinished):
	case isBad:
		select {
		case d.rotten <- bad:
		default:
		}
		d.unread(bad)
	case change && errors.Is(err, block.ErrIO) && !errors.Is(err, context.Canceled):
		d.fail(err)
	}
}

// unread counts blocks that cannot be read: with many of them a disk has failed. A block
// with a wrong checksum could be read.
func (d *Disk) unread(bad *disk.BlockError) {
	if errors.Is(bad, disk.ErrRot) || errors.Is(bad, disk.ErrUnfinished) {
		return
	}
	if d.unreadable.Add(1) == d.limit {
		d.fail(bad)
	}
}

// fail makes the disk count as failed.
func (d *Disk) fail(err error) { d.failure.CompareAndSwap(nil, &err) }

// Failure is why the disk counts as failed, nil if it does not.
func (d *Disk) Failure() error {
	if err := d.failure.Load(); err != nil {
		return *err
	}
	return d.Disk.Err()
}
