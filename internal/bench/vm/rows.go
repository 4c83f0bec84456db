package vm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// firstChunks is the number of first writes of a measurement, as few as most
// fall into blocks of 64 KiB of their own.
func (g *guest) firstChunks() int { return int(g.size() / chunk / 32) }

// A seat is a contender with its disk.
type seat struct {
	contender
	disk disk
}

// opened calls f with the disks of a family, the raw one first, of those that
// can have so many snapshots.
func (g *guest) opened(ctx context.Context, f family, site string, snapshots int, do func([]seat) error) (err error) {
	var seats []seat
	defer func() {
		for _, s := range seats {
			if e := s.disk.close(); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", s.name, e))
			}
		}
	}()
	free := devices(site)
	for _, c := range slices.Concat(f.raw, f.contenders) {
		if c.most > 0 && snapshots > c.most {
			continue
		}
		g.say("%s, %d snapshots: %s", site, snapshots, c.name)
		d, err := c.open(ctx, g, free[:c.devices])
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		seats, free = append(seats, seat{c, d}), free[c.devices:]
	}
	return do(seats)
}

// kept measures disks with so many snapshots, between which they were written.
func (g *guest) kept(ctx context.Context, site string, snapshots int, kinds []string) error {
	all := map[string]*Row{}
	for _, f := range families() {
		err := g.opened(ctx, f, site, snapshots, func(seats []seat) error {
			for _, s := range seats {
				if err := errors.Join(g.populate(s.disk, snapshots), s.disk.settle()); err != nil {
					return fmt.Errorf("%s with %d snapshots: %w", s.name, snapshots, err)
				}
			}
			for _, kind := range kinds {
				if all[kind] == nil {
					all[kind] = &Row{Site: site, Kind: kind, Snapshots: snapshots, Over: map[string]float64{}, Space: map[string]float64{}}
				}
				g.say("%s, %d snapshots: %s", site, snapshots, kind)
				if err := g.row(all[kind], seats, snapshots); err != nil {
					return fmt.Errorf("%s, %d snapshots: %w", kind, snapshots, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		fmt.Println(all[kind].line())
	}
	return nil
}

// order is a random order of the chunks of a disk.
func (g *guest) order(seed uint64) []int {
	return rand.New(rand.NewPCG(seed, 1)).Perm(int(g.size() / chunk))
}

// populate takes n snapshots, with an equal part of the first writes after each.
func (g *guest) populate(d disk, n int) error {
	order := g.order(7)[:g.firstChunks()]
	return on(d.path(), func(c *client) error {
		for i := range n {
			if err := d.snapshot(); err != nil {
				return err
			}
			part := order[len(order)*i/n : len(order)*(i+1)/n]
			if _, err := c.writes(part, len(part)); err != nil {
				return err
			}
		}
		return nil
	})
}

// row measures one kind of requests in rounds.
func (g *guest) row(r *Row, seats []seat, snapshots int) error {
	paths := map[string]string{}
	for _, s := range seats {
		paths[s.name] = s.disk.path()
		var err error
		switch r.Kind {
		case ReadsOldest:
			paths[s.name], err = s.disk.oldest()
		case LaterWrites:
			err = errors.Join(on(s.disk.path(), func(c *client) error { return c.fill(g.window()) }), s.disk.settle())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	rates, space := map[string][]float64{}, map[string][]float64{}
	for round := range g.plan.Rounds {
		for _, s := range seats {
			rate, stored, err := g.once(r.Kind, s.disk, paths[s.name], snapshots+round+1)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			rates[s.name] = append(rates[s.name], rate)
			space[s.name] = append(space[s.name], float64(stored)/float64(g.firstChunks()*chunk))
		}
	}
	for _, s := range seats[1:] {
		r.Over[s.name] = median(rates[s.name]) / median(rates[seats[0].name])
		if first(r.Kind) {
			r.Space[s.name] = median(space[s.name])
		}
	}
	return nil
}

func first(kind string) bool { return kind == FirstWrites || kind == FlushedWrites }

// window is the part of the disk that later writes go to.
func (g *guest) window() int64 { return g.size() / 16 }

// once measures one contender once. First writes follow on one more snapshot,
// which is deleted afterwards.
func (g *guest) once(kind string, d disk, path string, seed int) (rate float64, stored int64, err error) {
	if !first(kind) {
		chunks := g.size() / chunk
		if kind == LaterWrites {
			chunks = g.window() / chunk
		}
		err = on(path, func(c *client) (err error) {
			rate, err = c.random(kind == LaterWrites, chunks, g.plan.Length)
			return err
		})
		return rate, 0, err
	}
	return g.firstOnce(kind == FlushedWrites, d, seed)
}

func (g *guest) firstOnce(flushed bool, d disk, seed int) (rate float64, stored int64, err error) {
	number, err := g.snapshot(d)
	if err != nil {
		return 0, 0, err
	}
	before, err := d.stored()
	if err != nil {
		return 0, 0, err
	}
	every := 0
	if flushed {
		every = inFlight
	}
	err = on(d.path(), func(c *client) (err error) {
		if rate, err = c.writes(g.order(uint64(seed))[:g.firstChunks()], every); err == nil {
			err = c.flush()
		}
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	after, err := d.stored()
	return rate, after - before, errors.Join(err, d.delete(number), d.settle())
}

// snapshot takes one and returns its number.
func (g *guest) snapshot(d disk) (int, error) {
	err := d.snapshot()
	return d.newest(), err
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// changeRounds bounds the rounds of changes, which wait a lot.
const changeRounds = 2

// changes measures how long it takes to take a snapshot, to delete one and to
// roll back, over a block and a flush on the raw disk of the kernel.
func (g *guest) changes(ctx context.Context, site string) error {
	rows := []*Row{{Site: site, Kind: Create}, {Site: site, Kind: Delete}, {Site: site, Kind: Rollback}}
	var base []float64
	took := map[string][]float64{}
	for _, f := range families() {
		err := g.opened(ctx, f, site, 1, func(seats []seat) error {
			for range min(g.plan.Rounds, changeRounds) {
				if f.raw[0].name == kernelRaw {
					one, err := g.commit(seats[0].disk)
					if err != nil {
						return err
					}
					base = append(base, one)
				}
				for _, s := range seats[1:] {
					g.say("%s: changes: %s", site, s.name)
					if err := g.changeOnce(s, took); err != nil {
						return fmt.Errorf("%s: %w", s.name, err)
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, r := range rows {
		r.Snapshots, r.Over, r.Ended = 1, map[string]float64{}, map[string]float64{}
		for _, name := range Names() {
			r.Over[name] = median(took[r.Kind+name]) / median(base)
			r.Ended[name] = median(took[r.Kind+name+ended]) / median(base)
		}
		fmt.Println(r.line())
	}
	return nil
}

// commit is how long a block and a flush take.
func (g *guest) commit(d disk) (float64, error) {
	const times = 50
	start := time.Now()
	err := on(d.path(), func(c *client) error {
		_, err := c.writes(g.order(1)[:times], 1)
		return err
	})
	return time.Since(start).Seconds() / times, err
}

// ended marks the time until the background work is done.
const ended = " ended"

// briefly is for how long there must be no background work.
const briefly = 60 * time.Millisecond

// changeOnce takes a snapshot of a disk that has one, deletes that one, which
// has all the exceptions, and rolls back what was written since.
func (g *guest) changeOnce(s seat, took map[string][]float64) error {
	timed := func(what string, f func() error) error {
		start := time.Now()
		if err := f(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		returned := time.Since(start)
		whole := returned
		if d, ok := s.disk.(*ourDisk); ok {
			if err := d.quiet(briefly); err != nil {
				return err
			}
			whole = max(time.Since(start)-briefly, returned)
		}
		took[what+s.name] = append(took[what+s.name], returned.Seconds())
		took[what+s.name+ended] = append(took[what+s.name+ended], whole.Seconds())
		return nil
	}
	old, err := g.snapshot(s.disk)
	if err == nil {
		err = errors.Join(g.write(s.disk, 1), s.disk.settle())
	}
	if err != nil {
		return err
	}
	if err := timed(Create, s.disk.snapshot); err != nil {
		return err
	}
	next := s.disk.newest()
	if err := timed(Delete, func() error { return s.disk.delete(old) }); err != nil {
		return err
	}
	if err := errors.Join(g.write(s.disk, 2), s.disk.settle()); err != nil {
		return err
	}
	if err := timed(Rollback, func() error { return s.disk.rollback(next) }); err != nil {
		return err
	}
	return errors.Join(s.disk.settle(), s.disk.forget(next))
}

// write makes the first writes.
func (g *guest) write(d disk, seed uint64) error {
	return on(d.path(), func(c *client) error {
		_, err := c.writes(g.order(seed)[:g.firstChunks()], g.firstChunks())
		return err
	})
}
