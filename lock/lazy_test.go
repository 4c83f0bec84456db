package lock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/lock"
)

// lazy runs f in simulated time with a Lazy of one party, which notes what
// happens to it, and another party. Its limits are 5, 50 and 50 ms.
func lazy(t *testing.T, f func(t *testing.T, z *lock.Lazy, other lock.Lock, log *[]string)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lock.Local
		var log []string
		z := lock.NewLazy(l.Join(), lock.LazyOptions{
			Taken: func(_ context.Context, h lock.Hold) error {
				log = append(log, "taken")
				return nil
			},
			Leaving: func(h lock.Hold) {
				if h.Err() != nil {
					log = append(log, "lost")
				} else {
					log = append(log, "leaving")
				}
			},
		})
		other := l.Join()
		f(t, z, other, &log)
		if err := z.Close(); err != nil {
			t.Error(err)
		}
		if err := z.Close(); !errors.Is(err, lock.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
		if _, err := z.Enter(t.Context()); !errors.Is(err, lock.ErrClosed) {
			t.Errorf("Enter after Close: %v", err)
		}
		other.Close()
	})
}

func enter(t *testing.T, z *lock.Lazy) lock.Hold {
	t.Helper()
	h, err := z.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// takes measures how long l needs to get the lock, and unlocks it.
func takes(t *testing.T, l lock.Lock) time.Duration {
	t.Helper()
	begin := time.Now()
	h, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := time.Since(begin)
	h.Unlock()
	return d
}

func same(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got != want {
		t.Errorf("%s takes %v, expected %v", what, got, want)
	}
}

func TestLazyKeepsWhatNobodyWants(t *testing.T) {
	lazy(t, func(t *testing.T, z *lock.Lazy, other lock.Lock, log *[]string) {
		first := enter(t, z)
		z.Leave()
		for range 100 { // with pauses shorter than Idle
			if enter(t, z) != first {
				t.Fatal("another hold")
			}
			time.Sleep(10 * time.Millisecond)
			z.Leave()
			time.Sleep(30 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if len(*log) != 2 || !errors.Is(first.Err(), lock.ErrLost) {
			t.Errorf("%q after some idle time, the hold: %v", *log, first.Err())
		}
		if enter(t, z).HeldByOther() {
			t.Error("nobody else had the lock")
		}
		z.Leave()
	})
}

// An idle holder hands over at once, but not before it had its minimum.
func TestLazyHandsOver(t *testing.T) {
	lazy(t, func(t *testing.T, z *lock.Lazy, other lock.Lock, log *[]string) {
		enter(t, z)
		z.Leave()
		same(t, "a hand-over by a new holder", takes(t, other), 5*time.Millisecond)
		if !enter(t, z).HeldByOther() {
			t.Error("another had the lock")
		}
		z.Leave()
		time.Sleep(20 * time.Millisecond)
		same(t, "a hand-over by an idle holder", takes(t, other), 0)
	})
}

// A busy holder hands over after its maximum, when all who were inside have
// left, and nobody enters meanwhile.
func TestLazyLetsOthersIn(t *testing.T) {
	lazy(t, func(t *testing.T, z *lock.Lazy, other lock.Lock, log *[]string) {
		enter(t, z)
		stop := make(chan struct{})
		entered := make(chan time.Duration)
		go func() { // always somebody inside, until the door is closed
			begin := time.Now()
			for time.Since(begin) < 60*time.Millisecond {
				enter(t, z)
				z.Leave()
				time.Sleep(time.Millisecond)
			}
			close(stop)
		}()
		go func() {
			time.Sleep(52 * time.Millisecond)
			begin := time.Now()
			h := enter(t, z)
			if !h.HeldByOther() {
				t.Error("entered before the other had the lock")
			}
			z.Leave()
			entered <- time.Since(begin)
		}()
		go func() {
			time.Sleep(57 * time.Millisecond)
			z.Leave()
		}()
		same(t, "a hand-over by a busy holder", takes(t, other), 57*time.Millisecond)
		same(t, "to enter meanwhile", <-entered, 5*time.Millisecond)
		<-stop
	})
}

// Who is inside over and over, as background work is, hands over when it leaves
// for the first time after the minimum: it does not enter again before.
func TestLazyDoorCloses(t *testing.T) {
	lazy(t, func(t *testing.T, z *lock.Lazy, other lock.Lock, log *[]string) {
		enter(t, z)
		ended := make(chan []bool)
		go func() {
			var others []bool
			for range 10 {
				time.Sleep(2 * time.Millisecond)
				z.Leave()
				h, err := z.Enter(t.Context())
				if err != nil {
					t.Error(err)
					break
				}
				others = append(others, h.HeldByOther())
			}
			z.Leave()
			ended <- others
		}()
		same(t, "a hand-over between steps of 2 ms", takes(t, other), 6*time.Millisecond)
		for i, other := range <-ended {
			if other != (i >= 2) {
				t.Errorf("hold %d was held by another before: %v", i+1, other)
			}
		}
	})
}

// When the one that waited has given up, the door stays open.
func TestLazyWaiterGivesUp(t *testing.T) {
	lazy(t, func(t *testing.T, z *lock.Lazy, other lock.Lock, log *[]string) {
		first := enter(t, z)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := other.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock with somebody inside: %v", err)
		}
		time.Sleep(40 * time.Millisecond) // until the maximum has passed
		z.Leave()
		if enter(t, z) != first {
			t.Error("the lock was given back though nobody wants it")
		}
		z.Leave()
	})
}

func TestLazyLoss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lock.Local
		var leaving []error
		var fail error
		z := lock.NewLazy(l.Join(), lock.LazyOptions{
			Taken:   func(_ context.Context, h lock.Hold) error { return fail },
			Leaving: func(h lock.Hold) { leaving = append(leaving, h.Err()) },
		})
		h := enter(t, z)
		l.Revoke()
		synctest.Wait()
		if !errors.Is(h.Err(), lock.ErrLost) || len(leaving) > 0 {
			t.Fatalf("the hold: %v, Leaving with somebody inside: %v", h.Err(), leaving)
		}
		z.Leave()
		again := enter(t, z)
		if !again.HeldByOther() || again.Generation() <= h.Generation() {
			t.Error("the loss did not change the generation")
		}
		if len(leaving) != 1 || !errors.Is(leaving[0], lock.ErrLost) {
			t.Errorf("Leaving after the loss: %v", leaving)
		}
		z.Leave()

		l.Revoke()
		synctest.Wait()
		fail = errors.New("cannot refresh")
		for range 3 {
			if _, err := z.Enter(t.Context()); !errors.Is(err, fail) {
				t.Errorf("Enter: %v, expected the error of Taken", err)
			}
		}
		other := l.Join()
		same(t, "what another waits", takes(t, other), 0)
		z.Close()
		if len(leaving) != 2 {
			t.Errorf("Leaving was called %d times, expected 2", len(leaving))
		}
	})
}

