// Package locktest is the proof that a transport keeps what package lock
// promises, and a clock for tests of what is built on locks.
package locktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-storage/strata/lock"
)

// A Transport is one new lock, with the means to do harm to it.
type Transport struct {
	// Join returns the lock for one more party. The suite closes it.
	Join func() lock.Lock
	// Lose makes whoever has the lock lose it, as far as others can tell: when
	// it returns the hold is lost or will be without more help.
	Lose func()
	// Die ends the party without a word to the others, as if its process had
	// been killed, and lets pass the time until they notice. Nil is Close.
	Die func(l lock.Lock)
}

// patience is far more than anything takes.
const patience = time.Minute

// Run runs the suite for the locks that open makes; each goes with its test. The
// caller must not be parallel, because it counts files and goroutines.
func Run(t *testing.T, open func(t *testing.T) Transport) {
	t.Run("Leaks", func(t *testing.T) { leaks(t, open) })
	for name, test := range map[string]func(*suite){
		"Exclusion":   (*suite).exclusion,
		"OneParty":    (*suite).oneParty,
		"HeldByOther": (*suite).heldByOther,
		"Contended":   (*suite).contended,
		"NoOvertake":  (*suite).noOvertake,
		"Cancel":      (*suite).cancel,
		"Close":       (*suite).close,
		"Die":         (*suite).die,
		"Lose":        (*suite).lose,
		"LoseOften":   (*suite).loseOften,
		"Raise":       (*suite).raise,
		"Lazy":        (*suite).lazy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newSuite(t, open))
		})
	}
}

type suite struct {
	*testing.T
	Transport
	ctx context.Context
}

func newSuite(t *testing.T, open func(t *testing.T) Transport) *suite {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &suite{t, open(t), ctx}
}

// join returns a party that is closed at the end.
func (s *suite) join() lock.Lock {
	l := s.Join()
	s.Cleanup(func() { l.Close() })
	return l
}

func (s *suite) lock(l lock.Lock) lock.Hold {
	s.Helper()
	h, err := l.Lock(s.ctx)
	if err != nil {
		s.Fatalf("Lock: %v", err)
	}
	if err := h.Err(); err != nil {
		s.Fatalf("a new hold: %v", err)
	}
	return h
}

func (s *suite) unlock(h lock.Hold) {
	s.Helper()
	if err := h.Unlock(); err != nil {
		s.Fatalf("Unlock: %v", err)
	}
	if err := h.Err(); !errors.Is(err, lock.ErrLost) {
		s.Fatalf("Err after Unlock: %v, expected ErrLost", err)
	}
}

// begin locks in a goroutine.
func (s *suite) begin(ctx context.Context, l lock.Lock) <-chan result {
	c := make(chan result, 1)
	go func() {
		h, err := l.Lock(ctx)
		c <- result{h, err}
	}()
	return c
}

type result struct {
	hold lock.Hold
	err  error
}

// wait receives from c, in time.
func wait[T any](s *suite, c <-chan T, what string) T {
	s.Helper()
	select {
	case v := <-c:
		return v
	case <-s.ctx.Done():
		s.Fatalf("nothing happened: %s", what)
		panic("unreachable")
	}
}

