package legacy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// kind is legacy, from the registry.
func kind(t testing.TB) snapshot.Kind {
	t.Helper()
	for _, k := range snapshot.Kinds() {
		if k.Name == "legacy" {
			return k
		}
	}
	t.Fatal("the kind is not registered")
	return snapshot.Kind{}
}

// newStore makes a store on p for an origin of some chunks of 512 bytes.
func newStore(t testing.TB, p []byte, origin int64, f snapshot.Format) snapshot.Store {
	t.Helper()
	return onDevice(t, block.FromBytes(p), origin, f)
}

func onDevice(t testing.TB, dev block.Device, origin int64, f snapshot.Format) snapshot.Store {
	t.Helper()
	c := snapshot.Config{Device: dev, OriginSize: origin * 512, Format: f, Retire: func(f func()) { f() }}
	if f != snapshot.Never {
		c.Chunk = 512
	}
	st, err := kind(t).New(c)
	must(t, err)
	return st
}

func refresh(t testing.TB, st snapshot.Store) {
	t.Helper()
	_, err := st.Refresh(t.Context())
	must(t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// image makes a store by hand: chunks of 512 bytes, so that an area has 32
// exceptions, and the metadata are in the chunks 1, 34, 67 ...
func image(chunks int, exceptions ...[2]uint64) []byte {
	p := make([]byte, chunks*512)
	copy(p, "SnAp\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00")
	for i, e := range exceptions {
		q := p[(1+i/32*33)*512+i%32*16:]
		binary.LittleEndian.PutUint64(q, e[0])
		binary.LittleEndian.PutUint64(q[8:], e[1])
	}
	return p
}

// list makes n exceptions for the chunks from 0 on, as the kernel would.
func list(n int) (all [][2]uint64) {
	for i := range n {
		all = append(all, [2]uint64{uint64(i), uint64(2 + i + i/32)})
	}
	return all
}

// detach makes the snapshot leave the first n chunks of the origin.
func detach(t testing.TB, st snapshot.Store, from, n int64) error {
	t.Helper()
	for n > 0 {
		p, err := st.Plan(t.Context(), snapshot.Request{Op: snapshot.Detach, Chunk: from, N: n})
		if err != nil {
			return err
		}
		if len(p.Copies) > 0 {
			must(t, st.Apply(t.Context(), p))
		}
		from, n = from+p.N, n-p.N
	}
	return nil
}

// What is written is, byte for byte, what the description of the format says.
func TestGolden(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, n := range []int{0, 1, 31, 32, 33, 64, 70} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			for _, at := range []int64{1, 7, 1000} { // commits of so many
				p := make([]byte, 200*512)
				st := newStore(t, p, 100, snapshot.Always)
				must(t, st.Load(ctx))
				empty := image(200)
				empty[4] = 0
				copy(empty[16:], "StrEmpty")
				if !bytes.Equal(p, empty) {
					t.Fatal("a new store is not an empty one")
				}
				_, err := st.Create(ctx, snapshot.Origin)
				must(t, err)
				must(t, st.Commit(ctx, 0))
				for c := int64(0); c < int64(n); c += at {
					must(t, detach(t, st, c, min(at, int64(n)-c)))
					must(t, st.Commit(ctx, 0))
				}
				must(t, st.Close(ctx))
				if want := image(200, list(n)...); !bytes.Equal(p, want) {
					t.Errorf("%d exceptions, %d to a commit: not what the format says", n, at)
				}
				read := newStore(t, p, 100, snapshot.Never)
				must(t, read.Load(ctx))
				expectList(t, read, list(n))
				must(t, read.Close(ctx))
			}
		})
	}
}

// expectList compares the map of the snapshot with a list for an origin of 100
// chunks.
func expectList(t testing.TB, st snapshot.Store, all [][2]uint64) {
	t.Helper()
	want := map[int64]int64{}
	for _, e := range all {
		want[int64(e[0])] = int64(e[1])
	}
	ids := st.Snapshots()
	if len(ids) != 1 {
		t.Fatalf("there are %d snapshots", len(ids))
	}
	for c := range int64(100) {
		seg, err := st.Map(t.Context(), ids[0], c, 1, 0)
		must(t, err)
		at, ok := want[c]
		if place := (snapshot.Place{Where: snapshot.OnStore, Off: at * 512}); ok && seg.Place != place || !ok && seg.Where != snapshot.OnOrigin {
			t.Errorf("chunk %d lies at %+v, expected %d", c, seg.Place, at)
		}
	}
	must(t, st.Check(t.Context(), func(err error) { t.Errorf("check: %v", err) }))
}

