package bitmap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

const (
	testOrigin = 1 << 20
	testStore  = 6 << 20
)

func config(disk []byte) snapshot.Config {
	return snapshot.Config{Device: block.FromBytes(disk), OriginSize: testOrigin, Retire: func(f func()) { f() }}
}

func load(t testing.TB, cfg snapshot.Config) (*store, error) {
	t.Helper()
	st, err := newStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st.(*store), st.Load(t.Context())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func blank(t testing.TB) (*store, []byte) {
	t.Helper()
	disk := make([]byte, testStore)
	cfg := config(disk)
	cfg.Format = snapshot.Always
	st, err := load(t, cfg)
	must(t, err)
	return st, disk
}

func create(t testing.TB, st *store) snapshot.ID {
	t.Helper()
	id, err := st.Create(t.Context(), snapshot.Origin)
	must(t, err)
	return id
}

// change carries a request out, without data.
func change(t testing.TB, st *store, op snapshot.Op, v snapshot.ID, c, n int64) {
	t.Helper()
	for n > 0 {
		p, err := st.Plan(t.Context(), snapshot.Request{Op: op, View: v, Chunk: c, N: n})
		must(t, err)
		if op != snapshot.Detach || len(p.Copies) > 0 {
			must(t, st.Apply(t.Context(), p))
		}
		c, n = c+p.N, n-p.N
	}
}

// filled returns a store with all kinds of pages, some in the journal.
func filled(t testing.TB) (*store, []byte) {
	t.Helper()
	st, disk := blank(t)
	a, b := create(t, st), create(t, st)
	change(t, st, snapshot.Detach, snapshot.Origin, 0, 200)
	change(t, st, snapshot.Write, a, 3, 100)
	change(t, st, snapshot.Clear, b, 9, 2)
	must(t, st.Put(t.Context(), "key", bytes.Repeat([]byte("value"), 1000)))
	must(t, st.Commit(t.Context(), 0))
	must(t, st.checkpoint(t.Context()))
	create(t, st)
	change(t, st, snapshot.Detach, snapshot.Origin, 20, 10)
	must(t, st.Commit(t.Context(), 0))
	return st, disk
}

func problems(t testing.TB, st *store) (all []error) {
	t.Helper()
	must(t, st.Check(t.Context(), func(err error) { all = append(all, err) }))
	return all
}

// shape is what Map and the rest say of a store.
func shape(t testing.TB, st *store) string {
	t.Helper()
	var b bytes.Buffer
	for _, v := range append(st.Snapshots(), snapshot.Origin) {
		for c := int64(0); c < testOrigin/4096; {
			seg, err := st.Map(t.Context(), v, c, testOrigin/4096-c, 0)
			must(t, err)
			fmt.Fprintln(&b, v, c, seg)
			c += seg.N
		}
	}
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k, v := range st.Values() {
			if !yield(k + string(v)) {
				return
			}
		}
	}) {
		fmt.Fprintln(&b, k)
	}
	return b.String()
}

// Each bit of the metadata that is not what it was is found.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	st, disk := filled(t)
	if all := problems(t, st); len(all) > 0 {
		t.Fatal(all)
	}
	l := &st.l
	pages := []int64{0, 1, 2, l.last, l.state, l.state + 1, l.dir, l.bits}
	for at := range st.j.at {
		pages = append(pages, firstJournal+at)
	}
	for _, b := range st.buckets {
		pages = append(pages, b.nodes...)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, at := range pages {
		if st.j.logged[at] != nil {
			continue // the page at home is not in use
		}
		for k := range 40 {
			bit := rng.IntN(pageSize * 8)
			if k < 8 {
				bit = rng.IntN(pageHead * 8)
			}
			disk[at*pageSize+int64(bit/8)] ^= 1 << (bit % 8)
			if len(problems(t, st)) == 0 {
				t.Errorf("bit %d of block %d is not what it was, and nobody finds it", bit, at)
			}
			disk[at*pageSize+int64(bit/8)] ^= 1 << (bit % 8)
		}
	}
	if all := problems(t, st); len(all) > 0 {
		t.Error(all)
	}
}

