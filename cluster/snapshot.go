package cluster

import (
	"context"
	"fmt"
	"iter"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// OpenSnapshot opens a snapshot for reading. Any number of nodes may do so at the same
// time, whoever writes the volume. When it is deleted, reads fail.
func (n *Node) OpenSnapshot(ctx context.Context, volume, name string) (block.Device, error) {
	v, head, err := n.head(ctx, volume)
	if err != nil {
		return nil, err
	}
	return n.openSnapshot(ctx, v, head, name)
}

func (n *Node) openSnapshot(ctx context.Context, view *record.View, head record.Head, name string) (block.Device, error) {
	fail := func(err error) (block.Device, error) {
		return nil, fmt.Errorf("opening the snapshot %.200q@%.200q: %w", head.Called, name, err)
	}
	version, ok := view.Snapshot(head.Line(), name)
	if !ok {
		return fail(record.ErrNotFound)
	}
	family := head.Volume.Record
	if err := n.ensure(ctx, view, family, version.Size); err != nil {
		return fail(err)
	}
	dev, err := replica.OpenFrozen(replica.Config{
		Groups: &replica.Groups{Store: n.store}, Agreed: agreed{n.state}, Peer: n.peer, Near: n.near,
		Head: replica.Head{Family: family.Family, Version: version.ID}, Tree: uint64(head.Volume.Revision),
		Size: version.Size, ObjectSize: family.ObjectSize, Copies: family.Copies,
		Count: view.Pool.Record.Groups,
	})
	if err != nil {
		return fail(err)
	}
	info := dev.Info()
	info.Contexts = contexts(view, head, version.ID)
	return &snapshot{dev, n, head.Line(), info}, nil
}

// A snapshot is one that somebody has opened.
type snapshot struct {
	*replica.Frozen
	n    *Node
	line record.Line
	info block.Info
}

// Info is that of block.Device.
func (s *snapshot) Info() block.Info { return s.info }

// Extents is that of block.Device.
func (s *snapshot) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := s.Flush(ctx); err != nil {
		return block.FailExtents(err)
	}
	return extentsOf(s, s.n.state.View(), s.line, &s.info, ctx, mc, off, n)
}

// near reports whether a disk is one of this node.
func (n *Node) near(m record.Member) bool { return n.disks[m.Disk] != nil }
