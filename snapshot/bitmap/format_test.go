package bitmap

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/legacy"
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

// structures returns the blocks of each kind of metadata that are in use: what
// is in the journal counts there, and not at home.
func structures(st *store) map[string][]int64 {
	l := &st.l
	all := map[string][]int64{
		"superblock": {0}, "copy of the superblock": {l.last}, "header 0": {firstHeader}, "header 1": {firstHeader + 1},
		"state": {l.state, l.state + 1}, "directory": {l.dir}, "bitmap": {l.bits},
	}
	for _, b := range st.buckets {
		all["leaves"] = append(all["leaves"], b.nodes...)
	}
	for name, blocks := range all {
		all[name] = slices.DeleteFunc(blocks, func(at int64) bool { return st.j.logged[at] != nil })
	}
	for at := range st.j.at {
		all["journal"] = append(all["journal"], firstJournal+at)
	}
	return all
}

// Each bit of the metadata that is not what it was is found, in pages at home
// and in the journal.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	st, disk := filled(t)
	inJournal := structures(st)
	must(t, st.checkpoint(t.Context()))
	for name, blocks := range structures(st) {
		t.Run(name, func(t *testing.T) { flipBits(t, st, disk, blocks) })
	}
	st, disk = filled(t)
	for _, name := range []string{"journal", "header 0", "header 1", "leaves"} {
		t.Run(name+" with a transaction", func(t *testing.T) {
			if len(inJournal[name]) == 0 {
				t.Error("there is none")
			}
			flipBits(t, st, disk, structures(st)[name])
		})
	}
}

