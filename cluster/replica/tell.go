package replica

import (
	"context"
	"fmt"
	"iter"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
)

// List is that of Peer.
func (m *Member) List(ctx context.Context, to To, from uint64) ([]disk.Summary, bool, error) {
	return page(ctx, m, &to, from, m.c.Disk.List, func(s disk.Summary) disk.Object { return s.Object })
}

// Dirty is that of Peer.
func (m *Member) Dirty(ctx context.Context, to To, from uint64) ([]disk.DirtyObject, bool, error) {
	return page(ctx, m, &to, from, m.c.Disk.Dirty, func(d disk.DirtyObject) disk.Object { return d.Object })
}

// page returns some of a list of the objects of a group.
func page[T any](ctx context.Context, m *Member, to *To, from uint64,
	all func(ctx context.Context, from, to uint64) iter.Seq2[T, error], object func(T) disk.Object) (list []T, more bool, err error) {
	p, err := m.admit(ctx, to)
	if err != nil {
		return nil, false, err
	}
	defer p.leave()
	first, last := m.rangeOf(to.Group)
	for x, err := range all(ctx, max(first, from), last) {
		if err != nil {
			return nil, false, err
		}
		o := object(x)
		if !m.has(to.Group, o) {
			continue
		}
		if n := len(list); n >= MaxList && o.Hash() != object(list[n-1]).Hash() {
			return list, true, nil
		}
		list = append(list, x)
	}
	return list, false, nil
}

// Entries is that of Peer.
func (m *Member) Entries(ctx context.Context, to To, o disk.Object, from, n uint32) ([]disk.Entry, error) {
	p, err := m.admit(ctx, &to)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	return m.entries(ctx, o, from, n)
}

func (m *Member) entries(ctx context.Context, o disk.Object, from, n uint32) (list []disk.Entry, err error) {
	for e, err := range m.c.Disk.Entries(ctx, o) {
		switch {
		case err != nil:
			return nil, err
		case e.Block < from || e.Block-from >= n:
			continue
		case len(list) == MaxEntries:
			return nil, fmt.Errorf("object %v has more than %d entries in %d blocks: %w", o, MaxEntries, n, block.ErrNoMemory)
		}
		list = append(list, e)
	}
	return list, nil
}

// RawBlocks is that of Peer.
func (m *Member) RawBlocks(ctx context.Context, to To, o disk.Object, version uint64, from uint32, b []byte) ([]disk.Entry, error) {
	if len(b) > MaxRaw*disk.BlockSize {
		return nil, fmt.Errorf("%d bytes of an object as they are, expected %d at most: %w", len(b), MaxRaw*disk.BlockSize, block.ErrInvalid)
	}
	p, err := m.admit(ctx, &to)
	if err != nil {
		return nil, err
	}
	defer p.leave()
	return m.c.Disk.RawBlocks(ctx, o, version, from, b, make([]disk.Entry, 0, len(b)/disk.BlockSize))
}
