package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
)

// What is not a disk, or not this one, is refused with what is wrong.
func TestForeign(t *testing.T) {
	t.Parallel()
	seal := func(b []byte) { binary.LittleEndian.PutUint32(b[8:], checksum(b[12:BlockSize])) }
	both := func(l *lab, f func(b []byte)) {
		f(l.bytes[:BlockSize])
		f(l.bytes[len(l.bytes)-BlockSize:])
	}
	for name, tt := range map[string]struct {
		do   func(*lab)
		want string
		is   error
	}{
		"no disk":       {func(l *lab) { clear(l.bytes) }, "no superblock", ErrForeign},
		"truncated":     {func(l *lab) { l.bytes = l.bytes[:len(l.bytes)-BlockSize] }, "has 7340032 bytes, expected 7344128: it was truncated", ErrForeign},
		"a part of it":  {func(l *lab) { l.bytes = l.bytes[:minSlab] }, "it was truncated", ErrForeign},
		"tiny":          {func(l *lab) { l.bytes = l.bytes[:BlockSize] }, "expected 5246976 at least", block.ErrInvalid},
		"both damaged":  {func(l *lab) { both(l, func(b []byte) { b[99]++ }) }, "the superblock has the checksum", ErrDamaged},
		"later version": {func(l *lab) { both(l, func(b []byte) { b[12]++; seal(b) }) }, "format version 2, this program knows 1", ErrForeign},
		"other blocks":  {func(l *lab) { both(l, func(b []byte) { b[41]++; seal(b) }) }, "sizes that this version does not have", ErrDamaged},
		"no size":       {func(l *lab) { both(l, func(b []byte) { b[32]++; seal(b) }) }, "the superblock has the size", ErrDamaged},
		"another disk":  {func(l *lab) { l.bytes = newLab(t, labSize).bytes }, "the metadata to disk", ErrForeign},
		"other files":   {func(l *lab) { l.fs = newLab(t, labSize).fs }, "the slab belongs to disk", ErrForeign},
		"no files":      {func(l *lab) { l.fs = vfs.NewMem() }, "opening the metadata in meta", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labSize)
			tt.do(l)
			for what, err := range map[string]error{"opening": l.tryOpen(), "checking": second(l.check(false))} {
				if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%s: %v, expected %q", what, err, tt.want)
				}
			}
			l.Disk = nil
		})
	}
}

// One of the superblocks is enough, a slab may have grown, and what is a disk is
// not made one again.
func TestFormat(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	l.ok(l.Write(t.Context(), at(0, 1), fill(1, 1), 0))
	id := l.UUID()
	l.shut()
	l.bytes[5]++
	l.open()
	if l.UUID() != id {
		t.Error("another disk")
	}
	l.shut()
	// It was mended, and so is the copy.
	l.checked(true)
	l.bytes[len(l.bytes)-1]++
	l.open()
	l.shut()
	l.checked(true)
	l.bytes = append(l.bytes, make([]byte, 1<<20)...)
	l.open()
	l.want(at(0, 1), 0, fill(1, 1))
	l.checked(true)
	l.shut()
	if _, err := Format(t.Context(), l.config(), false); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("formatting it again: %v", err)
	}
	if _, err := Format(t.Context(), l.config(), true); err == nil {
		t.Error("metadata that were there have been formatted")
	}
	l.fs = vfs.NewMem()
	if _, err := Format(t.Context(), l.config(), true); err != nil {
		t.Error(err)
	}
	l.open()
	l.want(at(0, 1), 0, make([]byte, BlockSize))
	l.checked(true)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	for name, change := range map[string]func(*Config){
		"Slab":       func(c *Config) { c.Slab = nil },
		"Dir":        func(c *Config) { c.Dir = "" },
		"Trees":      func(c *Config) { c.Trees = nil },
		"Cache":      func(c *Config) { c.Cache = 1 },
		"MetaCache":  func(c *Config) { c.MetaCache = -1 },
		"MaxUnflush": func(c *Config) { c.MaxUnflushed = 1 },
		"read-only":  func(c *Config) { c.Slab = blockDevice(block.Info{Size: labSize, ReadOnly: true}) },
		"MinBlock":   func(c *Config) { c.Slab = blockDevice(block.Info{Size: labSize, MinBlock: 8192}) },
		"MaxBlock":   func(c *Config) { c.Slab = blockDevice(block.Info{Size: labSize, MaxBlock: 512}) },
	} {
		cfg := l.config()
		change(&cfg)
		if d, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s was not refused", name)
			d.Close()
		}
	}
}

// The least that a slab must be able to do is enough.
func TestSmallSteps(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	slab := blockDevice(block.Info{Size: labSize, MinBlock: 4096, MaxBlock: 12288})
	l.wrapSlab = func(block.Device) block.Device { return keep{block.Pass{Device: slab}} }
	l.fs = vfs.NewMem()
	if _, err := Format(t.Context(), l.config(), false); err != nil {
		t.Fatal(err)
	}
	m := newModel(5, l.trees, l)
	l.open()
	if err := m.explain(m.play(t.Context(), 60)); err != nil {
		t.Fatal(err)
	}
}

