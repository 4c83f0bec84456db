package stream

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/kinds"
)

const size = 100_000

func newSet(t testing.TB, kind string, n int64) *snapshot.Set {
	t.Helper()
	s, err := snapshot.New(block.FromBytes(make([]byte, n)), block.FromBytes(make([]byte, 32<<20)),
		snapshot.Options{Kind: kind, Format: snapshot.IfBlank, Now: func() time.Time { return time.Unix(1e9, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes an origin with the snapshots a and b.
func fill(t testing.TB, s *snapshot.Set) {
	t.Helper()
	o := s.Origin()
	put := func(off int64, text string) { check(t, o.WriteAt(t.Context(), []byte(text), off, 0)) }
	put(0, "first")
	put(50_000, strings.Repeat("x", 20_000))
	check(t, s.Create(t.Context(), "a", snapshot.CreateOptions{Priority: 7}))
	put(3, "second")
	put(size-5, "third")
	check(t, o.Zero(t.Context(), 49_152, 8192, 0))
	check(t, s.Create(t.Context(), "b", snapshot.CreateOptions{}))
	put(60_000, "fourth")
}

// contentOf returns what a view holds; "" is the origin.
func contentOf(t testing.TB, s *snapshot.Set, name string) string {
	t.Helper()
	dev := s.Origin()
	if name != "" {
		d, err := s.Open(t.Context(), name, snapshot.OpenOptions{})
		check(t, err)
		defer d.Close()
		dev = d
	}
	p := make([]byte, s.Size())
	check(t, dev.ReadAt(t.Context(), p, 0, 0))
	return string(p)
}

// TestDifference: a copy of one snapshot becomes one of another.
func TestDifference(t *testing.T) {
	t.Parallel()
	s := newSet(t, "ranged", size)
	fill(t, s)
	for _, names := range [][2]string{{"a", "b"}, {"b", "a"}, {"a", "a"}} {
		var b bytes.Buffer
		check(t, Send(t.Context(), &b, s, names[0], names[1]))
		dev := []byte(contentOf(t, s, names[0]))
		h, err := Apply(t.Context(), &b, block.FromBytes(dev))
		check(t, err)
		if h != (Header{Content: "difference", Size: size, From: names[0], To: names[1]}) {
			t.Errorf("the header is %+v", h)
		}
		if string(dev) != contentOf(t, s, names[1]) {
			t.Errorf("%q with the difference is not the second", names)
		}
	}
}

// TestDumpAndRestore: what one kind of store held is had again in any other
// that can have as many snapshots.
func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	for _, from := range snapshot.Kinds() {
		for _, to := range snapshot.Kinds() {
			if from.Caps.MaxSnapshots == 1 || to.Caps.MaxSnapshots == 1 {
				continue
			}
			s := newSet(t, from.Name, size)
			fill(t, s)
			var b bytes.Buffer
			check(t, Dump(t.Context(), &b, s))
			r := newSet(t, to.Name, size)
			check(t, Restore(t.Context(), bytes.NewReader(b.Bytes()), r))
			for _, name := range []string{"", "a", "b"} {
				if contentOf(t, r, name) != contentOf(t, s, name) {
					t.Errorf("%s to %s: %q is not what it was", from.Name, to.Name, name)
				}
			}
			if l := r.List(); len(l) != 2 || l[0].Priority != 7 || !l[0].Created.Equal(time.Unix(1e9, 0)) {
				t.Errorf("%s to %s: the snapshots are %+v", from.Name, to.Name, l)
			}
			if err := Restore(t.Context(), &b, r); err == nil || err.Error() != "the store has 2 snapshots, must have none: invalid argument" {
				t.Errorf("restoring twice: %v", err)
			}
		}
	}
}

// TestErrors has the text of every error of a stream.
func TestErrors(t *testing.T) {
	t.Parallel()
	s := newSet(t, "transient", size)
	fill(t, s)
	var b, all bytes.Buffer
	check(t, Send(t.Context(), &b, s, "a", "b"))
	check(t, Dump(t.Context(), &all, s))
	good := b.String()
	const at = len(magic)
	changed := func(i int, c byte) string { return good[:i] + string(c) + good[i+1:] }
	second := at + headSize + strings.IndexByte(good[at+headSize:], '}') + 1
	for _, tt := range []struct {
		text string
		size int
		want string
	}{
		{"", size, "it ends early: the stream is damaged"},
		{strings.Repeat("x", 100), size, `it begins with "xxxxxxxxxxxxxxxxxxxxxxxxx", expected "strata snapshot stream 1\n": the stream is damaged`},
		{good[:len(good)-1], size, "it ends early: the stream is damaged"},
		{good[:len(good)-headSize], size, "it ends early: the stream is damaged"},
		{changed(at+7, 1), size, "record 0 has 16777274 bytes, at most 1048576 are allowed: the stream is damaged"},
		{changed(second, 'X'), size, "record 1 has the checksum "},
		{good[:second] + good[second+headSize+4096:], size, "record 2 is in the place of record 1: the stream is damaged"},
		{good, 4096, "the stream is for a device of 100000 bytes, this one has 4096: invalid argument"},
		{all.String(), size, `it has the content "everything", expected "difference": invalid argument`},
	} {
		_, err := Apply(t.Context(), strings.NewReader(tt.text), block.FromBytes(make([]byte, tt.size)))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	if err := Send(t.Context(), &b, s, "a", "c"); err == nil || err.Error() != `snapshot "c": no such snapshot` {
		t.Errorf("a difference to what does not exist: %v", err)
	}
}

// zeroing is a device that counts.
type zeroing struct {
	block.Pass
	n int64
}

func (z *zeroing) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	z.n += n
	return z.Pass.Zero(ctx, off, n, flags)
}

// TestBlank: on a blank device zeros are left out where nothing was written.
func TestBlank(t *testing.T) {
	t.Parallel()
	s := newSet(t, "bitmap", size)
	fill(t, s)
	for content, write := range map[string]func(*bytes.Buffer) error{
		Difference: func(b *bytes.Buffer) error {
			dev, err := s.Open(t.Context(), "b", snapshot.OpenOptions{})
			check(t, err)
			defer dev.Close()
			return Write(t.Context(), b, Header{Size: size, To: "b", ToID: "x"}, dev, block.OneExtent(0, size, snapshot.Changed))
		},
		Everything: func(b *bytes.Buffer) error { return Dump(t.Context(), b, s) },
	} {
		var b bytes.Buffer
		check(t, write(&b))
		r, err := NewReader(&b)
		check(t, err)
		if r.Header().Content != content {
			t.Errorf("the header is %+v, expected %s", r.Header(), content)
		}
		p, end, marks := make([]byte, size), int64(0), 0
		dev := &zeroing{Pass: block.Pass{Device: block.FromBytes(p)}}
		check(t, r.Apply(t.Context(), dev, Options{
			Blank: true, Progress: func(at int64) { end = max(end, at) }, Take: func(Mark) error { marks++; return nil },
		}))
		want, zeros, snapshots := contentOf(t, s, "b"), int64(0), 0
		if content == Everything {
			want, zeros, snapshots = contentOf(t, s, ""), 8192, 2
		}
		if string(p) != want || end != size || dev.n != zeros || marks != snapshots {
			t.Errorf("%s: the device is as it should be: %v; %d of %d, %d zeroed, %d snapshots", content, string(p) == want, end, size, dev.n, marks)
		}
	}
}

// failing is a device whose reads fail.
type failing struct{ block.Pass }

func (failing) ReadAt(context.Context, []byte, int64, block.Flags) error { return block.ErrIO }

// TestFailure: a writer that fails says so in the stream, which is of no use.
func TestFailure(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	x, err := newWriter(&b)
	check(t, err)
	check(t, x.putJSON(typeHeader, Header{Content: Difference, Size: size}))
	dev := failing{block.Pass{Device: block.FromBytes(make([]byte, size))}}
	err = x.copy(t.Context(), dev, block.OneExtent(0, size, snapshot.Changed))
	if err = x.end(err); !errors.Is(err, block.ErrIO) {
		t.Errorf("the writer got %v", err)
	}
	_, err = Apply(t.Context(), &b, block.FromBytes(make([]byte, size)))
	if err == nil || err.Error() != "whoever wrote it failed: input/output error: the stream is damaged" {
		t.Errorf("the reader got %v", err)
	}
}

// crowded is a device that reads when that many others want to, too, and fails behind an
// offset.
type crowded struct {
	block.Pass
	wait  int64
	fails int64
	begun atomic.Int64
	all   chan struct{}
}

func (c *crowded) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if c.begun.Add(1) == c.wait {
		close(c.all)
	}
	select {
	case <-c.all:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if off >= c.fails {
		return block.ErrIO
	}
	return c.Pass.ReadAt(ctx, p, off, flags)
}

// TestReadsAhead: a writer reads many pieces at the same time, and writes them in order,
// up to the first that cannot be read.
func TestReadsAhead(t *testing.T) {
	t.Parallel()
	const n = 3 * readAhead * piece
	content := make([]byte, n)
	blocktest.Fill(content, 0, 1)
	for _, fails := range []int64{n, n / 2} {
		dev := &crowded{Pass: block.Pass{Device: block.FromBytes(content)}, wait: readAhead, fails: fails, all: make(chan struct{})}
		var b bytes.Buffer
		err := Write(t.Context(), &b, Header{Size: n, To: "x"}, dev, block.OneExtent(0, n, snapshot.Changed))
		if fails == n {
			check(t, err)
		} else if !errors.Is(err, block.ErrIO) {
			t.Errorf("the writer got %v", err)
		}
		got := make([]byte, n)
		_, err = Apply(t.Context(), &b, block.FromBytes(got))
		if (err == nil) != (fails == n) || !bytes.Equal(got[:fails], content[:fails]) {
			t.Errorf("what can be read up to %d is not there, %v", fails, err)
		}
	}
}

// busy is a device that writes when that many others want to, too, or at the end of all,
// and fails at an offset.
type busy struct {
	block.Pass
	wait, fails  int64
	begun, under atomic.Int64
	all          chan struct{}
}

func (d *busy) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.under.Add(1)
	defer d.under.Add(-1)
	if d.begun.Add(1) == d.wait {
		close(d.all)
	}
	select {
	case <-d.all:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if off == d.fails {
		return block.ErrNoSpace
	}
	return d.Pass.WriteAt(ctx, p, off, flags)
}

// TestWritesBehind: many pieces are written at the same time, as many as may be, and
// nothing is under way any more at the end, also after an error, which says of which record
// it is.
func TestWritesBehind(t *testing.T) {
	t.Parallel()
	const n = 3 * writeBehind * piece
	content := make([]byte, n)
	blocktest.Fill(content, 0, 1)
	var b bytes.Buffer
	check(t, Write(t.Context(), &b, Header{Size: n, To: "x"}, block.FromBytes(content), block.OneExtent(0, n, snapshot.Changed)))
	for _, fails := range []int64{-1, 20 * piece} {
		got := make([]byte, n)
		dev := &busy{Pass: block.Pass{Device: block.FromBytes(got)}, wait: writeBehind, fails: fails, all: make(chan struct{})}
		told := int64(0)
		r, err := NewReader(bytes.NewReader(b.Bytes()))
		check(t, err)
		err = r.Apply(t.Context(), dev, Options{Progress: func(end int64) {
			if end != told+piece {
				t.Errorf("from %d it goes on to %d", told, end)
			}
			told = end
		}})
		if dev.under.Load() != 0 {
			t.Error("writes are under way at the end")
		}
		if fails < 0 && (err != nil || told != n || !bytes.Equal(got, content)) {
			t.Errorf("%d bytes were written, %v", told, err)
		}
		if fails >= 0 && (err == nil || err.Error() != "record 21: no space left on device" || told != fails || !bytes.Equal(got[:fails], content[:fails])) {
			t.Errorf("%d bytes were written, %v", told, err)
		}
	}
}

// slow is a device on which each change takes a time of its own.
type slow struct{ block.Pass }

func (d slow) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	time.Sleep(time.Duration(p[0]))
	return d.Pass.WriteAt(ctx, p, off, flags)
}

func (d slow) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	time.Sleep(time.Duration(n % 50))
	return d.Pass.Zero(ctx, off, n, flags)
}

// TestOverlaps: where a stream goes back, the last record counts.
func TestOverlaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 1))
		want, got := make([]byte, size), make([]byte, size)
		var b bytes.Buffer
		x, err := newWriter(&b)
		check(t, err)
		check(t, x.putJSON(typeHeader, Header{Content: Difference, Size: size}))
		for i := range 500 {
			r := record{typ: typeData, off: random.Int64N(size - 100), n: 1 + random.Int64N(99)}
			if i%5 > 0 {
				r.off = int64(i%5)*20_000 + int64(i) // forward
			}
			place := want[r.off : r.off+r.n]
			if clear(place); i%4 > 0 {
				for j := range place {
					place[j] = byte(random.Uint32())
				}
				r.payload = bytes.Clone(place)
			} else {
				r.typ = typeZero
			}
			check(t, x.put(r))
		}
		check(t, x.end(nil))
		_, err = Apply(t.Context(), &b, slow{block.Pass{Device: block.FromBytes(got)}})
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Error("the device has something else")
		}
	})
}

// FuzzApply: no bytes make it panic, or write outside of the device.
func FuzzApply(f *testing.F) {
	s := newSet(f, "transient", size)
	fill(f, s)
	var b bytes.Buffer
	check(f, Send(f.Context(), &b, s, "a", "b"))
	f.Add(b.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, text []byte) {
		Apply(t.Context(), bytes.NewReader(text), block.FromBytes(make([]byte, size)))
		x, err := newReader(bytes.NewReader(text))
		for err == nil {
			_, err = x.next()
		}
	})
}