// A list that was made elsewhere may be in any order.
func TestForeignList(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	all := [][2]uint64{{99, 5}, {0, 35}, {50, 2}, {51, 90}}
	p := image(100, all...)
	st := newStore(t, p, 100, snapshot.Never)
	must(t, st.Load(ctx))
	expectList(t, st, all)
	must(t, detach(t, st, 60, 4))
	must(t, st.Close(ctx))
	all = append(all, [2]uint64{60, 3}, [2]uint64{61, 4}, [2]uint64{62, 6}, [2]uint64{63, 7})
	if !bytes.Equal(p, image(100, all...)) {
		t.Error("what was added is not at the end of the list")
	}
}

func TestBadStores(t *testing.T) {
	t.Parallel()
	poke := func(off int, b byte) []byte {
		p := image(100, list(3)...)
		p[off] = b
		return p
	}
	for name, x := range map[string]struct {
		p    []byte
		want error
		text string
	}{
		"nothing": {nil, snapshot.ErrNoStore,
			"the device has 0 bytes: there is no snapshot store on the device"},
		"short": {image(1)[:100], snapshot.ErrNoStore,
			"the device has 100 bytes: there is no snapshot store on the device"},
		"blank": {make([]byte, 51200), snapshot.ErrNoStore,
			"the device begins with 0x0, expected 0x70416e53: there is no snapshot store on the device"},
		"header only": {image(1), snapshot.ErrDamaged,
			"the store has 512 bytes, must have at least 3 chunks of 512: the snapshot store is damaged"},
		"no data": {image(2), snapshot.ErrDamaged,
			"the store has 1024 bytes, must have at least 3 chunks of 512: the snapshot store is damaged"},
		"magic": {poke(3, 'P'), snapshot.ErrNoStore,
			"the device begins with 0x50416e53, expected 0x70416e53: there is no snapshot store on the device"},
		"version": {poke(8, 2), snapshot.ErrMismatch,
			"version 2 of the format, expected 1: the snapshot store does not fit"},
		"valid": {poke(4, 2), snapshot.ErrDamaged,
			"the flag valid is 2, expected 0 or 1: the snapshot store is damaged"},
		"given up": {poke(4, 0), snapshot.ErrDamaged,
			"the kernel has given up the snapshot in this store, as it does when a store is full or cannot be written, and what the snapshot had is lost; for a new one zero the first 64 KiB of the device: the snapshot store is damaged"},
		"chunk 0": {poke(12, 0), snapshot.ErrMismatch,
			"chunks of 0 bytes, expected a power of two from 512 to 1048576: the snapshot store does not fit"},
		"chunk odd": {poke(12, 3), snapshot.ErrMismatch,
			"chunks of 1536 bytes, expected a power of two from 512 to 1048576: the snapshot store does not fit"},
		"chunk huge": {poke(14, 1), snapshot.ErrMismatch,
			"chunks of 33554944 bytes, expected a power of two from 512 to 1048576: the snapshot store does not fit"},
		"chunk too big": {append([]byte("SnAp\x01\x00\x00\x00\x01\x00\x00\x00\x00\x01\x00\x00"), make([]byte, 51200)...), snapshot.ErrDamaged,
			"the store has 51216 bytes, must have at least 3 chunks of 131072: the snapshot store is damaged"},
		"good": {poke(512, 0), nil, ""},
		"at the header": {image(100, [2]uint64{0, 1}), snapshot.ErrDamaged,
			"area 0: chunk 0 lies at 1, where metadata are: the snapshot store is damaged"},
		"in metadata": {image(100, [2]uint64{0, 34}), snapshot.ErrDamaged,
			"area 0: chunk 0 lies at 34, where metadata are: the snapshot store is damaged"},
		"outside": {image(100, [2]uint64{0, 100}), snapshot.ErrDamaged,
			"area 0: chunk 0 lies at 100, the device has only 100 chunks: the snapshot store is damaged"},
		"far outside": {image(100, [2]uint64{0, 1 << 63}), snapshot.ErrDamaged,
			"area 0: chunk 0 lies at 9223372036854775808, the device has only 100 chunks: the snapshot store is damaged"},
		"another origin": {image(100, [2]uint64{100, 2}), snapshot.ErrMismatch,
			"area 0: there is an exception for chunk 100, the origin has 100: the snapshot store does not fit"},
		"far origin": {image(100, [2]uint64{1 << 63, 2}), snapshot.ErrMismatch,
			"area 0: there is an exception for chunk 9223372036854775808, the origin has 100: the snapshot store does not fit"},
		"twice": {image(100, [2]uint64{0, 2}, [2]uint64{0, 3}), snapshot.ErrDamaged,
			"area 0: there are two exceptions for chunk 0: the snapshot store is damaged"},
		"truncated": {image(100, list(40)...)[:35*512], snapshot.ErrDamaged,
			"area 1: chunk 32 lies at 35, the device has only 35 chunks: the snapshot store is damaged"},
		"same place": {image(100, [2]uint64{0, 2}, [2]uint64{1, 2}), snapshot.ErrDamaged,
			"two chunks lie at 2: the snapshot store is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := newStore(t, x.p, 100, snapshot.Never)
			err := st.Load(t.Context())
			if !errors.Is(err, x.want) {
				t.Errorf("%v, expected %v", err, x.want)
			}
			if err != nil && err.Error() != x.text {
				t.Errorf("the error is\n%v\nexpected\n%s", err, x.text)
			}
			told := false
			must(t, st.Check(t.Context(), func(error) { told = true }))
			if told != (x.want != nil) {
				t.Errorf("the checker tells of problems: %v", told)
			}
			must(t, st.Close(t.Context()))
		})
	}
}