// keep is a device that outlives Close.
type keep struct{ block.Pass }

func (keep) Close() error { return nil }

func FuzzRecord(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		r := own{has: uint16(rng.Uint32()) | 1}
		r.data = r.has & uint16(rng.Uint32())
		for i := range r.places {
			r.places[i], r.sums[i] = rng.Uint64N(1<<uint(1+rng.IntN(40))), rng.Uint32()
			if i > 0 && rng.IntN(2) == 0 {
				r.places[i] = r.places[i-1] + 1
			}
		}
		f.Add(r.encode(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r own
		if err := r.decode(b); err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if again := r.encode(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x is encoded as %x", b, again)
		}
	})
}

// FuzzValues decodes the small values.
func FuzzValues(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
	f.Add((&header{State: State{300, 1 << 60}, data: 5, holes: 1 << 40}).encode(nil))
	f.Add((&tally{1, 2}).encode(nil))
	f.Add(mark{7, true}.encode(nil))
	f.Add((&run{9, 8}).encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h header
		var y tally
		var m mark
		var r run
		for name, again := range map[string][]byte{
			"header": fuzzed(t, h.decode, h.encodeOf, b),
			"tally":  fuzzed(t, y.decode, y.encodeOf, b),
			"mark":   fuzzed(t, m.decode, m.encodeOf, b),
			"run":    fuzzed(t, r.decode, r.encodeOf, b),
		} {
			if !bytes.Equal(again, b) {
				t.Fatalf("%s: %x is encoded as %x", name, b, again)
			}
		}
	})
}

func (h *header) encodeOf() []byte { return h.encode(nil) }
func (t *tally) encodeOf() []byte  { return t.encode(nil) }
func (m *mark) encodeOf() []byte   { return m.encode(nil) }
func (r *run) encodeOf() []byte    { return r.encode(nil) }

// fuzzed returns b, or what it is encoded as if it can be decoded.
func fuzzed(t *testing.T, decode func([]byte) error, encode func() []byte, b []byte) []byte {
	if err := decode(b); err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		return b
	}
	return encode()
}

func FuzzKeys(f *testing.F) {
	o := Object{7, 1 << 40}
	f.Add(objectKey(nil, tableObject, o))
	f.Add(objectKey(nil, tableDirty, o))
	f.Add(pieceKey(nil, o, 16383, 5))
	f.Add(tallyKey(nil, o, 6))
	f.Add(segmentKey(nil, 77))
	f.Fuzz(func(t *testing.T, k []byte) {
		var again []byte
		if o, err := parseObjectKey(k, tableObject); err == nil {
			again = objectKey(nil, tableObject, o)
		} else if o, err := parseObjectKey(k, tableDirty); err == nil {
			again = objectKey(nil, tableDirty, o)
		} else if o, p, v, err := parsePieceKey(k); err == nil {
			again = pieceKey(nil, o, p, v)
		} else if o, v, err := parseTallyKey(k); err == nil {
			again = tallyKey(nil, o, v)
		} else if s, err := parseSegmentKey(k); err == nil {
			again = segmentKey(nil, s)
		} else if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		} else {
			return
		}
		if !bytes.Equal(again, k) {
			t.Fatalf("%x is made as %x", k, again)
		}
	})
}

func FuzzSuper(f *testing.F) {
	s := super{size: minSlab}
	copy(s.id[:], "0123456789abcdef")
	f.Add(s.encode())
	f.Add(make([]byte, BlockSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSuper(b); err == nil {
			if !bytes.Equal(s.encode(), b) {
				t.Fatal("another superblock")
			}
		} else if !errors.Is(err, ErrForeign) && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		if len(b) >= BlockSize {
			// The checksum is right.
			b = bytes.Clone(b[:BlockSize])
			copy(b, superMagic)
			binary.LittleEndian.PutUint32(b[8:], checksum(b[12:]))
			if s, err := parseSuper(b); err == nil && !bytes.Equal(s.encode(), b) {
				t.Fatal("another superblock")
			}
		}
	})
}

func FuzzSegment(f *testing.F) {
	b := bitset{5, 0, 1 << 63}
	v, _ := b.encode(nil, segmentBlocks)
	f.Add(v, 1024)
	f.Add([]byte{1}, 17)
	f.Fuzz(func(t *testing.T, v []byte, size int) {
		if size < 1 || size > segmentBlocks {
			return
		}
		var b bitset
		if err := b.decode(v, size); err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if again, there := b.encode(nil, size); !there || !bytes.Equal(again, v) {
			t.Fatalf("%x is encoded as %x", v, again)
		}
	})
}
