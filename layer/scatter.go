package layer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

const (
	// maxParallel bounds how many parts of one request are under way.
	maxParallel = 16
	// parallelFrom is the length of a read or write from which its parts go
	// in parallel. Memory would copy less than that while a goroutine
	// starts, and a disk or a network is worth it from here on.
	parallelFrom = 32 << 10
)

// A scatter is one request split into parts that go to several devices, or
// to several places of one.
type scatter struct {
	ctx   context.Context
	op    Op
	buf   []byte
	flags block.Flags
	parts []part
	// all carries out every part although one has failed, all in parallel.
	all bool

	// begun says that it is too late for ErrNotSupported to mean that
	// nothing has changed.
	begun  bool
	next   atomic.Int64
	failed atomic.Bool
	wg     sync.WaitGroup
}

type part struct {
	dev block.Device
	// member is the number of dev in its group.
	member int
	off, n int64
	// at is where the bytes of a read or write lie in the buffer.
	at  int64
	err error
}

var scatters = sync.Pool{New: func() any { return new(scatter) }}

// newScatter returns a request without parts, which must be freed.
func newScatter(ctx context.Context, op Op, buf []byte, flags block.Flags) *scatter {
	s := scatters.Get().(*scatter)
	s.ctx, s.op, s.buf, s.flags = ctx, op, buf, flags
	s.all, s.begun = false, false
	s.next.Store(0)
	s.failed.Store(false)
	return s
}

func (s *scatter) free() {
	clear(s.parts)
	s.ctx, s.buf, s.parts = nil, nil, s.parts[:0]
	scatters.Put(s)
}

// run carries out the parts and returns the error of the first, in their
// order, that failed, with its number as a member. If that is ErrNotSupported
// because of FastZero, nothing has changed.
func (s *scatter) run() (member int, err error) {
	if s.flags&block.FastZero != 0 && s.op == OpZero {
		p := &s.parts[0]
		p.err = s.do(p)
		s.failed.Store(p.err != nil)
		if p.err != nil && (!s.all || errors.Is(p.err, block.ErrNotSupported)) {
			return p.member, p.err
		}
		s.begun = true
		s.next.Store(1)
	}
	for range s.width() - 1 {
		s.wg.Add(1)
		go s.help()
	}
	s.work()
	s.wg.Wait()
	for i := range s.parts {
		if p := &s.parts[i]; p.err != nil {
			return p.member, p.err
		}
	}
	return 0, nil
}

// width is how many parts shall be under way at a time.
func (s *scatter) width() int {
	switch {
	case s.flags&block.NoWait != 0:
		return 1
	case !s.all && (s.op == OpRead || s.op == OpWrite) && len(s.buf) < parallelFrom:
		return 1
	}
	return min(len(s.parts)-int(s.next.Load()), maxParallel)
}

func (s *scatter) help() {
	defer s.wg.Done()
	s.work()
}

// work carries out parts until none is left.
func (s *scatter) work() {
	for s.all || !s.failed.Load() {
		i := s.next.Add(1) - 1
		if i >= int64(len(s.parts)) {
			return
		}
		p := &s.parts[i]
		if p.err = s.do(p); p.err != nil {
			s.failed.Store(true)
		}
	}
}

func (s *scatter) do(p *part) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	switch s.op {
	case OpRead:
		return p.dev.ReadAt(s.ctx, s.buf[p.at:p.at+p.n], p.off, s.flags)
	case OpWrite:
		return p.dev.WriteAt(s.ctx, s.buf[p.at:p.at+p.n], p.off, s.flags)
	case OpZero:
		err := p.dev.Zero(s.ctx, p.off, p.n, s.flags)
		if s.begun && s.flags&block.FastZero != 0 && errors.Is(err, block.ErrNotSupported) {
			err = p.dev.Zero(s.ctx, p.off, p.n, s.flags&^block.FastZero)
		}
		return err
	case OpTrim:
		return p.dev.Trim(s.ctx, p.off, p.n, s.flags)
	}
	return p.dev.Flush(s.ctx)
}
