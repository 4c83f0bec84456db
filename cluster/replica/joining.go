package replica

import (
	"context"
	"fmt"
	"sync"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/rangelock"
)

// versioned is what a head has of an object.
type versioned struct {
	disk.Object
	version uint64
}

// A bitmap has a bit for each block.
type bitmap []uint64

func (b *bitmap) set(from, n uint32) {
	for i := from; i < from+n; i++ {
		for int(i/64) >= len(*b) {
			*b = append(*b, 0)
		}
		(*b)[i/64] |= 1 << (i % 64)
	}
}

func (b bitmap) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// joining is what a disk knows while it joins a group.
type joining struct {
	// as is how the record names it.
	as record.Member
	// locks has a range for each object, at its hash: shared by clients that change
	// it, exclusive for a pull that does.
	locks rangelock.Lock

	mu sync.Mutex
	// written has the blocks that clients have written since the disk was added:
	// for them a pull is never right.
	written map[versioned]*bitmap
	// from is the member that is pulled from, pulled what is as it was there, at
	// some moment since. redo has what was pulled and has to be again.
	from   record.Member
	pulled map[disk.Object]bool
	redo   map[disk.Object]bool
	// promoting: the disk may be a member already, at an epoch after at.
	promoting bool
	at        coord.Revision
}

func newJoining(as record.Member) *joining {
	return &joining{as: as, written: map[versioned]*bitmap{}, pulled: map[disk.Object]bool{}, redo: map[disk.Object]bool{}}
}

// change carries out a change of n bytes by a client, which keeps pulls of the object away,
// and notes it. What has failed is not noted: whoever writes does it again, or makes the
// copies equal, but if nobody has done anything of it, nobody knows that it is missing
// here.
func (j *joining) change(ctx context.Context, r *Request, n int64, do func() error) error {
	lock, err := j.locks.RLock(ctx, place(r.Object()), 1)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := do(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	key := versioned{r.Object(), r.Version}
	b := j.written[key]
	if b == nil {
		b = &bitmap{}
		j.written[key] = b
	}
	b.set(uint32(r.Off/disk.BlockSize), uint32(n/disk.BlockSize))
	return nil
}

// place is where an object is locked. Two that are at the same place wait for each
// other.
func place(o disk.Object) int64 { return int64(o.Hash() >> 2) }

// again is Peer.Again.
func (j *joining) again(r *Request) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.promoting {
		return fmt.Errorf("disk %s is being promoted: %w", j.as.Disk, ErrUnreachable)
	}
	delete(j.written, versioned{r.Object(), r.Version})
	delete(j.pulled, r.Object())
	j.redo[r.Object()] = true
	return nil
}

// begin notes where is pulled from: from another one all begins anew.
func (j *joining) begin(from record.Member) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.from != from {
		j.from = from
		clear(j.pulled)
	}
}

// starts notes that a pull begins, and reports whether it is needed.
func (j *joining) starts(o disk.Object) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.redo, o)
	return !j.pulled[o]
}

// done notes that an object has been pulled, unless it has to be again.
func (j *joining) done(o disk.Object, from record.Member) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.redo[o] && j.from == from {
		j.pulled[o] = true
	}
}

// rest returns an object that has to be pulled again.
func (j *joining) rest() (o disk.Object, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for o := range j.redo {
		return o, true
	}
	return o, false
}

// promote reports whether the disk may be promoted, and says no to Again from then on.
func (j *joining) promote(at coord.Revision) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.redo) > 0 {
		return false
	}
	j.promoting, j.at = true, at
	return true
}

// stay ends what promote began if the disk still joins at a later epoch. At the same
// one the record may still be replaced.
func (j *joining) stay(epoch coord.Revision) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.promoting = j.promoting && epoch <= j.at
}

// left leaves out the fixes of blocks that clients have written.
func (j *joining) left(o disk.Object, fixes []disk.Fix) []disk.Fix {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := fixes[:0]
	for _, f := range fixes {
		if b := j.written[versioned{o, f.Was.Version}]; b == nil || !b.has(f.Was.Block) {
			list = append(list, f)
		}
	}
	return list
}

// A source is where a joining disk pulls from, and on what grounds.
type source struct {
	member record.Member
	peer   Peer
	to     To
	// others are the other members, for what the first one has lost.
	others []record.Member
}

// sourceAt returns the first member at an epoch.
func (m *Member) sourceAt(rec record.Group, number int, epoch coord.Revision) source {
	first := rec.Members[0]
	return source{
		member: first,
		peer:   m.c.Peer(first),
		to:     To{first.Disk, first.Incarnation, number, epoch},
		others: rec.Members[1:],
	}
}