// What is not a store, or one for something else, has a clear error.
func TestBadStores(t *testing.T) {
	t.Parallel()
	st, good := filled(t)
	must(t, st.Close(t.Context()))
	reseal := func(p []byte, at int64) { seal(p[at*pageSize:][:pageSize], superPage, at, 0, st.l.id()) }
	for _, x := range []struct {
		name string
		do   func(disk []byte, cfg *snapshot.Config) []byte
		want error
	}{
		{"good", func(p []byte, _ *snapshot.Config) []byte { return p }, nil},
		{"copy", func(p []byte, _ *snapshot.Config) []byte { clear(p[:pageSize]); return p }, nil},
		{"blank", func(p []byte, _ *snapshot.Config) []byte { clear(p); return p }, snapshot.ErrNoStore},
		{"garbage", func(p []byte, _ *snapshot.Config) []byte {
			for i := range p {
				p[i] = byte(i * 7)
			}
			return p
		}, snapshot.ErrNoStore},
		{"tiny", func(p []byte, _ *snapshot.Config) []byte { return p[:512] }, snapshot.ErrNoStore},
		{"truncated", func(p []byte, _ *snapshot.Config) []byte { return p[:len(p)/2] }, snapshot.ErrDamaged},
		{"both superblocks", func(p []byte, _ *snapshot.Config) []byte { p[60] ^= 1; p[len(p)-1] ^= 1; return p }, snapshot.ErrDamaged},
		{"both headers", func(p []byte, _ *snapshot.Config) []byte { p[pageSize+40] ^= 1; p[2*pageSize+40] ^= 1; return p }, snapshot.ErrDamaged},
		{"state", func(p []byte, _ *snapshot.Config) []byte { p[st.l.state*pageSize+99] ^= 1; return p }, snapshot.ErrDamaged},
		{"bitmap", func(p []byte, _ *snapshot.Config) []byte { p[st.l.bits*pageSize+99] ^= 1; return p }, snapshot.ErrDamaged},
		{"version", func(p []byte, _ *snapshot.Config) []byte { p[48] = 2; reseal(p, 0); return p }, snapshot.ErrMismatch},
		{"chunk", func(p []byte, c *snapshot.Config) []byte { c.Chunk = 8192; return p }, snapshot.ErrMismatch},
		{"origin", func(p []byte, c *snapshot.Config) []byte { c.OriginSize /= 2; return p }, snapshot.ErrMismatch},
		{"no chunk size", func(p []byte, _ *snapshot.Config) []byte { p[52], p[53] = 3, 0; reseal(p, 0); return p }, nil},
	} {
		cfg := config(nil)
		disk := x.do(slices.Clone(good), &cfg)
		cfg.Device = block.FromBytes(disk)
		st, err := load(t, cfg)
		if !errors.Is(err, x.want) || x.want == nil && err != nil {
			t.Errorf("%s: %v, expected %v", x.name, err, x.want)
		}
		if len(disk) >= pageSize && err != nil && !errors.Is(err, snapshot.ErrMismatch) && len(problems(t, st)) == 0 {
			t.Errorf("%s: the checker finds nothing", x.name)
		}
		must(t, st.Close(t.Context()))
	}
	if _, err := newStore(snapshot.Config{Args: map[string]string{"journal": "7"}}); !errors.Is(err, block.ErrInvalid) {
		t.Errorf("a journal of 7 blocks: %v", err)
	}
}

