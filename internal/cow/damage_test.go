package cow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// An image is the content of a difference file and of its base, for tests that
// change it.
type image struct{ diff, base []byte }

// newImage makes an image with changes, of which both copies of the map tell.
// It is closed properly unless inUse is set.
func newImage(t testing.TB, inUse bool) image {
	t.Helper()
	ctx := t.Context()
	s := newShelf(t, blocktest.NewMachine(1), 100_000, 4096)
	d := s.open(t)
	for i := range int64(3) {
		err := errors.Join(d.WriteAt(ctx, []byte("changed"), i*30_000, 0), d.Zero(ctx, i*30_000+8192, 8192, 0), d.Flush(ctx))
		if err != nil {
			t.Fatal(err)
		}
	}
	if !inUse {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p := make([]byte, s.diff.Open().Info().Size)
	if err := s.diff.Open().ReadAt(ctx, p, 0, 0); err != nil {
		t.Fatal(err)
	}
	return image{p, s.bytes}
}

func (m image) open(ctx context.Context) error {
	d, err := Open(ctx, block.FromBytes(m.base), block.FromBytes(m.diff), true)
	if err != nil {
		return err
	}
	return d.Close()
}

// seal gives slot i of a file of one page a right checksum: the headers are 0
// and 1, the copies of the page 2 and 3, the first notes are in 4.
func (m image) seal(i int) {
	p := m.diff[i*slotSize:][:slotSize]
	if i < 2 {
		clear(p[12:16])
		binary.LittleEndian.PutUint32(p[12:], crc32.Checksum(p, castagnoli))
		return
	}
	if i == 4 {
		p = p[:noteSize]
	}
	binary.LittleEndian.PutUint32(p[4:], slotSum(p, (*[16]byte)(m.diff[16:32])))
}

// current returns the slot of the copy of the page that counts.
func (m image) current() int {
	le := binary.LittleEndian
	if le.Uint64(m.diff[3*slotSize+24:]) > le.Uint64(m.diff[2*slotSize+24:]) {
		return 3
	}
	return 2
}

// What a person sees when a difference file is not what it should be.
func TestDamage(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	headers := func(change func(p []byte)) func(m image) {
		return func(m image) {
			for i := range 2 {
				change(m.diff[i*slotSize:])
				m.seal(i)
			}
		}
	}
	pages := func(change func(p []byte, i int)) func(m image) {
		return func(m image) {
			for i := 2; i < 4; i++ {
				change(m.diff[i*slotSize:], i)
				m.seal(i)
			}
		}
	}
	const d = "difference file is damaged: "
	for name, c := range map[string]struct {
		change func(m image)
		want   string
	}{
		"no header": {func(m image) { clear(m.diff[:8192]) }, `not a difference file, it does not begin with "STRATCOW": invalid argument`},
		"version":   {headers(func(p []byte) { p[8] = 2 }), "difference file has format version 2, this program knows version 1"},
		"header checksum": {func(m image) { m.diff[50] ^= 1; m.diff[slotSize+51] ^= 4 },
			d + "the header has a wrong checksum"},
		"one header of another file": {func(m image) { m.diff[20] ^= 1; m.seal(0) }, d + "its two headers are of different files"},
		"chunk": {headers(func(p []byte) { le.PutUint32(p[48:], 5000) }),
			d + "the header is impossible: chunk is 5000 bytes, must be a power of two from 512 to 65536: invalid argument"},
		"size": {headers(func(p []byte) { le.PutUint64(p[40:], 1<<62) }),
			d + "the header is impossible: the base has 4611686018427387904 bytes, at most 70368744177664 are possible with chunks of 4096 bytes: invalid argument"},
		"large": {headers(func(p []byte) { le.PutUint64(p[40:], 4<<20) }),
			"difference file is cut short: it has 167936 bytes, needs 4259840: invalid argument"},
		"flags":    {headers(func(p []byte) { p[52] = 8 }), d + "the header has unknown flags 0x8"},
		"places":   {headers(func(p []byte) { p[88]++ }), d + "the header does not agree with itself about where the map and the data are"},
		"reserved": {headers(func(p []byte) { p[4000] = 1 }), d + "the header has something where nothing may be"},
		"other base": {func(m image) { m.base[5] ^= 1 },
			"the difference file belongs to another base, or this one has been written to: its fingerprint is 6b0ffa2b1d06e9cb, that of the base was 1c341f04ba9a3fea"},
		"page":           {func(m image) { m.diff[2*slotSize+100] ^= 1 }, d + "copy 0 of page 0 of the map has a wrong checksum"},
		"page, copy 1":   {func(m image) { m.diff[3*slotSize] ^= 1 }, d + "copy 1 of page 0 of the map has a wrong checksum"},
		"page number":    {pages(func(p []byte, _ int) { p[8]++ }), d + "copy 0 of page 0 of the map belongs elsewhere"},
		"state":          {pages(func(p []byte, _ int) { p[pageHead] = 3 }), d + "copy 0 of page 0 of the map has a chunk in an unknown state"},
		"behind the end": {pages(func(p []byte, _ int) { p[2000] = 1 }), d + "copy 0 of page 0 of the map tells of chunks behind the end of the base"},
		"epoch":          {pages(func(p []byte, _ int) { p[16] = 9 }), d + "copy 0 of page 0 of the map is of epoch 9, the header of epoch 0"},
		"sequence":       {pages(func(p []byte, _ int) { p[24] = 9 }), d + "both copies of page 0 of the map have the number 9"},
	} {
		m := newImage(t, false)
		c.change(m)
		err := m.open(t.Context())
		if err == nil {
			t.Errorf("%s: opened", name)
			continue
		}
		if err.Error() != c.want {
			t.Errorf("%s\ngot  %v\nwant %s", name, err, c.want)
		}
		if !errors.Is(err, block.ErrIO) && !errors.Is(err, block.ErrInvalid) {
			t.Errorf("%s: %v has no meaning", name, err)
		}
		if name == "other base" {
			continue
		}
		problems, err := Check(t.Context(), readOnly(block.FromBytes(m.diff)))
		if err == nil && harm(problems) == nil {
			t.Errorf("%s: not noticed by Check", name)
		}
	}
	for _, n := range []int{0, 4096, 8192, 70_000} {
		m := newImage(t, false)
		m.diff = m.diff[:n]
		if err := m.open(t.Context()); err == nil {
			t.Errorf("a file of %d bytes opens", n)
		}
	}
}

// Every bit counts: of a file that was closed properly none can change in the
// map, nor in both headers.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := newImage(t, false)
	for at := 0; at < slotSize; at += 1 + at/60 {
		bit := byte(1) << (at % 8)
		for slot := 2; slot < 4; slot++ {
			m.diff[slot*slotSize+at] ^= bit
			if _, err := Stat(ctx, block.FromBytes(m.diff)); !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit %d of byte %d of slot %d: %v", at%8, at, slot, err)
			}
			m.diff[slot*slotSize+at] ^= bit
		}
		m.diff[at] ^= bit
		if err := m.open(ctx); err != nil {
			t.Fatalf("bit %d of byte %d of the first header: %v", at%8, at, err)
		}
		if problems, err := Check(ctx, block.FromBytes(m.diff)); err != nil || len(problems) != 1 {
			t.Fatalf("check: %v %v", problems, err)
		}
		m.diff[slotSize+at] ^= bit
		if err := m.open(ctx); err == nil {
			t.Fatalf("bit %d of byte %d of both headers", at%8, at)
		}
		m.diff[at] ^= bit
		m.diff[slotSize+at] ^= bit
	}
}

