package coord

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Leadership is the time that a lease has a key, from when Elect returned it.
// Its methods may be called from any goroutine at any time, also when it is over.
type Leadership struct {
	lease *Lease
	key   string
	token Revision
	stop  context.CancelFunc
	ended sync.WaitGroup
	lost  chan struct{}
	mu    sync.Mutex
	why   error
}

// Elect waits until key is free, puts it with value, attached to the lease, and
// returns the leadership. Nobody else has the key until it is deleted, which the
// end of the lease does. There is no order among those who wait.
//
// It returns the error of Txn, Watch or Lease.Wait, so ErrUnavailable soon when
// the store cannot be reached. Then, and when ctx was cancelled, the lease may
// have the key all the same, see the package; another Elect takes it over with a
// greater token, and the end of the lease frees it. A lease runs for a key once
// at a time; to do so again while it runs or leads is ErrInvalid.
func Elect(ctx context.Context, l *Lease, key string, value []byte) (*Leadership, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if !l.campaign(key) {
		return nil, fmt.Errorf("%w: a lease that runs for %s twice at a time", ErrInvalid, key)
	}
	token, err := win(ctx, l, key, value)
	if err != nil {
		l.stand(key)
		return nil, err
	}
	e := &Leadership{lease: l, key: key, token: token, lost: make(chan struct{})}
	watching, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	e.ended.Go(func() { e.watchLease(watching) })
	e.ended.Go(func() { e.watchKey(watching) })
	return e, nil
}

// win gets the key and returns its revision.
func win(ctx context.Context, l *Lease, key string, value []byte) (Revision, error) {
	compare := IfAbsent(key)
	for {
		if err := l.Wait(ctx); err != nil {
			return 0, err
		}
		r, err := l.store.Txn(ctx, Txn{[]Compare{compare}, []Op{PutLeased(l.id, key, value)}})
		switch {
		case err != nil:
			return 0, err
		case r.Done && l.Err() == nil:
			return r.Revision, nil
		case r.Done:
			compare = IfRevision(key, r.Revision) // it took too long: once more, with a lease that is sure
		case r.Found[0].Lease == l.id:
			// The outcome of an earlier call was unknown, or that leadership
			// was not resigned. What is still under way for it must fail: the
			// key gets another revision.
			compare = IfRevision(key, r.Found[0].Revision)
		case r.Found[0].Revision == 0:
			compare = IfAbsent(key) // what was to be taken over is gone: nothing to wait for
		default:
			compare = IfAbsent(key)
			if err := waitDeleted(ctx, l, key, r.Revision); err != nil {
				return 0, err
			}
		}
	}
}

// waitDeleted waits until key may have been deleted after that revision, or the
// lease is lost.
func waitDeleted(ctx context.Context, l *Lease, key string, after Revision) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var ended sync.WaitGroup
	defer func() {
		cancel(nil)
		ended.Wait()
	}()
	ended.Go(func() {
		select {
		case <-l.Lost():
			cancel(l.Err())
		case <-ctx.Done():
		}
	})
	for change, err := range l.store.Watch(ctx, key, after) {
		if errors.Is(err, ErrCompacted) {
			return nil // look at it
		}
		if err != nil {
			return err
		}
		for _, e := range change.Events {
			if e.Key == key && e.Deleted {
				return nil
			}
		}
	}
	return nil
}

// Token is the fencing token: greater than that of each leadership of that key
// before, and the revision of its entry.
func (e *Leadership) Token() Revision { return e.token }

// If is the comparison that is true only as long as this leadership has the key.
func (e *Leadership) If() Compare { return IfRevision(e.key, e.token) }

// Err returns nil while nobody else can be the leader, unless the key was deleted
// by force, and then an error that wraps ErrNotLeader. Doubt about the lease ends
// a leadership for good; Elect again.
func (e *Leadership) Err() error {
	err := e.lease.Err()
	if err != nil {
		e.lose(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.why
}

// Lost returns a channel that is closed when the leadership is over. Err may know
// before.
func (e *Leadership) Lost() <-chan struct{} { return e.lost }

// Resign ends the leadership and frees the key. With an error the key may stay
// until the lease ends. A second Resign does nothing.
func (e *Leadership) Resign(ctx context.Context) error {
	e.lose(errors.New("it was resigned"))
	e.ended.Wait()
	_, err := e.lease.store.Txn(ctx, Txn{[]Compare{e.If()}, []Op{Delete(e.key)}})
	return err
}

func (e *Leadership) lose(why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.why == nil {
		e.why = fmt.Errorf("%w: %w", ErrNotLeader, why)
		e.lease.stand(e.key)
		close(e.lost)
		e.stop()
	}
}

// watchLease ends the leadership with the first doubt.
func (e *Leadership) watchLease(ctx context.Context) {
	select {
	case <-e.lease.Doubt():
		err := e.lease.Err()
		if err == nil {
			err = ErrInDoubt // it was
		}
		e.lose(err)
	case <-ctx.Done():
	}
}

// watchKey ends the leadership when another one can have the key.
func (e *Leadership) watchKey(ctx context.Context) {
	after := e.token
	for ctx.Err() == nil {
		for change, err := range e.lease.store.Watch(ctx, e.key, after) {
			if err != nil {
				e.doubtKey(ctx, err, &after)
				break
			}
			for _, ev := range change.Events {
				if ev.Key == e.key {
					e.lose(fmt.Errorf("%s was changed or deleted by somebody at revision %d", e.key, ev.Revision))
				}
			}
		}
	}
}

// doubtKey is called when a watch ended with err: it looks whether the key is
// still the same, and whether another watch is sensible.
func (e *Leadership) doubtKey(ctx context.Context, err error, after *Revision) {
	if ctx.Err() != nil {
		return
	}
	if !errors.Is(err, ErrCompacted) {
		e.lose(err)
		return
	}
	entry, at, err := e.lease.store.Get(ctx, e.key)
	switch {
	case err != nil:
		// It cannot be reached. The watch says so for as long as that lasts,
		// and the lease ends it if it lasts.
		Sleep(ctx, e.lease.clock, time.Second)
	case entry.Revision != e.token:
		e.lose(fmt.Errorf("%s was changed or deleted by somebody", e.key))
	default:
		*after = at
	}
}
