package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/cluster/record"
)

// equal makes what a head has of one object the same on all disks of a record. No
// request of the head for the object is under way.
type equal struct {
	v      *Volume
	group  int
	epoch  coord.Revision
	rec    record.Group
	index  uint64
	verify bool

	tree   *family.Tree
	copies []replica
}

// A replica is the object on one member.
type replica struct {
	member record.Member
	state  Standing
	bad    map[uint32]bool
	own    map[uint32]disk.Entry
	// below has for each block what the nearest ancestor has.
	below map[uint32]disk.Entry
}

// run makes the members equal to source, or to the first if that is none of them.
func (e *equal) run(source record.Member) error {
	if err := e.look(); err != nil {
		return err
	}
	if e.differ() {
		if err := e.load(); err != nil {
			return err
		}
		if err := e.level(source); err != nil {
			return err
		}
	}
	// Joining disks pull what is there now.
	for _, m := range e.rec.Joining {
		if err := e.call(m, func(ctx context.Context, p Peer, r *Request) error { return p.Again(ctx, r) }); err != nil {
			return err
		}
	}
	return nil
}

// call makes a call about the object to a disk.
func (e *equal) call(m record.Member, f func(context.Context, Peer, *Request) error) error {
	h := e.v.head.Load()
	err := e.v.way(e.group, m).call(func(ctx context.Context, p Peer, w *Writer) error {
		return f(ctx, p, &Request{
			To: To{m.Disk, m.Incarnation, e.group, e.epoch}, Writer: *w, Index: e.index, Tree: h.tree,
		})
	})
	if err != nil {
		return &fault{group: e.group, member: m, err: err}
	}
	return nil
}

// look asks the members for their states.
func (e *equal) look() error {
	e.copies = e.copies[:0]
	for _, m := range e.rec.Members {
		c := replica{member: m}
		err := e.call(m, func(ctx context.Context, p Peer, r *Request) (err error) {
			c.state, err = p.Standing(ctx, r)
			return err
		})
		if err != nil {
			return err
		}
		e.copies = append(e.copies, c)
	}
	return nil
}

// differ reports whether there may be something to do.
func (e *equal) differ() bool {
	return e.verify || slices.ContainsFunc(e.copies, func(c replica) bool {
		return c.state.Unsettled || c.state.Digest != e.copies[0].state.Digest
	})
}

// load asks the members what they have.
func (e *equal) load() (err error) {
	h := e.v.head.Load()
	if e.tree, err = e.v.c.Trees.Tree(e.v.ctx, h.Family, h.tree); err != nil {
		return err
	}
	for i := range e.copies {
		if err := e.loadOne(&e.copies[i], h.Version); err != nil {
			return err
		}
	}
	return nil
}

func (e *equal) loadOne(c *replica, version uint64) error {
	c.bad, c.own, c.below = map[uint32]bool{}, map[uint32]disk.Entry{}, map[uint32]disk.Entry{}
	return e.call(c.member, func(ctx context.Context, p Peer, r *Request) error {
		if e.verify || c.state.Unsettled {
			list, err := p.Verify(ctx, r)
			if err != nil {
				return err
			}
			for _, b := range list {
				c.bad[b] = true
			}
		}
		list, err := p.Entries(ctx, r.To, r.Object(), 0, uint32(e.v.c.ObjectSize/disk.BlockSize))
		for _, x := range list {
			switch {
			case x.Version == version:
				c.own[x.Block] = x
			case x.Version < version && x.Version > c.below[x.Block].Version && e.tree.Floor(version, x.Version) == x.Version:
				c.below[x.Block] = x
			}
		}
		return err
	})
}

// reads is what the head reads at a block: an entry without its version.
func (c *replica) reads(b uint32) (kind disk.Kind, sum uint32) {
	x, ok := c.own[b]
	if !ok {
		x = c.below[b]
	}
	return plain(x)
}

// plain is what an entry reads as.
func plain(x disk.Entry) (disk.Kind, uint32) {
	if x.Kind != disk.Data {
		return disk.Hole, 0
	}
	return disk.Data, x.Sum
}

// level makes all like one. If there is no room for that on some disk, that one has
// refused the change: then all are made like it.
func (e *equal) level(source record.Member) error {
	first := max(0, slices.IndexFunc(e.copies, func(c replica) bool { return c.member == source }))
	order := []int{first}
	for i := range e.copies {
		if i != first {
			order = append(order, i)
		}
	}
	var err error
	for _, i := range order {
		if err = e.levelTo(&e.copies[i]); !errors.Is(err, block.ErrNoSpace) {
			return err
		}
		if err := errors.Join(e.look(), e.load()); err != nil {
			return err
		}
	}
	return err
}