// flipBits changes bits of some blocks, those of the head in particular, one at
// a time.
func flipBits(t *testing.T, st *store, disk []byte, blocks []int64) {
	if all := problems(t, st); len(all) > 0 {
		t.Fatal(all)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, at := range blocks {
		for k := range 40 {
			bit := rng.IntN(pageSize * 8)
			if k < 16 {
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

// Of a device that became shorter nothing is used, wherever it was cut off.
func TestTruncated(t *testing.T) {
	t.Parallel()
	st, good := filled(t)
	must(t, st.Close(t.Context()))
	for _, n := range []int64{0, 1, 511, 512, 4095, 4096, 8191, 8192, 3 * 4096, st.l.state * pageSize, st.l.dir * pageSize,
		st.l.data, testStore / 2, testStore - 4096, testStore - 1} {
		want := snapshot.ErrDamaged
		if n < 2*pageSize {
			want = snapshot.ErrNoStore
		}
		for _, readOnly := range []bool{false, true} {
			disk := slices.Clone(good[:n])
			cfg := config(disk)
			cfg.ReadOnly = readOnly
			st, err := load(t, cfg)
			if !errors.Is(err, want) {
				t.Errorf("the first %d bytes of a store: %v, expected %v", n, err, want)
			}
			must(t, st.Close(t.Context()))
			if !bytes.Equal(disk, good[:n]) {
				t.Errorf("the first %d bytes of a store were changed", n)
			}
		}
	}
}

// A store of another kind is called one.
func TestOtherKind(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ is, want string }{{"bitmap", "legacy"}, {"legacy", "bitmap"}} {
		disk := make([]byte, testStore)
		open := func(kind string, f snapshot.Format) error {
			s, err := snapshot.New(block.FromBytes(make([]byte, testOrigin)), block.FromBytes(disk), snapshot.Options{Kind: kind, Format: f, Manual: true})
			must(t, err)
			return errors.Join(s.Resume(t.Context()), s.Close())
		}
		must(t, open(x.is, snapshot.Always))
		before := slices.Clone(disk)
		for _, f := range []snapshot.Format{snapshot.Never, snapshot.IfBlank} {
			err := open(x.want, f)
			text := fmt.Sprintf("the device holds a store of the kind %q, expected %q: the snapshot store does not fit", x.is, x.want)
			if !errors.Is(err, snapshot.ErrMismatch) || err.Error() != text {
				t.Errorf("the error is\n%v\nexpected\n%s", err, text)
			}
		}
		if !bytes.Equal(before, disk) {
			t.Error("the store of another kind was changed")
		}
	}
}

var checksum = regexp.MustCompile(`\b[0-9a-f]{8}\b`)

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
		text string
	}{
		{"good", func(p []byte, _ *snapshot.Config) []byte { return p }, nil, ""},
		{"copy", func(p []byte, _ *snapshot.Config) []byte { clear(p[:pageSize]); return p }, nil, ""},
		{"blank", func(p []byte, _ *snapshot.Config) []byte { clear(p); return p }, snapshot.ErrNoStore,
			"block 0 has no superblock: there is no snapshot store on the device"},
		{"garbage", func(p []byte, _ *snapshot.Config) []byte {
			for i := range p {
				p[i] = byte(i * 7)
			}
			return p
		}, snapshot.ErrNoStore,
			"block 0 has no superblock: there is no snapshot store on the device"},
		{"tiny", func(p []byte, _ *snapshot.Config) []byte { return p[:512] }, snapshot.ErrNoStore,
			"the device has 512 bytes: there is no snapshot store on the device"},
		{"truncated", func(p []byte, _ *snapshot.Config) []byte { return p[:len(p)/2] }, snapshot.ErrDamaged,
			"the device has 3145728 bytes, expected 6291456: the snapshot store is damaged"},
		{"both superblocks", func(p []byte, _ *snapshot.Config) []byte { p[60] ^= 1; p[len(p)-1] ^= 1; return p }, snapshot.ErrDamaged,
			"the superblock: block 0: its checksum is *, expected *: the snapshot store is damaged"},
		{"both headers", func(p []byte, _ *snapshot.Config) []byte { p[pageSize+40] ^= 1; p[2*pageSize+40] ^= 1; return p }, snapshot.ErrDamaged,
			"both headers of the journal are damaged: the snapshot store is damaged"},
		{"state", func(p []byte, _ *snapshot.Config) []byte { p[st.l.state*pageSize+99] ^= 1; return p }, snapshot.ErrDamaged,
			"the list of snapshots: block 103: its checksum is *, expected *: the snapshot store is damaged"},
		{"bitmap", func(p []byte, _ *snapshot.Config) []byte { p[st.l.bits*pageSize+99] ^= 1; return p }, snapshot.ErrDamaged,
			"block 128: its checksum is *, expected *: the snapshot store is damaged"},
		{"version", func(p []byte, _ *snapshot.Config) []byte { p[48] = 2; reseal(p, 0); return p }, snapshot.ErrMismatch,
			"the store has version 2, expected 1: the snapshot store does not fit"},
		{"chunk", func(p []byte, c *snapshot.Config) []byte { c.Chunk = 8192; return p }, snapshot.ErrMismatch,
			"the store has chunks of 4096 bytes, expected 8192: the snapshot store does not fit"},
		{"origin", func(p []byte, c *snapshot.Config) []byte { c.OriginSize /= 2; return p }, snapshot.ErrMismatch,
			"the store is for an origin of 1048576 bytes, expected 524288: the snapshot store does not fit"},
		{"no chunk size", func(p []byte, _ *snapshot.Config) []byte { p[52], p[53] = 3, 0; reseal(p, 0); return p }, nil, ""},
	} {
		cfg := config(nil)
		disk := x.do(slices.Clone(good), &cfg)
		cfg.Device = block.FromBytes(disk)
		st, err := load(t, cfg)
		if !errors.Is(err, x.want) || x.want == nil && err != nil {
			t.Errorf("%s: %v, expected %v", x.name, err, x.want)
		}
		if err != nil && checksum.ReplaceAllString(err.Error(), "*") != x.text {
			t.Errorf("%s: the error is\n%v\nexpected\n%s", x.name, err, x.text)
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
	refused := func(live, deleted int) {
		t.Helper()
		_, err := st.Create(t.Context(), snapshot.Origin)
		text := fmt.Sprintf("there are %d snapshots and %d that are being deleted, a bitmap store has at most 64: "+
			"the store has no room for another snapshot", live, deleted)
		if !errors.Is(err, snapshot.ErrTooMany) || err.Error() != text {
			t.Errorf("one more: %v, expected %s", err, text)
		}
	}
	refused(64, 0)
	for _, id := range st.Snapshots() {
		change(t, st, snapshot.Write, id, 5, 1)
	}
	must(t, st.Delete(t.Context(), st.Snapshots()[:1]))
	refused(63, 1)
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
