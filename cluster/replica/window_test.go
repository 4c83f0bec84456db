package replica

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// The scenes here are about windows that are so narrow that hardly any history finds
// them: each fails without the rule that it is about.

// A bent is a Peer that somebody looks at.
type bent struct {
	Peer
	write, dirty func() // before a write, and after an answer about marks
}

func (b *bent) Write(ctx context.Context, r *Request, p []byte) error {
	if b.write != nil {
		b.write()
	}
	return b.Peer.Write(ctx, r, p)
}

func (b *bent) Dirty(ctx context.Context, to To, from uint64) ([]disk.DirtyObject, bool, error) {
	list, more, err := b.Peer.Dirty(ctx, to, from)
	if b.dirty != nil {
		b.dirty()
	}
	return list, more, err
}

// A stop keeps the first one who comes.
type stop struct {
	first          atomic.Bool
	reached, going chan struct{}
}

func newStop() *stop { return &stop{reached: make(chan struct{}), going: make(chan struct{})} }

func (s *stop) here() {
	if s.first.CompareAndSwap(false, true) {
		close(s.reached)
		<-s.going
	}
}

// come waits until somebody is there.
func (s *stop) come(t *testing.T) {
	t.Helper()
	select {
	case <-s.reached:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody came")
	}
}

// heldFlush keeps the first flush of a node's disk when it is done.
func (s *sim) heldFlush(node int) *stop {
	p, held := s.nodes[node].store.(*platter), newStop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushed = held.here
	return held
}

// cast are the nodes of the members of the group of block 0, the first one first, and
// the node that has none.
func (s *sim) cast() (a, b, c, outside int) {
	n := func(i int) int { return (nodeOfBlock0 + i) % simNodes }
	return n(0), n(1), n(2), n(3)
}

// blackout takes the power off all nodes, and starts them again. The groups go on with
// some disks, that of block 0 with those.
func (s *sim) blackout(of0 ...int) {
	s.t.Helper()
	for id := range simNodes {
		s.crash(id)
	}
	for id := range simNodes {
		s.start(id)
	}
	for _, g := range simNumbers {
		nodes := of0
		if g != groupOfBlock0 {
			nodes = nil
			rec, _ := s.state.Group(g)
			for _, m := range rec.Members {
				nodes = append(nodes, nodeOf(m.Disk))
			}
		}
		s.revive(g, nodes...)
	}
}

// kill ends a gateway like a crash of its process.
func (s *sim) kill(v *Volume) {
	s.t.Helper()
	v.cancel(errDead)
	s.heal()
	s.release(v)
	time.Sleep(100 * time.Millisecond)
}

// halfWritten has a gateway write block 0 to some disks only, and die.
func (s *sim) halfWritten(v *Volume, node int, value uint64, except ...int) {
	s.t.Helper()
	for _, id := range except {
		s.cut(node, id, false)
	}
	s.process(node).store.Cut(true, true)
	written := make(chan error)
	go func() { written <- v.WriteAt(s.ctx, content(value), 0, 0) }()
	time.Sleep(100 * time.Millisecond)
	v.cancel(errDead)
	if err := <-written; err == nil {
		s.t.Error("some copies were enough")
	}
	s.kill(v)
}

// clean attaches a volume whose block 0 has a value that is on all disks, and not marked.
func (s *sim) clean(node int, value uint64) *Volume {
	s.t.Helper()
	v, err := s.attach(node)
	must(s.t, err)
	must(s.t, v.WriteAt(s.ctx, content(value), 0, 0))
	must(s.t, v.Flush(s.ctx))
	_, err = v.Tidy(s.ctx)
	must(s.t, err)
	return v
}

// What was done at an older epoch does not count: the disk may have been away since, and
// have joined again from one that had not done it.
func TestDoneAtOlderEpoch(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, _, c, outside := s.cast()
		v := s.clean(outside, 1)
		rec, _ := s.state.Group(groupOfBlock0)
		late, l := newStop(), v.link(rec.Members[0])
		l.peer, l.starter = &bent{Peer: l.peer, write: late.here}, nil
		written := make(chan error)
		go func() { written <- v.WriteAt(t.Context(), content(2), 0, 0) }()
		late.come(t)
		time.Sleep(50 * time.Millisecond) // the others have it
		s.drop(groupOfBlock0, diskName(c))
		s.add(groupOfBlock0, c)
		s.joined(groupOfBlock0, simCopies)
		close(late.going)
		must(t, <-written)
		s.holds(v, 2)
	})
}

