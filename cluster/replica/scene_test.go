package replica

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// scene runs f in a cluster where nothing happens by itself.
func scene(t *testing.T, f func(t *testing.T, s *sim)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sim{t: t, rand: newChance(1), server: memory.NewServer(memory.Options{}), climate: climates[0], calm: true}
		ctx, cancel := context.WithCancel(context.Background())
		s.ctx = ctx
		s.init(model, 2)
		defer s.end(cancel)
		f(t, s)
	})
}

// attach makes a node the gateway of the first volume.
func (s *sim) attach(node int) (*Volume, error) { return s.attachTo(node, 0) }

// attachTo makes a node the gateway of a volume.
func (s *sim) attachTo(node, volume int) (*Volume, error) {
	p := s.process(node)
	l, err := coord.NewLease(p.ctx, p.store, simTTL)
	if err != nil {
		return nil, err
	}
	s.all.Go(func() { <-p.ctx.Done(); _ = l.Revoke(p.ctx) })
	v, err := s.attachBy(p, l, volume, nil)
	if err != nil {
		return nil, errors.Join(err, l.Revoke(p.ctx))
	}
	return v, nil
}

// release lets another gateway attach the volume at once.
func (s *sim) release(v *Volume) {
	s.t.Helper()
	must(s.t, s.store.Revoke(s.ctx, v.c.Lease.ID()))
}

// edit changes the record of a group, as the steward does, and waits until all know it.
func (s *sim) edit(group int, f func(g *record.Group, epoch coord.Revision)) record.Group {
	s.t.Helper()
	g, epoch, err := (&Groups{Store: s.store}).Get(s.ctx, group)
	must(s.t, err)
	f(&g, epoch)
	put(s.t, s.store, map[string]record.Record{record.GroupKey(group): g})
	time.Sleep(100 * time.Millisecond)
	return g
}

// drop removes a disk.
func (s *sim) drop(group int, disk string) record.Group {
	s.t.Helper()
	return s.edit(group, func(g *record.Group, _ coord.Revision) {
		is := func(m record.Member) bool { return m.Disk == disk }
		g.Members, g.Joining = slices.DeleteFunc(g.Members, is), slices.DeleteFunc(g.Joining, is)
	})
}

// add adds the disk of a node as a joining one.
func (s *sim) add(group, node int) record.Group {
	s.t.Helper()
	return s.edit(group, func(g *record.Group, epoch coord.Revision) { g.Joining = append(g.Joining, s.joiner(node, epoch)) })
}

func (s *sim) joiner(node int, epoch coord.Revision) record.Member {
	return record.Member{Disk: diskName(node), Incarnation: s.process(node).incarnation, Since: int64(epoch)}
}

// revive lets a group go on with the disks of some nodes.
func (s *sim) revive(group int, nodes ...int) record.Group {
	s.t.Helper()
	return s.edit(group, func(g *record.Group, epoch coord.Revision) {
		g.Members, g.Joining = nil, nil
		g.Revived++
		for _, id := range nodes {
			g.Members = append(g.Members, s.joiner(id, epoch))
		}
	})
}

// joined waits until a group has so many members, and returns its record.
func (s *sim) joined(group, members int) record.Group {
	s.t.Helper()
	for range 100 {
		if rec, _ := s.state.Group(group); len(rec.Members) == members && len(rec.Joining) == 0 {
			time.Sleep(100 * time.Millisecond)
			return rec
		}
		time.Sleep(50 * time.Millisecond)
	}
	rec, _ := s.state.Group(group)
	s.t.Fatalf("group %#x should have %d members: %v", group, members, rec)
	return rec
}

func content(v uint64) []byte {
	p := make([]byte, disk.BlockSize)
	value(v, p)
	return p
}

// expect reads block 0.
func expect(t *testing.T, v *Volume, want uint64) {
	t.Helper()
	p := make([]byte, disk.BlockSize)
	if err := v.ReadAt(t.Context(), p, 0, 0); err != nil {
		t.Error(err)
	} else if got, err := valueOf(p); got != want || err != nil {
		t.Errorf("block 0 has %d, %v; want %d", got, err, want)
	}
}

