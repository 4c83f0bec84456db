package blocktest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
)

// An Option of Run.
type Option func(*suite)

// Lossy is for devices that forget what is written to them, or some of it: a
// change may have no effect. Everything else is tested.
func Lossy() Option { return func(s *suite) { s.lossy = true } }

// Seeds sets how many fixed seeds the random histories have, instead of 6. One
// more is drawn at random in each run.
func Seeds(n int) Option { return func(s *suite) { s.seeds = n } }

// Reopen is for devices that outlive Close. Each call of create makes a fresh
// one and returns a function that opens it: once the device that it returned
// last is closed, it is called again and must return one with the same content.
func Reopen(create func(t testing.TB) (open func() block.Device)) Option {
	return func(s *suite) { s.create = create }
}

// Run tests whether the devices that open returns keep the promises of
// block.Device, each group of them in a subtest. open returns a fresh device
// with any content, of 128 KiB at least; the tests close it. They touch little
// of a large one. What open makes besides belongs into t.Cleanup.
//
// A random history that fails is made as short as possible and printed with a
// way to run it again, for which Run obeys two environment variables:
// BLOCKTEST_SEED is the only seed to use, BLOCKTEST_HISTORY names a file with
// the only history to run.
func Run(t *testing.T, open func(t testing.TB) block.Device, opts ...Option) {
	t.Helper()
	s := &suite{open: open, seeds: 6, patience: 2 * time.Minute}
	for _, opt := range opts {
		opt(s)
	}
	if testing.Short() {
		s.seeds = min(s.seeds, 3)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := s.test(t, c)
			if errors.Is(err, errSkip) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A suite is what the options of Run make.
type suite struct {
	open   func(t testing.TB) block.Device
	create func(t testing.TB) (open func() block.Device)
	lossy  bool
	seeds  int
	// patience is how long a case, or one history of it, may take before it
	// is said to hang.
	patience time.Duration
}

// A testCase is one group of promises.
type testCase struct {
	name string
	// change: the case is skipped for read-only devices.
	change bool
	// own: the case opens the devices itself.
	own bool
	run func(p *probe) error
}

// cases are the subtests of Run.
var cases = []testCase{
	{name: "info", run: testInfo},
	{name: "ranges", run: testRanges},
	{name: "alignment", run: testAlignment},
	{name: "read", run: testRead},
	{name: "write", change: true, run: testWrite},
	{name: "write first", change: true, run: testWriteFirst},
	{name: "read only", run: testReadOnly},
	{name: "zero", change: true, run: testZero},
	{name: "trim", change: true, run: testTrim},
	{name: "whole device", change: true, run: testWhole},
	{name: "flush", run: testFlush},
	{name: "extents", run: testExtents},
	{name: "extents inside", run: testExtentsInside},
	{name: "neighbours", change: true, run: testNeighbours},
	{name: "overlap", change: true, run: testOverlap},
	{name: "cancel", run: testCancel},
	{name: "nowait", run: testNoWait},
	{name: "close", run: testClose},
	{name: "close in flight", run: testCloseInFlight},
	{name: "history", own: true, run: testHistory},
	{name: "parallel histories", own: true, run: testParallelHistories},
	{name: "reopen", own: true, run: testReopen},
}

// A probe is what one test case works with.
type probe struct {
	*suite
	t    testing.TB
	ctx  context.Context
	dev  block.Device
	info block.Info
	// unit is the smallest length in bytes of a request.
	unit int64
}

var errSkip = errors.New("does not apply to this device")

// test runs one case on a fresh device and returns what is wrong.
func (s *suite) test(t testing.TB, c testCase) error {
	p := &probe{suite: s, t: t, ctx: t.Context()}
	if c.own {
		return c.run(p)
	}
	if err := p.use(s.open(t)); err != nil {
		return err
	}
	if c.change && p.info.ReadOnly {
		return errors.Join(errSkip, p.dev.Close())
	}
	err := s.guarded(func() error { return c.run(p) })
	if errors.Is(err, errHang) {
		return err
	}
	if cerr := p.dev.Close(); cerr != nil && !errors.Is(cerr, block.ErrClosed) && err == nil {
		err = broken("Close returned %q", cerr)
	}
	return err
}

// use makes dev the device of the case.
func (p *probe) use(dev block.Device) error {
	p.dev, p.info = dev, dev.Info()
	p.unit = max(1, int64(p.info.MinBlock))
	if p.info.Size < 128<<10 {
		return fmt.Errorf("the device has %d bytes, the suite needs %d", p.info.Size, 128<<10)
	}
	return nil
}

// model returns a model of the device that knows the n bytes at off.
func (p *probe) model(off, n int64) (*Model, error) {
	m := NewModel(p.info)
	m.lossy = p.lossy
	return m, m.Learn(p.ctx, p.dev, off, n)
}

// do carries out operations with m.
func (p *probe) do(m *Model, ops ...Op) error {
	for _, op := range ops {
		if err := m.Do(p.ctx, p.dev, op); err != nil {
			return err
		}
	}
	return nil
}

// limit bounds n, the length in bytes of a read or write, by MaxBlock.
func (p *probe) limit(n int64) int64 {
	if p.info.MaxBlock > 0 {
		n = min(n, int64(p.info.MaxBlock))
	}
	return n
}

var errHang = broken("a request does not return")

// guarded runs f and gives up on it when it hangs.
func (s *suite) guarded(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		stacks := make([]byte, 64<<10)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return fmt.Errorf("%w after %v; the goroutines:\n%s", errHang, s.patience, stacks)
	}
}
