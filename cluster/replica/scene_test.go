package replica

import (
	"bytes"
	"context"
	"errors"
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
		s := &sim{t: t, rand: newChance(1), server: memory.NewServer(memory.Options{}), stats: map[string]int{}, dead: map[int]int64{}, climate: climates[0]}
		ctx, cancel := context.WithCancel(context.Background())
		s.ctx = ctx
		s.init(model)
		defer func() {
			cancel()
			s.all.Wait()
			s.net.all.Wait()
			_ = s.store.Close()
		}()
		f(t, s)
	})
}

// attach makes a node the gateway.
func (s *sim) attach(node int) (*Volume, error) {
	p := s.process(node)
	l, err := coord.NewLease(p.ctx, p.store, simTTL)
	if err != nil {
		return nil, err
	}
	s.all.Go(func() { <-p.ctx.Done(); _ = l.Revoke(p.ctx) })
	h, tree, generation, err := claimHead(p, l)
	if err != nil {
		return nil, err
	}
	return Attach(p.ctx, Config{
		Groups: &Groups{p.store}, Agreed: p.mirror, Trees: p.mirror, Peer: s.peer(p), Lease: l, Head: h, Generation: generation,
		Tree: tree, Size: simBlocks * disk.BlockSize, ObjectSize: simPer * disk.BlockSize, Copies: simCopies, Count: simGroups,
		Limit: 3 * time.Second,
	})
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

func must(t *testing.T, err error) {
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
			s.net.mu.Lock()
			s.net.cut[[2]int{a, b}], s.net.cut[[2]int{b, a}] = true, true
			s.net.mu.Unlock()
		}
		s.process(a).store.Cut(true, true)
		// Its own disk still answers it.
		old.c.Near = nil
		expect(t, old, 1)
		if _, err := s.attach(a + 1); !errors.Is(err, ErrAttached) {
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

// A disk that has no room makes a write fail, and all have the same afterwards.
func TestNoRoom(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(3)
		must(t, err)
		for i := range 3 {
			full := s.nodes[(nodeOfBlock0+i)%simNodes].store.(*platter)
			full.mu.Lock()
			full.room = full.cells()
			full.mu.Unlock()
			if err := v.WriteAt(t.Context(), content(7), 0, 0); !errors.Is(err, block.ErrNoSpace) {
				t.Errorf("disk %d is full: %v", i, err)
			}
			expect(t, v, 0)
			full.mu.Lock()
			full.room = 1000
			full.mu.Unlock()
		}
		must(t, v.WriteAt(t.Context(), content(8), 0, 0))
		expect(t, v, 8)
		rec, _, err := (&Groups{s.store}).Get(s.ctx, groupOfBlock0)
		if len(rec.Members) != simCopies || err != nil {
			t.Errorf("a full disk was removed: %v, %v", rec, err)
		}
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
		groups := &Groups{s.store}
		_, err = groups.Revive(s.ctx, groupOfBlock0, func(d string) string {
			for id := range simNodes {
				if p := s.process(id); p.name == d {
					return p.incarnation
				}
			}
			return ""
		})
		must(t, err)
		// The other group has lost two.
		other := record.GroupOf(simCopies, 1-nodeOfBlock0)
		rec, _, err := groups.Get(s.ctx, other)
		must(t, err)
		for _, m := range rec.Members {
			if !s.lives(m) {
				_, err := groups.Remove(s.ctx, other, m, 1)
				must(t, err)
			}
		}
		time.Sleep(time.Second)
		for range 2 {
			if err := v.Flush(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("flush after the loss: %v", err)
			}
		}
		must(t, v.Close())
		time.Sleep(2 * simTTL)
		must(t, Release(s.ctx, s.store, v.c.Head, v.c.Generation))
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
		v, err := s.attach(outside)
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		must(t, v.Flush(t.Context()))
		_, err = v.Tidy(t.Context())
		must(t, err)
		s.net.mu.Lock()
		for i := 1; i < simCopies; i++ {
			s.net.cut[[2]int{outside, (first + i) % simNodes}] = true
		}
		s.net.mu.Unlock()
		s.process(outside).store.Cut(true, true)
		written := make(chan error)
		go func() { written <- v.WriteAt(t.Context(), content(2), 0, 0) }()
		time.Sleep(100 * time.Millisecond)
		v.cancel(errDead)
		if err := <-written; err == nil {
			t.Error("one copy was enough")
		}
		s.heal()
		time.Sleep(2 * simTTL)
		must(t, Release(s.ctx, s.store, v.c.Head, v.c.Generation))
		groups := &Groups{s.store}
		_, err = groups.Add(s.ctx, groupOfBlock0, diskName(outside), s.process(outside).incarnation)
		must(t, err)
		time.Sleep(time.Second)
		rec, _, err := groups.Get(s.ctx, groupOfBlock0)
		must(t, err)
		if len(rec.Members) != simCopies+1 {
			t.Fatalf("it has not joined: %v", rec)
		}
		_, err = groups.Remove(s.ctx, groupOfBlock0, rec.Members[0], 1)
		must(t, err)
		time.Sleep(100 * time.Millisecond)
		v, err = s.attach(outside)
		must(t, err)
		seen := map[string]bool{}
		for _, m := range rec.Members[1:] {
			v.c.Near = func(o record.Member) bool { return o == m }
			p := make([]byte, disk.BlockSize)
			must(t, v.ReadAt(t.Context(), p, 0, 0))
			seen[string(p)] = true
		}
		if len(seen) != 1 {
			t.Error("copies differ")
		}
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
		o, k := disk.Object{Family: simFamily}, entryKey{1, 0}
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

// A disk that was away while a version was deleted joins again.
func TestPrepare(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(3)
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		groups := &Groups{s.store}
		rec, _, err := groups.Get(s.ctx, groupOfBlock0)
		must(t, err)
		gone := rec.Members[2]
		away := s.process((nodeOfBlock0 + 2) % simNodes)
		if err := away.member.Prepare(s.ctx, groupOfBlock0, away.mirror); !errors.Is(err, block.ErrInvalid) {
			t.Errorf("preparing a member: %v", err)
		}
		_, err = groups.Remove(s.ctx, groupOfBlock0, gone, 1)
		must(t, err)
		p := s.nodes[away.node].store.(*platter)
		p.mu.Lock()
		p.now.set(disk.Object{Family: simFamily}, entryKey{77, 0}, dataCell(content(3)))
		p.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		must(t, away.member.Prepare(s.ctx, groupOfBlock0, away.mirror))
		_, err = groups.Add(s.ctx, groupOfBlock0, gone.Disk, gone.Incarnation)
		must(t, err)
		time.Sleep(time.Second)
		if rec, _, _ = groups.Get(s.ctx, groupOfBlock0); len(rec.Members) != simCopies {
			t.Fatalf("it has not joined: %v", rec)
		}
		v.c.Near = func(m record.Member) bool { return m.Disk == gone.Disk }
		expect(t, v, 1)
	})
}
