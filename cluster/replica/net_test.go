package replica

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
)

// A network is between nodes, which are numbers.
type network struct {
	rand *chance
	mu   sync.Mutex
	cut  map[[2]int]bool
	slow bool
	// latency is how long messages usually take at most.
	latency time.Duration
	// patience is how long an answer is waited for.
	patience time.Duration
	// members returns the one that runs on a node now.
	member func(node int) *Member
	// alive is the context of the process that runs on a node now.
	alive func(node int) context.Context
	all   sync.WaitGroup
}

const patience = 400 * time.Millisecond

func (n *network) isCut(from, to int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[[2]int{from, to}]
}

// delay is how long a message takes: sometimes longer than anybody waits.
func (n *network) delay() {
	d := time.Duration(n.rand.n(int(n.latency)))
	n.mu.Lock()
	slow := n.slow
	n.mu.Unlock()
	switch k := n.rand.n(1000); {
	case slow && k < 30:
		d = time.Duration(n.rand.n(2000)) * time.Millisecond
	case k < 2:
		d = time.Duration(n.rand.n(600)) * time.Millisecond
	}
	time.Sleep(d)
}

// bound is how long an answer is waited for.
func (n *network) bound() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.patience
}

// A wire is the way of a process on one node to another node.
type wire struct {
	n        *network
	from, to int
	ctx      context.Context // of the process
}

// call calls f at the other side.
func call[T any](ctx context.Context, w *wire, f func(context.Context, *Member) (T, error)) (T, error) {
	type answer struct {
		t   T
		err error
	}
	c := make(chan answer, 1)
	n := w.n
	n.all.Go(func() {
		n.delay()
		m := n.member(w.to)
		if m == nil || n.isCut(w.from, w.to) {
			return
		}
		t, err := f(n.alive(w.to), m)
		n.delay()
		if !n.isCut(w.to, w.from) && n.member(w.to) == m {
			c <- answer{t, err}
		}
	})
	var none T
	timer := time.NewTimer(n.bound())
	defer timer.Stop()
	select {
	case a := <-c:
		return a.t, a.err
	case <-timer.C:
		return none, fmt.Errorf("node %d: %w", w.to, ErrUnreachable)
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-w.ctx.Done():
		return none, context.Cause(w.ctx)
	}
}

type void struct{}

func (w *wire) do(ctx context.Context, f func(context.Context, *Member) error) error {
	_, err := call(ctx, w, func(ctx context.Context, m *Member) (void, error) { return void{}, f(ctx, m) })
	return err
}

func (w *wire) Open(ctx context.Context, id, incarnation string, x Writer) error {
	return w.do(ctx, func(ctx context.Context, m *Member) error { return m.Open(ctx, id, incarnation, x) })
}

func (w *wire) Read(ctx context.Context, r *Request, p []byte) error {
	q, n := *r, len(p)
	got, err := call(ctx, w, func(ctx context.Context, m *Member) ([]byte, error) {
		b := make([]byte, n)
		return b, m.Read(ctx, &q, b)
	})
	copy(p, got)
	return err
}

func (w *wire) Map(ctx context.Context, r *Request, n int64, since uint64) ([]block.Extent, error) {
	q := *r
	return call(ctx, w, func(ctx context.Context, m *Member) ([]block.Extent, error) { return m.Map(ctx, &q, n, since) })
}

func (w *wire) Write(ctx context.Context, r *Request, p []byte) error {
	q, b := *r, append([]byte(nil), p...)
	return w.do(ctx, func(ctx context.Context, m *Member) error { return m.Write(ctx, &q, b) })
}

func (w *wire) Zero(ctx context.Context, r *Request, n int64) error {
	q := *r
	return w.do(ctx, func(ctx context.Context, m *Member) error { return m.Zero(ctx, &q, n) })
}

