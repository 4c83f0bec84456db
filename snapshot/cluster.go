package snapshot

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/lock"
)

// party is a Set's part in a cluster of those that use the same devices. Who is
// inside has the lock. The zero value is for a Set that is alone.
type party struct {
	lazy *lock.Lazy
	hold atomic.Pointer[lock.Hold]
	// fenced: the lock was lost when something was not yet durable.
	fenced atomic.Bool
	// unlisted: what others have done to snapshots or values has not been
	// read. It belongs to taken.
	unlisted bool
}

// join makes the Set share a lock.
func (s *Set) join(l lock.Lock) {
	if l == nil {
		return
	}
	s.worker.pace.Time = sharedTime
	s.party.lazy = lock.NewLazy(l, lock.LazyOptions{Taken: s.taken, Leaving: s.leaving})
	// To wait for the lock is to wait.
	s.info.NoWait = false
}

// enter admits a request, which must call leave.
func (s *Set) enter(ctx context.Context, g *gate, flags block.Flags) error {
	if s.party.lazy == nil {
		return g.enter(ctx, flags)
	}
	for {
		if err := s.share(ctx); err != nil {
			return err
		}
		shut, err := g.try(flags)
		if shut == nil && err == nil {
			return nil
		}
		// Others may have the lock while this Set is suspended.
		s.unshare()
		if err != nil {
			return err
		}
		if err := await(ctx, shut); err != nil {
			return err
		}
	}
}

func (s *Set) leave(g *gate) {
	g.leave()
	s.unshare()
}

// share waits until this Set has the lock, and keeps it until unshare.
func (s *Set) share(ctx context.Context) error {
	if s.party.lazy == nil {
		return nil
	}
	for {
		h, err := s.party.lazy.Enter(ctx)
		if err != nil {
			return fmt.Errorf("waiting for the lock: %w", err)
		}
		if h.Err() == nil {
			return nil
		}
		// It was lost. Those inside leave, and then it is taken again.
		s.unshare()
		if err := await(ctx, h.Lost()); err != nil {
			return err
		}
	}
}

func (s *Set) unshare() {
	if s.party.lazy != nil {
		s.party.lazy.Leave()
	}
}

// token returns the fencing token, or why nothing may be written.
func (p *party) token() (uint64, error) {
	switch h := p.hold.Load(); {
	case p.lazy == nil:
		return 0, nil
	case p.fenced.Load():
		return 0, ErrFenced
	case h == nil:
		return 0, fmt.Errorf("without the lock: %w", ErrFenced)
	default:
		return (*h).Generation(), (*h).Err()
	}
}

// contended reports whether another party waits for the lock.
func (p *party) contended() bool {
	h := p.hold.Load()
	return h != nil && (*h).Contended()
}

// taken is called when the lock was taken, before anybody enters.
func (s *Set) taken(ctx context.Context, h lock.Hold) error {
	if s.party.hold.Store(&h); !s.loaded {
		return nil
	}
	if !s.toStore.Clean() {
		// What was staged under a hold that was lost can neither be written
		// nor taken back.
		s.party.fenced.Store(true)
	}
	if s.party.fenced.Load() {
		return ErrFenced
	}
	if !h.HeldByOther() {
		return nil
	}
	s.unshared.Reset()
	listed, err := s.store.Refresh(ctx)
	if err != nil {
		return fmt.Errorf("reading what others have changed: %w", err)
	}
	s.home.wake()
	if s.party.unlisted = s.party.unlisted || listed; !s.party.unlisted {
		return nil
	}
	if err := s.loadNames(ctx); err != nil {
		return err
	}
	if err := s.loadRollback(); err != nil {
		return err
	}
	s.party.unlisted = false
	return nil
}

// leaving is called before the lock is given back, when nobody is inside.
func (s *Set) leaving(h lock.Hold) {
	if h.Err() == nil && s.loaded && !s.o.ReadOnly {
		if err := s.sync(context.Background()); err != nil {
			s.notify(Event{Kind: Failed, Err: err})
		}
	}
	s.party.hold.Store(nil)
}

// shared calls f under the lock.
func (s *Set) shared(ctx context.Context, f func() error) error {
	if err := s.share(ctx); err != nil {
		return err
	}
	defer s.unshare()
	return f()
}
