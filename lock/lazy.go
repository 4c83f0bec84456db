package lock

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/strata-storage/strata/internal/clock"
)

// LazyOptions are the options of NewLazy. The zero value is sensible.
type LazyOptions struct {
	// Min is how long the lock is kept at least, though another party waits
	// and nobody is inside, so that it does not go to and fro with every
	// request. 0 is 5 ms.
	Min time.Duration
	// Max is how long it is kept at most while another party waits: then
	// nobody enters any more, and it is unlocked when all have left. 0 is
	// 50 ms. Between Min and Max it is unlocked as soon as nobody is inside.
	Max time.Duration
	// Idle: the lock is unlocked, though nobody waits, when nobody was inside
	// for that long or up to twice as long. 0 is 50 ms.
	Idle time.Duration

	// Taken, if not nil, is called whenever the lock was taken, before
	// anybody enters; it is the place to refresh what is remembered if h says
	// HeldByOther. After an error the lock is unlocked, and the error is that
	// of Enter. ctx ends when nobody wants to enter any more.
	Taken func(ctx context.Context, h Hold) error
	// Leaving, if not nil, is called once for each Taken that succeeded, when
	// all have left and before the lock is unlocked: it is the place to make
	// durable what others must see. If h.Err() is not nil the hold was lost
	// and nothing may be written.
	Leaving func(h Hold)

	// Clock is the time; nil is that of the system.
	Clock Clock
}

// A Lazy shares the holds of one party among any number of goroutines, and
// keeps the lock while it is used and nobody else wants it. To enter costs less
// than a microsecond then.
type Lazy struct {
	lock Lock
	o    LazyOptions

	mu      sync.Mutex
	hold    Hold          // the door is open while it is not nil
	users   int           // who are inside
	used    bool          // somebody has entered since the last look
	empty   chan struct{} // wants a signal when nobody is inside; nil if not
	round   *round        // who wait for the door to open; nil if nobody does
	running sync.WaitGroup
	runs    bool
	closed  chan struct{}
	shut    bool
}

// A round is those who enter together when the lock was taken.
type round struct {
	n      int
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}
	hold   Hold
	err    error
}

// NewLazy returns a Lazy of l, which it owns.
func NewLazy(l Lock, o LazyOptions) *Lazy {
	o.Min = cmp.Or(o.Min, 5*time.Millisecond)
	o.Max = max(cmp.Or(o.Max, 50*time.Millisecond), o.Min)
	o.Idle = cmp.Or(o.Idle, 50*time.Millisecond)
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	return &Lazy{lock: l, o: o, closed: make(chan struct{})}
}

