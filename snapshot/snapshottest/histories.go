package snapshottest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// testHistories plays random histories and compares every view with the model
// after each of some actions.
func testHistories(t *testing.T, c Config, p snapshot.Policy, caps snapshot.Caps) {
	for seed := range uint64(blocktest.Times(c.Seeds)) {
		h := generate(seed, c, caps, 60)
		run := func(h history) error { return playAndVerify(t, c, p, h) }
		if err := run(h); err != nil {
			h = shrink(h, run)
			t.Fatalf("seed %d: %v\n%v", seed, run(h), h)
		}
	}
}

func playAndVerify(t *testing.T, c Config, policy snapshot.Policy, h history) (err error) {
	ctx := t.Context()
	l := newLab(c, blocktest.NewMachine(1), policy)
	s := l.format(t)
	p := newPlayer(l, s)
	p.open = func() (*snapshot.Set, error) { return l.open(t) }
	defer func() { err = errors.Join(err, p.set.Close()) }()
	for i, a := range h {
		if err := p.act(ctx, a); err != nil {
			return fmt.Errorf("action %d, %v: %w", i+1, a, err)
		}
		if err := p.verify(ctx); err != nil {
			return fmt.Errorf("after action %d, %v: %w", i+1, a, err)
		}
	}
	for more := true; more; {
		w, err := p.set.Work(ctx)
		if err != nil {
			return err
		}
		more = w.More
	}
	var problem error
	if err := p.set.Check(ctx, func(err error) { problem = err }); err != nil || problem != nil {
		return errors.Join(err, problem)
	}
	return p.verify(ctx)
}

// testFaults makes each request to the devices fail, and compares.
func testFaults(t *testing.T, c Config, policy snapshot.Policy, caps snapshot.Caps) {
	ctx := t.Context()
	c = c.small()
	h := generate(3, c, caps, 25)
	blocktest.EachFault(t, func(f *blocktest.Faults) error {
		l := newLab(c, blocktest.NewMachine(1), policy)
		if err := l.format(t).Close(); err != nil {
			return err
		}
		l.wrap = f.Wrap
		p := &player{}
		open := func() (*snapshot.Set, error) {
			s, err := l.open(t)
			if err != nil { // the fault, which comes once only
				s, err = l.open(t)
			}
			return s, err
		}
		s, err := open()
		if err != nil {
			f.Stop()
			s, err = open()
		}
		if err != nil {
			return err
		}
		p = newPlayer(l, s)
		p.open = open
		for _, a := range h {
			if err := p.act(ctx, a); errors.Is(err, blocktest.ErrBroken) {
				return err
			}
		}
		f.Stop()
		if err := p.verify(ctx); err != nil {
			return err
		}
		if !caps.Persistent {
			return p.set.Close()
		}
		return errors.Join(p.reopen(), p.verify(ctx), p.set.Close())
	})
}

// testPowerCuts cuts the power at each change of random histories. What was
// durable is there, and nothing is that never was; all the more when the power
// goes again during recovery.
func testPowerCuts(t *testing.T, c Config, policy snapshot.Policy, caps snapshot.Caps) {
	ctx := t.Context()
	c = c.small()
	all := scripts(c, caps)
	for seed := range uint64(blocktest.Times(max(c.Seeds/3, 2))) {
		all[fmt.Sprint(seed)] = generate(1000+seed, c, caps, 22)
	}
	for name, h := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.states.Add(int64(blocktest.EveryCut(t, func(m *blocktest.Machine) (func() error, func() error) {
				return cutting(ctx, t, newLab(c, m, policy), h)
			})))
		})
	}
}

// scripts are histories that chance seldom finds.
func scripts(c Config, caps snapshot.Caps) map[string]history {
	io := func(view string, chunk, n int64, seed uint64) action {
		return action{do: "io", view: view, op: blocktest.Op{Kind: blocktest.Write, Off: chunk * c.Chunk, Len: n * c.Chunk, Seed: seed}}
	}
	flush := action{do: "io", op: blocktest.Op{Kind: blocktest.Flush}}
	work := action{do: "work"}
	all := map[string]history{
		// The origin chunk is the origin's own only after the deletion is
		// durable.
		"delete": {io("", 0, 4, 1), {do: "create", name: "a"}, io("", 0, 2, 2), {do: "delete", view: "a"},
			io("", 0, 4, 3), work, io("", 0, 2, 4), {do: "create", name: "b"}, io("", 1, 3, 5), work, work},
	}
	if caps.Writable {
		// The same when a snapshot has left it by being written.
		all["leave"] = history{io("", 0, 4, 1), {do: "create", name: "a"}, io("a", 0, 2, 2), io("", 0, 2, 3), work,
			flush, io("a", 2, 2, 4), io("", 2, 2, 5), io("a", 2, 1, 6), work, work}
	}
	if caps.Home && caps.Values {
		// What is written during a rollback stays.
		all["rollback"] = history{io("", 0, 4, 1), {do: "create", name: "a"}, io("", 0, 4, 2), flush,
			{do: "rollback", view: "a"}, io("", 1, 1, 3), flush, io("", 2, 1, 4), work, io("", 0, 1, 5), work, work}
	}
	return all
}

func cutting(ctx context.Context, t testing.TB, l *lab, h history) (work, check func() error) {
	if err := l.format(t).Close(); err != nil {
		t.Fatal(err)
	}
	p := &player{lab: l, views: map[string]disk{"": newDisk(l.c.Origin)}, maybe: map[string]disk{}}
	p.open = func() (*snapshot.Set, error) { return l.open(t) }
	start := func() (err error) {
		if p.set, err = p.open(); err != nil {
			p.set = nil
			return err
		}
		p.devs = map[string]block.Device{"": p.set.Origin()}
		return nil
	}
	work = func() error {
		if err := start(); err != nil {
			return err
		}
		return p.play(ctx, h)
	}
	check = func() (err error) {
		if p.set != nil {
			p.set.Close()
		}
		p.powerCut()
		if err := start(); err != nil {
			return err
		}
		err = p.settle(ctx)
		for more := true; more && err == nil; {
			var w snapshot.Progress
			if w, err = p.set.Work(ctx); err == nil {
				err = p.verify(ctx)
			}
			more = w.More
		}
		if err == nil {
			err = p.verify(ctx)
		}
		if err == nil {
			cerr := p.set.Check(ctx, func(problem error) { err = errors.Join(err, problem) })
			err = errors.Join(err, cerr)
		}
		return errors.Join(err, p.set.Close())
	}
	return work, check
}