// A joining disk is flushed with the members: it may be one soon, and the only one that
// is left.
func TestJoiningIsFlushed(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, b, _, outside := s.cast()
		v, err := s.attach(b)
		must(t, err)
		must(t, v.Flush(t.Context())) // of the other group, which the disk has, too
		held := s.heldFlush(outside)
		s.add(groupOfBlock0, outside)
		held.come(t) // it has pulled and flushed
		must(t, v.WriteAt(t.Context(), content(2), 0, 0))
		must(t, v.Flush(t.Context()))
		close(held.going)
		s.joined(groupOfBlock0, simCopies+1)
		s.kill(v)
		s.blackout(outside)
		s.needed(1)
		v, err = s.attach(b)
		must(t, err)
		expect(t, v, 2)
	})
}

// What makes members equal marks what it changes: it is not durable yet, and the mark of
// the one that it was different from may be taken back.
func TestFixesAreMarked(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		a, b, c, outside := s.cast()
		v, err := s.attach(outside)
		must(t, err)
		s.halfWritten(v, outside, 2, b, c)
		must(t, s.process(a).disk.Flush(t.Context())) // for another volume
		v, err = s.attach(outside)
		must(t, err)
		s.holds(v, 2)
		_, err = v.Tidy(t.Context())
		must(t, err)
		s.kill(v)
		s.blackout(a, b, c)
		v, err = s.attach(outside)
		must(t, err)
		s.holds(v, 2)
	})
}

// A disk does not become a member while it is to pull something again: members have been
// made equal after it had pulled, and it has what they have not.
func TestPulledAgainBeforePromotion(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		a, b, c, outside := s.cast()
		v := s.clean(outside, 1)
		held := s.heldFlush(outside)
		s.add(groupOfBlock0, outside)
		held.come(t) // it has pulled
		s.halfWritten(v, outside, 2, a, b, c)
		v, err := s.attach(b)
		must(t, err)
		expect(t, v, 1)
		close(held.going)
		s.joined(groupOfBlock0, simCopies+1)
		s.holds(v, 1)
	})
}

// stale has the disk of the node outside join a group again where block 0 is 2, while it
// has 1, and keeps it when it is about to replace that.
func (s *sim) stale(v *Volume, outside int) *stop {
	s.t.Helper()
	s.add(groupOfBlock0, outside)
	s.joined(groupOfBlock0, simCopies+1)
	s.drop(groupOfBlock0, diskName(outside))
	must(s.t, v.WriteAt(s.ctx, content(2), 0, 0))
	held, m := newStop(), s.process(outside).member
	way := m.c.Peer
	m.c.Peer = func(r record.Member) Peer { return &bent{Peer: way(r), dirty: held.here} }
	s.add(groupOfBlock0, outside)
	held.come(s.t)
	return held
}

// What was read at one epoch is not applied at a later one: the disk may have joined anew
// since, and the same content been written again.
func TestPulledAtOlderEpoch(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, b, _, outside := s.cast()
		v := s.clean(b, 1)
		held := s.stale(v, outside)
		s.drop(groupOfBlock0, diskName(outside))
		s.add(groupOfBlock0, outside)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		close(held.going)
		s.joined(groupOfBlock0, simCopies+1)
		s.holds(v, 1)
	})
}

// What a client has written on a joining disk is not replaced by what was pulled, though
// it looks like what was to be replaced.
func TestClientsComeFirst(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, b, _, outside := s.cast()
		v := s.clean(b, 1)
		held := s.stale(v, outside)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		close(held.going)
		s.joined(groupOfBlock0, simCopies+1)
		s.holds(v, 1)
	})
}

// A disk is promoted at the epoch at which it has pulled only: it may have been away
// since.
func TestPromotedAtOlderEpoch(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, b, _, outside := s.cast()
		v := s.clean(b, 1)
		held := s.heldFlush(outside)
		s.add(groupOfBlock0, outside)
		held.come(t) // it has pulled
		s.drop(groupOfBlock0, diskName(outside))
		must(t, v.WriteAt(t.Context(), content(2), 0, 0))
		s.add(groupOfBlock0, outside)
		close(held.going)
		s.joined(groupOfBlock0, simCopies+1)
		s.holds(v, 2)
	})
}

// What a client has tried to write on a joining disk, and nobody has executed, does not
// keep the disk from pulling what is there.
func TestFailedWriteIsPulled(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, b, _, outside := s.cast()
		v := s.clean(b, 1)
		held := s.stale(v, outside)
		rec, epoch := s.state.Group(groupOfBlock0)
		w, err := v.link(rec.Joining[0]).session(t.Context())
		must(t, err)
		r := Request{To: To{rec.Joining[0].Disk, rec.Joining[0].Incarnation, groupOfBlock0, epoch}, Writer: *w, Tree: 1 << 40}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.process(outside).member.Write(ctx, &r, content(9)); err == nil {
			t.Error("it knows a tree of the future")
		}
		close(held.going)
		s.joined(groupOfBlock0, simCopies+1)
		s.holds(v, 2)
	})
}
