package blocktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
)

// openOne returns the create function of RunCuts for one disk, twisted.
func openOne(info block.Info, twist func(d *twisted)) func(m *Machine) func() (block.Device, error) {
	return func(m *Machine) func() (block.Device, error) {
		disk := m.Disk(info)
		return func() (block.Device, error) {
			d := &twisted{Pass: block.Pass{Device: disk.Open()}}
			if twist != nil {
				twist(d)
			}
			return d, nil
		}
	}
}

func TestDiskSurvivesCuts(t *testing.T) {
	for name, info := range map[string]block.Info{
		"plain":    {Size: 128 << 10},
		"odd size": {Size: 128<<10 + 77, FastZeros: true},
		"sectors":  {Size: 128 << 10, MinBlock: 512, NoWait: true},
		"pages":    {Size: 128 << 10, MinBlock: 4096, MaxBlock: 8192},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			RunCuts(t, openOne(info, nil))
		})
	}
}

// TestCutCrimes proves that power cuts find out those who lie about what is
// durable.
func TestCutCrimes(t *testing.T) {
	for name, twist := range map[string]func(d *twisted){
		"flush does nothing": func(d *twisted) {
			d.flush = func(context.Context) error { return nil }
		},
		"FUA is ignored": func(d *twisted) {
			d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
				return d.Device.WriteAt(ctx, p, off, flags&^block.FUA)
			}
		},
		"FUA of zeros is ignored": func(d *twisted) {
			d.zero = func(ctx context.Context, off, n int64, flags block.Flags) error {
				return d.Device.Zero(ctx, off, n, flags&^block.FUA)
			}
		},
		"log without an order": func(d *twisted) {
			// Stores the second half of a write in place of the first for a
			// moment, as a store does that reuses space too early.
			d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
				if len(p) >= 1024 {
					if err := d.Device.WriteAt(ctx, p[512:1024], off, 0); err != nil {
						return err
					}
				}
				return d.Device.WriteAt(ctx, p, off, flags)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var err error
			for seed := uint64(0); seed < 4 && err == nil; seed++ {
				_, err = everyCut(cutHistory(t.Context(), seed, openOne(block.Info{Size: 128 << 10}, twist)))
			}
			if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "BLOCKTEST_CUT=") {
				t.Errorf("not caught: %v", err)
			}
		})
	}
}

// sectorsOf returns for each sector of the disk the byte it is filled with.
func sectorsOf(t *testing.T, d *Disk) string {
	t.Helper()
	p := make([]byte, d.info.Size)
	if err := d.Open().ReadAt(t.Context(), p, 0, 0); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for ; len(p) > 0; p = p[sectorSize:] {
		if !bytes.Equal(p[:sectorSize], bytes.Repeat(p[:1], sectorSize)) {
			t.Fatal("a sector is torn")
		}
		if p[0] == 0 {
			p[0] = '.'
		}
		b.WriteByte(p[0])
	}
	return b.String()
}

// TestOutcomes shows on a small disk what each outcome leaves: "a" is flushed
// everywhere, then b, c and d are written over two sectors each.
func TestOutcomes(t *testing.T) {
	allowed := map[Outcome]map[string]bool{
		Dropped:   {"aaaa": true},
		Kept:      {"bcdd": true},
		Torn:      {"aaaa": true, "baaa": true, "bbaa": true, "bcaa": true, "bcca": true, "bcda": true},
		Reordered: {"accd": true, "acdd": true, "aadd": true, "aaaa": true},
		Skipped:   {"acdd": true, "bbdd": true, "bcca": true},
	}
	seen := make(map[Outcome]map[string]bool)
	for o := Dropped; o <= Skipped; o++ {
		seen[o] = make(map[string]bool)
		for seed := range uint64(200) {
			m := NewMachine(seed)
			d := m.Disk(block.Info{Size: 4 * sectorSize})
			dev := d.Open()
			put := func(b byte, at, n int64) {
				if err := dev.WriteAt(t.Context(), bytes.Repeat([]byte{b}, int(n)*sectorSize), at*sectorSize, 0); err != nil {
					t.Fatal(err)
				}
			}
			put('a', 0, 4)
			if err := dev.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			put('b', 0, 2)
			put('c', 1, 2)
			put('d', 2, 2)
			m.Survive(o)
			m.Restart()
			got := sectorsOf(t, d)
			if allowed[o] != nil && !allowed[o][got] {
				t.Errorf("%v left %s", o, got)
			}
			seen[o][got] = true
			if again := sectorsOf(t, d); again != got {
				t.Errorf("%v: %s became %s", o, got, again)
			}
		}
	}
	for o, want := range map[Outcome]int{Dropped: 1, Kept: 1, Torn: 5, Mixed: 2 * 3 * 3 * 2, Reordered: 3, Skipped: 3} {
		if len(seen[o]) < want {
			t.Errorf("%v: %d contents in 200 cuts, want %d: %v", o, len(seen[o]), want, seen[o])
		}
	}
}

// TestOutcomesApart: one disk keeps all, others nothing.
func TestOutcomesApart(t *testing.T) {
	for o, want := range map[Outcome]string{First: "x..", Others: ".xx"} {
		m := NewMachine(1)
		m.Survive(o)
		var disks []*Disk
		for range 3 {
			d := m.Disk(block.Info{Size: sectorSize})
			if err := d.Open().WriteAt(t.Context(), bytes.Repeat([]byte{'x'}, sectorSize), 0, 0); err != nil {
				t.Fatal(err)
			}
			disks = append(disks, d)
		}
		m.Restart()
		got := ""
		for _, d := range disks {
			got += sectorsOf(t, d)
		}
		if got != want {
			t.Errorf("%v left %q, expected %q", o, got, want)
		}
	}
}

