package layer

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/race"
)

// A shaped device is bytes in memory that claim and enforce an Info of the
// test's choice.
type shaped struct {
	block.Pass
	bytes []byte
	info  block.Info
	// before is asked for the outcome of each request first, if not nil.
	before func(op Op, off, n int64, flags block.Flags) error
	// extents replaces Extents if not nil.
	extents func(mc string, off, n int64) iter.Seq2[block.Extent, error]
	closed  atomic.Bool
}

// newShaped returns a device of size bytes that are not 0.
func newShaped(size int, info block.Info) *shaped {
	b := bytes.Repeat([]byte{0xee}, size)
	info.Size = int64(size)
	return &shaped{Pass: block.Pass{Device: block.FromBytes(b)}, bytes: b, info: info}
}

func (s *shaped) Info() block.Info { return s.info }

func (s *shaped) ask(op Op, off, n int64, flags block.Flags, err error) error {
	if err == nil && s.before != nil {
		return s.before(op, off, n, flags)
	}
	return err
}

func (s *shaped) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := s.ask(OpRead, off, int64(len(p)), flags, s.info.CheckRead(off, len(p))); err != nil {
		return err
	}
	return s.Device.ReadAt(ctx, p, off, flags)
}

func (s *shaped) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := s.ask(OpWrite, off, int64(len(p)), flags, s.info.CheckWrite(off, len(p))); err != nil {
		return err
	}
	return s.Device.WriteAt(ctx, p, off, flags)
}

func (s *shaped) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := s.ask(OpZero, off, n, flags, s.info.CheckChange(off, n)); err != nil {
		return err
	}
	return s.Device.Zero(ctx, off, n, flags)
}

func (s *shaped) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := s.ask(OpTrim, off, n, flags, s.info.CheckChange(off, n)); err != nil {
		return err
	}
	return s.Device.Trim(ctx, off, n, flags)
}

func (s *shaped) Flush(ctx context.Context) error {
	if err := s.ask(OpFlush, 0, 0, 0, nil); err != nil {
		return err
	}
	return s.Device.Flush(ctx)
}

func (s *shaped) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if s.extents != nil {
		return s.extents(mc, off, n)
	}
	return s.Device.Extents(ctx, mc, off, n)
}

func (s *shaped) Close() error {
	s.closed.Store(true)
	return s.Device.Close()
}

// row returns shaped devices of these sizes, and the same as devices.
func row(info block.Info, sizes ...int) ([]*shaped, []block.Device) {
	var all []*shaped
	var devs []block.Device
	for _, n := range sizes {
		s := newShaped(n, info)
		all, devs = append(all, s), append(devs, s)
	}
	return all, devs
}

// disks returns devices of these sizes, with the same bytes as far as they go,
// that tell which of their pages are zero.
func disks(info block.Info, sizes ...int) []block.Device {
	all, devs := row(info, sizes...)
	for _, s := range all {
		for at := 0; at < len(s.bytes); at += 32 << 10 {
			clear(s.bytes[at:min(at+16<<10, len(s.bytes))])
		}
		s.extents = func(mc string, off, n int64) iter.Seq2[block.Extent, error] {
			if err := s.info.CheckExtents(mc, off, n); err != nil {
				return block.FailExtents(err)
			}
			return s.pages(off, n)
		}
	}
	return devs
}