// eventually waits until what is the case.
func (s *suite) eventually(is func() bool, what string) {
	s.Helper()
	for !is() {
		if s.ctx.Err() != nil {
			s.Fatalf("it never came true: %s", what)
		}
		runtime.Gosched()
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A shared thing is what the lock protects; it knows who wrote last.
type shared struct {
	inside     atomic.Int32
	writes     int
	generation uint64
	party      int
}

// write is what a party does under the lock.
func (d *shared) write(party int, h lock.Hold) error {
	if !d.inside.CompareAndSwap(0, int32(party)) {
		return fmt.Errorf("parties %d and %d have the lock", party, d.inside.Load())
	}
	defer d.inside.Store(0)
	runtime.Gosched()
	d.writes++
	before, generation := d.generation, h.Generation()
	same := d.party == party
	switch {
	case h.HeldByOther() != (d.party != 0 && !same):
		return fmt.Errorf("party %d after %d: held by other %v", party, d.party, h.HeldByOther())
	case same && generation != before, !same && generation <= before:
		return fmt.Errorf("party %d after %d: generation %d after %d", party, d.party, generation, before)
	}
	d.generation, d.party = generation, party
	return nil
}

// One holder at a time, whose generation and HeldByOther are right.
func (s *suite) exclusion() {
	const parties, goroutines, rounds = 4, 2, 15
	var d shared
	var all sync.WaitGroup
	for p := range parties {
		l := s.join()
		for range goroutines {
			all.Go(func() {
				for range rounds {
					h, err := l.Lock(s.ctx)
					if err == nil {
						err = errors.Join(d.write(p+1, h), h.Err(), h.Unlock())
					}
					if err != nil {
						s.Error(err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	if d.writes != parties*goroutines*rounds {
		s.Errorf("%d writes, expected %d", d.writes, parties*goroutines*rounds)
	}
}

// The goroutines of a party exclude each other and are no contenders.
func (s *suite) oneParty() {
	a := s.join()
	h := s.lock(a)
	second := s.begin(s.ctx, a)
	ctx, cancel := context.WithCancelCause(s.ctx)
	third := s.begin(ctx, a)
	why := errors.New("never mind")
	cancel(why)
	if r := wait(s, third, "a cancelled Lock returns"); !errors.Is(r.err, why) {
		s.Fatalf("%v, %v, expected the cause", r.hold, r.err)
	}
	if h.Contended() || closed(h.Waiting()) {
		s.Fatal("a party contends with itself")
	}
	s.unlock(h)
	r := wait(s, second, "the second goroutine gets the lock")
	if r.err != nil || r.hold.HeldByOther() || r.hold.Generation() != h.Generation() {
		s.Fatalf("the second goroutine: %v, %v", r.hold, r.err)
	}
	if err := h.Unlock(); !errors.Is(err, lock.ErrLost) {
		s.Fatalf("Unlock of an earlier hold: %v", err)
	}
	s.unlock(r.hold)
}

// HeldByOther is the truth in a random order of parties, old and new.
func (s *suite) heldByOther() {
	random := rand.New(rand.NewPCG(1, 2))
	var d shared
	parties := []lock.Lock{s.join(), s.join()}
	for range 40 {
		if len(parties) < 6 && random.IntN(8) == 0 {
			parties = append(parties, s.join())
		}
		p := random.IntN(len(parties))
		h := s.lock(parties[p])
		if err := d.write(p+1, h); err != nil {
			s.Fatal(err)
		}
		s.unlock(h)
	}
}

func (s *suite) contended() {
	a, b := s.join(), s.join()
	h := s.lock(a)
	for range 2 {
		waiting := h.Waiting()
		if h.Contended() || closed(waiting) {
			s.Fatal("contended by nobody")
		}
		ctx, cancel := context.WithCancel(s.ctx)
		r := s.begin(ctx, b)
		wait(s, waiting, "Waiting is closed")
		if !h.Contended() || !closed(h.Waiting()) {
			s.Fatal("not contended when Waiting is closed")
		}
		cancel()
		if r := wait(s, r, "a cancelled Lock returns"); !errors.Is(r.err, context.Canceled) {
			s.Fatalf("%v, %v, expected %v", r.hold, r.err, context.Canceled)
		}
		s.eventually(func() bool { return !h.Contended() && !closed(h.Waiting()) }, "nobody waits")
	}
	r := s.begin(s.ctx, b)
	s.eventually(h.Contended, "contended")
	s.unlock(h)
	if h.Contended() {
		s.Fatal("contended after Unlock")
	}
	s.unlock(wait(s, r, "b gets the lock").hold)
}

// Who waits, and is seen to, gets the lock before the holder gets it again.
func (s *suite) noOvertake() {
	a, b := s.join(), s.join()
	for range 5 {
		h := s.lock(a)
		r := s.begin(s.ctx, b)
		wait(s, h.Waiting(), "b waits")
		s.unlock(h)
		again := s.begin(s.ctx, a)
		s.unlock(wait(s, r, "b gets the lock").hold)
		h = wait(s, again, "a gets the lock again").hold
		if !h.HeldByOther() {
			s.Fatal("a has overtaken b")
		}
		s.unlock(h)
	}
}

func (s *suite) cancel() {
	a, b, c := s.join(), s.join(), s.join()
	over, cancel := context.WithCancelCause(s.ctx)
	why := errors.New("never mind")
	cancel(why)
	if _, err := a.Lock(over); !errors.Is(err, why) {
		s.Fatalf("Lock with a cancelled context: %v", err)
	}
	for range 10 {
		h := s.lock(a)
		ctx, cancel := context.WithCancelCause(s.ctx)
		r := s.begin(ctx, b)
		go cancel(why)
		go h.Unlock()
		if r := wait(s, r, "Lock returns"); r.err == nil {
			s.unlock(r.hold)
		} else if !errors.Is(r.err, why) {
			s.Fatalf("%v, expected the cause", r.err)
		}
		s.unlock(s.lock(c)) // it is free whichever came first
	}
}

func (s *suite) close() {
	a, b, c := s.join(), s.join(), s.join()
	h := s.lock(a)
	rb, rc := s.begin(s.ctx, b), s.begin(s.ctx, c)
	s.eventually(h.Contended, "contended")
	if err := c.Close(); err != nil {
		s.Fatal(err)
	}
	if r := wait(s, rc, "Lock of a closed one returns"); !errors.Is(r.err, lock.ErrClosed) {
		s.Fatalf("%v, expected ErrClosed", r.err)
	}
	if err := a.Close(); err != nil {
		s.Fatal(err)
	}
	if !closed(h.Lost()) || !errors.Is(h.Err(), lock.ErrLost) || !errors.Is(h.Unlock(), lock.ErrLost) {
		s.Fatalf("the hold of a closed lock: %v", h.Err())
	}
	if _, err := a.Lock(s.ctx); !errors.Is(err, lock.ErrClosed) {
		s.Fatalf("Lock after Close: %v", err)
	}
	if err := a.Close(); !errors.Is(err, lock.ErrClosed) {
		s.Fatalf("second Close: %v", err)
	}
	r := wait(s, rb, "b gets the lock")
	if r.err != nil || !r.hold.HeldByOther() || r.hold.Generation() <= h.Generation() {
		s.Fatalf("after Close: %v, %v", r.hold, r.err)
	}
	s.unlock(r.hold)
}

func (s *suite) die() {
	a, b := s.join(), s.join()
	h := s.lock(a)
	r := s.begin(s.ctx, b)
	wait(s, h.Waiting(), "b waits")
	if s.Die == nil {
		a.Close()
	} else {
		s.Die(a)
	}
	next := wait(s, r, "b gets the lock")
	if next.err != nil || !next.hold.HeldByOther() || next.hold.Generation() <= h.Generation() {
		s.Fatalf("after a death: %v, %v", next.hold, next.err)
	}
	if !errors.Is(h.Err(), lock.ErrLost) {
		s.Fatal("the dead still holds the lock")
	}
	s.unlock(next.hold)
}

// A holder that loses the lock learns it, and others are told by the
// generation that it is out.
func (s *suite) lose() {
	a, b := s.join(), s.join()
	h := s.lock(a)
	lostAt := h.Lost()
	if closed(lostAt) {
		s.Fatal("lost from the beginning")
	}
	s.Lose()
	wait(s, lostAt, "the loss is seen")
	if err := h.Err(); !errors.Is(err, lock.ErrLost) {
		s.Fatalf("Err of a lost hold: %v", err)
	}
	if err := h.Unlock(); !errors.Is(err, lock.ErrLost) {
		s.Fatalf("Unlock of a lost hold: %v", err)
	}
	if err := h.Raise(s.ctx, 1<<20); !errors.Is(err, lock.ErrLost) {
		s.Fatalf("Raise of a lost hold: %v", err)
	}
	again := s.lock(a)
	if !again.HeldByOther() || again.Generation() <= h.Generation() {
		s.Fatalf("generation %d after a loss with %d, held by other %v", again.Generation(), h.Generation(), again.HeldByOther())
	}
	s.unlock(again)
	other := s.lock(b)
	if !other.HeldByOther() || other.Generation() <= again.Generation() {
		s.Fatalf("generation %d after %d", other.Generation(), again.Generation())
	}
	s.unlock(other)
}

// A fence refuses writes of those whose time is over, as a store does.
// Holds are lost at any time; no generation comes twice or too late.
// Many goroutines of several parties share the lock by Lazy.
// leaks uses a lock in every way and counts what is left.