func (w *wire) Flush(ctx context.Context, r *Request) error {
	q := *r
	return w.do(ctx, func(ctx context.Context, m *Member) error { return m.Flush(ctx, &q) })
}

func (w *wire) Standing(ctx context.Context, r *Request) (Standing, error) {
	q := *r
	return call(ctx, w, func(ctx context.Context, m *Member) (Standing, error) { return m.Standing(ctx, &q) })
}

func (w *wire) Verify(ctx context.Context, r *Request) ([]uint32, error) {
	q := *r
	return call(ctx, w, func(ctx context.Context, m *Member) ([]uint32, error) { return m.Verify(ctx, &q) })
}

func (w *wire) Fix(ctx context.Context, r *Request, fixes []disk.Fix) (int, error) {
	q, list := *r, append([]disk.Fix(nil), fixes...)
	return call(ctx, w, func(ctx context.Context, m *Member) (int, error) { return m.Fix(ctx, &q, list) })
}

func (w *wire) Again(ctx context.Context, r *Request) error {
	q := *r
	return w.do(ctx, func(ctx context.Context, m *Member) error { return m.Again(ctx, &q) })
}

func (w *wire) Clear(ctx context.Context, r *Request, s disk.State) (bool, error) {
	q := *r
	return call(ctx, w, func(ctx context.Context, m *Member) (bool, error) { return m.Clear(ctx, &q, s) })
}

type listed[T any] struct {
	list []T
	more bool
}

func (w *wire) List(ctx context.Context, to To, from uint64) ([]disk.Summary, bool, error) {
	l, err := call(ctx, w, func(ctx context.Context, m *Member) (l listed[disk.Summary], err error) {
		l.list, l.more, err = m.List(ctx, to, from)
		return l, err
	})
	return l.list, l.more, err
}

func (w *wire) Dirty(ctx context.Context, to To, from uint64) ([]disk.DirtyObject, bool, error) {
	l, err := call(ctx, w, func(ctx context.Context, m *Member) (l listed[disk.DirtyObject], err error) {
		l.list, l.more, err = m.Dirty(ctx, to, from)
		return l, err
	})
	return l.list, l.more, err
}

func (w *wire) Entries(ctx context.Context, to To, o disk.Object, from, n uint32) ([]disk.Entry, error) {
	return call(ctx, w, func(ctx context.Context, m *Member) ([]disk.Entry, error) { return m.Entries(ctx, to, o, from, n) })
}

func (w *wire) RawBlocks(ctx context.Context, to To, o disk.Object, version uint64, from uint32, p []byte) ([]disk.Entry, error) {
	type raw struct {
		list []disk.Entry
		p    []byte
	}
	n := len(p)
	r, err := call(ctx, w, func(ctx context.Context, m *Member) (raw, error) {
		b := make([]byte, n)
		list, err := m.RawBlocks(ctx, to, o, version, from, b)
		return raw{list, b}, err
	})
	copy(p, r.p)
	return r.list, err
}

var _ Peer = (*wire)(nil)

// StartWrite is that of Starter.
func (w *wire) StartWrite(ctx context.Context, r *Request, p []byte, b *block.Burst) Pending {
	if w.n.rand.n(4) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &started{make(chan error, 1), cancel}
	b.Later(func() {
		go func() { s.done <- w.Write(ctx, r, p) }()
	})
	return s
}

// A started is a write that is under way.
type started struct {
	done   chan error
	cancel context.CancelCauseFunc
}

// Wait is that of Pending.
func (s *started) Wait(context.Context) error {
	defer s.cancel(nil)
	return <-s.done
}

// Then is that of Pending.
func (s *started) Then(e block.Ender, _ *block.Burst) {
	go func() {
		var b block.Burst
		e.Ended(s.Wait(context.Background()), &b)
		b.End()
	}()
}

// Cancel is that of Pending.
func (s *started) Cancel(err error) { s.cancel(err) }

var _ Starter = (*wire)(nil)