func (s *shaped) pages(off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		page := make([]byte, 4096)
		for end, next := off+n, int64(0); off < end || n == 0; off = next {
			next = min(off&^4095+4096, end)
			e := block.Extent{Off: off, Len: next - off}
			err := s.Device.ReadAt(context.Background(), page[:e.Len], off, 0)
			if block.IsZero(page[:e.Len]) {
				e.Status = block.Hole | block.Zero
			}
			if err == nil && n == 0 || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// conform runs the conformance suite, with fewer histories than usual because
// there are so many layers.
func conform(t *testing.T, open func(t testing.TB) block.Device) {
	t.Helper()
	seeds := 3
	if race.Enabled {
		seeds = 1
	}
	blocktest.Run(t, open, blocktest.Seeds(seeds))
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// randomly makes n random requests of up to longest bytes to dev, whose bytes
// must at all times equal those of a model that starts as want.
func randomly(t testing.TB, dev block.Device, want []byte, n, longest int) {
	t.Helper()
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(1, uint64(len(want))))
	noise := rand.NewChaCha8([32]byte{1})
	unit := max(dev.Info().MinBlock, 1)
	for range n {
		off := rng.IntN(len(want)/unit+1) * unit
		k := min(rng.IntN(longest/unit+1)*unit, len(want)-off)
		p := make([]byte, k)
		var err error
		switch rng.IntN(5) {
		case 0, 1:
			_, _ = noise.Read(p)
			copy(want[off:], p)
			err = dev.WriteAt(ctx, p, int64(off), block.Flags(rng.IntN(2))*block.FUA)
		case 2:
			clear(want[off : off+k])
			err = dev.Zero(ctx, int64(off), int64(k), 0)
		case 3:
			if err = dev.ReadAt(ctx, p, int64(off), 0); err == nil && !bytes.Equal(p, want[off:off+k]) {
				t.Fatalf("%d bytes at %d differ", k, off)
			}
		case 4:
			err = dev.Trim(ctx, int64(off), int64(k), 0)
		}
		if err != nil {
			t.Fatalf("%d bytes at %d: %v", k, off, err)
		}
	}
	expect(t, dev, want)
}

// expect compares all of dev with want.
func expect(t testing.TB, dev block.Device, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if err := dev.ReadAt(t.Context(), got, 0, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("byte %d is %02x, want %02x", i, got[i], want[i])
		}
	}
}

// content reads all of dev.
func content(t testing.TB, dev block.Device) []byte {
	t.Helper()
	p := make([]byte, dev.Info().Size)
	if err := dev.ReadAt(t.Context(), p, 0, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// collect returns the extents of a range with equal neighbours joined.
func collect(t testing.TB, dev block.Device, mc string, off, n int64) []block.Extent {
	t.Helper()
	var list []block.Extent
	for e, err := range block.MergeExtents(dev.Extents(t.Context(), mc, off, n)) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// firstError is the error with which a sequence of extents begins.
func firstError(seq iter.Seq2[block.Extent, error]) error {
	for _, err := range seq {
		return err
	}
	return nil
}

// alternating reports units of n bytes as data and holes in turn.
func alternating(unit int64) func(string, int64, int64) iter.Seq2[block.Extent, error] {
	return func(mc string, off, n int64) iter.Seq2[block.Extent, error] {
		return func(yield func(block.Extent, error) bool) {
			for end := off + n; off < end; {
				next := min((off/unit+1)*unit, end)
				status := uint64(0)
				if off/unit%2 == 1 {
					status = block.Hole | block.Zero
				}
				if !yield(block.Extent{Off: off, Len: next - off, Status: status}, nil) {
					return
				}
				off = next
			}
		}
	}
}

// wantErr checks the meaning and the text of an error.
func wantErr(t testing.TB, err error, is error, text string) {
	t.Helper()
	if !errors.Is(err, is) || err.Error() != text {
		t.Errorf("got error %q, want %q, which wraps %v", err, text, is)
	}
}

// passesFree checks that a request through dev allocates nothing.
func passesFree(t *testing.T, dev block.Device, off int64, n int) {
	t.Helper()
	ctx := context.Background()
	p := make([]byte, n)
	for name, f := range map[string]func() error{
		"read":  func() error { return dev.ReadAt(ctx, p, off, block.NoWait) },
		"write": func() error { return dev.WriteAt(ctx, p, off, 0) },
	} {
		if a := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil && !errors.Is(err, block.ErrReadOnly) {
				t.Fatal(err)
			}
		}); a != 0 {
			t.Errorf("%s: %v allocations, want none", name, a)
		}
	}
}

// nothing is a device that does nothing, to measure what is over it.
type nothing struct{ block.Device }

func (nothing) Info() block.Info {
	return block.Info{Size: 1 << 30, FastZeros: true, NativeFUA: true, NoWait: true}
}
func (nothing) ReadAt(context.Context, []byte, int64, block.Flags) error  { return nil }
func (nothing) WriteAt(context.Context, []byte, int64, block.Flags) error { return nil }

func benchmarkRead(b *testing.B, dev block.Device) {
	ctx := context.Background()
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		_ = dev.ReadAt(ctx, p, 1<<20, block.NoWait)
	}
}

func benchmarkWrite(b *testing.B, dev block.Device) {
	ctx := context.Background()
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		_ = dev.WriteAt(ctx, p, 1<<20, 0)
	}
}
