package disk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block/blocktest"
)

// A writer has objects of its own, and knows what is in them.
type writer struct {
	rng    *rand.Rand
	family uint64
	m      *model
	lab    *lab
}

// work changes objects until something fails.
func (w *writer) work(ctx context.Context, steps int) error {
	for range steps {
		var err error
		switch n := w.rng.IntN(20); {
		case n < 10:
			err = w.m.change(ctx, w.family)
		case n < 15:
			err = w.m.read(ctx, w.family)
		case n < 18:
			err = w.m.flush(ctx, w.lab)
		case n < 19:
			if all := w.m.versions(w.family, false); len(all) < 3 {
				w.m.newVersion(w.family, pick(w.rng, all))
			}
		default:
			if err = w.m.doom(w.family); err == nil {
				err = w.m.delete(ctx, w.family)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newWriter returns one who has a family to himself.
func newWriter(seed, fid uint64, l *lab) *writer {
	rng := rand.New(rand.NewPCG(seed, fid))
	m := &model{rng: rng, trees: l.trees, disks: []*lab{l}, images: map[image]*content{}, seed: seed, brief: true, written: map[Object]bool{}}
	m.newVersion(fid, 0)
	return &writer{rng, fid, m, l}
}

// Many write at once, the power goes, and everybody finds what he has flushed.
func TestParallelPowerCuts(t *testing.T) {
	t.Parallel()
	const writers = 4
	for seed := range uint64(times(6)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			machine := blocktest.NewMachine(seed)
			c := newComputer(machine, minSlab+8<<20)
			l := c.lab(t)
			adjust := l.adjust
			l.adjust = func(cfg *Config) { adjust(cfg); cfg.MaxUnflushed = 2 * pieceBlocks }
			if _, err := Format(ctx, l.config(), false); err != nil {
				t.Fatal(err)
			}
			var all []*writer
			for i := range uint64(writers) {
				all = append(all, newWriter(seed, i+1, l))
			}
			l.ok(l.tryOpen())
			rng := rand.New(rand.NewPCG(seed, 99))
			for range 12 {
				machine.CutAfter(1 + rng.IntN(400))
				errs := make([]error, writers)
				var wg sync.WaitGroup
				for i, w := range all {
					wg.Go(func() { errs[i] = w.work(ctx, 60) })
				}
				wg.Wait()
				if err := errors.Join(errs...); err != nil && !machine.Off() {
					t.Fatal(err)
				}
				_ = l.Close()
				machine.Restart()
				c.restart()
				l.ok(l.tryOpen())
				for _, w := range all {
					if err := w.m.explain(w.m.after(ctx, l)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := l.check(true); err != nil {
					t.Fatal(err)
				}
			}
			l.ok(l.Close())
		})
	}
}

// Many write at once, with little memory, and nothing fails.
func TestParallel(t *testing.T) {
	t.Parallel()
	l := newLab(t, minSlab+16<<20)
	l.adjust = func(cfg *Config) { cfg.MaxUnflushed = 2 * pieceBlocks }
	var wg sync.WaitGroup
	l.open()
	for i := range uint64(6) {
		w := newWriter(1, i+1, l)
		wg.Go(func() {
			err := w.work(t.Context(), 200)
			if err == nil {
				err = w.m.verify(t.Context())
			}
			if err := w.m.explain(err); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l.checked(true)
}

// Whoever lists objects while they are changed and flushed sees each of them once,
// in a state that it had.
func TestListDuringChanges(t *testing.T) {
	t.Parallel()
	l := openLab(t, minSlab+4<<20)
	ctx := t.Context()
	const objects = 12
	states := map[State]bool{}
	for i := range uint64(objects) {
		for _, v := range []byte{1, 2} {
			l.ok(l.Write(ctx, at(i, 1), fill(v, 1), 0))
			s, err := l.State(ctx, Object{1, i})
			l.ok(err)
			states[State{i, s.Digest}] = true
		}
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for {
			select {
			case <-over:
				return
			default:
			}
			err := l.Write(ctx, at(rng.Uint64N(objects), 1), fill(1+byte(rng.IntN(2)), 1), 0)
			if err == nil && rng.IntN(4) == 0 {
				err = l.Flush(ctx)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range times(1000) {
		seen := map[Object]bool{}
		last := Object{}
		for s, err := range l.List(ctx, 0, lastHash) {
			l.ok(err)
			if len(seen) > 0 && last.compare(s.Object) >= 0 {
				t.Fatalf("object %v is listed behind %v", s.Object, last)
			}
			if !states[State{s.Index, s.Digest}] || s.Blocks != 1 {
				t.Fatalf("%+v is listed", s)
			}
			seen[s.Object], last = true, s.Object
		}
		if len(seen) != objects {
			t.Fatalf("%d objects are listed, expected %d", len(seen), objects)
		}
	}
	close(over)
	wg.Wait()
	l.checked(true)
}
