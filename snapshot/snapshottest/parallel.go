package snapshottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// testParallel writes to the origin from several goroutines, each to chunks of
// its own, while snapshots come and go, are read, and background work is done.
// A snapshot must never change.
func testParallel(t *testing.T, c Config, policy snapshot.Policy, caps snapshot.Caps) {
	l := newLab(c, blocktest.NewMachine(1), policy)
	l.background = true
	s := l.format(t)
	fill(t, s.Origin(), 0, c.Origin, 1)
	ctx, cancel := context.WithCancel(t.Context())
	const writers, rounds = 3, 30
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(9, uint64(w)))
			model := blocktest.NewModel(s.Origin().Info())
			for i := 0; ctx.Err() == nil; i++ {
				op := randomOp(rng, c)
				k := c.Chunk * writers
				op.Off = op.Off/k*k + int64(w)*c.Chunk
				if op.Len = min(op.Len, c.Chunk, c.Origin-op.Off); op.Len <= 0 {
					continue
				}
				err := model.Do(context.WithoutCancel(ctx), s.Origin(), op)
				if err == nil && i%8 == 0 {
					err = model.Verify(context.WithoutCancel(ctx), s.Origin())
				}
				if err != nil {
					t.Errorf("writer %d: %v: %v", w, op, err)
					return
				}
			}
		})
	}
	for i := range rounds {
		if err := liveAndDie(t.Context(), s, fmt.Sprint(i), i, caps); err != nil {
			t.Error(err)
			break
		}
	}
	cancel()
	group.Wait()
	must(t, s.Suspend(t.Context()))
	must(t, s.Resume(t.Context()))
	check(t, s)
	must(t, s.Close())
}

// liveAndDie makes a snapshot, looks at it again and again, and deletes it.
func liveAndDie(ctx context.Context, s *snapshot.Set, name string, round int, caps snapshot.Caps) error {
	if err := s.Create(ctx, name, snapshot.CreateOptions{}); err != nil {
		return err
	}
	d, err := s.Open(ctx, name, snapshot.OpenOptions{})
	if err != nil {
		return err
	}
	first, again := make([]byte, d.Info().Size), make([]byte, d.Info().Size)
	if err := d.ReadAt(ctx, first, 0, 0); err != nil {
		return err
	}
	for range 5 {
		if err := d.ReadAt(ctx, again, 0, 0); err != nil {
			return err
		}
		if !bytes.Equal(first, again) {
			i := 0
			for first[i] == again[i] {
				i++
			}
			return fmt.Errorf("snapshot %q changed, first at %d: %w", name, i, blocktest.ErrBroken)
		}
	}
	if round%5 == 4 {
		if err := errors.Join(s.Suspend(ctx), s.Resume(ctx)); err != nil {
			return err
		}
	}
	if err := d.Close(); err != nil {
		return err
	}
	return s.Delete(ctx, name)
}
