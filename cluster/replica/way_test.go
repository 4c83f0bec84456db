package replica

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// A tardy Peer does not answer writes, and carries them out much later.
type tardy struct {
	Peer
	going chan struct{}
	all   sync.WaitGroup
	errs  chan error
}

func (d *tardy) Write(ctx context.Context, r *Request, p []byte) error {
	q, b := *r, slices.Clone(p)
	d.all.Go(func() {
		<-d.going
		d.errs <- d.Peer.Write(context.Background(), &q, b)
	})
	<-ctx.Done()
	return context.Cause(ctx)
}

// A write does not wait for a disk that a later record does not have, however long calls
// may take; and when the disk is back, what was sent to it before is not carried out.
func TestNobodyWaitsForRemoved(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, _, c, outside := s.cast()
		v := s.clean(outside, 1)
		rec, _ := s.state.Group(groupOfBlock0)
		i := slices.IndexFunc(rec.Members, func(m record.Member) bool { return m.Disk == diskName(c) })
		l := v.link(rec.Members[i])
		real := l.peer
		late := &tardy{Peer: real, going: make(chan struct{}), errs: make(chan error, 1)}
		l.peer, l.starter = late, nil
		written := make(chan error, 1)
		go func() { written <- v.WriteAt(t.Context(), content(2), 0, 0) }()
		time.Sleep(10 * time.Second)
		select {
		case err := <-written:
			t.Fatalf("written while a member does not answer: %v", err)
		default:
		}
		began := time.Now()
		s.drop(groupOfBlock0, diskName(c))
		must(t, <-written)
		if d := time.Since(began); d > time.Second {
			t.Errorf("a write waited %v for a disk that was removed", d)
		}
		if l.last != 1 || l.fails.Load() != 0 {
			t.Errorf("session %d, %d calls without an answer: nothing should be held against the disk", l.last, l.fails.Load())
		}
		l.peer = real
		must(t, v.WriteAt(t.Context(), content(3), 0, 0))
		s.add(groupOfBlock0, c)
		s.joined(groupOfBlock0, simCopies)
		close(late.going)
		late.all.Wait()
		if err := <-late.errs; err == nil {
			t.Error("a write was carried out that came late")
		}
		s.holds(v, 3)
		must(t, v.Close())
	})
}

// The same for everything else that waits for disks: attaching, reading and flushing.
func TestNothingWaitsForRemoved(t *testing.T) {
	for name, f := range map[string]func(s *sim, v *Volume) error{
		"attach": func(s *sim, v *Volume) error {
			s.release(v)
			v, err := s.attach(outsideOf(s))
			if err == nil {
				err = v.Close()
			}
			return err
		},
		"read":  func(s *sim, v *Volume) error { return v.ReadAt(s.ctx, make([]byte, 4096), 0, 0) },
		"flush": func(s *sim, v *Volume) error { return v.Flush(s.ctx) },
		"map": func(s *sim, v *Volume) error {
			for _, err := range v.Map(s.ctx, 0, 0, 4096) {
				return err
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, s *sim) {
				a, _, _, outside := s.cast()
				v := s.clean(outside, 1)
				must(t, v.WriteAt(t.Context(), content(2), 0, 0))
				s.net.mu.Lock()
				s.net.patience = time.Hour
				s.net.mu.Unlock()
				s.cut(outside, a, true)
				done := make(chan error, 1)
				go func() { done <- f(s, v) }()
				time.Sleep(10 * time.Second)
				select {
				case err := <-done:
					t.Fatalf("it did not wait: %v", err)
				default:
				}
				for _, g := range simNumbers {
					s.drop(g, diskName(a))
				}
				time.Sleep(time.Second)
				select {
				case err := <-done:
					must(t, err)
				default:
					t.Error("it waits for a disk that was removed")
				}
				v.cancel(errDead)
			})
		})
	}
}

// A disk that does not answer in one group is removed from all of the volume, but not from
// those that it is needed in.
func TestSilentInOneGroup(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v := s.clean(nodeOfBlock0, 1)
		var silent record.Member
		first, _ := s.state.Group(simNumbers[0])
		second, _ := s.state.Group(simNumbers[1])
		for _, m := range first.Members {
			if slices.Contains(second.Members, m) && nodeOf(m.Disk) != nodeOfBlock0 {
				silent = m
			}
		}
		var mu sync.Mutex
		told := map[int]error{}
		v.c.Removed = func(group int, m record.Member, why error) {
			mu.Lock()
			defer mu.Unlock()
			if told[group] != nil || m.Disk != silent.Disk {
				t.Errorf("removed again, or another one: %v from group %#x", m, group)
			}
			told[group] = why
		}
		s.cut(nodeOfBlock0, nodeOf(silent.Disk), true)
		must(t, v.WriteAt(t.Context(), content(2), 0, 0))
		time.Sleep(time.Second)
		for _, g := range simNumbers {
			if rec, _ := s.state.Group(g); slices.Contains(rec.Members, silent) {
				t.Errorf("group %#x still has the disk: %v", g, rec)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(told) != len(simNumbers) || !unknown(told[groupOfBlock0]) {
			t.Errorf("told: %v", told)
		}
		must(t, v.Close())
	})
}

// outsideOf is the node that has no copy of block 0.
func outsideOf(s *sim) int {
	_, _, _, outside := s.cast()
	return outside
}