// levelTo makes all like one.
func (e *equal) levelTo(source *replica) error {
	if err := e.heal(source); err != nil {
		return err
	}
	for i := range e.copies {
		if c := &e.copies[i]; c.member != source.member {
			if err := e.copyTo(c, source); err != nil {
				return err
			}
		}
	}
	return nil
}

// heal gives the source content where it has none: that of another member, or of an
// unfinished write if nobody has any.
func (e *equal) heal(source *replica) error {
	var fixes []disk.Fix
	for b := range source.bad {
		was, ok := source.own[b]
		if !ok {
			continue
		}
		p := make([]byte, disk.BlockSize)
		if err := e.content(source, b, p); err != nil {
			return err
		}
		fixes = append(fixes, disk.Fix{Was: was, Kind: disk.Data, Data: p})
	}
	if len(fixes) == 0 {
		return nil
	}
	if err := e.fix(source, fixes); err != nil {
		return err
	}
	clear(source.bad)
	return e.loadOne(source, e.v.head.Load().Version)
}

// content finds something to heal a block with.
func (e *equal) content(source *replica, b uint32, p []byte) error {
	for i := range e.copies {
		c := &e.copies[i]
		if c.member == source.member || c.bad[b] {
			continue
		}
		return e.readBlock(c, b, p)
	}
	if !source.state.Unsettled {
		return fmt.Errorf("block %d of object %d is damaged on all members: %w", b, e.index, disk.ErrRot)
	}
	return e.call(source.member, func(ctx context.Context, peer Peer, r *Request) error {
		_, err := peer.RawBlocks(ctx, r.To, r.Object(), r.Version, b, p)
		return err
	})
}

// readBlock reads what the head reads on a member.
func (e *equal) readBlock(c *replica, b uint32, p []byte) error {
	return e.call(c.member, func(ctx context.Context, peer Peer, r *Request) error {
		r.Off = int64(b) * disk.BlockSize
		return peer.Read(ctx, r, p)
	})
}

// copyTo makes a member like the source.
func (e *equal) copyTo(c, source *replica) error {
	blocks := map[uint32]bool{}
	for b := range source.own {
		blocks[b] = true
	}
	for b := range c.own {
		blocks[b] = true
	}
	var fixes []disk.Fix
	for b := range blocks {
		f, needed := e.plan(c, source, b)
		if !needed {
			continue
		}
		if f.Kind == disk.Data {
			f.Data = make([]byte, disk.BlockSize)
			if err := e.readBlock(source, b, f.Data); err != nil {
				return err
			}
		}
		fixes = append(fixes, f)
		if len(fixes) == batch {
			if err := e.fix(c, fixes); err != nil {
				return err
			}
			fixes = fixes[:0]
		}
	}
	return e.fix(c, fixes)
}

// plan returns what has to be changed at a block.
func (e *equal) plan(c, source *replica, b uint32) (f disk.Fix, needed bool) {
	was, ok := c.own[b]
	if !ok {
		was = disk.Entry{Version: e.v.head.Load().Version, Block: b}
	}
	want, ok := source.own[b]
	if ok {
		return disk.Fix{Was: was, Kind: want.Kind}, want != was || c.bad[b]
	}
	kind, sum := source.reads(b)
	belowKind, belowSum := plain(c.below[b])
	if belowKind == kind && belowSum == sum {
		return disk.Fix{Was: was, Kind: disk.None}, was.Kind != disk.None
	}
	// A deletion has given the block of an ancestor to the head on this disk, and
	// not yet there.
	if k, s := c.reads(b); k == kind && s == sum && !c.bad[b] {
		return f, false
	}
	return disk.Fix{Was: was, Kind: kind}, true
}

// fix carries out fixes on a member.
func (e *equal) fix(c *replica, fixes []disk.Fix) error {
	if len(fixes) == 0 {
		return nil
	}
	slices.SortFunc(fixes, func(a, b disk.Fix) int { return cmp.Compare(a.Was.Block, b.Was.Block) })
	return e.call(c.member, func(ctx context.Context, p Peer, r *Request) error {
		_, err := p.Fix(ctx, r, fixes)
		return err
	})
}

// clear takes back the marks of the object, if all disks have the same.
func (e *equal) clear() error {
	e.rec.Members = slices.Concat(e.rec.Members, e.rec.Joining)
	if err := e.look(); err != nil {
		return err
	}
	for i := range e.copies {
		if e.copies[i].state.Digest != e.copies[0].state.Digest {
			return nil
		}
	}
	// The first member is where marks are looked for: it keeps its own for as long as
	// somebody else has one.
	for i := len(e.copies) - 1; i >= 0; i-- {
		c, cleared := &e.copies[i], false
		err := e.call(c.member, func(ctx context.Context, p Peer, r *Request) (err error) {
			cleared, err = p.Clear(ctx, r, c.state.State)
			return err
		})
		if err != nil || !cleared {
			return err
		}
	}
	return nil
}
