package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
)

// maxBatch is how many groups are changed by one transaction, batches how many of those there
// are at the same time.
const (
	maxBatch = coord.MaxOps
	batches  = 4
)

// joinPause is between two looks at who joins, joinAgain that after one who could not,
// leasePause between two attempts to get a lease, and looks whether there is another one.
const (
	joinPause  = 50 * time.Millisecond
	joinAgain  = 500 * time.Millisecond
	leasePause = 200 * time.Millisecond
)

// pause waits by the clock of the store, and reports whether ctx is still alive.
func (n *Node) pause(ctx context.Context, d time.Duration) bool {
	return coord.Sleep(ctx, n.store.Clock(), d)
}

// ensure sees to it that all groups in which a volume has objects have a record with
// somebody in it who lives, as far as that is possible now. Others may do the same at
// the same time.
func (n *Node) ensure(ctx context.Context, v *record.View, volume record.Volume, size int64) error {
	groups := groupsOf(volume, size, v.Pool.Record.Groups)
	for {
		changes, err := steward.Ready(v, groups)
		if errors.Is(err, steward.ErrNoDisk) {
			err = fmt.Errorf("%w: %w", err, block.ErrNoSpace)
		}
		if err != nil || len(changes) == 0 {
			return err
		}
		done, err := n.change(ctx, changes)
		if err != nil {
			return fmt.Errorf("changing placement groups: %w", err)
		}
		if v, err = n.state.Wait(ctx, done); err != nil {
			return err
		}
	}
}

// change makes changes of groups, those of a batch together, some batches at the same time.
// A batch of which somebody else has changed a group is left out. It returns when what was
// done is known.
func (n *Node) change(ctx context.Context, changes []steward.Change) (done coord.Revision, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	turns := make(chan struct{}, batches)
	for some := range slices.Chunk(changes, maxBatch) {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			var r coord.Result
			t, failure := steward.Together(some)
			if failure == nil {
				r, failure = n.store.Txn(ctx, t)
			}
			mu.Lock()
			defer mu.Unlock()
			done, err = max(done, r.Revision), cmp.Or(err, failure)
		})
	}
	all.Wait()
	return done, err
}

// groupsOf are the numbers of the groups in which a volume has objects, where there are
// count of them.
func groupsOf(volume record.Volume, size int64, count int) []int {
	var list []int
	seen := make([]bool, count)
	for i := range objectsIn(size, volume.ObjectSize) {
		o := disk.Object{Family: volume.Family, Index: uint64(i)}
		number := volume.Group(o.Hash(), count)
		if _, index := record.SplitGroup(number); !seen[index] {
			seen[index] = true
			if list = append(list, number); len(list) == count {
				break
			}
		}
	}
	slices.Sort(list)
	return list
}

// groupsOfFamily are the numbers of the groups in which a version of a family may have
// objects.
func groupsOfFamily(v *record.View, family uint64) []int {
	f, _ := v.Families.Get(family)
	if f == nil {
		return []int{}
	}
	size := int64(0)
	for _, x := range f.Versions.All() {
		size = max(size, x.Size)
	}
	for _, e := range v.Names.All() {
		if e.Record.Family == family {
			size = max(size, e.Record.Size)
		}
	}
	return groupsOf(f.Volume.Record, size, v.Pool.Record.Groups)
}

// objectsIn is how many objects a volume has. Its size may be the largest number there is.
func objectsIn(size, objectSize int64) int64 {
	n := size / objectSize
	if size%objectSize > 0 {
		n++
	}
	return n
}

// nodesWithDisks is how many nodes have a disk that new volumes can be on now.
func nodesWithDisks(v *record.View) int {
	nodes := map[string]bool{}
	for _, d := range v.Disks.All() {
		node, _ := v.Nodes.Get(d.Record.Node)
		if _, runs := v.Runs.Get(d.Record.Node); runs && d.Record.Failed == "" && d.Record.Weight > 0 && !node.Record.Draining {
			nodes[d.Record.Node] = true
		}
	}
	return len(nodes)
}

// unknown reports whether an error of the store leaves open what was done.
func unknown(err error) bool {
	for _, refused := range []error{
		record.ErrInvalid, record.ErrExists, record.ErrNotFound, record.ErrInUse, record.ErrDetached, record.ErrConflict, coord.ErrInvalid, coord.ErrNoLease,
	} {
		if errors.Is(err, refused) {
			return false
		}
	}
	return true
}