// Who gives up waiting neither takes the lock nor keeps others from it.
func TestLazyCancel(t *testing.T) {
	lazy(t, func(t *testing.T, z *lock.Lazy, other lock.Lock, log *[]string) {
		h, err := other.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		patient := make(chan error)
		go func() {
			time.Sleep(time.Second + time.Millisecond)
			_, err := z.Enter(t.Context())
			patient <- err
		}()
		if _, err := z.Enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Enter: %v", err)
		}
		synctest.Wait()
		if h.Contended() {
			t.Error("who gave up still waits")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !h.Contended() {
			t.Error("who came later does not wait")
		}
		h.Unlock()
		if err := <-patient; err != nil {
			t.Error(err)
		}
		z.Leave()
	})
}

// Close ends waiting and waits for those inside.
func TestLazyClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lock.Local
		z := lock.NewLazy(l.Join(), lock.LazyOptions{})
		enter(t, z)
		go func() {
			time.Sleep(time.Second)
			z.Leave()
		}()
		begin := time.Now()
		z.Close()
		same(t, "Close with somebody inside", time.Since(begin), time.Second)

		other := l.Join()
		h, err := other.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		z = lock.NewLazy(l.Join(), lock.LazyOptions{})
		ended := make(chan error)
		go func() {
			_, err := z.Enter(t.Context())
			ended <- err
		}()
		synctest.Wait()
		z.Close()
		if err := <-ended; !errors.Is(err, lock.ErrClosed) {
			t.Errorf("Enter during Close: %v", err)
		}
		h.Unlock()
	})
}