// holds fails the test unless block 0 has that value on all members.
func (s *sim) holds(v *Volume, want uint64) {
	s.t.Helper()
	if got := s.same(v); got != want {
		s.t.Errorf("it has %d", got)
	}
}

// same reads block 0 from all members, and returns what they all have.
func (s *sim) same(v *Volume) (value uint64) {
	s.t.Helper()
	rec, _ := v.c.Agreed.Group(groupOfBlock0)
	defer func() { v.c.Near = nil }()
	for i, m := range rec.Members {
		v.c.Near = func(o record.Member) bool { return o == m }
		p := make([]byte, disk.BlockSize)
		must(s.t, v.ReadAt(s.ctx, p, 0, 0))
		got, err := valueOf(p)
		must(s.t, err)
		if i > 0 && got != value {
			s.t.Errorf("disk %s has %d in block 0, others have %d", m.Disk, got, value)
		}
		value = got
	}
	return value
}

// cut loses what one node sends to another one, and back if both.
func (s *sim) cut(a, b int, both bool) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.net.cut[[2]int{a, b}] = true
	if both {
		s.net.cut[[2]int{b, a}] = true
	}
}

// needed makes that how many disks writes need.
func (s *sim) needed(n int) {
	s.t.Helper()
	f, _ := s.state.View().Families.Get(simFamily)
	r := f.Volume.Record
	r.MinCopies = n
	put(s.t, s.store, map[string]record.Record{record.VolumeKey(simFamily): r})
	time.Sleep(100 * time.Millisecond)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// groupOfBlock0 is the group of the block that scenes use; its members are on
// nodeOfBlock0 and the two nodes behind it.
var (
	groupOfBlock0   = GroupOf(disk.Object{Family: simFamily}, simCopies, simGroups)
	_, nodeOfBlock0 = record.SplitGroup(groupOfBlock0)
)

// A gateway that is cut off with a member serves nothing when another one may serve.
func TestStaleLease(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		a := nodeOfBlock0
		old, err := s.attach(a)
		must(t, err)
		must(t, old.WriteAt(t.Context(), content(1), 0, 0))
		for b := range simNodes {
			s.cut(a, b, true)
		}
		s.process(a).store.Cut(true, true)
		// Its own disk still answers it.
		old.c.Near = nil
		expect(t, old, 1)
		if _, err := s.attach(a + 1); !errors.Is(err, record.ErrInUse) {
			t.Errorf("attaching while the lease lives: %v", err)
		}
		time.Sleep(2 * simTTL)
		now, err := s.attach(a + 1)
		must(t, err)
		must(t, now.WriteAt(t.Context(), content(2), 0, 0))
		p := make([]byte, disk.BlockSize)
		if err := old.ReadAt(t.Context(), p, 0, 0); err == nil {
			t.Errorf("the old gateway still reads %d", p[0])
		}
		expect(t, now, 2)
	})
}

