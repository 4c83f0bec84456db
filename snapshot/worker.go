package snapshot

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/internal/pace"
)

// worker runs the background work of a Set.
type worker struct {
	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{}

	// step is held by the one who does a step; pace belongs to it.
	step sync.Mutex
	last atomic.Pointer[done]
	pace pace.Pace
	// inside has a value while a step is inside, or must not be.
	inside chan struct{}

	// seen is the number of changes when the worker last looked whether
	// clients write, and looks how often in a row they did when something
	// was to come home. They belong to run.
	seen  int64
	looks int
}

// done is what the last step did.
type done struct {
	task Task
	Progress
}

// retryAfter is the pause after a failure, maxPause the longest one between
// steps, but for those that bring chunks home, which may take long where devices
// have heads.
const (
	retryAfter   = time.Second
	maxPause     = 20 * time.Millisecond
	maxHomePause = time.Second
	// handOver is for how long there is no step when another party waits for
	// the lock, which is given back meanwhile.
	handOver = 5 * time.Millisecond
	// patience is for how many looks, one after each rest, what is to come
	// home waits for clients to stop writing.
	patience = 10
	// idleTicks is how often an idle set that is not alone rests before it
	// looks whether others have left work.
	idleTicks = 60
	// stepTime is how long a step of the store takes at most, about, as who
	// suspends waits for it, and sharedTime the same where others wait for the
	// lock. Only there it is so short: steps hold up the requests that are
	// under way, so more of them hold up more requests. minBudget and
	// maxBudget bound the budget of a step, in entries.
	stepTime   = 20 * time.Millisecond
	sharedTime = 2 * time.Millisecond
	minBudget  = 128
	maxBudget  = 4096
)

func (w *worker) init() {
	w.wake, w.inside = make(chan struct{}, 1), make(chan struct{}, 1)
	w.pace = pace.Pace{Time: stepTime, Min: minBudget, Max: maxBudget}
}

func (w *worker) start(s *Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil || s.o.Manual || s.o.ReadOnly || !s.loaded || s.closed() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done = cancel, make(chan struct{})
	go w.run(ctx, s, w.done)
}

// stop returns when the step under way, if any, has ended.
func (w *worker) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		w.cancel()
		<-w.done
		w.cancel = nil
	}
}

func (w *worker) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) run(ctx context.Context, s *Set, done chan struct{}) {
	defer close(done)
	timer := time.NewTicker(retryAfter)
	defer timer.Stop()
	for ctx.Err() == nil {
		before, began := s.counts.changes.Load(), time.Now()
		home := w.calm(before)
		task, p, err := s.step(ctx, home)
		if task != Homing {
			w.looks = 0
		}
		deferred := task == Homing && !home
		if err == nil && p.More && !deferred {
			switch {
			case s.party.contended(): // a step for each hold
				await(ctx, time.After(handOver))
			case s.counts.changes.Load() != before: // half of the time is for those who write
				await(ctx, time.After(min(time.Since(began), longestPause(task))))
			}
			continue
		}
		if err != nil && ctx.Err() == nil {
			s.notify(Event{Kind: Failed, Err: err})
		}
		w.rest(ctx, s, timer.C, err != nil || deferred)
	}
}

// calm reports whether chunks may come home now: what clients write goes first,
// for that moves data twice, and on a disk takes it away from their flushes. It
// is better done once, sorted, when they pause; but not put off for ever.
func (w *worker) calm(changes int64) bool {
	quiet := changes == w.seen
	w.seen = changes
	if !quiet && w.looks < patience {
		w.looks++
		return false
	}
	return true
}

func longestPause(t Task) time.Duration {
	if t == Homing {
		return maxHomePause
	}
	return maxPause
}

// rest waits until there may be work again.
func (w *worker) rest(ctx context.Context, s *Set, tick <-chan time.Time, again bool) {
	for range idleTicks {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			return
		case <-tick:
		}
		// To look costs the others the lock, if there are others.
		if again || s.party.lazy == nil || s.home.pending.Load() || !s.toStore.Clean() {
			return
		}
	}
}

// Work does one step of the background work and reports whether there is more.
// With Options.Manual nobody else does.
func (s *Set) Work(ctx context.Context) (Progress, error) {
	s.control.Lock()
	defer s.control.Unlock()
	if err := s.mayChange(); err != nil {
		return Progress{}, err
	}
	_, p, err := s.step(ctx, true)
	return p, err
}

// step does one step of whatever is pending, the most urgent first. What could
// come home stays where it is unless home.
func (s *Set) step(ctx context.Context, home bool) (Task, Progress, error) {
	w := &s.worker
	w.step.Lock()
	defer w.step.Unlock()
	if err := s.enterStep(ctx); err != nil {
		return Idle, Progress{}, err
	}
	defer s.leaveStep()
	// A step is short enough not to be interrupted.
	ctx = context.WithoutCancel(ctx)
	task, p, err := s.stepInside(ctx, home)
	s.counts.steps.Add(1)
	if !p.More && err == nil {
		// What was freed is free when it is durable.
		err = s.toStore.Wait(ctx)
	}
	if !p.More && err == nil {
		task = Idle
	}
	w.last.Store(&done{task, p})
	return task, p, err
}

// enterStep is enter for a step. It waits outside for those who let no step in:
// they have the lock.
func (s *Set) enterStep(ctx context.Context) error {
	for {
		if err := s.enter(ctx, &s.writes, 0); err != nil {
			return err
		}
		select {
		case s.worker.inside <- struct{}{}:
			return nil
		default:
			s.leave(&s.writes)
		}
		s.worker.inside <- struct{}{}
		<-s.worker.inside
	}
}

func (s *Set) leaveStep() {
	<-s.worker.inside
	s.leave(&s.writes)
}

func (s *Set) stepInside(ctx context.Context, home bool) (Task, Progress, error) {
	if m := s.merging.Load(); m != nil {
		err := s.rollbackStep(ctx, m)
		return Merging, Progress{Done: m.position(), Total: s.chunks, More: true}, err
	}
	p, err := s.storeStep(ctx)
	if err != nil {
		return Freeing, Progress{More: true}, err
	}
	if p != (Progress{}) {
		s.toStore.Dirty()
	}
	if p.More {
		return Freeing, p, nil
	}
	more := s.homePending()
	if home {
		more, err = s.homeStep(ctx)
	}
	return Homing, Progress{Done: s.home.cursor, Total: s.chunks, More: more}, err
}

// storeStep does a step of the store. One that was asked for may take as long as
// it does.
func (s *Set) storeStep(ctx context.Context) (Progress, error) {
	if s.o.Manual {
		return s.store.Step(ctx, maxBudget)
	}
	w, began := &s.worker, time.Now()
	p, err := s.store.Step(ctx, w.pace.Next())
	if p.More {
		w.pace.Took(time.Since(began))
	}
	return p, err
}