// The list must end on the device: the kernel reads until it does.
func TestFull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for chunks, want := range map[int]int{3: 1, 4: 2, 33: 31, 34: 31, 35: 32, 36: 33, 67: 63, 68: 64, 69: 65} {
		p := make([]byte, chunks*512)
		st := newStore(t, p, 100, snapshot.Always)
		must(t, st.Load(ctx))
		_, err := st.Create(ctx, snapshot.Origin)
		must(t, err)
		if free := st.Stats().Free; free != int64(want)*512 {
			t.Errorf("of %d chunks %d bytes are free, expected %d chunks", chunks, free, want)
		}
		if err := detach(t, st, 0, 100); !errors.Is(err, block.ErrNoSpace) {
			t.Errorf("%d chunks: %v, expected %v", chunks, err, block.ErrNoSpace)
		}
		must(t, st.Close(ctx))
		if n := st.Stats().Exceptions; n != int64(want) {
			t.Errorf("%d chunks have %d exceptions, expected %d", chunks, n, want)
		}
		st = newStore(t, p, 100, snapshot.Never)
		must(t, st.Load(ctx))
		if n := st.Stats().Exceptions; n != int64(want) {
			t.Errorf("%d chunks have %d exceptions when they are read again, expected %d", chunks, n, want)
		}
	}
	// The kernel may have filled the last area.
	st := newStore(t, image(34, list(32)...), 100, snapshot.Never)
	must(t, st.Load(ctx))
	if err := detach(t, st, 40, 1); !errors.Is(err, block.ErrNoSpace) {
		t.Errorf("a last area that is full: %v, expected %v", err, block.ErrNoSpace)
	}
	must(t, st.Close(ctx))
}

// ordered fails the writes that begin after some flushes.
type ordered struct {
	block.Pass
	flushes, stop int
}

var errCut = errors.New("cut")

func (o *ordered) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if o.flushes == o.stop {
		return errCut
	}
	return o.Device.WriteAt(ctx, p, off, flags)
}

func (o *ordered) Flush(ctx context.Context) error {
	if o.flushes == o.stop {
		return errCut
	}
	o.flushes++
	return o.Device.Flush(ctx)
}

// An area comes after those behind it, and the next snapshot begins with
// nothing of the last, wherever the commit is cut off.
func TestOrder(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for stop := 0; ; stop++ {
		p := image(200, list(20)...)
		o := &ordered{Pass: block.Pass{Device: block.FromBytes(p)}, stop: stop}
		st := onDevice(t, o, 100, snapshot.Never)
		must(t, st.Load(ctx))
		must(t, detach(t, st, 20, 60))
		err := st.Commit(ctx, 0)
		want := 20
		if stop >= 2 {
			want = 80
		}
		read := newStore(t, bytes.Clone(p), 100, snapshot.Never)
		must(t, read.Load(ctx))
		expectList(t, read, list(want))
		if err == nil {
			must(t, st.Delete(ctx, st.Snapshots()))
			_, err = st.Create(ctx, snapshot.Origin)
			must(t, err)
			err = st.Commit(ctx, 0)
			read := newStore(t, bytes.Clone(p), 100, snapshot.Never)
			must(t, read.Load(ctx))
			switch ids := read.Snapshots(); {
			case stop == 2:
				expectList(t, read, list(80))
			case stop == 3 || stop == 4:
				if len(ids) != 0 {
					t.Errorf("after %d flushes there is a snapshot", stop)
				}
			default:
				expectList(t, read, nil)
			}
		}
		if err == nil {
			must(t, st.Close(ctx))
			return
		}
		// The next commit does what this one did not.
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		o.stop = -1
		must(t, st.Close(ctx))
		read = newStore(t, p, 100, snapshot.Never)
		must(t, read.Load(ctx))
		if stop < 2 {
			expectList(t, read, list(80))
		} else {
			expectList(t, read, nil)
		}
	}
}

