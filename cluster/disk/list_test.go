package disk

import (
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
)

// The objects of a placement group are a range, of which a list has all and
// nothing else, whether they have been flushed or not.
func TestListByGroup(t *testing.T) {
	t.Parallel()
	l := openLab(t, minSlab+4<<20)
	ctx := t.Context()
	const groups = 8
	want := map[uint64][]Object{}
	for i := range uint64(120) {
		o := Object{1, i}
		want[o.Hash()>>61] = append(want[o.Hash()>>61], o)
		l.ok(l.Write(ctx, At{o, 1, 0}, fill(byte(i), 1), 0))
		if i == 60 {
			l.ok(l.Flush(ctx))
		}
	}
	for g := range uint64(groups) {
		from, to := g<<61, g<<61|(1<<61-1)
		var got, dirty []Object
		for s, err := range l.List(ctx, from, to) {
			l.ok(err)
			if s.Blocks != 1 || s.Digest == 0 || s.Counter == 0 {
				t.Errorf("%+v", s)
			}
			got = append(got, s.Object)
		}
		for o, err := range l.Dirty(ctx, from, to) {
			l.ok(err)
			dirty = append(dirty, o.Object)
		}
		slices.SortFunc(want[g], Object.compare)
		if !slices.Equal(got, want[g]) || !slices.Equal(dirty, want[g]) {
			t.Errorf("group %d has %v, dirty %v, expected %v", g, got, dirty, want[g])
		}
	}
	// Whoever has seen enough stops.
	for range l.List(ctx, 0, lastHash) {
		break
	}
	for range l.Dirty(ctx, 0, lastHash) {
		break
	}
	// What is gone is not listed, flushed or not.
	gone := Object{1, 3}
	l.ok(l.Remove(ctx, gone))
	if _, ok := l.states()[gone]; ok {
		t.Error("a removed object is listed")
	}
	l.ok(l.Flush(ctx))
	l.checked(true)
	if m := l.states(); len(m) != 119 {
		t.Errorf("%d objects", len(m))
	}
	for o := range l.Dirty(ctx, 0, lastHash) {
		if o.Object == gone {
			t.Error("a removed object is dirty")
		}
	}
}

// Digests tell whether objects are the same, not how they came to be so.
func TestDigests(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := openLab(t, labSize), openLab(t, labSize)
	b.trees.add(1, 1)
	a.trees.add(1, 1)
	o := Object{1, 0}
	same := func(want bool) {
		t.Helper()
		x, err := a.State(ctx, o)
		a.ok(err)
		y, err := b.State(ctx, o)
		b.ok(err)
		if (x.Digest == y.Digest) != want {
			t.Fatalf("%+v %+v, expected the same: %v", x, y, want)
		}
	}
	a.ok(a.Write(ctx, at(0, 2), fill(1, 2), 0))
	same(false)
	b.ok(b.Write(ctx, at(0, 2), fill(9, 1), 0))
	b.ok(b.Write(ctx, at(0, 2), fill(1, 1), 0))
	b.ok(b.Write(ctx, at(0, 2), fill(4, 1), BlockSize))
	same(true)
	b.ok(b.Zero(ctx, at(0, 2), BlockSize, BlockSize))
	same(false)
	b.ok(b.Write(ctx, at(0, 2), fill(4, 1), BlockSize))
	same(true)
	// The same bytes in another version are something else, and another place
	// is not.
	a.ok(a.Zero(ctx, at(0, 2), 0, MaxObject))
	b.ok(b.Zero(ctx, at(0, 2), 0, MaxObject))
	same(true)
	if s, err := a.State(ctx, o); err != nil || s.Digest != 0 {
		t.Fatalf("%+v %v", s, err)
	}
	// What one lacks it gets, entry by entry.
	a.ok(a.Write(ctx, at(0, 2), fill(1, 40), 8*BlockSize))
	p := make([]byte, BlockSize)
	var fixes []Fix
	for e, err := range a.Entries(ctx, o) {
		a.ok(err)
		_, err := a.Raw(ctx, o, e.Version, e.Block, p)
		a.ok(err)
		fixes = append(fixes, Fix{Was: Entry{e.Version, e.Block, None, 0}, Kind: e.Kind, Data: slices.Clone(p)})
	}
	n, err := b.Repair(ctx, o, 0, fixes)
	b.ok(err)
	if n != 40 {
		t.Errorf("%d fixes", n)
	}
	same(true)
	b.want(at(0, 2), 8*BlockSize, fill(1, 40))
	b.ok(b.Flush(ctx))
	b.checked(true)
	if n, err = b.Repair(ctx, o, 0, fixes); n != 0 || err != nil {
		t.Errorf("%d fixes, %v", n, err)
	}
}

