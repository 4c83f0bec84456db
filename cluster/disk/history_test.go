package disk

import (
	"context"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/race"
)

// times is how many of something random to try: fewer with the race detector,
// which makes everything slow.
func times(n int) int {
	if race.Enabled {
		n = (n + 7) / 8
	}
	return blocktest.Times(n)
}

// Two disks do what the model does, whatever the history. Deletions stop and go
// on at different pieces on them, one of them forgets more, and yet they have
// the same objects at the end, and nothing is lost.
func TestHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(times(30)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			a, b := newLab(t, minSlab+12<<20), newLab(t, minSlab+12<<20)
			b.trees = a.trees
			a.adjust = func(c *Config) { c.MaxUnflushed = 2 * pieceBlocks }
			b.adjust = func(c *Config) { c.Cache = 16 << 20 }
			m := newModel(seed, a.trees, a, b)
			a.open()
			b.open()
			if err := m.explain(m.play(t.Context(), 150)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (m *model) play(ctx context.Context, steps int) error {
	for i := range steps {
		if err := m.step(ctx); err != nil {
			return err
		}
		if i%25 == 24 {
			if err := m.pause(ctx); err != nil {
				return err
			}
		}
	}
	if err := m.purgeAll(ctx); err != nil {
		return err
	}
	if err := m.pause(ctx); err != nil {
		return err
	}
	for i := 1; i < len(m.disks); i++ {
		if err := sameStates(m.disks[0].states(), m.disks[i].states()); err != nil {
			return err
		}
	}
	return nil
}

// pause verifies everything, and closes the disks, or not.
func (m *model) pause(ctx context.Context) error {
	m.note("pause")
	if err := m.verify(ctx); err != nil {
		return err
	}
	return m.each(func(l *lab) error {
		if _, err := l.check(true); err != nil {
			return err
		}
		if m.rng.IntN(2) == 0 {
			l.shut()
			if _, err := l.check(true); err != nil {
				return fmt.Errorf("closed: %w", err)
			}
			l.open()
		}
		return nil
	})
}
