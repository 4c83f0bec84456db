package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// usualCopies is how many copies volumes have if there are enough nodes.
const usualCopies = 3

// Create makes a volume. Copies are as many as there are nodes with disks, but not more
// than three, if spec does not say.
func (n *Node) Create(ctx context.Context, name string, spec record.Spec) error {
	if spec.Copies == 0 {
		// A node may have joined a moment ago, and the number stays.
		if err := n.seenAll(ctx, nil); err != nil {
			return fmt.Errorf("creating the volume %.200q: %w", name, err)
		}
		spec.Copies = max(1, min(usualCopies, nodesWithDisks(n.state.View())))
	}
	if spec.MinCopies > spec.Copies {
		return fmt.Errorf("creating the volume %.200q: %d copies for writes, of %d: %w", name, spec.MinCopies, spec.Copies, record.ErrInvalid)
	}
	if spec.Zones > spec.Copies {
		return fmt.Errorf("creating the volume %.200q: %d zones, expected as many as copies at most, %d: %w", name, spec.Zones, spec.Copies, record.ErrInvalid)
	}
	h, err := n.catalog.Create(ctx, name, spec)
	return n.seen(ctx, h.Name.Revision, err)
}

// seen waits until this node's copy shows what was done.
func (n *Node) seen(ctx context.Context, r coord.Revision, err error) error {
	if err == nil {
		_, err = n.state.Wait(ctx, r)
	}
	return err
}

// seenAll waits until this node's copy shows all that is agreed now.
func (n *Node) seenAll(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	_, r, err := n.store.Get(ctx, record.PoolKey)
	return n.seen(ctx, r, err)
}

// View is all that is agreed, as this node knows it. It does not change.
func (n *Node) View() *record.View { return n.state.View() }

// latestTime bounds how long the latest view is waited for.
const latestTime = time.Second

// Latest is a View that has all that was agreed before, by whichever node: a name means the
// same at all of them. If that cannot be had within a second, because the majority of the
// voters is away, it is the View.
func (n *Node) Latest(ctx context.Context) *record.View {
	v, _ := n.latest(ctx)
	return v
}

// latest is Latest, and says why the view may be older.
func (n *Node) latest(ctx context.Context) (*record.View, error) {
	ctx, cancel := context.WithTimeout(ctx, latestTime)
	defer cancel()
	err := n.seenAll(ctx, nil)
	return n.state.View(), err
}

// head returns the volume of a name as of the latest view, which is returned as well.
func (n *Node) head(ctx context.Context, volume string) (*record.View, record.Head, error) {
	v, why := n.latest(ctx)
	h, ok := v.Head(volume)
	if !ok {
		return nil, h, fmt.Errorf("the volume %.200q: %w", volume, cmp.Or(why, record.ErrNotFound))
	}
	return v, h, nil
}

// holdOf is hold of the volume of a name.
func (n *Node) holdOf(ctx context.Context, volume string) (*hold, error) {
	_, head, err := n.head(ctx, volume)
	if err != nil {
		return nil, err
	}
	return n.hold(head.Line())
}

// Volumes are all volumes in the order of their names.
func (n *Node) Volumes() iter.Seq2[string, record.Head] {
	v := n.state.View()
	return func(yield func(string, record.Head) bool) {
		for name := range v.Names.All() {
			if h, ok := v.Head(name); ok && !yield(name, h) {
				return
			}
		}
	}
}

// Snapshot makes a snapshot of a volume, also while it is written, by whichever node.
func (n *Node) Snapshot(ctx context.Context, volume, name string) error {
	h, err := n.holdOf(ctx, volume)
	if err != nil {
		return err
	}
	defer h.leaveOwn()
	a, err := h.use(ctx)
	if err != nil {
		return err
	}
	if f, ok := a.served.(*far); ok {
		return n.seenAll(ctx, f.snapshot(ctx, name))
	}
	return h.snapshot(ctx, a.own, name, "")
}

// snapshot makes a snapshot of a volume that this node has attached.
func (h *hold) snapshot(ctx context.Context, v *replica.Volume, name, origin string) error {
	return h.freeze(ctx, v, func(now string, generation coord.Revision) (record.Head, error) {
		return h.n.catalog.SnapshotOf(ctx, now, name, origin, generation)
	})
}

// freeze makes another version the head of a volume that this node has attached, between
// two requests.
func (h *hold) freeze(ctx context.Context, v *replica.Volume, f func(name string, generation coord.Revision) (record.Head, error)) error {
	return v.Freeze(ctx, func(ctx context.Context) (replica.Head, coord.Revision, uint64, error) {
		head, err := h.behead(f)
		err = h.n.seen(ctx, head.Name.Revision, err)
		return headOf(head), head.Name.Revision, uint64(head.Volume.Revision), err
	})
}

