// Package snapshottest tests kinds of snapshot stores.
//
// [Run] is the conformance suite: with the engine of package snapshot on top it
// proves what [snapshot.Store] promises.
//
//	func TestConformance(t *testing.T) {
//		snapshottest.Run(t, snapshottest.Config{Kind: "mykind"})
//	}
//
// Nothing depends on time, and what is random depends on seeds that are printed
// when a test fails. BLOCKTEST_TIMES=100 in the environment makes a hundred times
// as many histories and power cuts of it.
package snapshottest

import (
	"cmp"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// Config says what to test.
type Config struct {
	// Kind of the store, and its arguments.
	Kind string
	Args map[string]string
	// Chunk is the size of chunks in bytes; 0 is 4096.
	Chunk int64
	// Origin and Store are the sizes of the devices in bytes; 0 is 320 KiB
	// and some, and 4 MiB.
	Origin, Store int64
	// Exact: a copy is shared by consecutive snapshots only, as in the first
	// stores of this sort, so that the numbers of copies are known exactly.
	Exact bool
	// Copies is how many copies the first write to a shared chunk of a
	// snapshot may cost; 0 is 2.
	Copies int64
	// Seeds is the number of random histories of each sort; 0 is 10.
	Seeds int
	// MinBlock of both devices in bytes.
	MinBlock int

	// volatile: the store is not persistent. nameless: it keeps no names.
	volatile, nameless bool
	// states counts what power cuts have left.
	states *atomic.Int64
}

// Run tests a kind of store under every policy of the origin that it supports.
func Run(t *testing.T, c Config) {
	c.Chunk = cmp.Or(c.Chunk, 4096)
	c.Origin = cmp.Or(c.Origin, 320<<10+1536)
	c.Store = cmp.Or(c.Store, 4<<20)
	c.Seeds = cmp.Or(c.Seeds, 10)
	c.Copies = cmp.Or(c.Copies, 2)
	caps := c.caps(t)
	c.volatile, c.nameless, c.states = !caps.Persistent, !caps.Values, new(atomic.Int64)
	if caps.Persistent {
		t.Cleanup(func() { tell(t, c.states.Load(), "states after power cuts of "+c.Kind) })
	}
	t.Run("Names", func(t *testing.T) { t.Parallel(); testNames(t, c, caps) })
	t.Run("Bad", func(t *testing.T) { t.Parallel(); testBad(t, c) })
	t.Run("Copies", func(t *testing.T) { t.Parallel(); testCopies(t, c, caps) })
	t.Run("Delete", func(t *testing.T) { t.Parallel(); testDelete(t, c, caps) })
	t.Run("Batch", func(t *testing.T) { t.Parallel(); testBatch(t, c, caps) })
	t.Run("Suspend", func(t *testing.T) { t.Parallel(); testSuspend(t, c) })
	t.Run("Full", func(t *testing.T) { t.Parallel(); testFull(t, c, caps) })
	t.Run("Drop", func(t *testing.T) { t.Parallel(); testDrop(t, c, caps) })
	t.Run("Invalidate", func(t *testing.T) { t.Parallel(); testInvalidate(t, c, caps) })
	for _, p := range policies(caps) {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			t.Run("Device", func(t *testing.T) { t.Parallel(); testDevice(t, c, p, caps) })
			t.Run("Histories", func(t *testing.T) { t.Parallel(); testHistories(t, c, p, caps) })
			t.Run("Parallel", func(t *testing.T) { t.Parallel(); testParallel(t, c, p, caps) })
			t.Run("Faults", func(t *testing.T) { t.Parallel(); testFaults(t, c, p, caps) })
			if caps.Cluster {
				t.Run("Cluster", func(t *testing.T) { t.Parallel(); testCluster(t, c, p, caps) })
				t.Run("Fenced", func(t *testing.T) { t.Parallel(); testFenced(t, c, p) })
				t.Run("FencedInside", func(t *testing.T) { t.Parallel(); testFencedInside(t, c, p) })
			}
			if caps.Persistent {
				t.Run("PowerCuts", func(t *testing.T) { t.Parallel(); testPowerCuts(t, c, p, caps) })
			}
		})
	}
}