// In a file that was in use one copy of a page may be torn, and is cleared
// away. Both cannot.
func TestTornPage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := newImage(t, true)
	torn := 5 - m.current() // the older one
	clear(m.diff[torn*slotSize+512:][:1000])
	copy(m.diff[torn*slotSize+2000:], "torn")
	if problems, err := Check(ctx, readOnly(block.FromBytes(m.diff))); err != nil || len(problems) != 0 {
		t.Fatal(problems, err)
	}
	d, err := Open(ctx, block.FromBytes(m.base), block.FromBytes(m.diff), false)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 7)
	if err := d.ReadAt(ctx, p, 60_000, 0); err != nil || string(p) != "changed" {
		t.Errorf("%q %v", p, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if !isEmpty(m.diff[torn*slotSize:][:slotSize]) {
		t.Error("the torn page has not been cleared away")
	}
	if s, err := Stat(ctx, block.FromBytes(m.diff)); err != nil || s.InUse {
		t.Errorf("%+v %v", s, err)
	}

	m = newImage(t, true)
	m.diff[2*slotSize+99] ^= 1
	m.diff[3*slotSize+99] ^= 1
	if err := m.open(ctx); err == nil || err.Error() != "difference file is damaged: copy 1 of page 0 of the map has a wrong checksum" {
		t.Error(err)
	}
}

// A note that is damaged is none.
func TestDamagedNote(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	le := binary.LittleEndian
	for name, change := range map[string]func(p []byte){
		"nothing":    func([]byte) {},
		"magic":      func(p []byte) { p[0]++ },
		"number":     func(p []byte) { p[8]++ },
		"generation": func(p []byte) { le.PutUint64(p[16:], 99) },
		"state":      func(p []byte) { p[noteHead+6] = 3 },
		"behind":     func(p []byte) { p[noteHead+7] = 1 }, // of 25 chunks
	} {
		s := newShelf(t, blocktest.NewMachine(1), 100_000, 4096)
		d := s.open(t)
		if err := errors.Join(d.WriteAt(ctx, []byte("flushed"), 0, block.FUA), d.WriteAt(ctx, []byte("noted"), 0, 0), d.WriteAt(ctx, []byte("noted"), 8192, 0)); err != nil {
			t.Fatal(err)
		}
		m := image{make([]byte, s.diff.Open().Info().Size), s.bytes}
		if err := s.diff.Open().ReadAt(ctx, m.diff, 0, 0); err != nil {
			t.Fatal(err)
		}
		change(m.diff[4*slotSize:])
		m.seal(4)
		diff := ageing{block.FromBytes(m.diff), "cycle 0"}
		if problems, err := Check(ctx, diff); err != nil || len(problems) != 0 {
			t.Fatal(problems, err)
		}
		got, err := Stat(ctx, diff)
		if want := map[bool]int64{true: 8192, false: 4096}[name == "nothing"]; err != nil || got.Data != want || got.Zero != 0 {
			t.Errorf("%s: %+v %v, want %d bytes of data", name, got, err, want)
		}
	}
}

func TestFormatErrors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, c := range []struct {
		base, diff block.Info
		chunk      int64
		want       string
	}{
		{block.Info{Size: 1 << 20}, block.Info{Size: 2 << 20}, 100, "chunk is 100 bytes, must be a power of two from 512 to 65536: invalid argument"},
		{block.Info{Size: 1 << 20}, block.Info{Size: 1 << 20}, 512, "difference file is cut short: it has 1048576 bytes, needs 1114112: invalid argument"},
		{block.Info{Size: 1 << 20, MinBlock: 4096}, block.Info{Size: 2 << 20}, 512, "chunk is 512 bytes, must be at least 4096, the block size of the devices: invalid argument"},
		{block.Info{Size: 1<<20 + 512, MinBlock: 512}, block.Info{Size: 2 << 20, MinBlock: 4096}, 4096,
			"the base has 1049088 bytes, must be a multiple of 4096, the block size of the difference file's device: invalid argument"},
		{block.Info{Size: 1 << 20}, block.Info{Size: 2 << 20, MinBlock: 8192}, 65536,
			"difference file is on a device with blocks of 8192 bytes, at most 4096 are possible: invalid argument"},
		{block.Info{Size: 1 << 20, MaxBlock: 4096}, block.Info{Size: 2 << 20}, 4096, "the base takes at most 4096 bytes at once, must be 65536: invalid argument"},
		{block.Info{Size: 1 << 20}, block.Info{Size: 2 << 20, MaxBlock: 4096}, 4096,
			"difference file is on a device that takes at most 4096 bytes at once, must be 65536: invalid argument"},
	} {
		m := blocktest.NewMachine(1)
		err := Format(ctx, m.Disk(c.base).Open(), m.Disk(c.diff).Open(), c.chunk)
		if err == nil || err.Error() != c.want || !errors.Is(err, block.ErrInvalid) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// A corrupted difference file is refused or is a disk, and neither makes
// anything panic, hang or grow.
func FuzzOpen(f *testing.F) {
	for _, inUse := range []bool{false, true} {
		f.Add(newImage(f, inUse).diff[:5*slotSize], inUse)
	}
	base := noise(100_000)
	f.Fuzz(func(t *testing.T, start []byte, seal bool) {
		m := image{make([]byte, 200_000), base}
		copy(m.diff, start[:min(len(start), 5*slotSize)])
		if seal {
			for i := range 5 {
				m.seal(i)
			}
		}
		ctx := t.Context()
		// The era of the machine that wrote the image.
		const era = "cycle 0"
		_, _ = Check(ctx, ageing{readOnly(block.FromBytes(bytes.Clone(m.diff))), era})
		if RebaseUnchecked(ctx, ageing{block.FromBytes(m.diff), era}, block.FromBytes(base)) != nil {
			return
		}
		d, err := Open(ctx, block.FromBytes(base), ageing{block.FromBytes(m.diff), era}, false)
		if err != nil {
			t.Fatal(err)
		}
		h := blocktest.Generate(1, d.Info(), 10)
		if err := errors.Join(h.Run(ctx, d), d.Close()); err != nil {
			t.Error(err)
		}
	})
}
