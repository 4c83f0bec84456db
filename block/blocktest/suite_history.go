package blocktest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"

	"github.com/strata-storage/strata/block"
)

// historyLength is the number of operations of one random history.
const historyLength = 120

// chosenSeeds returns the seeds of the random histories.
func (s *suite) chosenSeeds() ([]uint64, error) {
	if value := os.Getenv("BLOCKTEST_SEED"); value != "" {
		seed, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("BLOCKTEST_SEED is %q, want a number", value)
		}
		return []uint64{seed}, nil
	}
	seeds := []uint64{rand.Uint64N(1 << 32)}
	for i := range Times(s.seeds) {
		seeds = append(seeds, uint64(i+1))
	}
	return seeds, nil
}

// testHistory: random requests one after the other are answered as the model
// says.
func testHistory(p *probe) error {
	if file := os.Getenv("BLOCKTEST_HISTORY"); file != "" {
		script, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		h, err := Parse(string(script))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return p.play(h)
	}
	seeds, err := p.chosenSeeds()
	if err != nil {
		return err
	}
	for _, seed := range seeds {
		if err := p.use(p.open(p.t)); err != nil {
			return err
		}
		h := generate(seed, p.info, 0, p.info.Size, historyLength)
		if err := p.dev.Close(); err != nil {
			return err
		}
		if err := p.play(h); err != nil {
			return p.explain(seed, h, err)
		}
	}
	return nil
}

// play runs h on a fresh device.
func (p *probe) play(h History) error {
	if err := p.use(p.open(p.t)); err != nil {
		return err
	}
	m := NewModel(p.info)
	m.lossy = p.lossy
	err := p.guarded(func() error {
		if err := m.LearnHistory(p.ctx, p.dev, h); err != nil {
			return err
		}
		return m.Play(p.ctx, p.dev, h)
	})
	if errors.Is(err, errHang) {
		return err
	}
	return errors.Join(err, p.dev.Close())
}

// explain shortens h, which failed with err, and says how to run it again.
func (p *probe) explain(seed uint64, h History, err error) error {
	if errors.Is(err, errHang) {
		return fmt.Errorf("%w\nthe history:\n%v", err, h)
	}
	short, shortErr := h.Shrink(p.info, err, p.play)
	return fmt.Errorf("%w\nin the history with seed %d, of which this is enough:\n%v"+
		"To run it again, put these lines into a file h.txt and call\n"+
		"\tBLOCKTEST_HISTORY=$PWD/h.txt go test -run '^%s$'", shortErr, seed, short, p.t.Name())
}

// testParallelHistories: random requests from several goroutines, each with a
// part of the device to itself.
func testParallelHistories(p *probe) error {
	const workers = 4
	seeds, err := p.chosenSeeds()
	if err != nil {
		return err
	}
	for _, seed := range seeds {
		if err := p.use(p.open(p.t)); err != nil {
			return err
		}
		align := max(sectorSize, p.unit)
		part := p.info.Size / workers &^ (align - 1)
		err := p.guarded(func() error {
			return together(workers, func(w int) error {
				h := generate(seed+uint64(w)<<32, p.info, int64(w)*part, part, historyLength/3)
				m := NewModel(p.info)
				m.lossy = p.lossy
				return m.playPart(p.ctx, p.dev, h, int64(w)*part, part)
			})
		})
		if errors.Is(err, errHang) {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		if err := errors.Join(err, p.dev.Close()); err != nil {
			return fmt.Errorf("seed %d, %d histories at once: %w", seed, workers, err)
		}
	}
	return nil
}

// testReopen: what was written and flushed is there when the device is opened
// again.
func testReopen(p *probe) error {
	if p.create == nil {
		return errSkip
	}
	for seed := range uint64(3) {
		open := p.create(p.t)
		if err := p.guarded(func() error { return p.reopen(open, seed) }); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	return nil
}

// reopen runs a history in several rounds, with Close and open between them.
func (p *probe) reopen(open func() block.Device, seed uint64) error {
	const rounds = 3
	if err := p.use(open()); err != nil {
		return err
	}
	h := Generate(seed, p.info, historyLength)
	m := NewModel(p.info)
	m.lossy = p.lossy
	if err := m.LearnHistory(p.ctx, p.dev, h); err != nil {
		return err
	}
	for round := range rounds {
		part := append(h[:len(h)/rounds:len(h)/rounds], Op{Kind: Flush})
		h = h[len(h)/rounds:]
		if err := m.Play(p.ctx, p.dev, part); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := p.again(open); err != nil {
			return err
		}
		if err := m.Verify(p.ctx, p.dev); err != nil {
			return fmt.Errorf("opened again after round %d: %w", round, err)
		}
	}
	return p.dev.Close()
}

// again closes the device and opens it again.
func (p *probe) again(open func() block.Device) error {
	before := p.info
	if err := p.dev.Close(); err != nil {
		return err
	}
	if err := p.use(open()); err != nil {
		return err
	}
	if p.info.Size != before.Size {
		return broken("the device has %d bytes when opened again, had %d", p.info.Size, before.Size)
	}
	return nil
}
