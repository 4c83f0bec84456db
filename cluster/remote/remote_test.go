package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// A fake is a disk that notes what it was asked, and answers what the test says.
type fake struct {
	replica.Peer // what the test does not expect panics

	mu     sync.Mutex
	calls  []string
	err    error
	data   byte
	list   []disk.Summary
	dirty  []disk.DirtyObject
	blocks []uint32
	all    []disk.Entry
	state  replica.Standing
	raw    disk.Entry
	areas  []block.Extent
}

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fake) Open(_ context.Context, disk, incarnation string, w replica.Writer) error {
	return f.note("open %s %s %+v", disk, incarnation, w)
}

func (f *fake) Read(_ context.Context, r *replica.Request, p []byte) error {
	copy(p, bytes.Repeat([]byte{f.data}, len(p)))
	return f.note("read %+v %d", *r, len(p))
}

func (f *fake) Map(_ context.Context, r *replica.Request, n int64, since uint64) ([]block.Extent, error) {
	return f.areas, f.note("map %+v %d %d", *r, n, since)
}

func (f *fake) Write(_ context.Context, r *replica.Request, p []byte) error {
	return f.note("write %+v %d %x", *r, len(p), p[:min(len(p), 4)])
}

func (f *fake) Zero(_ context.Context, r *replica.Request, n int64) error {
	return f.note("zero %+v %d", *r, n)
}

func (f *fake) Flush(_ context.Context, r *replica.Request) error { return f.note("flush %+v", *r) }

func (f *fake) Standing(_ context.Context, r *replica.Request) (replica.Standing, error) {
	return f.state, f.note("standing %+v", *r)
}

func (f *fake) Verify(_ context.Context, r *replica.Request) ([]uint32, error) {
	return f.blocks, f.note("verify %+v", *r)
}

func (f *fake) Fix(_ context.Context, r *replica.Request, fixes []disk.Fix) (int, error) {
	text := ""
	for _, x := range fixes {
		text += fmt.Sprintf(" %+v>%v:%d", x.Was, x.Kind, len(x.Data))
	}
	return len(fixes), f.note("fix %+v %.300s", *r, text)
}

func (f *fake) Again(_ context.Context, r *replica.Request) error { return f.note("again %+v", *r) }

func (f *fake) Clear(_ context.Context, r *replica.Request, s disk.State) (bool, error) {
	return true, f.note("clear %+v %+v", *r, s)
}

func (f *fake) List(_ context.Context, to replica.To, from uint64) ([]disk.Summary, bool, error) {
	return f.list, true, f.note("list %+v %d", to, from)
}

func (f *fake) Dirty(_ context.Context, to replica.To, from uint64) ([]disk.DirtyObject, bool, error) {
	return f.dirty, false, f.note("dirty %+v %d", to, from)
}

func (f *fake) Entries(_ context.Context, to replica.To, o disk.Object, from, n uint32) ([]disk.Entry, error) {
	return f.all, f.note("entries %+v %v %d %d", to, o, from, n)
}

func (f *fake) RawBlocks(_ context.Context, to replica.To, o disk.Object, version uint64, from uint32, p []byte) (list []disk.Entry, err error) {
	copy(p, bytes.Repeat([]byte{f.data}, len(p)))
	for i := range uint32(len(p) / disk.BlockSize) {
		e := f.raw
		e.Block += i
		e.Sum += i
		list = append(list, e)
	}
	return list, f.note("raw %+v %v %d %d %d", to, o, version, from, len(p))
}

// pair is a disk and the way to it through a connection.
func pair(t testing.TB) (*fake, *Peer) {
	f := &fake{}
	s := &wire.Server{
		Self: wire.Identity{Cluster: "c", Node: "b", Incarnation: "1"}, Errors: Errors(),
		Operations: Operations(func(disk string) replica.Peer {
			if disk == "d1" {
				return f
			}
			return nil
		}),
	}
	return f, NewPeer(linkTo(t, s))
}

func linkTo(t testing.TB, s *wire.Server) *wire.Link {
	l := wire.NewLink(wire.Options{
		Self: wire.Identity{Cluster: "c", Node: "a", Incarnation: "1"}, Node: "b", Errors: Errors(),
		Dial: func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			go s.ServeConn(b)
			return a, nil
		},
	})
	t.Cleanup(func() { l.Close() })
	return l
}