func TestFUACoversItsRangeOnly(t *testing.T) {
	m := NewMachine(1)
	m.Survive(Dropped)
	d, other := m.Disk(block.Info{Size: 4 * sectorSize}), m.Disk(block.Info{Size: 4 * sectorSize})
	sector := func(b byte) []byte { return bytes.Repeat([]byte{b}, sectorSize) }
	dev, otherDev := d.Open(), other.Open()
	for _, err := range []error{
		dev.WriteAt(t.Context(), sector('a'), 0, 0),
		dev.WriteAt(t.Context(), sector('b'), 512, 0),
		dev.WriteAt(t.Context(), sector('c'), 512, block.FUA),
		otherDev.WriteAt(t.Context(), sector('x'), 0, 0),
		otherDev.Flush(t.Context()),
		otherDev.WriteAt(t.Context(), sector('y'), 0, 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.Cut()
	for _, err := range []error{
		dev.WriteAt(t.Context(), sector('z'), 0, 0),
		dev.ReadAt(t.Context(), sector('z'), 0, 0),
		otherDev.Flush(t.Context()),
	} {
		if !errors.Is(err, block.ErrIO) {
			t.Errorf("without power: %v", err)
		}
	}
	m.Restart()
	if err := dev.Flush(t.Context()); !errors.Is(err, block.ErrIO) {
		t.Errorf("a device of before the power cut: %v", err)
	}
	if got := sectorsOf(t, d) + " " + sectorsOf(t, other); got != ".c.. x..." {
		t.Errorf("left %q", got)
	}
	want := Counts{Reads: 2, Writes: 5, Flushes: 1, FUAs: 1, ReadBytes: 8 * sectorSize, WriteBytes: 5 * sectorSize}
	if got := m.Counts(); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	if got := d.Counts().Writes; got != 3 {
		t.Errorf("%d writes of the first disk, want 3", got)
	}
}

// TestCutAfter: the n-th change fails and is perhaps there.
func TestCutAfter(t *testing.T) {
	kept := 0
	for seed := range uint64(20) {
		m := NewMachine(seed)
		d := m.Disk(block.Info{Size: 2 * sectorSize})
		dev := d.Open()
		m.CutAfter(2)
		p := bytes.Repeat([]byte{'a'}, sectorSize)
		if err := dev.WriteAt(t.Context(), p, 0, block.FUA); err != nil {
			t.Fatal(err)
		}
		if err := dev.WriteAt(t.Context(), p, 512, block.FUA); !errors.Is(err, block.ErrIO) || !m.Off() {
			t.Fatalf("the second write returned %v", err)
		}
		m.Restart()
		switch got := sectorsOf(t, d); got {
		case "aa":
			kept++
		case "a.":
		default:
			t.Errorf("left %s", got)
		}
	}
	if kept == 0 || kept == 20 {
		t.Errorf("the write that was cut survived in %d of 20 cases", kept)
	}
}

// TestEveryCutTwoDisks: a mirror that reads its second side after a restart
// must not promise anything before that side is written.
func TestEveryCutTwoDisks(t *testing.T) {
	setup := func(hasty bool) func(m *Machine) (work, check func() error) {
		return func(m *Machine) (work, check func() error) {
			info := block.Info{Size: 4096}
			first, second := m.Disk(info), m.Disk(info)
			promised := byte(0)
			work = func() error {
				for i := byte(1); i < 6; i++ {
					if err := first.Open().WriteAt(t.Context(), []byte{i}, 0, block.FUA); err != nil {
						return err
					}
					if hasty {
						promised = i
					}
					if err := second.Open().WriteAt(t.Context(), []byte{i}, 0, block.FUA); err != nil {
						return err
					}
					promised = i
				}
				return nil
			}
			check = func() error {
				var p [1]byte
				if err := second.Open().ReadAt(t.Context(), p[:], 0, 0); err != nil {
					return err
				}
				if p[0] < promised {
					return fmt.Errorf("found %d, %d was promised", p[0], promised)
				}
				return nil
			}
			return work, check
		}
	}
	// Ten writes and the end of the work, with eight outcomes each.
	if states, err := everyCut(setup(false)); err != nil || states != 88 {
		t.Errorf("%d states, expected 88: %v", states, err)
	}
	if _, err := everyCut(setup(true)); err == nil {
		t.Error("a promise made too early was not found out")
	}
}

func TestEveryCutReportsWork(t *testing.T) {
	_, err := everyCut(func(m *Machine) (work, check func() error) {
		return func() error { return block.ErrNoSpace }, func() error { return nil }
	})
	if !errors.Is(err, block.ErrNoSpace) {
		t.Errorf("an error of the work with the power on: %v", err)
	}
}

func TestParseCut(t *testing.T) {
	if c, err := parseCut("17/torn"); err != nil || c != (cut{17, Torn}) {
		t.Errorf("17/torn: %v, %v", c, err)
	}
	for _, bad := range []string{"", "17", "0/torn", "17/", "x/torn", "17/burnt"} {
		if _, err := parseCut(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
