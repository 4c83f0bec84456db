package job

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// While there are requests, jobs of a disk have a part of its time, all together, and
// the whole of it otherwise.
func TestYields(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name      string
		kind      Kind
		jobs      int
		busy      bool
		min, max  int64 // ms of work in 10 s
		suspended bool
	}{
		{"idle", Data, 2, false, 19_000, 20_100, false},
		{"busy", Data, 3, true, 900, 1100, false},
		{"soon", Join, 3, true, 1900, 2100, false},
		{"urgent", Join, 3, true, 4800, 5200, false},
		{"suspended", Join, 3, false, 0, 0, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				throttle, board := NewThrottle(), NewBoard()
				if x.suspended {
					board.Suspend(x.kind)
				}
				var worked atomic.Int64
				var all sync.WaitGroup
				if x.busy {
					all.Go(func() {
						for ctx.Err() == nil {
							throttle.Enter()
							throttle.Leave()
							time.Sleep(Quiet / 2)
						}
					})
				}
				for range x.jobs {
					all.Go(func() {
						j := board.Begin(What{Kind: x.kind, Urgent: x.name == "urgent"}, throttle)
						defer j.End()
						for j.Step(ctx, func() error { time.Sleep(time.Millisecond); worked.Add(1); return nil }) == nil {
						}
					})
				}
				all.Wait()
				if got := worked.Load(); got < x.min || got > x.max {
					t.Errorf("%d ms of work in 10 s, expected %d to %d", got, x.min, x.max)
				}
				if n := len(board.List()); n != 0 {
					t.Errorf("%d jobs have not ended", n)
				}
			})
		})
	}
}

// Steps are short where there are requests, and longer where not.
func TestStepsAreShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := NewThrottle()
		j := NewBoard().Begin(What{Kind: Delete}, throttle)
		longest := func() (most time.Duration) {
			steps := 0
			err := j.Run(t.Context(), 1, 1000, func(_ context.Context, n int) (bool, error) {
				took := time.Duration(n) * 100 * time.Microsecond
				time.Sleep(took)
				if steps++; steps > 10 {
					most = max(most, took)
				}
				return steps < 30, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return most
		}
		if d := longest(); d < idleStep/2 || d > idleStep {
			t.Errorf("a step takes %v without requests", d)
		}
		throttle.Enter()
		if d := longest(); d > busyStep {
			t.Errorf("a step takes %v while there are requests", d)
		}
	})
}

// What people see: how much, how fast, how long still, and what is in the way.
func TestStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBoard()
		j := b.Begin(What{Kind: Data, Disk: "d1", Unit: "bytes"}, nil)
		j.Set(0, 1000)
		for range 20 {
			time.Sleep(time.Second)
			j.Add(10, 5)
		}
		b.Suspend(Data)
		s := b.List()[0]
		if s.Done != 200 || s.Moved != 100 || s.Rate < 9 || s.Rate > 11 || s.Left < 70*time.Second || s.Left > 90*time.Second || !s.Suspended {
			t.Errorf("the status is %+v", s)
		}
		j.Wait(errors.New("no disk"))
		if s := j.Status(); !s.Waiting || s.Err != "no disk" {
			t.Errorf("the status is %+v", s)
		}
		go func() { time.Sleep(time.Second); b.Resume(Data) }()
		began := time.Now()
		if err := j.Step(t.Context(), func() error { return nil }); err != nil || time.Since(began) != time.Second {
			t.Errorf("resumed after %v: %v", time.Since(began), err)
		}
		j.End()
		if len(b.List()) != 0 {
			t.Error("it has not ended")
		}
	})
}