// tell logs a figure, and appends it to the file that SNAPSHOTTEST_STATES names,
// from which .ci/run makes sums.
func tell(t *testing.T, n int64, what string) {
	if n == 0 {
		return // other tests were chosen
	}
	line := fmt.Sprintf("%d %s, %s", n, what, t.Name())
	t.Log(line)
	name := os.Getenv("SNAPSHOTTEST_STATES")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Error(err)
	}
}

// small returns c with an origin of few chunks, so that requests meet.
func (c Config) small() Config {
	c.Origin = min(c.Origin, 6*c.Chunk+max(1536, 2*int64(c.MinBlock)))
	return c
}

// policies returns those that make a difference.
func policies(caps snapshot.Caps) []snapshot.Policy {
	switch {
	case !caps.Redirect || !caps.Persistent:
		return []snapshot.Policy{snapshot.CopyOut}
	case !caps.Home:
		return []snapshot.Policy{snapshot.CopyOut, snapshot.Redirect}
	}
	return []snapshot.Policy{snapshot.CopyOut, snapshot.Redirect, snapshot.Staged}
}

// A lab has the disks of a set.
type lab struct {
	c             Config
	machine       *blocktest.Machine
	origin, store *blocktest.Disk
	policy        snapshot.Policy
	full          snapshot.WhenFull
	notify        func(snapshot.Event)
	// background work is done by itself.
	background bool
	// wrap is put around the devices when they are opened.
	wrap func(block.Device) block.Device
}

func newLab(c Config, m *blocktest.Machine, p snapshot.Policy) *lab {
	l := &lab{c: c, machine: m, policy: p}
	l.origin = m.Disk(block.Info{Size: c.Origin, MinBlock: c.MinBlock, NoWait: true, FastZeros: true})
	l.store = m.Disk(block.Info{Size: c.Store, MinBlock: c.MinBlock, NoWait: true, FastZeros: true})
	return l
}

func (l *lab) device(d *blocktest.Disk) block.Device {
	if l.wrap != nil {
		return l.wrap(d.Open())
	}
	return d.Open()
}

func (l *lab) options() snapshot.Options {
	o := snapshot.Options{Kind: l.c.Kind, Args: l.c.Args, Chunk: l.c.Chunk, Policy: l.policy,
		WhenFull: l.full, Manual: !l.background, Notify: l.notify}
	if l.c.volatile {
		o.Format = snapshot.Always
	}
	return o
}

func (l *lab) make(o snapshot.Options) (*snapshot.Set, error) {
	origin, store := l.device(l.origin), l.device(l.store)
	s, err := snapshot.New(origin, store, o)
	if err != nil {
		origin.Close()
		store.Close()
	}
	return s, err
}

// format makes the store, and open opens it.
func (l *lab) format(t testing.TB) *snapshot.Set {
	t.Helper()
	o := l.options()
	o.Format = snapshot.Always
	s, err := l.make(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (l *lab) open(t testing.TB) (*snapshot.Set, error) {
	s, err := l.make(l.options())
	if err != nil {
		return nil, err
	}
	if err := s.Resume(t.Context()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// caps returns what the kind can do with the arguments of the test.
func (c Config) caps(t *testing.T) snapshot.Caps {
	t.Helper()
	for _, k := range snapshot.Kinds() {
		if k.Name != c.Kind {
			continue
		}
		st, err := k.New(snapshot.Config{
			Device: blocktest.NewDevice(block.Info{Size: c.Store, FastZeros: true}), OriginSize: c.Origin, Chunk: c.Chunk,
			Format: snapshot.Always, Args: c.Args, Retire: func(f func()) { f() },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		caps := st.Caps()
		if err := st.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return caps
	}
	t.Fatalf("kind %q is not registered", c.Kind)
	return snapshot.Caps{}
}

// finish does the background work that is pending, checks and closes.
func finish(t testing.TB, s *snapshot.Set) {
	t.Helper()
	work(t, s)
	check(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func work(t testing.TB, s *snapshot.Set) {
	t.Helper()
	for range 100_000 {
		p, err := s.Work(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !p.More {
			return
		}
	}
	t.Fatal("background work does not end")
}

func check(t testing.TB, s *snapshot.Set) {
	t.Helper()
	if err := s.Check(t.Context(), func(problem error) { t.Errorf("check: %v", problem) }); err != nil {
		t.Error(err)
	}
}