// After a power loss of all there is what was flushed, and whoever had written more
// is told.
func TestPowerLoss(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		outside := nodeOfBlock0 + 3 // has no copy
		v, err := s.attach(outside % simNodes)
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		must(t, v.Flush(t.Context()))
		must(t, v.WriteAt(t.Context(), content(2), 0, 0))
		for i := range simCopies {
			s.crash((nodeOfBlock0 + i) % simNodes)
		}
		for i := range simCopies {
			s.start((nodeOfBlock0 + i) % simNodes)
		}
		if err := v.Flush(t.Context()); !errors.Is(err, ErrTooFew) && !errors.Is(err, ErrIncarnation) {
			t.Errorf("flush without disks: %v", err)
		}
		s.revive(groupOfBlock0, nodeOfBlock0, (nodeOfBlock0+1)%simNodes, (nodeOfBlock0+2)%simNodes)
		// The other group has lost two.
		other := record.GroupOf(simCopies, 1-nodeOfBlock0)
		rec, _ := s.state.Group(other)
		for _, m := range rec.Members {
			if s.process(nodeOf(m.Disk)).incarnation != m.Incarnation {
				s.drop(other, m.Disk)
			}
		}
		s.needed(1) // one is left there
		time.Sleep(time.Second)
		for range 2 {
			if err := v.Flush(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("flush after the loss: %v", err)
			}
		}
		must(t, v.Close())
		s.release(v)
		v, err = s.attach(outside % simNodes)
		must(t, err)
		p, q := make([]byte, disk.BlockSize), make([]byte, disk.BlockSize)
		must(t, v.ReadAt(t.Context(), p, 0, 0))
		if got, err := valueOf(p); err != nil || got == 0 {
			t.Errorf("block 0 has %d, %v", got, err)
		}
		// It is the same on all.
		for range simCopies {
			v.c.Near = nil
			must(t, v.ReadAt(t.Context(), q, 0, 0))
			if !bytes.Equal(p, q) {
				t.Error("it has changed")
			}
		}
	})
}

// What one member alone got of a gateway that died is the same on all when the next
// one serves, though that member is gone, and a disk that joined has got it from it.
func TestLoneWrite(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		first, outside := nodeOfBlock0, (nodeOfBlock0+3)%simNodes
		v := s.clean(outside, 1)
		s.halfWritten(v, outside, 2, (first+1)%simNodes, (first+2)%simNodes)
		s.add(groupOfBlock0, outside)
		rec := s.joined(groupOfBlock0, simCopies+1)
		s.drop(groupOfBlock0, rec.Members[0].Disk)
		v, err := s.attach(outside)
		must(t, err)
		s.same(v)
	})
}

// Damage is not returned, and mended from another copy.
func TestRot(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(3)
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(5), 0, 0))
		must(t, v.Flush(t.Context()))
		p := s.nodes[nodeOfBlock0].store.(*platter) // the first member
		o, k := disk.Object{Family: simFamily}, entryKey{v.c.Head.Version, 0}
		p.mu.Lock()
		c := p.now[o][k]
		c.data = new([disk.BlockSize]byte)
		p.now[o][k] = c
		p.mu.Unlock()
		expect(t, v, 5)
		expect(t, v, 5)
		p.mu.Lock()
		defer p.mu.Unlock()
		if got := p.now[o][k]; !bytes.Equal(got.data[:], content(5)) {
			t.Error("the damage was not mended")
		}
	})
}

// What is out of date is refused with an error that says by what.
func TestRefusals(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(3)
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		m := s.process(nodeOfBlock0).member
		rec, epoch := v.c.Agreed.Group(groupOfBlock0)
		w, err := v.link(rec.Members[0]).session(t.Context())
		must(t, err)
		good := Request{To: To{rec.Members[0].Disk, rec.Members[0].Incarnation, groupOfBlock0, epoch}, Writer: *w, Tree: v.c.Tree}
		p := content(9)
		must(t, m.Write(t.Context(), &good, p))
		for name, tt := range map[string]struct {
			change func(*Request)
			want   error
		}{
			"old epoch":         {func(r *Request) { r.Epoch-- }, ErrEpoch},
			"other incarnation": {func(r *Request) { r.Incarnation = "x" }, ErrIncarnation},
			"other disk":        {func(r *Request) { r.Disk = "x" }, ErrIncarnation},
			"old generation":    {func(r *Request) { r.Generation-- }, ErrFenced},
			"another head":      {func(r *Request) { r.Version++ }, ErrSession},
			"nobody":            {func(r *Request) { r.Writer = Writer{Head: Head{r.Family, r.Version + 1}} }, ErrSession},
			"no such group":     {func(r *Request) { r.Group++ }, block.ErrInvalid},
			"old session":       {func(r *Request) { r.Session-- }, ErrSession},
			"later session":     {func(r *Request) { r.Session++ }, ErrSession},
			"future epoch":      {func(r *Request) { r.Epoch += 1000 }, ErrUnreachable},
			"other group":       {func(r *Request) { r.Group = 1 - r.Group }, block.ErrInvalid},
			"part of a block":   {func(r *Request) { r.Off = 5 }, block.ErrInvalid},
			"negative":          {func(r *Request) { r.Off = -disk.BlockSize }, block.ErrInvalid},
		} {
			r := good
			tt.change(&r)
			if err := m.Write(t.Context(), &r, p); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
		if err := m.Open(t.Context(), good.Disk, good.Incarnation, Writer{w.Head, w.Generation - 1, 9}); !errors.Is(err, ErrFenced) {
			t.Errorf("opening for an old generation: %v", err)
		}
	})
}

