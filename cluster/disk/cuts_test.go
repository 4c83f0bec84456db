package disk

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/race"
)

var nil0 = context.Background()

// on makes a lab use the slab and the files of a computer.
func (c *computer) lab(t testing.TB) *lab {
	l := &lab{t: t, trees: newForest(), fs: c.fs}
	l.wrapSlab = func(block.Device) block.Device { return c.slab.Open() }
	l.wrapFS = func(vfs.FS) vfs.FS { return &hookFS{FS: c.fs, change: c.change} }
	l.adjust = func(cfg *Config) { cfg.MetaCache = 256 << 10 }
	return l
}

// recover opens the disk after the power came back, and makes sure that it has
// what it must have.
func (m *model) recover(ctx context.Context, l *lab) error {
	if err := l.tryOpen(); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	if _, err := l.check(true); err != nil {
		return fmt.Errorf("after opening: %w", err)
	}
	return m.after(ctx, l)
}

// after compares what is there after the power came back with what must be.
func (m *model) after(ctx context.Context, l *lab) error {
	dirty := map[Object]bool{}
	for o, err := range l.Dirty(ctx, 0, lastHash) {
		if err != nil {
			return err
		}
		dirty[o.Object] = true
		if o.Unsettled {
			if err := settle(ctx, l, o.Object); err != nil {
				return err
			}
		}
	}
	for k, c := range m.images {
		got := make([]byte, modelObject)
		if err := l.Read(ctx, k.at(), got, 0); err != nil {
			return err
		}
		changed, err := c.survived(got)
		if err != nil {
			return fmt.Errorf("%v: %w", k.at(), err)
		}
		if (changed || m.written[k.at().Object]) && !dirty[k.at().Object] {
			return fmt.Errorf("object %v was changed and not cleared, and is not dirty", k.at().Object)
		}
	}
	clear(m.written)
	for o := range dirty {
		m.written[o] = true
	}
	return nil
}

// settle makes what unfinished writes have left the content, as the only member
// of a group does.
func settle(ctx context.Context, l *lab, o Object) error {
	var list []*BlockError
	if err := l.Verify(ctx, o, func(e *BlockError) bool { list = append(list, e); return true }); err != nil {
		return err
	}
	for _, bad := range list {
		if !errors.Is(bad, ErrUnfinished) {
			return bad
		}
		raw := make([]byte, BlockSize)
		e, err := l.Raw(ctx, bad.Object, bad.Version, bad.Block, raw)
		if err != nil {
			return err
		}
		if e.Sum != bad.Sum || e.Kind != Data {
			return fmt.Errorf("%v, the entry is %v", bad, e)
		}
		n, err := l.Repair(ctx, bad.Object, 0, []Fix{{Was: e, Kind: Data, Data: raw}})
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("%v was not repaired", bad)
		}
	}
	return nil
}

// cutHistory returns the setup of EveryCut for one random history.
func cutHistory(t testing.TB, seed uint64, length int) func(*blocktest.Machine) (work, check func() error) {
	ctx := t.Context()
	return func(machine *blocktest.Machine) (work, check func() error) {
		c := newComputer(machine, minSlab+2<<20)
		l := c.lab(t)
		_, err := Format(ctx, l.config(), false)
		m := newModel(seed, l.trees, l)
		m.brief, m.written = true, map[Object]bool{}
		play := func(n int) error {
			for range n {
				if err := m.step(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		work = func() error {
			if err == nil {
				err = l.tryOpen()
			}
			if err == nil {
				err = errors.Join(play(length), l.Close())
			}
			return err
		}
		check = func() error {
			c.restart()
			err := m.recover(ctx, l)
			if err == nil {
				err = play(3)
			}
			if l.Disk != nil {
				err = errors.Join(err, l.Close())
				l.Disk = nil
			}
			if err == nil {
				if _, err = l.check(true); err != nil {
					err = fmt.Errorf("closed: %w", err)
				}
			}
			return m.explain(err)
		}
		return work, check
	}
}

// The power goes at every change of the slab and of the files of the metadata.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	states := 0
	for seed := range uint64(times(2)) {
		states += blocktest.EveryCut(t, cutHistory(t, seed, 12))
	}
	t.Logf("%d states", states)
	if states < 500 && !race.Enabled {
		t.Errorf("%d states after a power cut were tried, expected 500 at least", states)
	}
}

// The power fails again and again, and work goes on with what is left.
func TestPowerFailsAgain(t *testing.T) {
	t.Parallel()
	// More seeds rather than more rounds: a history is slower the longer it is.
	rounds := 60
	if race.Enabled {
		rounds = 8
	}
	for seed := range uint64(blocktest.Times(4)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			machine := blocktest.NewMachine(seed)
			c := newComputer(machine, minSlab+1<<20)
			l := c.lab(t)
			if _, err := Format(t.Context(), l.config(), false); err != nil {
				t.Fatal(err)
			}
			m := newModel(seed, l.trees, l)
			m.brief, m.written = true, map[Object]bool{}
			err := l.tryOpen()
			for i := 0; i < rounds && err == nil; i++ {
				m.note("round %d", i)
				if err = m.untilCut(t.Context(), machine); err == nil {
					_ = l.Close()
					machine.Restart()
					c.restart()
					err = m.recover(t.Context(), l)
				}
			}
			if err := m.explain(err); err != nil {
				t.Fatal(err)
			}
			l.shut()
		})
	}
}

// untilCut works until the power goes.
func (m *model) untilCut(ctx context.Context, machine *blocktest.Machine) error {
	machine.CutAfter(1 + m.rng.IntN(150))
	for {
		err := m.step(ctx)
		if machine.Off() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