// behead makes another version the head of an attached volume, whose requests wait.
func (h *hold) behead(f func(name string, generation coord.Revision) (record.Head, error)) (record.Head, error) {
	name, _, ok := nameOf(h.n.state.View(), h.line)
	if !ok {
		return record.Head{}, fmt.Errorf("the volume of line %d in family %d: %w", h.line.Line, h.line.Family, record.ErrNotFound)
	}
	head, err := f(name, coord.Revision(h.generation.Load()))
	switch {
	case err == nil:
		h.generation.Store(int64(head.Name.Revision))
	case unknown(err) || errors.Is(err, record.ErrDetached):
		// It has to be found out, which attaching it anew does.
		err = fmt.Errorf("%w: %w", replica.ErrFenced, err)
	}
	return head, err
}

// Clone makes a volume that begins as a snapshot of another one.
func (n *Node) Clone(ctx context.Context, volume, snapshot, to string) error {
	h, err := n.catalog.Clone(ctx, volume, snapshot, to)
	return n.seen(ctx, h.Name.Revision, err)
}

// Rollback lets a volume that nobody has open go on from one of its snapshots. What it
// was until then becomes the snapshot keep, or is deleted if that is empty.
func (n *Node) Rollback(ctx context.Context, volume, snapshot, keep string) error {
	if err := n.letGo(ctx, volume); err != nil {
		return fmt.Errorf("rolling back the volume %.200q: %w", volume, err)
	}
	h, err := n.catalog.Rollback(ctx, volume, snapshot, keep, 0)
	return n.seen(ctx, h.Name.Revision, err)
}

// letGo gives a volume up that nobody has open.
func (n *Node) letGo(ctx context.Context, volume string) error {
	_, h, err := n.head(ctx, volume)
	if errors.Is(err, record.ErrNotFound) {
		return nil // what is done next says so
	}
	if err != nil {
		return err
	}
	if err := n.release(ctx, h.Line()); err != nil {
		return err
	}
	// Another node that has it for nobody gives it up when it is asked.
	who, generation := n.state.View().Attachment(h.Line())
	if generation == 0 || who.Node == n.is.Node {
		return nil
	}
	f, err := n.openFar(ctx, who.Node, h.Line(), block.Info{})
	if err == nil {
		node, _ := n.state.View().Nodes.Get(who.Node)
		return errors.Join(fmt.Errorf("node %s, %s, has it open: %w", node.Record.Name, who.Node, record.ErrInUse), f.Close())
	}
	if !errors.Is(err, errNotHere) {
		return err
	}
	return nil
}

// Rename gives a volume another name. It may be open.
func (n *Node) Rename(ctx context.Context, volume, to string) error {
	h, err := n.catalog.Rename(ctx, volume, to)
	return n.seen(ctx, h.Name.Revision, err)
}

// Delete deletes a volume that nobody has open and that has no snapshots.
func (n *Node) Delete(ctx context.Context, volume string) error {
	if err := n.letGo(ctx, volume); err != nil {
		return fmt.Errorf("deleting the volume %.200q: %w", volume, err)
	}
	return n.seenAll(ctx, n.catalog.Delete(ctx, volume))
}

// DeleteAll deletes a volume that nobody has open, with its snapshots. If somebody has,
// nothing is deleted.
func (n *Node) DeleteAll(ctx context.Context, volume string) error {
	if err := n.seenAll(ctx, n.letGo(ctx, volume)); err != nil {
		return fmt.Errorf("deleting the volume %.200q with its snapshots: %w", volume, err)
	}
	v := n.state.View()
	if head, ok := v.Head(volume); ok {
		if _, generation := v.Attachment(head.Line()); generation != 0 {
			return fmt.Errorf("deleting the volume %.200q with its snapshots: it is attached: %w", volume, record.ErrInUse)
		}
		for name := range v.Snapshots(head.Line()) {
			if err := n.catalog.DeleteSnapshot(ctx, volume, name); err != nil && !errors.Is(err, record.ErrNotFound) {
				return err
			}
		}
	}
	return n.Delete(ctx, volume)
}

// DeleteSnapshot deletes a snapshot. Later ones and clones keep what they need of it.
func (n *Node) DeleteSnapshot(ctx context.Context, volume, name string) error {
	return n.seenAll(ctx, n.catalog.DeleteSnapshot(ctx, volume, name))
}