// What a commit that was cut off left behind the end of the list does not
// become a part of it.
func TestLitter(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := image(200, list(20)...)
	litter := image(200, list(32)...)
	clear(litter[512+20*16 : 512+24*16])
	copy(p[512:1024], litter[512:1024])
	o := &ordered{Pass: block.Pass{Device: block.FromBytes(p)}, stop: 1}
	st := onDevice(t, o, 100, snapshot.Never)
	must(t, st.Load(ctx))
	must(t, detach(t, st, 20, 4))
	if err := st.Commit(ctx, 0); !errors.Is(err, errCut) {
		t.Error(err)
	}
	// It is gone before the gap is closed.
	if !bytes.Equal(p, image(200, list(20)...)) {
		t.Error("something is left behind the end of the list")
	}
	o.stop = -1
	must(t, st.Close(ctx))
	if !bytes.Equal(p, image(200, list(24)...)) {
		t.Error("the list is not what it should be")
	}
}

// It does not stay for the kernel to find, either; but who may not write leaves
// it alone.
func TestLitterOfOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clean := image(200, list(20)...)
	dirty := bytes.Clone(clean)
	copy(dirty[512+25*16:], "something")
	for _, readOnly := range []bool{false, true} {
		p := bytes.Clone(dirty)
		c := snapshot.Config{Device: block.FromBytes(p), OriginSize: 100 * 512, ReadOnly: readOnly, Retire: func(f func()) { f() }}
		st, err := kind(t).New(c)
		must(t, err)
		must(t, st.Load(ctx))
		if readOnly {
			must(t, st.Commit(ctx, 0))
		}
		must(t, st.Close(ctx))
		if want := map[bool][]byte{false: clean, true: dirty}[readOnly]; !bytes.Equal(p, want) {
			t.Errorf("read-only %v: the device is not what it should be", readOnly)
		}
	}
}

// Refresh reads what another has added to the list, from where it was.
func TestRefresh(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := image(200, list(20)...)
	a, b := newStore(t, p, 100, snapshot.Never), newStore(t, p, 100, snapshot.Never)
	must(t, a.Load(ctx))
	must(t, b.Load(ctx))
	id := b.Snapshots()[0]
	for _, n := range []int64{1, 11, 1, 40} {
		must(t, detach(t, a, a.Stats().Exceptions, n))
		must(t, a.Commit(ctx, 1))
		refresh(t, b)
		expectList(t, b, list(int(a.Stats().Exceptions)))
		if b.Snapshots()[0] != id {
			t.Error("the snapshot has become another")
		}
	}
	must(t, b.Commit(ctx, 2))
	// Who did not refresh notices at the next commit.
	must(t, detach(t, a, 90, 1))
	must(t, a.Commit(ctx, 1))
	must(t, detach(t, b, 91, 1))
	if err := b.Commit(ctx, 2); !errors.Is(err, snapshot.ErrFenced) {
		t.Errorf("a commit after another's: %v, expected %v", err, snapshot.ErrFenced)
	}
	// A new snapshot is another one.
	c := newStore(t, p, 100, snapshot.Never)
	must(t, c.Load(ctx))
	must(t, a.Delete(ctx, a.Snapshots()))
	must(t, a.Commit(ctx, 1))
	refresh(t, c)
	if n := len(c.Snapshots()); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
	_, err := a.Create(ctx, snapshot.Origin)
	must(t, err)
	must(t, detach(t, a, 5, 2))
	must(t, a.Commit(ctx, 1))
	refresh(t, c)
	if ids := c.Snapshots(); len(ids) != 1 || ids[0] <= id || c.Stats().Exceptions != 2 {
		t.Errorf("the snapshots are %v with %d exceptions", ids, c.Stats().Exceptions)
	}
	must(t, c.Check(ctx, func(err error) { t.Error(err) }))
}