var (
	testTo     = replica.To{Disk: "d1", Incarnation: "i7", Group: 77, Epoch: 1 << 40}
	testWriter = replica.Writer{Head: replica.Head{Family: 5, Version: 6}, Generation: 1 << 41, Session: 3}
	testObject = disk.Object{Family: 5, Index: 9}
)

func testRequest() *replica.Request {
	return &replica.Request{To: testTo, Writer: testWriter, Index: 9, Tree: 1 << 42, Off: 8192}
}

// What arrives is what was asked, and what comes back is what was answered.
func TestEverythingCrosses(t *testing.T) {
	t.Parallel()
	f, p := pair(t)
	f.data = 0x5a
	f.state = replica.Standing{State: disk.State{Counter: 1, Digest: 1 << 63}, Dirty: true, Unsettled: true}
	f.raw = disk.Entry{Version: 6, Block: 4, Kind: disk.Data, Sum: 0xfefefefe}
	for i := range uint64(20_000) {
		f.list = append(f.list, disk.Summary{Object: disk.Object{Family: i, Index: 2}, State: disk.State{Counter: 3, Digest: i}, Blocks: 5})
		f.dirty = append(f.dirty, disk.DirtyObject{Object: disk.Object{Family: i, Index: 7}, Unsettled: i%2 == 0})
		f.blocks = append(f.blocks, uint32(i))
		f.all = append(f.all, disk.Entry{Version: i, Block: 8, Kind: disk.Hole, Sum: 9})
	}
	for i := range int64(2000) {
		f.areas = append(f.areas, block.Extent{Off: 8192 + i*disk.BlockSize, Len: disk.BlockSize, Status: uint64(i) % 8})
	}
	direct, ctx, r := &fake{}, t.Context(), testRequest()
	*direct = fake{data: f.data, state: f.state, raw: f.raw, list: f.list, dirty: f.dirty, blocks: f.blocks, all: f.all, areas: f.areas}
	fixes := []disk.Fix{
		{Was: disk.Entry{Version: 6, Block: 1, Kind: disk.None}, Kind: disk.Data, Data: make([]byte, disk.BlockSize)},
		{Was: disk.Entry{Version: 6, Block: 2, Kind: disk.Data, Sum: 4}, Kind: disk.Hole},
	}
	for name, call := range map[string]func(p replica.Peer) []any{
		"open":     func(p replica.Peer) []any { return []any{p.Open(ctx, "d1", "i", testWriter)} },
		"read":     func(p replica.Peer) []any { b := make([]byte, 12288); return []any{p.Read(ctx, r, b), b} },
		"nothing":  func(p replica.Peer) []any { return []any{p.Read(ctx, r, nil), p.Write(ctx, r, nil)} },
		"map":      func(p replica.Peer) []any { l, err := p.Map(ctx, r, 2001*disk.BlockSize, 3); return []any{l, err} },
		"write":    func(p replica.Peer) []any { return []any{p.Write(ctx, r, bytes.Repeat([]byte{7}, 8192))} },
		"zero":     func(p replica.Peer) []any { return []any{p.Zero(ctx, r, 1<<30)} },
		"flush":    func(p replica.Peer) []any { return []any{p.Flush(ctx, r)} },
		"again":    func(p replica.Peer) []any { return []any{p.Again(ctx, r)} },
		"standing": func(p replica.Peer) []any { s, err := p.Standing(ctx, r); return []any{s, err} },
		"verify":   func(p replica.Peer) []any { s, err := p.Verify(ctx, r); return []any{s, err} },
		"fix":      func(p replica.Peer) []any { n, err := p.Fix(ctx, r, fixes); return []any{n, err} },
		"clear":    func(p replica.Peer) []any { b, err := p.Clear(ctx, r, f.state.State); return []any{b, err} },
		"list":     func(p replica.Peer) []any { l, more, err := p.List(ctx, testTo, 3); return []any{l, more, err} },
		"dirty":    func(p replica.Peer) []any { l, more, err := p.Dirty(ctx, testTo, 1<<63); return []any{l, more, err} },
		"entries": func(p replica.Peer) []any {
			l, err := p.Entries(ctx, testTo, testObject, 3, 1<<20)
			return []any{l, err}
		},
		"raw": func(p replica.Peer) []any {
			b := make([]byte, replica.MaxRaw*disk.BlockSize)
			list, err := p.RawBlocks(ctx, testTo, testObject, 6, 4, b)
			return []any{list, err, b}
		},
	} {
		f.calls, direct.calls = nil, nil
		got, want := call(p), call(direct)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %.200v came back, expected %.200v", name, got, want)
		}
		if !reflect.DeepEqual(f.calls, direct.calls) {
			t.Errorf("%s: %v arrived, expected %v", name, f.calls, direct.calls)
		}
	}
	f.list = nil
	if l, more, err := p.List(ctx, testTo, 0); len(l) != 0 || !more || err != nil {
		t.Errorf("an empty list came as %v, %v, %v", l, more, err)
	}
}

