package cow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// play does the operations of h. It ends when the power does.
func play(ctx context.Context, m *blocktest.Model, d block.Device, h blocktest.History) error {
	for i, op := range h {
		if err := m.Do(ctx, d, op); err != nil {
			return fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	return nil
}

// A session with a device: it is opened, used and closed, or left open as by a
// process that was killed.
type session struct {
	history blocktest.History
	killed  bool
	// dies, if not 0, is the change of the difference file from which on the
	// process is dead, and done is how much of that one takes place.
	dies int
	done blocktest.Progress
}

// withEra returns dev, which is over disk, with the era of disk.
func withEra(dev, disk block.Device) block.Device {
	return ageing{dev, disk.(interface{ Era() string }).Era()}
}

type ageing struct {
	block.Device
	era string
}

func (a ageing) Era() string { return a.era }

// everyCut cuts the power at every change that the sessions make, and checks
// that what was flushed is there and nothing that was never written. As long as
// the power is on, each session finds everything that was acknowledged in the
// ones before.
func everyCut(t *testing.T, bytes []byte, chunk int64, sessions []session) {
	t.Helper()
	ctx := t.Context()
	blocktest.EveryCut(t, func(m *blocktest.Machine) (work, check func() error) {
		s := newShelfOf(t, m, bytes, chunk)
		model := s.model()
		for _, x := range sessions {
			if err := model.LearnHistory(ctx, s.base(), x.history); err != nil {
				t.Fatal(err)
			}
		}
		work = func() error {
			for _, x := range sessions {
				f := blocktest.NewFaults(blocktest.Fault{Kinds: blocktest.Changes, N: x.dies, Sticky: x.dies > 0, Done: x.done})
				disk := s.diff.Open()
				d, err := Open(ctx, s.base(), withEra(f.Wrap(disk), disk), false)
				if err == nil {
					err = errors.Join(model.Verify(ctx, d), play(ctx, model, d, x.history))
				}
				if err != nil && (x.dies == 0 || m.Off() || errors.Is(err, blocktest.ErrBroken)) {
					return err
				}
				if x.killed || x.dies > 0 {
					continue
				}
				if err := d.Close(); err != nil {
					return err
				}
			}
			return nil
		}
		check = func() error {
			model.PowerCut()
			if problems, err := Check(ctx, readOnly(s.diff.Open())); err != nil {
				return err
			} else if err := harm(problems); err != nil {
				return err
			}
			d, err := Open(ctx, s.base(), s.diff.Open(), false)
			if err != nil {
				return err
			}
			return errors.Join(model.Verify(ctx, d), d.Close())
		}
		return work, check
	})
}

// readOnly makes sure that nobody writes to dev.
func readOnly(dev block.Device) block.Device { return guarded{block.Pass{Device: dev}} }

type guarded struct{ block.Pass }

func (g guarded) Info() block.Info {
	i := g.Device.Info()
	i.ReadOnly = true
	return i
}
func (guarded) WriteAt(context.Context, []byte, int64, block.Flags) error { return block.ErrReadOnly }
func (guarded) Zero(context.Context, int64, int64, block.Flags) error     { return block.ErrReadOnly }
func (guarded) Flush(context.Context) error                               { return block.ErrReadOnly }

// harm returns the first problem that keeps a file from being opened.
func harm(problems []error) error {
	for _, err := range problems {
		var spare *spareHeaderError
		if !errors.As(err, &spare) {
			return err
		}
	}
	return nil
}

func TestPowerCuts(t *testing.T) {
	t.Parallel()
	for seed, chunk := range []int64{512, 4096, 64 << 10} {
		t.Run(fmt.Sprint(chunk), func(t *testing.T) {
			t.Parallel()
			bytes := noise(70_000)
			info := block.Info{Size: int64(len(bytes))}
			h := func(n int) blocktest.History { return blocktest.Generate(uint64(10*seed+n), info, 12) }
			everyCut(t, bytes, chunk, []session{{history: h(1)}, {history: h(2), killed: true}, {history: h(3)}})
		})
	}
}

// A sync that writes many pages, to either copy, and pages of one state only.
func TestPowerCutsManyPages(t *testing.T) {
	t.Parallel()
	const page = pageChunks * 512
	bytes := noise(3*page + 70_000)
	script := fmt.Sprintf(`
		write 0 700 seed=1
		write %[1]d 3000 seed=2
		write %[2]d 100 seed=3
		flush
		zero 0 %[3]d
		write 5000 512 seed=4 fua
		flush
		trim %[4]d %[5]d
		write %[1]d 512 seed=5
		write %[2]d 512 seed=6 fua
		write 0 512 seed=7
		flush
	`, page-1000, 2*page+100, 2*page, page-4096, page+8192)
	h, err := blocktest.Parse(script)
	if err != nil {
		t.Fatal(err)
	}
	everyCut(t, bytes, 512, []session{{history: h[:4], killed: true}, {history: h[4:7]}, {history: h[7:]}})
}

// A process is killed at any change, which leaves what it wrote last in the
// cache: the next process finds all of it. Then the power goes while that one
// is at work.
func TestPowerCutsAfterKill(t *testing.T) {
	t.Parallel()
	bytes := noise(40_000)
	first, err := blocktest.Parse("write 0 700 seed=1\nflush\nzero 4096 9000\nwrite 20000 10 seed=2\nflush")
	if err != nil {
		t.Fatal(err)
	}
	second, err := blocktest.Parse("write 0 700 seed=4 fua\nwrite 30000 700 seed=3\nflush\nwrite 0 10 seed=5 fua")
	if err != nil {
		t.Fatal(err)
	}
	for dies := 1; dies < 20; dies++ {
		done := blocktest.Progress(dies % 3)
		everyCut(t, bytes, 4096, []session{{history: first, dies: dies, done: done}, {history: second}})
	}
}

// Formatting what held something else gives an empty file, or none if the power
// goes.
func TestFormatPowerCuts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := noise(50_000)
	blocktest.EveryCut(t, func(m *blocktest.Machine) (work, check func() error) {
		s := &shelf{bytes: base, diff: m.Disk(block.Info{Size: 300_000})}
		if err := s.diff.Open().WriteAt(ctx, noise(300_000), 0, block.FUA); err != nil {
			t.Fatal(err)
		}
		work = func() error { return Format(ctx, s.base(), s.diff.Open(), 4096) }
		check = func() error {
			d, err := Open(ctx, s.base(), s.diff.Open(), true)
			if errors.Is(err, errNoHeader) {
				return nil
			}
			if err != nil {
				return err
			}
			return reads(ctx, d, base)
		}
		return work, check
	})
}

// Several writers of parts of the same chunks, until the power goes.
func TestPowerCutsParallel(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const writers, size = 4, 64 << 10
	for seed := range uint64(40) {
		m := blocktest.NewMachine(seed)
		s := newShelf(t, m, size, 4096)
		d := s.open(t)
		m.CutAfter(1 + int(seed)*3)
		var models [writers]*blocktest.Model
		var group sync.WaitGroup
		for w := range models {
			models[w] = blocktest.NewModel(d.Info())
			group.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(w)))
				for !m.Off() {
					op := blocktest.Op{Kind: blocktest.Write, Len: 512, Seed: rng.Uint64N(1 << 20)}
					op.Off = (rng.Int64N(size/512/writers)*writers + int64(w)) * 512
					if rng.IntN(10) == 0 {
						op.Kind = blocktest.Zero
					}
					if rng.IntN(4) == 0 {
						op.Flags = block.FUA
					}
					if rng.IntN(8) == 0 {
						op = blocktest.Op{Kind: blocktest.Flush}
					}
					if op.Kind != blocktest.Flush {
						if err := models[w].Learn(ctx, s.base(), op.Off, op.Len); err != nil {
							t.Error(err)
							return
						}
					}
					if err := models[w].Do(ctx, d, op); errors.Is(err, blocktest.ErrBroken) {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		d.Close()
		m.Restart()
		d = s.open(t)
		for w := range models {
			models[w].PowerCut()
			if err := models[w].Verify(ctx, d); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Every request to the devices underneath fails once. What the device reported
// as done is done, also when it is opened again.
func TestFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	bytes := noise(70_000)
	h := blocktest.Generate(5, block.Info{Size: int64(len(bytes))}, 30)
	blocktest.EachFault(t, func(f *blocktest.Faults) error {
		s := newShelfOf(t, blocktest.NewMachine(1), bytes, 4096)
		model := s.model()
		if err := model.LearnHistory(ctx, s.base(), h); err != nil {
			return err
		}
		disk := s.diff.Open()
		d, err := Open(ctx, f.Wrap(s.base()), withEra(f.Wrap(disk), disk), false)
		if err == nil {
			err = model.PlayFaults(ctx, d, h)
			f.Stop()
			err = errors.Join(err, model.Verify(ctx, d), model.Do(ctx, d, blocktest.Op{Kind: blocktest.Flush}), d.Close())
			if err != nil {
				return err
			}
		}
		f.Stop()
		if d, err = Open(ctx, s.base(), s.diff.Open(), false); err != nil {
			return err
		}
		return errors.Join(model.Verify(ctx, d), d.Close())
	})
}

// A difference file that is full fails what does not fit, and only that.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := newShelf(t, blocktest.NewMachine(1), 256<<10, 4096)
	f := blocktest.NewFaults(blocktest.Fault{Kinds: blocktest.Write, N: 4, Err: block.ErrNoSpace, Done: blocktest.Half, Sticky: true})
	disk := s.diff.Open()
	d, err := Open(ctx, s.base(), withEra(f.Wrap(disk), disk), false)
	if err != nil {
		t.Fatal(err)
	}
	model := blocktest.NewModel(d.Info())
	if err := model.Learn(ctx, d, 0, 256<<10); err != nil {
		t.Fatal(err)
	}
	full := 0
	for off := int64(1000); off < 250_000; off += 10_000 {
		err := model.Do(ctx, d, blocktest.Op{Kind: blocktest.Write, Off: off, Len: 3000, Seed: uint64(off)})
		if errors.Is(err, block.ErrNoSpace) {
			full++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if full == 0 {
		t.Error("the file was never full")
	}
	if err := model.Do(ctx, d, blocktest.Op{Kind: blocktest.Flush}); !errors.Is(err, block.ErrNoSpace) {
		t.Errorf("flush: %v", err)
	}
	if err := model.Verify(ctx, d); err != nil {
		t.Error(err)
	}
	f.Stop()
	if err := errors.Join(model.Do(ctx, d, blocktest.Op{Kind: blocktest.Flush}), d.Close()); err != nil {
		t.Fatal(err)
	}
	d = s.open(t)
	if err := errors.Join(model.Verify(ctx, d), d.Close()); err != nil {
		t.Error(err)
	}
}
