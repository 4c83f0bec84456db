package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// everything reads and verifies, and returns what is wrong with a block.
func (l *lab) everything(a At) (reads, verifies []*BlockError) {
	l.t.Helper()
	p := make([]byte, BlockSize)
	for b := range int64(40) {
		var bad *BlockError
		if err := l.Read(l.t.Context(), a, p, b*BlockSize); errors.As(err, &bad) {
			reads = append(reads, bad)
		} else if err != nil {
			l.t.Fatal(err)
		}
	}
	l.ok(l.Verify(l.t.Context(), a.Object, func(e *BlockError) bool { verifies = append(verifies, e); return true }))
	return reads, verifies
}

// A bit that has changed on the slab is found by reading, by verifying and by
// both checks, under the name of the version that the block belongs to, and
// repaired by what another member has.
func TestRotIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range times(20) {
		l := openLab(t, labSize)
		ctx := t.Context()
		data := fill(byte(rng.IntN(256)), 20)
		l.ok(l.Write(ctx, at(3, 1), data, 0))
		head := at(3, l.trees.add(1, 1))
		l.ok(l.Write(ctx, head, fill(99, 2), 4*BlockSize))
		l.ok(l.Flush(ctx))
		block := uint32(rng.IntN(20))
		e := Entry{Version: 1, Block: block, Kind: Data, Sum: checksum(data[block*BlockSize:][:BlockSize])}
		place := l.placeOf(e, head.Object)
		l.bytes[offset(place)+rng.Int64N(BlockSize)] ^= 1 << rng.IntN(8)

		reads, verifies := l.everything(at(3, 1))
		if len(reads) != 1 || len(verifies) != 1 || *reads[0] != *verifies[0] || reads[0].Err != ErrRot || reads[0].Block != block || reads[0].Version != 1 || reads[0].Sum != e.Sum {
			t.Fatalf("block %d: %v, %v", block, reads, verifies)
		}
		if reads, _ := l.everything(head); (block == 4 || block == 5) != (len(reads) == 0) {
			t.Fatalf("block %d, read through a child: %v", block, reads)
		}
		want := fmt.Sprintf("block %d of version 1 of object 1/3: rot", block)
		if _, err := l.check(true); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("check: %v", err)
		}
		l.shut()
		if _, err := l.check(true); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("check while closed: %v", err)
		}
		l.open()
		// Writing a part of it needs the rest.
		if block < 4 {
			top := at(3, l.trees.add(1, head.Version))
			if err := l.Write(ctx, top, []byte{1}, int64(block)*BlockSize+1); !errors.Is(err, ErrRot) {
				t.Fatalf("writing a part: %v", err)
			}
		}
		good := data[block*BlockSize:][:BlockSize]
		before, err := l.State(ctx, head.Object)
		l.ok(err)
		stale := e
		stale.Sum++
		if n, err := l.Repair(ctx, head.Object, 0, []Fix{{Was: stale, Kind: Data, Data: good}}); n != 0 || err != nil {
			t.Fatalf("a stale fix: %d %v", n, err)
		}
		if n, err := l.Repair(ctx, head.Object, 0, []Fix{{Was: e, Kind: Data, Data: good}}); n != 1 || err != nil {
			t.Fatalf("repair: %d %v", n, err)
		}
		if after, err := l.State(ctx, head.Object); err != nil || after.Digest != before.Digest || after.Counter == before.Counter {
			t.Fatalf("state %v after a repair, before %v (%v)", after, before, err)
		}
		l.want(at(3, 1), 0, data)
		l.checked(true)
		l.shut()
		l.checked(true)
	}
}

// placeOf returns where the data of an entry are.
func (l *lab) placeOf(e Entry, o Object) uint64 {
	l.t.Helper()
	r, err := l.hold(At{Object: o}, nil)
	l.ok(err)
	defer r.end()
	piece, _ := pieceOf(e.Block)
	for p, err := range r.entries(piece) {
		l.ok(err)
		if p.Entry == e {
			return p.place
		}
	}
	l.t.Fatalf("no entry %v", e)
	return 0
}

