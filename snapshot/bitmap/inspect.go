package bitmap

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/strata-storage/strata/snapshot"
)

func (st *store) Stats() snapshot.Stats {
	st.mu.RLock()
	defer st.mu.RUnlock()
	held := st.l.chunks - st.space.free
	meta := st.nodes.chunksInUse()
	return snapshot.Stats{
		Size: st.l.chunks * st.l.chunk, Free: st.space.free * st.l.chunk, Pending: (held - meta - st.count) * st.l.chunk,
		Data: st.count * st.l.chunk, Meta: meta * st.l.chunk, Exceptions: st.count, Commits: st.commits, Visits: st.visits,
	}
}

func (st *store) Usage(_ context.Context, ids []snapshot.ID) ([]snapshot.Usage, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	var all [maxSnapshots]snapshot.Usage
	for _, b := range st.buckets {
		for _, r := range b.recs {
			mask := r.mask & st.alive
			if r.place == hole || mask == 0 {
				continue
			}
			if mask&(mask-1) == 0 {
				all[bits.TrailingZeros64(mask)].Exclusive += st.l.chunk
				continue
			}
			for ; mask != 0; mask &= mask - 1 {
				all[bits.TrailingZeros64(mask)].Shared += st.l.chunk
			}
		}
	}
	usage := make([]snapshot.Usage, len(ids))
	for i, id := range ids {
		bit, err := st.bit(id)
		if err != nil {
			return nil, err
		}
		usage[i] = all[bits.TrailingZeros64(bit)]
	}
	return usage, nil
}

// Check reads everything again.
func (st *store) Check(ctx context.Context, report func(error)) error {
	st.io.Lock()
	defer st.io.Unlock()
	dev := st.cfg.Device
	found := layout{}
	size := dev.Info().Size
	if st.loaded {
		size = st.l.size
	}
	for _, at := range []int64{0, size/pageSize - 1} {
		p := make([]byte, pageSize)
		if err := dev.ReadAt(ctx, p, at*pageSize, 0); err != nil {
			return err
		}
		l, err := parseSuper(p, at)
		if err != nil {
			report(err)
		} else if found.size == 0 {
			found = l
		} else if found != l {
			report(fmt.Errorf("the superblock and its copy are not the same: %w", snapshot.ErrDamaged))
		}
	}
	if found.size == 0 || found.size > dev.Info().Size {
		report(fmt.Errorf("no superblock fits the device of %d bytes: %w", dev.Info().Size, snapshot.ErrDamaged))
		return nil
	}
	if err := found.plan(); err != nil {
		report(fmt.Errorf("%w: %w", err, snapshot.ErrDamaged))
		return nil
	}
	m, err := readImage(ctx, dev, &found, report, report)
	if err != nil {
		report(err)
		return nil
	}
	if st.loaded && (m.j.seq != st.j.seq || m.j.head != st.j.head) {
		report(fmt.Errorf("the journal ends before transaction %d of header %d, expected %d of %d: %w", m.j.seq, m.j.head, st.j.seq, st.j.head, snapshot.ErrDamaged))
	}
	return nil
}