// However the blocks of fixes lie in memory, and whether their checksums are known or not, the
// disk has them afterwards: it writes side by side what is, and computes what it has to.
func TestRepairFromAnywhere(t *testing.T) {
	t.Parallel()
	const blocks = pieceBlocks + 5
	for _, x := range []struct {
		name   string
		summed bool
		// where says at which block of the memory a block lies.
		where func(i int) int
		holes func(i int) bool
	}{
		{"side by side", true, func(i int) int { return i }, nil},
		{"checksums are not known", false, func(i int) int { return i }, nil},
		{"the other way round", true, func(i int) int { return blocks - 1 - i }, nil},
		{"with gaps", true, func(i int) int { return i + i/4 }, nil},
		{"pairs change places", false, func(i int) int { return i ^ 1 }, nil},
		{"holes between them", true, func(i int) int { return i }, func(i int) bool { return i%3 == 1 }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			l := openLab(t, labSize)
			ctx := t.Context()
			memory, want := make([]byte, 2*blocks*BlockSize), make([]byte, blocks*BlockSize)
			var fixes []Fix
			for i := range blocks {
				f := Fix{Was: Entry{Version: 1, Block: uint32(i)}, Kind: Hole}
				if x.holes == nil || !x.holes(i) {
					f.Kind, f.Data = Data, memory[x.where(i)*BlockSize:(x.where(i)+1)*BlockSize]
					copy(f.Data, fill(byte(i+1), 1))
					copy(want[i*BlockSize:], f.Data)
					f.Sum, f.Summed = checksum(f.Data), x.summed
				}
				fixes = append(fixes, f)
			}
			before := slices.Clone(memory)
			if n, err := l.Repair(ctx, Object{1, 0}, 0, fixes); n != blocks || err != nil {
				t.Fatalf("%d fixes, %v", n, err)
			}
			if !slices.Equal(memory, before) {
				t.Error("what was given was changed")
			}
			l.want(at(0, 1), 0, want)
			l.ok(l.Flush(ctx))
			l.checked(true)
		})
	}
}

// A new run renews the mark of an object that is still dirty from one that has
// ended well, and only that.
func TestMarks(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	marks := func(want uint64) {
		t.Helper()
		if got := l.Stats().Marks; got != want {
			t.Fatalf("%d marks, expected %d", got, want)
		}
	}
	for range 3 {
		l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
		l.ok(l.Zero(ctx, at(0, 1), 0, 1))
		l.ok(l.Trim(ctx, at(0, 1), 0, BlockSize))
	}
	marks(1)
	l.reopen()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	marks(1)
	l.ok(l.Flush(ctx))
	s, err := l.State(ctx, Object{1, 0})
	l.ok(err)
	if cleared, err := l.Clear(ctx, Object{1, 0}, s); !cleared || err != nil {
		t.Fatal(cleared, err)
	}
	if cleared, err := l.Clear(ctx, Object{1, 0}, s); !cleared || err != nil {
		t.Fatal("clearing it again:", cleared, err)
	}
	l.ok(l.Write(ctx, at(0, 1), fill(2, 1), 0))
	marks(2)
}