// The journal is filled many times over; at each commit a copy of the device is
// the same store.
func TestJournal(t *testing.T) {
	t.Parallel()
	st, disk := blank(t)
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range 300 {
		switch ids := st.Snapshots(); {
		case i%10 == 0 && len(ids) < 20:
			create(t, st)
		case i%37 == 0:
			must(t, st.Delete(t.Context(), ids[:len(ids)/2]))
		case i%3 == 0:
			change(t, st, snapshot.Detach, snapshot.Origin, rng.Int64N(200), 1+rng.Int64N(10))
		case i%3 == 1:
			change(t, st, snapshot.Clear, ids[rng.IntN(len(ids))], rng.Int64N(200), 3)
		default:
			must(t, st.Put(t.Context(), fmt.Sprint(rng.IntN(9)), make([]byte, rng.IntN(3000))))
		}
		if _, err := st.Step(t.Context(), 50); err != nil {
			t.Fatal(err)
		}
		must(t, st.Commit(t.Context(), 0))
		if i%9 != 0 {
			continue
		}
		if all := problems(t, st); len(all) > 0 {
			t.Fatal(i, all)
		}
		again, err := load(t, config(slices.Clone(disk)))
		must(t, err)
		if shape(t, again) != shape(t, st) {
			t.Fatalf("after %d commits the device holds another store", i)
		}
	}
}

// The number of snapshots is limited, and bits are used again when no exception
// has them.
func TestMany(t *testing.T) {
	t.Parallel()
	st, _ := blank(t)
	for range maxSnapshots {
		create(t, st)
	}
	if _, err := st.Create(t.Context(), snapshot.Origin); !errors.Is(err, snapshot.ErrTooMany) {
		t.Errorf("one more: %v, expected %v", err, snapshot.ErrTooMany)
	}
	for _, id := range st.Snapshots() {
		change(t, st, snapshot.Write, id, 5, 1)
	}
	must(t, st.Delete(t.Context(), st.Snapshots()[:1]))
	if _, err := st.Create(t.Context(), snapshot.Origin); !errors.Is(err, snapshot.ErrTooMany) {
		t.Errorf("while one is being deleted: %v, expected %v", err, snapshot.ErrTooMany)
	}
	for more := true; more; {
		p, err := st.Step(t.Context(), 1)
		must(t, err)
		more = p.More
	}
	if id := create(t, st); id != maxSnapshots+1 {
		t.Errorf("the snapshot is number %d, expected %d", id, maxSnapshots+1)
	}
	must(t, st.Commit(t.Context(), 0))
	if all := problems(t, st); len(all) > 0 {
		t.Error(all)
	}
}

// FuzzLoad changes pages, with good checksums or bad ones: three bytes for the
// page, the offset and the value, and whether to seal it.
func FuzzLoad(f *testing.F) {
	st, good := filled(f)
	l := &st.l
	pages := []int64{0, 1, 2, firstJournal, firstJournal + 1, l.state, l.state + 1, l.dir, l.bits, l.last}
	for _, n := range []int64{0, 1, 2} {
		pages = append(pages, st.buckets[n].nodes...)
	}
	f.Add([]byte{0, 48, 0, 3}, true)
	f.Add([]byte{5, 72, 0, 255, 7, 32, 0, 9}, true)
	f.Add([]byte{10, 40, 0, 1, 10, 60, 0, 255}, true)
	f.Fuzz(func(t *testing.T, edits []byte, sealed bool) {
		disk := slices.Clone(good)
		for e := range slices.Chunk(edits[:min(len(edits), 400)], 4) {
			if len(e) < 4 {
				break
			}
			at := pages[int(e[0])%len(pages)]
			p := disk[at*pageSize:][:pageSize]
			p[(int(e[1])|int(e[2])<<8)%pageSize] = e[3]
			if sealed {
				seal(p, cmp.Or(p[3], 'S'), at, le.Uint64(p[16:]), l.id())
			}
		}
		st, err := load(t, config(disk))
		if err == nil {
			shape(t, st)
			_ = problems(t, st)
			_ = st.Close(t.Context())
			return
		}
		_ = problems(t, st)
	})
}
