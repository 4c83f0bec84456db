package bitmap

import (
	"context"
	"slices"

	"github.com/strata-storage/strata/snapshot"
)

// Delete leaves the bits of the snapshots to a walk. Bits that come while one is
// under way have a walk of their own after it.
func (st *store) Delete(_ context.Context, ids []snapshot.ID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	bits := uint64(0)
	for _, id := range ids {
		bit, err := st.bit(id)
		if err != nil {
			return err
		}
		bits |= bit
	}
	if bits == 0 {
		return nil
	}
	st.snaps = slices.DeleteFunc(slices.Clone(st.snaps), func(x snap) bool { return bits>>x.bit&1 != 0 })
	st.alive &^= bits
	if st.dirtyState = true; st.walk == 0 {
		st.walk, st.cursor = bits, 0
	} else {
		st.later |= bits
	}
	return nil
}

// Step clears the bits of deleted snapshots, bucket by bucket. When there is
// nothing to clear it empties a journal that is half full or keeps leaves from
// being used again.
func (st *store) Step(ctx context.Context, budget int) (snapshot.Progress, error) {
	if st.cfg.ReadOnly {
		return snapshot.Progress{}, nil
	}
	if err := st.lockWithRoom(ctx); err != nil {
		return snapshot.Progress{}, err
	}
	if st.walk == 0 {
		st.mu.Unlock()
		return snapshot.Progress{}, st.tidy(ctx)
	}
	defer st.mu.Unlock()
	if !st.walking {
		st.walking, st.walked, st.queue = true, 0, nil
		for n := range st.buckets {
			if n >= st.cursor {
				st.queue = append(st.queue, n)
			}
		}
		slices.Sort(st.queue)
	}
	for budget > 0 && len(st.queue) > 0 && st.room() {
		done, visits := st.prune(st.queue[0])
		budget -= visits
		st.visits += int64(visits)
		if !done {
			break
		}
		st.cursor, st.queue = st.queue[0]+1, st.queue[1:]
		st.walked++
	}
	st.dirtyState = true
	p := snapshot.Progress{Done: st.walked, Total: st.walked + int64(len(st.queue)), More: true}
	if len(st.queue) == 0 {
		st.walk, st.later, st.cursor, st.walking = st.later, 0, 0, false
		p.More = st.walk != 0
	}
	return p, nil
}

// prune removes the exceptions of a bucket that no snapshot has. It reports
// whether it came to the end, and how many exceptions it looked at.
func (st *store) prune(n int64) (done bool, visits int) {
	b := st.buckets[n]
	if b == nil {
		return true, 1
	}
	changed := false
	done = true
	for i := 0; i < len(b.recs); {
		visits++
		r := &b.recs[i]
		if r.mask&^st.alive == 0 {
			i++
			continue
		}
		changed = true
		if r.mask &= st.alive; r.mask == 0 {
			st.remove(b, i)
			// The bucket is dirty only afterwards.
			if done = st.roomFor(len(b.nodes)); !done {
				break
			}
		} else {
			i++
		}
	}
	if changed {
		st.resize(n, b, 0)
	}
	return done, visits
}
