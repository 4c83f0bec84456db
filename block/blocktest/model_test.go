package blocktest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
)

// fixed is a device whose reads return one byte everywhere.
func fixed(b byte, size int64) block.Device {
	return block.FromBytes(bytes.Repeat([]byte{b}, int(size)))
}

// TestModelAllows: which contents of a device the model accepts after changes.
// The device is 'o' everywhere at first.
func TestModelAllows(t *testing.T) {
	const size = 4 << 10
	fill := func(b byte) []byte { return bytes.Repeat([]byte{b}, size) }
	type event func(m *Model)
	write := func(b byte, sure bool) event {
		return func(m *Model) { m.note(change{n: size, data: fill(b), sure: sure}) }
	}
	fua := func(b byte) event {
		return func(m *Model) { m.note(change{n: size, data: fill(b), sure: true, durable: true}) }
	}
	part := func(b byte, off, n int64, sure bool) event {
		return func(m *Model) { m.note(change{off: off, n: n, data: fill(b)[:n], sure: sure}) }
	}
	flush := func(m *Model) { m.flushed() }
	cut := func(m *Model) { m.PowerCut() }
	for _, test := range []struct {
		name   string
		events []event
		good   string
		bad    string
	}{
		{"nothing", nil, "o", "\x00a"},
		{"write", []event{write('a', true)}, "a", "o"},
		{"trim", []event{write(0, false)}, "o\x00", "a"},
		{"trim after write", []event{write('a', true), write(0, false)}, "a\x00", "o"},
		{"write after trim", []event{write(0, false), write('a', true)}, "a", "o\x00"},
		{"failed write", []event{write('a', false)}, "oa", "b\x00"},
		{"two failed writes", []event{write('a', false), write('b', false)}, "oab", "\x00"},
		{"cut after write", []event{write('a', true), cut}, "oa", "\x00"},
		{"cut after writes", []event{write('a', true), write('b', true), cut}, "oab", "\x00"},
		{"cut after flush", []event{write('a', true), flush, cut}, "a", "o"},
		{"cut after flush and write", []event{write('a', true), flush, write('b', true), cut}, "ab", "o"},
		{"cut after FUA", []event{write('a', true), fua('b'), cut}, "b", "oa"},
		{"cut after trim", []event{write('a', true), flush, write(0, false), cut}, "a\x00", "o"},
		{"flushed trim", []event{write(0, false), flush, cut}, "o\x00", "a"},
		{"cut after failed write", []event{write('a', false), flush, write('b', true), cut}, "oab", "\x00"},
		{"write of a part", []event{part('o', 100, 50, true)}, "o", "a"},
		{"failed write of a part", []event{part('a', 100, 50, false)}, "o", "a"},
		{"trim of all parts", []event{part(0, 0, 100, false), part(0, 100, 412, false), part(0, 512, 3584, false)}, "o\x00", "a"},
	} {
		m := NewModel(block.Info{Size: size})
		if err := m.Learn(t.Context(), fixed('o', size), 0, size); err != nil {
			t.Fatal(err)
		}
		for _, e := range test.events {
			e(m)
		}
		for _, b := range []byte(test.good) {
			if err := m.Verify(t.Context(), fixed(b, size)); err != nil {
				t.Errorf("%s: %q refused: %v", test.name, b, err)
			}
		}
		for _, b := range []byte(test.bad) {
			if err := m.Verify(t.Context(), fixed(b, size)); !errors.Is(err, ErrBroken) {
				t.Errorf("%s: %q accepted", test.name, b)
			}
		}
	}
}

// TestModelSectors: after a failed write each sector is old or new, and no
// sector is a mix.
func TestModelSectors(t *testing.T) {
	const size = 1024
	m := NewModel(block.Info{Size: size})
	if err := m.Learn(t.Context(), fixed('o', size), 0, size); err != nil {
		t.Fatal(err)
	}
	m.note(change{n: size, data: bytes.Repeat([]byte{'a'}, size)})
	for content, ok := range map[string]bool{"oa": true, "ao": true, "aa": true, "xo": false} {
		p := append(bytes.Repeat([]byte{content[0]}, 512), bytes.Repeat([]byte{content[1]}, 512)...)
		if err := m.Verify(t.Context(), block.FromBytes(p)); (err == nil) != ok {
			t.Errorf("%s: %v", content, err)
		}
	}
	p := bytes.Repeat([]byte{'o'}, size)
	p[700] = 'a'
	if err := m.Verify(t.Context(), block.FromBytes(p)); !errors.Is(err, ErrBroken) {
		t.Error("a sector may be torn")
	}
}

// TestModelLarge: changes of ranges that are too long to be noted sector by
// sector count at the sectors that are looked at later, too.
func TestModelLarge(t *testing.T) {
	const size = 1 << 40
	dev := NewDevice(block.Info{Size: size, FastZeros: true})
	m := NewModel(dev.Info())
	do := func(op Op) {
		t.Helper()
		if err := m.Do(t.Context(), dev, op); err != nil {
			t.Fatal(err)
		}
	}
	do(Op{Kind: Write, Off: 1 << 30, Len: 4096, Seed: 1})
	do(Op{Kind: Zero, Off: 512, Len: size - 512})
	do(Op{Kind: Read, Off: 1 << 30, Len: 4096})
	do(Op{Kind: Read, Off: 1 << 35, Len: 4096})
	for _, off := range []int64{1 << 30, 1 << 35} {
		if err := dev.WriteAt(t.Context(), []byte{1}, off, 0); err != nil {
			t.Fatal(err)
		}
		if err := m.Do(t.Context(), dev, Op{Kind: Read, Off: off, Len: 512}); !errors.Is(err, ErrBroken) {
			t.Errorf("a byte at %d that nobody wrote: %v", off, err)
		}
	}
	m.PowerCut()
	if err := m.Do(t.Context(), dev, Op{Kind: Read, Off: 1 << 35, Len: 512}); err != nil {
		t.Errorf("after a power cut an old content is said to be wrong: %v", err)
	}
}
