package cluster

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// SnapshotOf makes a snapshot of a volume that this node has open, and that holds a copy
// of a snapshot elsewhere with the ID origin.
func (n *Node) SnapshotOf(ctx context.Context, volume, name, origin string) error {
	h, err := n.holdOf(ctx, volume)
	if err != nil {
		return err
	}
	defer h.leaveOwn()
	v, err := h.useOwn(ctx)
	if err != nil {
		return err
	}
	return h.snapshot(ctx, v, name, origin)
}

// useOwn is use of a volume that no other node has attached.
func (h *hold) useOwn(ctx context.Context) (*replica.Volume, error) {
	a, err := h.use(ctx)
	if err != nil {
		return nil, err
	}
	if a.own == nil {
		return nil, fmt.Errorf("another node has it open: %w", record.ErrInUse)
	}
	return a.own, nil
}

// Adopt lets a volume that nobody has open go on from a snapshot of a clone of it, which
// becomes one of its own. It must not have been written since its snapshot base, the one
// that the clone was made of.
func (n *Node) Adopt(ctx context.Context, volume, base, clone, name string) error {
	err := n.alone(ctx, volume, func(h *hold, v *replica.Volume) error {
		if err := h.unwritten(ctx, v, base); err != nil {
			return err
		}
		err := h.freeze(ctx, v, func(now string, generation coord.Revision) (record.Head, error) {
			return n.catalog.Adopt(ctx, now, clone, name, generation)
		})
		if err != nil {
			return err
		}
		// Its size may be another one now: whoever opens it next attaches it anew.
		return h.release(ctx)
	})
	if err != nil {
		return fmt.Errorf("letting the volume %.200q go on from %.200q@%.200q: %w", volume, clone, name, err)
	}
	return nil
}

// Unwritten returns nil if Adopt would find nothing in its way now.
func (n *Node) Unwritten(ctx context.Context, volume, base string) error {
	err := n.alone(ctx, volume, func(h *hold, v *replica.Volume) error { return h.unwritten(ctx, v, base) })
	if err != nil {
		return fmt.Errorf("the volume %.200q: %w", volume, err)
	}
	return nil
}

// alone calls f with a volume that nobody has open, and keeps others from it meanwhile.
func (n *Node) alone(ctx context.Context, volume string, f func(*hold, *replica.Volume) error) error {
	if err := n.letGo(ctx, volume); err != nil {
		return err
	}
	h, err := n.holdAlone(ctx, volume)
	if err != nil {
		return err
	}
	v, err := h.useOwn(ctx)
	if err == nil {
		err = f(h, v)
	}
	h.shared()
	h.leaveOwn()
	return err
}

// holdAlone is hold for somebody who does not want others to use the volume meanwhile.
func (n *Node) holdAlone(ctx context.Context, volume string) (*hold, error) {
	h, err := n.holdOf(ctx, volume)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	if h.users == 1 {
		h.alone = true
		n.mu.Unlock()
		return h, nil
	}
	n.mu.Unlock()
	h.leaveOwn()
	return nil, fmt.Errorf("it has been opened: %w", record.ErrInUse)
}

// shared lets others use the volume again.
func (h *hold) shared() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.alone = false
}

// unwritten makes sure that a volume has what a snapshot has.
func (h *hold) unwritten(ctx context.Context, v *replica.Volume, base string) error {
	of, ok := h.n.state.View().Snapshot(h.line, base)
	if !ok {
		return fmt.Errorf("its snapshot %.200q: %w", base, record.ErrNotFound)
	}
	for e, err := range v.Map(ctx, of.ID, 0, v.Info().Size) {
		switch {
		case err != nil:
			return err
		case e.Status&replica.Changed != 0:
			return fmt.Errorf("it has been written since its snapshot %s, at %d for example: %w", base, e.Off, ErrWritten)
		}
	}
	return nil
}

// ErrWritten: a volume is not what its snapshot is.
var ErrWritten error = &meaning{"it is not what it was", block.ErrInvalid}

type meaning struct {
	text string
	is   error
}

func (e *meaning) Error() string { return e.text }
func (e *meaning) Unwrap() error { return e.is }
