package snapshottest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/lock"
	"github.com/strata-storage/strata/snapshot"
)

// testCluster plays histories on several sets of the same devices, which share
// a lock: what one does the others see.
func testCluster(t *testing.T, c Config, policy snapshot.Policy, caps snapshot.Caps) {
	for seed := range uint64(blocktest.Times(max(c.Seeds/3, 2))) {
		h := generate(2000+seed, c, caps, 30)
		run := func(h history) error { return playTogether(t, c, policy, seed, h) }
		if err := run(h); err != nil {
			h = shrink(h, run)
			t.Fatalf("seed %d: %v\n%v", seed, run(h), h)
		}
	}
}

func playTogether(t *testing.T, c Config, policy snapshot.Policy, seed uint64, h history) (err error) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 5))
	l := newLab(c, blocktest.NewMachine(1), policy)
	if err := l.format(t).Close(); err != nil {
		return err
	}
	var shared lock.Local
	open := func() (*snapshot.Set, error) {
		o := l.options()
		o.Lock = shared.Join()
		s, err := l.make(o)
		if err == nil {
			err = s.Resume(ctx)
		}
		return s, err
	}
	var nodes []*player
	defer func() {
		for _, p := range nodes {
			err = errors.Join(err, p.set.Close())
		}
	}()
	for i := range 2 {
		s, err := open()
		if err != nil {
			return err
		}
		p := newPlayer(l, s)
		p.open = open
		if i > 0 {
			p.views, p.maybe = nodes[0].views, nodes[0].maybe
		}
		nodes = append(nodes, p)
	}
	for i, a := range h {
		k := rng.IntN(len(nodes))
		if err := nodes[k].act(ctx, a); err != nil {
			return fmt.Errorf("action %d on node %d, %v: %w", i+1, k, a, err)
		}
		nodes[k].dropAll()
		if rng.IntN(3) > 0 {
			k = rng.IntN(len(nodes))
			if err := nodes[k].verify(ctx); err != nil {
				return fmt.Errorf("on node %d after action %d, %v: %w", k, i+1, a, err)
			}
		}
	}
	return nil
}

// testFenced takes the lock away from a set that has changes which are not
// durable. It can write nothing any more, and the other goes on.
func testFenced(t *testing.T, c Config, policy snapshot.Policy) {
	ctx := t.Context()
	l := newLab(c, blocktest.NewMachine(1), policy)
	must(t, l.format(t).Close())
	var shared lock.Local
	open := func() *snapshot.Set {
		o := l.options()
		o.Lock = shared.Join()
		s, err := l.make(o)
		must(t, err)
		must(t, s.Resume(ctx))
		return s
	}
	a := open()
	fill(t, a.Origin(), 0, c.Origin, 1)
	must(t, a.Create(ctx, "s", snapshot.CreateOptions{}))
	b := open()
	expect(t, b.Origin(), 0, c.Origin, 1)
	fill(t, a.Origin(), 0, 2*c.Chunk, 2)
	shared.Revoke()
	fill(t, b.Origin(), 0, 4*c.Chunk, 3)
	must(t, b.Origin().Flush(ctx))
	p := make([]byte, c.Chunk)
	err := a.Origin().WriteAt(ctx, p, 0, block.FUA)
	staged := policy != snapshot.CopyOut
	if staged && !errors.Is(err, snapshot.ErrFenced) && !errors.Is(err, lock.ErrLost) {
		t.Errorf("a write after the lock was lost: %v, expected %v", err, snapshot.ErrFenced)
	}
	if staged {
		a.Close()
		expect(t, b.Origin(), 0, 4*c.Chunk, 3)
	} else {
		must(t, a.Close())
	}
	expectView(t, b, c.known(ctx, b, "s"), 0, c.Origin, 1)
	check(t, b)
	must(t, b.Close())
}

// testFencedInside takes the lock away from a set in the middle of a request.
// From then on it writes nothing, and the other takes over.
func testFencedInside(t *testing.T, c Config, policy snapshot.Policy) {
	ctx := t.Context()
	l := newLab(c, blocktest.NewMachine(1), policy)
	must(t, l.format(t).Close())
	var shared lock.Local
	open := func(l *lab) *snapshot.Set {
		o := l.options()
		o.Lock = shared.Join()
		s, err := l.make(o)
		must(t, err)
		must(t, s.Resume(ctx))
		return s
	}
	g := new(guarded)
	watched := *l
	watched.wrap = func(d block.Device) block.Device { return &guard{block.Pass{Device: d}, g} }
	a, b := open(&watched), open(l)
	fill(t, a.Origin(), 0, c.Origin, 1)
	must(t, a.Create(ctx, "s", snapshot.CreateOptions{}))
	must(t, a.Origin().Flush(ctx))
	g.reading = func() {
		shared.Revoke()
		fill(t, b.Origin(), 0, 4*c.Chunk, 3)
		must(t, b.Origin().Flush(ctx))
	}
	// A part of a chunk that is shared: the rest is read.
	unit := max(int64(c.MinBlock), 512)
	if err := a.Origin().WriteAt(ctx, make([]byte, unit), unit, block.FUA); err == nil {
		t.Error("a write that lost the lock succeeded")
	}
	a.Close()
	if g.late > 0 {
		t.Errorf("%d writes to the devices after the lock was lost", g.late)
	}
	expect(t, b.Origin(), 0, 4*c.Chunk, 3)
	expectView(t, b, c.known(ctx, b, "s"), 0, c.Origin, 1)
	check(t, b)
	must(t, b.Close())
}

// A guard sees what a set does to a device. The first read calls reading, once
// that is set; writes from then on are late.
type guard struct {
	block.Pass
	*guarded
}

type guarded struct {
	reading func()
	over    bool
	late    int
}

func (g *guard) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if g.reading != nil && !g.over {
		g.over = true
		g.reading()
	}
	return g.Device.ReadAt(ctx, p, off, flags)
}

func (g *guard) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if g.over {
		g.late++
	}
	return g.Device.WriteAt(ctx, p, off, flags)
}

func (p *player) dropAll() {
	for name := range p.devs {
		p.drop(name)
	}
}