// A disk that was away while a version and a family were deleted joins again, and has
// nothing of them then.
func TestVanished(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(3)
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		away := (nodeOfBlock0 + 2) % simNodes
		s.drop(groupOfBlock0, diskName(away))
		p := s.nodes[away].store.(*platter)
		p.mu.Lock()
		p.now.set(disk.Object{Family: simFamily}, entryKey{77, 0}, dataCell(content(3)))
		for i := range 50 {
			p.now.set(disk.Object{Family: 99, Index: uint64(i)}, entryKey{1, 0}, dataCell(content(3)))
		}
		p.mu.Unlock()
		s.add(groupOfBlock0, away)
		s.joined(groupOfBlock0, simCopies)
		p.mu.Lock()
		for o, cells := range p.now {
			in := GroupOf(o, simCopies, simGroups) == groupOfBlock0
			if _, stale := cells[entryKey{77, 0}]; stale || in && o.Family == 99 && len(cells) > 0 {
				t.Errorf("object %v still has %v", o, cells)
			}
		}
		p.mu.Unlock()
		s.same(v)
	})
}

// A write is acknowledged only if enough disks have it, joining ones included, and a
// flush, too. Until then it waits, and fails after the limit.
func TestTooFew(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		outside := (nodeOfBlock0 + 3) % simNodes
		v, err := s.attach(outside)
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		s.drop(groupOfBlock0, diskName((nodeOfBlock0+1)%simNodes))
		s.drop(groupOfBlock0, diskName((nodeOfBlock0+2)%simNodes))
		for what, f := range map[string]func() error{
			"write": func() error { return v.WriteAt(t.Context(), content(2), 0, 0) },
			"zero":  func() error { return v.Zero(t.Context(), 0, disk.BlockSize, 0) },
			"flush": func() error { return v.Flush(t.Context()) },
		} {
			begin := time.Now()
			if err := f(); !errors.Is(err, ErrTooFew) || time.Since(begin) < v.c.Limit {
				t.Errorf("%s with one disk: %v after %v", what, err, time.Since(begin))
			}
		}
		expect(t, v, 1)
		if v.some.Load() != 0 {
			t.Error("what was not sent is in doubt")
		}
		written := make(chan error, 2)
		go func() {
			written <- v.WriteAt(t.Context(), content(3), 0, 0)
			written <- v.Flush(t.Context())
		}()
		time.Sleep(time.Second)
		// It is enough that one joins; the pull does not get on.
		s.cut(outside, nodeOfBlock0, true)
		s.edit(groupOfBlock0, func(g *record.Group, epoch coord.Revision) {
			g.Joining = []record.Member{s.joiner((nodeOfBlock0+1)%simNodes, epoch)}
		})
		s.heal()
		must(t, <-written)
		must(t, <-written)
		expect(t, v, 3)
		// As many as there can be are enough.
		s.drop(groupOfBlock0, diskName((nodeOfBlock0+1)%simNodes))
		for id := range simNodes {
			if id != nodeOfBlock0 {
				s.weigh(id, 0)
			}
		}
		time.Sleep(100 * time.Millisecond)
		must(t, v.WriteAt(t.Context(), content(4), 0, 0))
		must(t, v.Flush(t.Context()))
	})
}