// What was being overwritten when the power failed is an unfinished write while
// the object is dirty, also after a run that ended well, and rot when it has
// been cleared.
func TestUnfinishedOrRot(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	a := at(0, 1)
	spoil := func() Entry {
		t.Helper()
		var last Entry
		for e, err := range l.Entries(ctx, a.Object) {
			l.ok(err)
			last = e
		}
		l.bytes[offset(l.placeOf(last, a.Object))]++
		return last
	}
	found := func(want error) {
		t.Helper()
		if err := l.Read(ctx, a, make([]byte, BlockSize), 0); !errors.Is(err, want) {
			t.Fatalf("%v, expected %v", err, want)
		}
	}
	crash := func() {
		t.Helper()
		// The metadata are as they are; that the run has not ended is noted.
		l.ok(l.Flush(ctx))
		l.ok(l.Close())
		l.Disk = nil
		l.open()
		l.run.settled = 0
	}
	l.ok(l.Write(ctx, a, fill(1, 1), 0))
	l.ok(l.Flush(ctx))
	spoil()
	found(ErrRot)
	l.ok(l.Write(ctx, a, fill(2, 1), 0))
	l.reopen()
	spoil()
	found(ErrRot)
	l.ok(l.Write(ctx, a, fill(3, 1), 0))

	crash()
	e := spoil()
	found(ErrUnfinished)
	if c := l.checked(true); c.Unfinished != 1 || c.Dirty != 1 {
		t.Errorf("%+v", c)
	}
	raw := make([]byte, BlockSize)
	got, err := l.Raw(ctx, a.Object, 1, 0, raw)
	if err != nil || got != e || raw[0] != 4 || raw[1] != 3 {
		t.Fatalf("%v %v, %v", got, err, raw[:4])
	}
	if n, err := l.Repair(ctx, a.Object, 0, []Fix{{Was: e, Kind: Data, Data: raw}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	l.want(a, 0, raw)
	s, err := l.State(ctx, a.Object)
	l.ok(err)
	if cleared, err := l.Clear(ctx, a.Object, s); cleared || err != nil {
		t.Fatalf("cleared what is not durable: %v", err)
	}
	l.ok(l.Flush(ctx))
	if cleared, err := l.Clear(ctx, a.Object, State{s.Counter, s.Digest + 1}); cleared || err != nil {
		t.Fatalf("cleared another state: %v", err)
	}
	if cleared, err := l.Clear(ctx, a.Object, s); !cleared || err != nil {
		t.Fatalf("not cleared: %v", err)
	}
	spoil()
	found(ErrRot)
}

// Every kind of damage to the metadata is a finding of both checks, in one
// sentence.
func TestCheckFindsDamage(t *testing.T) {
	t.Parallel()
	o := Object{1, 0}
	piece := pieceKey(nil, o, 0, 1)
	edit := func(key []byte, f func(*own)) func(*lab, *pebble.DB) error {
		return func(l *lab, db *pebble.DB) error {
			value, closer, err := db.Get(key)
			if err != nil {
				return err
			}
			var r own
			if err := errors.Join(r.decode(value), closer.Close()); err != nil {
				return err
			}
			f(&r)
			return db.Set(key, r.encode(nil), nil)
		}
	}
	set := func(key, value []byte) func(*lab, *pebble.DB) error {
		return func(_ *lab, db *pebble.DB) error { return db.Set(key, value, nil) }
	}
	remove := func(key []byte) func(*lab, *pebble.DB) error {
		return func(_ *lab, db *pebble.DB) error { return db.Delete(key, nil) }
	}
	for name, tt := range map[string]struct {
		do   func(*lab, *pebble.DB) error
		want []string
	}{
		"another sum":        {edit(piece, func(r *own) { r.sums[0]++ }), []string{"its header says"}},
		"another place":      {edit(piece, func(r *own) { r.places[0] = 700 }), []string{"places 700 to 700 are in use and free", "nobody uses them"}},
		"the same place":     {edit(piece, func(r *own) { r.places[0] = r.places[1] }), []string{"where another block is", "nobody uses them"}},
		"no such place":      {edit(piece, func(r *own) { r.places[0] = 1 << 40 }), []string{"the disk has", "nobody uses them"}},
		"no record":          {remove(piece), []string{"its header says", "2 tallies, expected 1", "nobody uses them"}},
		"a bad record":       {set(piece, []byte{1, 0, 2, 0}), []string{"a record has entries 0001 and data 0002", "its header says", "2 tallies, expected 1", "nobody uses them"}},
		"a bad key":          {set(append(piece, 0), nil), []string{"expected 35 bytes"}},
		"no header":          {remove(objectKey(nil, tableObject, o)), []string{"entries and no header"}},
		"a bad header":       {set(objectKey(nil, tableObject, o), []byte{1}), []string{"a header has 1 bytes"}},
		"a header too many":  {set(objectKey(nil, tableObject, Object{1, 9}), (&header{data: 1}).encode(nil)), []string{"object 1/9 has a header and no entries"}},
		"no tally":           {remove(tallyKey(nil, o, 1)), []string{"entries and no tally"}},
		"another tally":      {set(tallyKey(nil, o, 1), (&tally{data: 1}).encode(nil)), []string{"its tally says 1 and 0"}},
		"a tally too many":   {set(tallyKey(nil, o, 7), (&tally{data: 1}).encode(nil)), []string{"there are 3 tallies, expected 2"}},
		"no such version":    {func(l *lab, db *pebble.DB) error { l.trees.remove(1, 1); return nil }, []string{"family 1 has no such version"}},
		"a bad mark":         {set(objectKey(nil, tableDirty, o), []byte{0, 0}), []string{"a mark has run 0"}},
		"a mark of tomorrow": {set(objectKey(nil, tableDirty, o), mark{run: 99}.encode(nil)), []string{"dirty since run 99"}},
		"a bad segment":      {set(segmentKey(nil, 0), []byte{2}), []string{"the bits of a segment have 1 bytes"}},
		"no segment":         {remove(segmentKey(nil, 0)), []string{"places 0 to 3 are in use and free"}},
		"a full segment":     {set(segmentKey(nil, 0), []byte{1}), []string{"nobody uses them"}},
		"segment too many":   {set(segmentKey(nil, 9999), []byte{1}), []string{"is not that of a segment"}},
		"a stranger":         {set([]byte("x"), nil), []string{"key 78 belongs to no table"}},
		"a superblock":       {func(l *lab, _ *pebble.DB) error { l.bytes[100]++; return nil }, []string{"the superblock at 0 is not"}},
		"its copy":           {func(l *lab, _ *pebble.DB) error { l.bytes[len(l.bytes)-1]++; return nil }, []string{"the superblock at 7340032 is not"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openLab(t, labSize)
			l.ok(l.Write(t.Context(), at(0, 1), fill(1, 3), 0))
			l.ok(l.Write(t.Context(), at(0, l.trees.add(1, 1)), fill(1, 1), 0))
			l.ok(l.Flush(t.Context()))
			l.checked(true)
			l.ok(tt.do(l, l.meta.db))
			for _, open := range []bool{true, false} {
				if !open {
					// Not by Close, which would notice as well.
					l.gate.Close()
					l.ok(l.meta.db.Close())
					l.Disk = nil
				}
				var findings []string
				report := func(err error) { findings = append(findings, err.Error()) }
				var err error
				if open {
					_, err = l.Check(t.Context(), false, report)
				} else {
					_, err = Check(t.Context(), l.config(), false, report)
				}
				l.ok(err)
				all := strings.Join(findings, "\n")
				for _, want := range tt.want {
					if !strings.Contains(all, want) {
						t.Errorf("open %v: %q is missing in:\n%s", open, want, all)
					}
				}
				if len(findings) > 6 {
					t.Errorf("%d findings", len(findings))
				}
			}
		})
	}
}
