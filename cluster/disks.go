package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/upkeep"
	"github.com/strata-storage/strata/source"
)

// disks are those of the node, by their IDs. They do not change.
type disks map[string]*ownDisk

// An ownDisk is a disk of this node.
type ownDisk struct {
	disk   *disk.Disk
	kept   *upkeep.Disk
	size   int64
	member *replica.Member
}

// openDisks opens all disks of the node. With one that is not there, or does not work, the
// node goes on with the others, but not with one of somebody else in its own directory.
func (n *Node) openDisks(ctx context.Context) error {
	opened := make([]*ownDisk, len(n.is.Disks))
	errs := make([]error, len(n.is.Disks))
	var all sync.WaitGroup
	for i, d := range n.is.Disks {
		all.Go(func() { opened[i], errs[i] = n.openDisk(ctx, d) })
	}
	all.Wait()
	n.disks, n.broken = disks{}, map[string]string{}
	for i, d := range n.is.Disks {
		if own, err := opened[i], errs[i]; err == nil {
			n.disks[d.ID] = own
			n.later(own.disk.Close)
		} else if d.Path != "" || missing(err) {
			n.broken[d.ID] = err.Error()
			errs[i] = nil
			n.o.Log.Error("a disk cannot be used, the node goes on without it", "disk", d.ID, "path", d.Path, "error", err)
		}
	}
	return errors.Join(errs...)
}

// missing reports whether an error says that a disk is not there or does not work, rather
// than that it is another one.
func missing(err error) bool {
	for _, other := range []error{home.ErrOther, disk.ErrForeign} {
		if errors.Is(err, other) {
			return false
		}
	}
	for _, e := range []error{fs.ErrNotExist, block.ErrIO, syscall.EIO, syscall.ENXIO, syscall.ENODEV, syscall.ENOTDIR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (n *Node) openDisk(ctx context.Context, d home.Disk) (_ *ownDisk, err error) {
	fail := func(err error) (*ownDisk, error) {
		return nil, fmt.Errorf("opening disk %d, %s: %w", d.Number, d.ID, err)
	}
	w, err := n.where(d.Path, d.Number)
	if err != nil {
		return fail(err)
	}
	slab, err := source.File(ctx, source.FileOptions{Path: w.slab})
	if err != nil {
		return fail(err)
	}
	if n.o.slab != nil {
		slab = n.o.slab(slab)
	}
	own, err := disk.Open(ctx, disk.Config{
		Slab: slab, Dir: w.meta, Trees: agreed{n.state}, Cache: n.o.Cache / 2, MetaCache: n.o.Cache / 2,
	})
	if err != nil {
		return fail(errors.Join(err, slab.Close()))
	}
	if got := own.UUID().String(); got != d.ID {
		return fail(errors.Join(fmt.Errorf("it is the disk %s: %w", got, home.ErrOther), own.Close()))
	}
	kept := upkeep.NewDisk(d.ID, slab.Info().Size, own, n.o.Upkeep)
	kept.Member = replica.NewMember(replica.MemberConfig{
		ID: d.ID, Incarnation: n.incarnation, Disk: kept, Agreed: agreed{n.state}, Clock: n.store.Clock(),
		Groups: n.state.View().Pool.Record.Groups, Peer: n.peer, Pace: kept.Pace, Finish: kept.Finish,
		Progress: kept.Progress,
	})
	return &ownDisk{own, kept, slab.Info().Size, kept.Member}, nil
}

// maxJoins bounds how many groups disks of a node join at the same time, of which each disk
// pulls a few.
const maxJoins = 256

// A joint is a disk that joins a group.
type joint struct {
	group int
	as    record.Member
}

// join makes disks of this node members wherever they are in a record as joining
// ones. It is the goroutine of that.
func (n *Node) join() {
	var all sync.WaitGroup
	defer all.Wait()
	var mu sync.Mutex
	running := map[joint]bool{}
	free := make(chan struct{}, maxJoins)
	failed := make(chan struct{}, 1) // some have to be tried again
	groups := &replica.Groups{Store: n.store}
	for {
		changed := n.state.Changed()
		for number, e := range n.state.View().Groups.All() {
			for _, m := range e.Record.Joining {
				own := n.disks[m.Disk]
				j := joint{number, m}
				mu.Lock()
				begin := own != nil && m.Incarnation == n.incarnation && !running[j]
				if begin {
					running[j] = true
				}
				mu.Unlock()
				if !begin {
					continue
				}
				urgent := lastCopy(number, e.Record)
				all.Go(func() {
					free <- struct{}{}
					defer func() { <-free }()
					err := n.joinAs(own, number, urgent, func(ctx context.Context) error { return own.member.Join(ctx, groups, number) })
					mu.Lock()
					delete(running, j)
					mu.Unlock()
					if err != nil {
						n.o.Log.Debug("a disk could not join a group yet", "disk", m.Disk, "group", number, "error", err)
						select {
						case failed <- struct{}{}:
						default:
						}
					}
				})
			}
		}
		pause := joinPause // records of groups change a great many at a time
		select {
		case <-changed:
		case <-failed:
			pause = joinAgain
		case <-n.ctx.Done():
			return
		}
		if !n.pause(n.ctx, pause) {
			return
		}
	}
}

// lastCopy reports whether one copy of a group is left of several.
func lastCopy(number int, g record.Group) bool {
	copies, _ := record.SplitGroup(number)
	return copies > 1 && len(g.Members) == 1
}

// diskPause is between two looks at whether disks have failed.
const diskPause = time.Second

// watchDisks is the goroutine that tells the cluster of disks of this node that have
// failed: their groups are copied elsewhere.
func (n *Node) watchDisks() {
	told := map[string]bool{}
	for n.pause(n.ctx, diskPause) {
		for id, own := range n.disks {
			why := own.kept.Failure()
			if why == nil || told[id] {
				continue
			}
			n.o.Log.Error("a disk has failed, what is on it is copied elsewhere", "disk", id, "error", why)
			err := n.changeDisk(n.ctx, id, func(d *record.Disk) error { d.Failed = clip(why.Error()); return nil })
			if told[id] = err == nil; err != nil {
				n.o.Log.Warn("the cluster does not know yet that a disk has failed", "disk", id, "error", err)
			}
		}
	}
}

// maxFailure is how long a text on a failure is in a record.
const maxFailure = 500

func clip(text string) string {
	if len(text) > maxFailure {
		text = strings.ToValidUTF8(text[:maxFailure], "")
	}
	return text
}

// changeDisk changes the record of a disk.
func (n *Node) changeDisk(ctx context.Context, id string, change func(*record.Disk) error) error {
	return changeRecord(ctx, n, record.DiskKey(id), change)
}

// changeRecord changes a record that exists, and waits until this node knows.
func changeRecord[T record.Record](ctx context.Context, n *Node, key string, change func(*T) error) error {
	for {
		e, _, err := n.store.Get(ctx, key)
		if err != nil {
			return err
		}
		if e.Revision == 0 {
			return fmt.Errorf("%s: %w", key, record.ErrNotFound)
		}
		r, err := record.Decode[T](key, e.Value)
		if err == nil {
			err = change(&r)
		}
		if err != nil {
			return err
		}
		value, err := record.Encode(key, r)
		if err != nil {
			return err
		}
		done, err := n.store.Txn(ctx, coord.Txn{If: []coord.Compare{coord.IfRevision(key, e.Revision)}, Then: []coord.Op{coord.Put(key, value)}})
		if err != nil || done.Done {
			return n.seen(ctx, done.Revision, err)
		}
	}
}