// What is too much for one request becomes several.
func TestLargeRequestsAreSplit(t *testing.T) {
	t.Parallel()
	f, p := pair(t)
	f.data = 3
	b := make([]byte, 9<<20)
	if err := p.Read(t.Context(), testRequest(), b); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{3}, len(b))) {
		t.Errorf("reading failed with %v, or not all was read", err)
	}
	if err := p.Write(t.Context(), testRequest(), b); err != nil {
		t.Error(err)
	}
	if len(f.calls) != 6 {
		t.Errorf("%d requests arrived, expected 6: %v", len(f.calls), f.calls)
	}
	fixes := make([]disk.Fix, 3000)
	for i := range fixes {
		fixes[i] = disk.Fix{Was: disk.Entry{Version: 6, Block: uint32(i)}, Kind: disk.Data, Data: b[:disk.BlockSize]}
	}
	if made, err := p.Fix(t.Context(), testRequest(), fixes); made != len(fixes) || err != nil {
		t.Errorf("%d fixes were made, of %d, %v", made, len(fixes), err)
	}
}

func TestErrorsMeanTheSame(t *testing.T) {
	t.Parallel()
	f, p := pair(t)
	read := func() error { return p.Read(t.Context(), testRequest(), make([]byte, 4096)) }
	for _, is := range []error{
		replica.ErrUnreachable, replica.ErrNoMember, replica.ErrIncarnation, replica.ErrSession, replica.ErrFenced,
		disk.ErrFailed, disk.ErrVersion, disk.ErrDamaged, block.ErrNoSpace, block.ErrInvalid, block.ErrNoMemory, block.ErrIO,
	} {
		f.err = fmt.Errorf("somewhere: %w", is)
		_, _, listErr := p.List(t.Context(), testTo, 0)
		for _, err := range []error{read(), listErr} {
			if !errors.Is(err, is) || is != replica.ErrUnreachable && errors.Is(err, replica.ErrUnreachable) {
				t.Errorf("%q came as %v", f.err, err)
			}
		}
	}
	f.err = fmt.Errorf("x: %w", &replica.EpochError{Group: 77, Known: 1<<40 + 1})
	_, _, listErr := p.Dirty(t.Context(), testTo, 0)
	for _, err := range []error{read(), listErr} {
		var stale *replica.EpochError
		if !errors.As(err, &stale) || stale.Known != 1<<40+1 || stale.Group != 77 {
			t.Errorf("%v came as %v", f.err, err)
		}
	}
	for _, why := range []error{disk.ErrRot, disk.ErrUnfinished, syscall.EIO} {
		sent := &disk.BlockError{Object: testObject, Version: 1 << 50, Block: 7, Sum: 8, Err: why}
		f.err = sent
		var bad *disk.BlockError
		if err := read(); !errors.As(err, &bad) || !errors.Is(err, why) || !errors.Is(err, block.ErrIO) {
			t.Errorf("%v came as %v", f.err, err)
			continue
		}
		got := *bad
		got.Err = why
		if got != *sent {
			t.Errorf("%+v came as %+v", *sent, got)
		}
		if _, err := p.Verify(t.Context(), testRequest()); !errors.Is(err, block.ErrIO) {
			t.Errorf("%v came as %v from a list", f.err, err)
		}
	}
	f.err = nil
	r := testRequest()
	r.Disk = "elsewhere"
	if err := p.Write(t.Context(), r, nil); !errors.Is(err, replica.ErrIncarnation) {
		t.Errorf("a disk that is not there: %v", err)
	}
}