// Enter waits until this party has the lock and returns the hold, which is that
// of all who are inside: it is not theirs to unlock. Each Enter that succeeds
// needs a Leave, soon. The errors are those of Lock and of Taken; with an error
// the caller is not inside. Who is inside must not Enter again.
//
// The hold may be lost while somebody is inside; nobody enters then until all
// have left and the lock was taken again.
func (z *Lazy) Enter(ctx context.Context) (Hold, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	z.mu.Lock()
	if h := z.hold; h != nil {
		z.users++
		z.used = true
		z.mu.Unlock()
		return h, nil
	}
	if z.shut {
		z.mu.Unlock()
		return nil, ErrClosed
	}
	r := z.join()
	z.mu.Unlock()

	select {
	case <-r.done:
		return r.hold, r.err
	case <-ctx.Done():
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	select {
	case <-r.done: // at the same moment
		return r.hold, r.err
	default:
	}
	if r.n--; r.n == 0 {
		r.cancel(context.Canceled)
		if z.round == r {
			z.round = nil
		}
	}
	return nil, context.Cause(ctx)
}

// join makes the caller one of those who wait for the door to open.
func (z *Lazy) join() *round {
	if z.round == nil {
		z.round = &round{done: make(chan struct{})}
		z.round.ctx, z.round.cancel = context.WithCancelCause(context.Background())
	}
	z.round.n++
	if !z.runs {
		z.runs = true
		z.running.Go(z.run)
	}
	return z.round
}

// Leave ends what Enter began.
func (z *Lazy) Leave() {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.users--; z.users == 0 && z.empty != nil {
		close(z.empty)
		z.empty = nil
		// The door closes at this moment, lest those who come again and again
		// are inside before anybody has seen that nobody is.
		z.hold = nil
	}
	if z.users < 0 {
		panic("lock: Leave without Enter")
	}
}

// Close lets nobody enter any more, waits until all have left, and unlocks and
// closes the lock. A second Close returns ErrClosed.
func (z *Lazy) Close() error {
	z.mu.Lock()
	if z.shut {
		z.mu.Unlock()
		return ErrClosed
	}
	z.shut = true
	close(z.closed)
	if r := z.round; r != nil {
		r.cancel(ErrClosed)
	}
	z.mu.Unlock()
	z.running.Wait()
	return z.lock.Close()
}

// run takes the lock and gives it back as long as anybody wants it.
func (z *Lazy) run() {
	for {
		z.mu.Lock()
		r := z.round
		if r == nil {
			z.runs = false
			z.mu.Unlock()
			return
		}
		z.mu.Unlock()
		h, err := z.take(r.ctx)
		z.open(r, h, err)
		if err != nil {
			continue
		}
		z.keep(h)
		z.drain()
		if z.o.Leaving != nil {
			z.o.Leaving(h)
		}
		h.Unlock() // what it says is known already: Leaving has asked
	}
}

func (z *Lazy) take(ctx context.Context) (Hold, error) {
	h, err := z.lock.Lock(ctx)
	if err != nil || z.o.Taken == nil {
		return h, err
	}
	if err := z.o.Taken(ctx, h); err != nil {
		h.Unlock()
		return nil, err
	}
	return h, nil
}

// open lets in the round for which the lock was taken or tells it why not, and
// if that round was given up, the next one.
func (z *Lazy) open(r *round, h Hold, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	r.cancel(context.Canceled)
	rounds := []*round{r}
	if next := z.round; next == r {
		z.round = nil
	} else if next != nil && err == nil {
		z.round = nil
		next.cancel(context.Canceled)
		rounds = append(rounds, next)
	}
	for _, r := range rounds {
		r.hold, r.err = h, err
		if err == nil {
			z.users += r.n
		}
		close(r.done)
	}
	if err == nil {
		z.hold, z.used = h, true
	}
}

// drain closes the door and waits until nobody is inside.
func (z *Lazy) drain() {
	z.mu.Lock()
	z.hold = nil
	empty := z.emptied()
	z.mu.Unlock()
	<-empty
}

// emptied returns a channel that is closed when nobody is inside.
func (z *Lazy) emptied() chan struct{} {
	if z.empty == nil {
		c := make(chan struct{})
		if z.users == 0 {
			close(c)
			return c
		}
		z.empty = c
	}
	return z.empty
}

// keep returns when the lock is to be given back.
func (z *Lazy) keep(h Hold) {
	taken := z.o.Clock.Now()
	for {
		waiting := h.Waiting()
		contended := h.Contended()
		age := z.o.Clock.Now() - taken
		z.mu.Lock()
		shut, idle := z.hold == nil, z.users == 0
		var empty chan struct{}
		if contended && age >= z.o.Min && !idle {
			empty = z.emptied()
		} else {
			z.empty = nil // who waited has given up
		}
		z.mu.Unlock()
		if shut {
			return
		}

		var wait time.Duration
		switch {
		case !contended:
			wait = z.o.Idle
		case age < z.o.Min:
			wait, waiting = z.o.Min-age, nil
		case idle || age >= z.o.Max:
			return
		default:
			wait, waiting = z.o.Max-age, nil
		}
		tick := make(chan struct{})
		stop := z.o.Clock.AfterFunc(wait, func() { close(tick) })
		select {
		case <-tick:
			if !contended && z.unused() {
				return
			}
		case <-waiting:
		case <-empty:
			stop()
			return
		case <-h.Lost():
			stop()
			return
		case <-z.closed:
			stop()
			return
		}
		stop()
	}
}

// unused says whether nobody is inside or has entered since it was asked last.
func (z *Lazy) unused() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	used := z.used || z.users > 0
	z.used = false
	return !used
}
