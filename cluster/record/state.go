package record

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/family"
)

// retryAfter is how long it takes until a store that was not available is asked
// again.
const retryAfter = 100 * time.Millisecond

// A State is a copy of all records, which follows the store. It is late by as much
// as the watch is. Its methods may be called from any goroutine at any time.
type State struct {
	store coord.Store
	view  atomic.Pointer[View]
	stop  context.CancelCauseFunc
	done  chan struct{}
	err   error // before done is closed
}

// Follow returns a copy of the records in the store, when it is complete for the
// first time. ctx is about that only; the copy follows the store until Close.
func Follow(ctx context.Context, store coord.Store) (*State, error) {
	s := &State{store: store, done: make(chan struct{})}
	if err := s.list(ctx); err != nil {
		return nil, err
	}
	following, stop := context.WithCancelCause(context.Background())
	s.stop = stop
	go s.follow(following)
	return s, nil
}

// Close ends the following. It returns why that had ended before, if it had.
func (s *State) Close() error {
	s.stop(ErrClosed)
	<-s.done
	if errors.Is(s.err, ErrClosed) {
		return nil
	}
	return s.err
}

// Done is closed when the copy does not follow any more.
func (s *State) Done() <-chan struct{} { return s.done }

// Err returns nil while the copy follows the store, and then why it ended: ErrClosed,
// an error of the store, or one that says that the pool cannot be understood.
func (s *State) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// View returns the newest view. It costs no more than reading a pointer.
func (s *State) View() *View { return s.view.Load() }

// Changed returns a channel that is closed when there is a newer view than there is now.
func (s *State) Changed() <-chan struct{} { return s.View().next }

// Next waits until there is a newer view than v, and returns the newest.
func (s *State) Next(ctx context.Context, v *View) (*View, error) {
	select {
	case <-v.next:
		return s.View(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.done:
		return nil, s.err
	}
}

// Wait waits until the copy has what was so at a revision, that of a transaction
// on records for example, and returns the newest view.
func (s *State) Wait(ctx context.Context, r coord.Revision) (v *View, err error) {
	for v = s.View(); v.Revision < r; {
		if v, err = s.Next(ctx, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Group returns a placement group and its epoch, 0 if there is none.
func (s *State) Group(n int) (g Group, epoch coord.Revision) { return s.View().Group(n) }

// Tree returns the tree of a family at that revision or a later one. It waits until
// it knows one, or ctx ends. A tree that has been asked for before costs two
// searches; see [Family.Tree] for others.
func (s *State) Tree(ctx context.Context, fid, revision uint64) (*family.Tree, error) {
	for v := s.View(); ; {
		f, ok := v.Families.Get(fid)
		switch {
		case ok && uint64(f.Volume.Revision) >= revision:
			return f.Tree()
		case uint64(v.Revision) < revision:
		case ok && f.bad > 0:
			return f.Tree()
		case ok:
			return nil, fmt.Errorf("the tree of family %d has revision %d, and none has %d: %w", fid, f.Volume.Revision, revision, ErrInvalid)
		default:
			return nil, fmt.Errorf("family %d: %w", fid, ErrNotFound)
		}
		var err error
		if v, err = s.Next(ctx, v); err != nil {
			return nil, fmt.Errorf("waiting for the tree of family %d at revision %d: %w", fid, revision, err)
		}
	}
}

// publish makes a view the newest.
func (s *State) publish(v *View) {
	if old := s.view.Swap(v); old != nil {
		close(old.next)
	}
}

// list reads all records.
func (s *State) list(ctx context.Context) error {
	entries, at, err := s.store.List(ctx, "")
	if err != nil {
		return err
	}
	v, err := load(entries, at, s.view.Load())
	if err != nil {
		return err
	}
	s.publish(v)
	return nil
}

// follow is the goroutine of the copy.
func (s *State) follow(ctx context.Context) {
	defer close(s.done)
	for s.err == nil {
		if s.err = s.watch(ctx); !errors.Is(s.err, coord.ErrCompacted) {
			continue
		}
		for s.err = s.list(ctx); errors.Is(s.err, coord.ErrUnavailable); s.err = s.list(ctx) {
			s.pause(ctx)
		}
	}
}

// watch follows changes until an error.
func (s *State) watch(ctx context.Context) error {
	v := s.View()
	for c, err := range s.store.Watch(ctx, "", v.Revision) {
		if err != nil {
			return err
		}
		if v, err = v.after(c); err != nil {
			return err
		}
		s.publish(v)
	}
	return coord.ErrClosed // watches end with an error
}

// pause waits by the clock of the store.
func (s *State) pause(ctx context.Context) {
	coord.Sleep(ctx, s.store.Clock(), retryAfter)
}