// A node that does not answer, for whatever reason, is unreachable.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refusing := &wire.Server{
			Self:   wire.Identity{Cluster: "c", Node: "b", Incarnation: "1"},
			Verify: func(*tls.ConnectionState, wire.Identity) error { return errors.New("expelled") },
		}
		hanging := &wire.Server{
			Self: wire.Identity{Cluster: "c", Node: "b", Incarnation: "1"},
			Operations: map[wire.Op]wire.Operation{opFlush: {Handler: func(ctx context.Context, _ *wire.Request) error {
				<-ctx.Done()
				return ctx.Err()
			}}},
		}
		for _, s := range []*wire.Server{refusing, hanging} {
			l := linkTo(t, s)
			err := NewPeer(l).Flush(t.Context(), testRequest())
			if !errors.Is(err, replica.ErrUnreachable) {
				t.Errorf("got %v", err)
			}
			l.Close()
			s.Close()
			synctest.Wait()
		}
	})
}

// No head or payload from another node does harm.
func FuzzOperations(f *testing.F) {
	s, err := head(testRequest())
	if err != nil {
		f.Fatal(err)
	}
	for op := opOpen; op <= opMap; op++ {
		f.Add(uint16(op), s.head, []byte("payload"), uint16(4096))
		f.Add(uint16(op), appendNumbers(appendTo(nil, &testTo), 1, 2, 3, 4), []byte{}, uint16(0))
	}
	_, p := pair(f)
	f.Fuzz(func(t *testing.T, op uint16, head, payload []byte, room uint16) {
		c, err := p.link.Client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(head) > 60_000 || len(payload) > 1<<20 {
			return
		}
		r := wire.Call{Op: wire.Op(op), Head: head, Payload: payload, Into: make([]byte, room)}
		var remote *wire.RemoteError
		if _, err := c.Do(t.Context(), r); err != nil && !errors.As(err, &remote) {
			t.Fatal(err)
		}
		for _, err := range c.Stream(t.Context(), r) {
			if err != nil && !errors.As(err, &remote) {
				t.Fatal(err)
			}
		}
	})
}

// No answer does either.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0, 1, 2}, []byte("payload"))
	f.Add(appendBlockError(nil, &disk.BlockError{Err: disk.ErrRot}), []byte{})
	f.Fuzz(func(t *testing.T, head, payload []byte) {
		answer := wire.Operation{Handler: func(_ context.Context, r *wire.Request) error {
			if r.MaxItem() > 0 {
				return r.Send(head, payload)
			}
			p, err := r.Buffer(min(len(payload), r.Room()))
			if err != nil {
				return err
			}
			copy(p, payload)
			return r.SetHead(head)
		}}
		s := &wire.Server{Self: wire.Identity{Cluster: "c", Node: "b", Incarnation: "1"}, Operations: map[wire.Op]wire.Operation{}}
		for op := opOpen; op <= opMap; op++ {
			s.Operations[op] = answer
		}
		p, ctx, r := NewPeer(linkTo(t, s)), t.Context(), testRequest()
		p.Read(ctx, r, make([]byte, 10))
		p.Standing(ctx, r)
		p.Clear(ctx, r, disk.State{})
		p.Verify(ctx, r)
		p.Fix(ctx, r, nil)
		p.List(ctx, testTo, 0)
		p.Dirty(ctx, testTo, 0)
		p.Entries(ctx, testTo, testObject, 0, 1)
		p.RawBlocks(ctx, testTo, testObject, 1, 1, make([]byte, 3*disk.BlockSize))
		p.Map(ctx, r, 1<<20, 1)
		s.Close()
	})
}

// What was encoded is decoded, and nothing else is.
func FuzzExtents(f *testing.F) {
	f.Add(AppendExtents(make([]byte, 0, 100), []block.Extent{{Len: 4096, Status: 3}, {Len: 1 << 30, Status: 4}}), int64(1<<31))
	f.Add([]byte{0}, int64(0))
	f.Fuzz(func(t *testing.T, p []byte, n int64) {
		list, err := ParseExtents(p, 7, n)
		if err != nil {
			return
		}
		at := int64(7)
		for _, e := range list {
			if e.Off != at || e.Len <= 0 || e.Len > n || e.Status > 7 {
				t.Fatalf("%v at %d, %d are left", e, at, n)
			}
			at, n = e.End(), n-e.Len
		}
		if n > 0 && len(list) == 0 {
			t.Fatal("nothing is an answer")
		}
		again := AppendExtents(make([]byte, 0, 10*len(list)), list)
		if back, err := ParseExtents(again, 7, at-7); err != nil || !slices.Equal(back, list) {
			t.Fatalf("%v became %v, %v", list, back, err)
		}
	})
}