func TestExtents(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 3), 10*BlockSize))
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), MaxObject-BlockSize))
	head := at(0, l.trees.add(1, 1))
	l.ok(l.Zero(ctx, head, 11*BlockSize, BlockSize))
	const hole = block.Hole | block.Zero
	for _, tt := range []struct {
		at     At
		off, n int64
		want   []block.Extent
	}{
		{at(0, 1), 0, MaxObject, []block.Extent{{Off: 0, Len: 40960, Status: hole}, {Off: 40960, Len: 12288}, {Off: 53248, Len: MaxObject - BlockSize - 53248, Status: hole}, {Off: MaxObject - BlockSize, Len: BlockSize}}},
		{head, 40961, 10000, []block.Extent{{Off: 40961, Len: 4095}, {Off: 45056, Len: 4096, Status: hole}, {Off: 49152, Len: 1809}}},
		{head, 7, 0, nil},
		{at(5, 1), 5, 6, []block.Extent{{Off: 5, Len: 6, Status: hole}}},
	} {
		var got []block.Extent
		for e, err := range l.Extents(ctx, tt.at, tt.off, tt.n) {
			l.ok(err)
			if k := len(got); k > 0 && got[k-1].Status == e.Status && got[k-1].End() == e.Off {
				got[k-1].Len += e.Len
				continue
			}
			got = append(got, e)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v %d+%d: %v, expected %v", tt.at, tt.off, tt.n, got, tt.want)
		}
	}
	for _, err := range l.Extents(ctx, at(0, 9), 0, 1) {
		if !errors.Is(err, ErrVersion) {
			t.Error(err)
		}
	}
}

// Who goes through a list may ask about what is in it, also while the disk is
// being closed, which waits until he has seen enough.
func TestCloseDuringList(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	for i := range uint64(10) {
		l.ok(l.Write(ctx, at(i, 1), fill(1, 1), 0))
	}
	closed := make(chan error)
	n := 0
	for s, err := range l.List(ctx, 0, lastHash) {
		l.ok(err)
		l.ok(l.Verify(ctx, s.Object, func(*BlockError) bool { return true }))
		if n++; n < 3 {
			continue
		}
		go func() { closed <- l.Close() }()
		for l.gate.Enter() == nil {
			l.gate.Leave()
			runtime.Gosched()
		}
		if _, err := l.State(ctx, s.Object); !errors.Is(err, block.ErrClosed) {
			t.Errorf("asking a disk that is being closed: %v", err)
		}
		select {
		case err := <-closed:
			t.Errorf("closed while somebody was inside: %v", err)
		default:
		}
		break
	}
	l.ok(<-closed)
	l.Disk = nil
}

// Two versions of a family are compared, whatever lies between them and has been
// deleted.
func TestMap(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 4), 0))
	monday, tuesday := l.trees.add(1, 1), uint64(0)
	l.ok(l.Write(ctx, at(0, monday), fill(2, 1), BlockSize))
	tuesday = l.trees.add(1, monday)
	l.ok(l.Zero(ctx, at(0, tuesday), 2*BlockSize, BlockSize))
	l.ok(l.Write(ctx, at(0, tuesday), fill(3, 1), 20*BlockSize))
	head := l.trees.add(1, tuesday)
	clone := l.trees.add(1, 1)
	l.ok(l.Write(ctx, at(0, clone), fill(3, 1), 0))
	says := func(version, since uint64, want string) {
		t.Helper()
		got := ""
		for e, err := range l.Map(ctx, at(0, version), since, 0, 21*BlockSize) {
			l.ok(err)
			for range e.Len / BlockSize {
				got += map[uint64]string{0: "d", noData: "-", Changed: "D", noData | Changed: "Z"}[e.Status]
			}
		}
		if got != want {
			t.Errorf("version %d since %d is %s, expected %s", version, since, got, want)
		}
	}
	const none = "----------------"
	all := func() {
		says(1, 0, "dddd-"+none)
		says(head, 0, "dd-d"+none+"d")
		says(head, tuesday, "dd-d"+none+"d")
		says(head, 1, "dDZd"+none+"D")
		says(1, head, "dDDd"+none+"Z")
		says(head, clone, "DDZd"+none+"D")
		says(clone, head, "DDDd"+none+"Z")
	}
	all()
	says(head, monday, "ddZd"+none+"D")
	l.ok(l.Flush(ctx))
	all()
	l.trees.doom(1, monday)
	for _, err := range l.Map(ctx, at(0, head), monday, 0, 1) {
		if !errors.Is(err, ErrVersion) {
			t.Error(err)
		}
	}
	l.steps(monday, 3)
	l.trees.remove(1, monday)
	all()
	l.ok(l.Flush(ctx))
	l.reopen()
	all()
}
