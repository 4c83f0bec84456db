package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

// sharers are two servers of one disk with snapshots. What is written through
// each of them, to a half of its own, is recorded.
type sharers struct {
	t     *testing.T
	labs  [2]*snapLab
	recs  [2]*recorder
	taken []string
	tries int
}

const sharedHalf = 2 << 20

func newSharers(t *testing.T, lock string) *sharers {
	dir := t.TempDir()
	run(t, "truncate", "-s", fmt.Sprint(2*sharedHalf), dir+"/disk.img")
	s := &sharers{t: t}
	for i := range s.labs {
		s.labs[i] = serveSnapshots(t, dir, `, lock="`+lock+`"`)
		s.recs[i] = newRecorder(sharedHalf / recordBlock)
	}
	return s
}

// dial connects to an export of server i.
func (s *sharers) dial(i int, export string) *nbd.Client {
	s.t.Helper()
	d := &nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}}
	c, err := d.Dial(s.t.Context(), s.labs[i].uri(export))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// half is the half of server i on a disk.
func half(disk block.Device, i int) block.Device {
	return &shifted{block.Pass{Device: disk}, int64(i) * sharedHalf}
}

// take takes a snapshot on server i while both may be at work. The server may
// go meanwhile.
func (s *sharers) take(i int) {
	s.t.Helper()
	s.tries++
	name := fmt.Sprintf("s%d", s.tries)
	err := s.recs[0].snapshot(name, func() error {
		return s.recs[1].snapshot(name, func() error {
			_, err := try(s.t, "strata", "snapshot", "create", "--control", s.labs[i].control, "vm", name)
			return err
		})
	})
	if err == nil {
		s.taken = append(s.taken, name)
	}
}

// verifySnapshots reads all snapshots through server i.
func (s *sharers) verifySnapshots(i int) {
	s.t.Helper()
	for _, name := range s.taken {
		c := s.dial(i, "vm@"+name)
		for h, r := range s.recs {
			p := make([]byte, sharedHalf)
			if err := half(c, h).ReadAt(s.t.Context(), p, 0, 0); err != nil {
				s.t.Fatal(err)
			}
			if err := r.verifySnapshot(name, p); err != nil {
				s.t.Errorf("on server %d: %v", i, err)
			}
		}
		c.Close()
	}
}

// Two servers of one disk are at work, and one of them is killed, again and
// again. What was flushed through it is there at once on the other, and all that
// was answered by the other; snapshots that were taken on one are on both.
func TestServersOfOneDiskAreKilled(t *testing.T) {
	t.Parallel()
	s := newSharers(t, "file:disk.lock")
	rnd := rand.New(rand.NewPCG(7, 8))
	for round := range 6 {
		victim := rnd.IntN(2)
		s.round(round, victim, 50+rnd.IntN(200))
		other := s.dial(1-victim, "vm")
		if err := other.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.recs[1-victim].killed()
		for h, r := range s.recs {
			if n, err := r.verify(t.Context(), half(other, h)); err != nil || n == 0 {
				t.Fatalf("round %d, the half of server %d on server %d has %d durable blocks: %v", round, h, 1-victim, n, err)
			}
		}
		s.labs[victim].again()
		for i := range s.labs {
			s.verifySnapshots(i)
		}
	}
	for i := range s.labs {
		want(t, s.labs[i].snapshot("check", "vm"), "vm: sound")
	}
	if len(s.taken) < 6 {
		t.Errorf("only the snapshots %q were taken", s.taken)
	}
}

// round lets both servers work until the victim is killed after some changes,
// and takes snapshots on both meanwhile.
func (s *sharers) round(round, victim, changes int) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var work sync.WaitGroup
	for i, r := range s.recs {
		disk := half(s.dial(i, "vm"), i)
		after, kill := -1, func() {}
		if i == victim {
			after, kill = changes, s.labs[i].kill
		}
		work.Go(func() { r.work(ctx, disk, uint64(2*round+i), after, kill) })
	}
	s.take(round % 2)
	s.take(1 - round%2)
	<-s.labs[victim].ended
	cancel()
	work.Wait()
}

// A server is stopped while it has the lock and writes, so that the other takes
// over when its lease is over. When it goes on it writes nothing that the other
// does not know of.
func TestStoppedServerIsFenced(t *testing.T) {
	t.Parallel()
	s := newSharers(t, lockServer(t, "--lease", "300ms")+"disk")
	r := s.recs[0]
	rnd := rand.New(rand.NewPCG(9, 10))
	for round := range 6 {
		s.take(0)
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		stopped := make(chan struct{})
		stop := func() {
			defer close(stopped)
			if err := s.labs[0].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
		}
		mine := half(s.dial(0, "vm"), 0)
		work.Go(func() { r.work(ctx, mine, uint64(round), 20+rnd.IntN(100), stop) })
		<-stopped
		cancel()
		other := half(s.dial(1, "vm"), 0)
		if _, err := r.compare(t.Context(), other, (*recorded).idle); err != nil {
			t.Fatalf("round %d, on the other server: %v", round, err)
		}
		s.takeOver(other, rnd)
		if err := s.labs[0].cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		work.Wait()
		if _, err := r.compare(t.Context(), other, (*recorded).idle); err != nil {
			t.Fatalf("round %d, after the first server went on: %v", round, err)
		}
		s.verifySnapshots(1)
		// It is of no use any more, or is again what it was.
		s.labs[0].kill()
		if _, err := r.verify(t.Context(), other); err != nil {
			t.Fatalf("round %d, after the first server was killed: %v", round, err)
		}
		s.labs[0].again()
		s.verifySnapshots(0)
		want(t, s.labs[1].snapshot("check", "vm"), "vm: sound")
	}
}

// takeOver writes to the half of the first server through the other one, but
// for blocks of which the first one has requests, and takes a snapshot.
func (s *sharers) takeOver(other block.Device, rnd *rand.Rand) {
	s.t.Helper()
	r := s.recs[0]
	ctx := s.t.Context()
	for range 200 {
		b := rnd.IntN(len(r.blocks))
		r.mu.Lock()
		idle := r.blocks[b].idle()
		r.mu.Unlock()
		if !idle {
			continue
		}
		if err := r.change(ctx, other, b, 1, rnd); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := r.flush(ctx, other); err != nil {
		s.t.Fatal(err)
	}
	s.take(1)
}
