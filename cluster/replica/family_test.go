package replica

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// The scenes here are about several versions of one object.

// Gateways of two heads of a family die while they write the same object. Each repair
// changes what its own head has, and leaves alone what the other one has.
func TestTwoHeads(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		a, b, c, outside := s.cast()
		v := s.clean(outside, 1)
		w, err := s.attachTo(b, 1)
		must(t, err)
		expect(t, w, 0)
		must(t, w.WriteAt(t.Context(), content(11), 0, 0))
		must(t, w.Flush(t.Context()))
		expect(t, v, 1)
		s.halfWritten(v, outside, 2, b, c) // on a
		s.halfWritten(w, b, 12, a, c)      // on b
		if v, err = s.attach(c); err != nil {
			t.Fatal(err)
		}
		if got := s.same(v); got != 2 {
			t.Errorf("the origin has %d", got)
		}
		// The copies of the clone still differ, and that stays known, whatever the
		// origin does.
		must(t, v.Flush(t.Context()))
		if n, err := v.Tidy(t.Context()); n != 1 || err != nil {
			t.Errorf("%d objects are marked, %v", n, err)
		}
		s.kill(v)
		s.blackout(a, b, c)
		w, err = s.attachTo(outside, 1)
		must(t, err)
		value := s.same(w)
		if value != 11 && value != 12 {
			t.Errorf("the clone has %d", value)
		}
		v, err = s.attach(b)
		must(t, err)
		if got := s.same(v); got != 2 {
			t.Errorf("the origin has %d", got)
		}
		if got := s.same(w); got != value {
			t.Errorf("the clone has %d, it had %d", got, value)
		}
	})
}

// A power loss has left an unfinished write of one head. The mark of its object stays
// until a gateway of that head has finished it, whatever one of another head does.
func TestUnfinishedOfAnotherHead(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		_, b, _, outside := s.cast()
		v := s.clean(outside, 1)
		w, err := s.attachTo(b, 1)
		must(t, err)
		must(t, w.WriteAt(t.Context(), content(11), 0, 0))
		must(t, w.Flush(t.Context()))
		o, k := disk.Object{Family: simFamily}, entryKey{w.c.Head.Version, 0}
		s.kill(w)
		p := s.nodes[b].store.(*platter)
		p.mu.Lock()
		torn := p.now[o][k]
		torn.data = new([disk.BlockSize]byte)
		p.now[o][k], p.durable[o][k], p.marks[o] = torn, torn, true
		p.mu.Unlock()
		for range 2 {
			if n, err := v.Tidy(t.Context()); n != 1 || err != nil {
				t.Errorf("%d objects are marked, %v", n, err)
			}
		}
		s.blackout(nodeOfBlock0, b)
		w, err = s.attachTo(outside, 1)
		must(t, err)
		p.mu.Lock()
		if got := p.now[o][k]; !bytes.Equal(got.data[:], content(11)) {
			t.Error("it is still unfinished")
		}
		p.mu.Unlock()
		if got := s.same(w); got != 11 {
			t.Errorf("it has %d", got)
		}
	})
}

// Two gateways attach two heads at the same time, and repair the same object.
func TestTwoRepairs(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		a, b, c, outside := s.cast()
		v := s.clean(outside, 1)
		w, err := s.attachTo(b, 1)
		must(t, err)
		must(t, w.WriteAt(t.Context(), content(11), 0, 0))
		s.halfWritten(v, outside, 2, b, c)
		s.halfWritten(w, b, 12, a, c)
		attached := make(chan error)
		go func() {
			var err error
			w, err = s.attachTo(c, 1)
			attached <- err
		}()
		v, err = s.attach(a)
		must(t, err)
		must(t, <-attached)
		if got := s.same(v); got != 2 {
			t.Errorf("the origin has %d", got)
		}
		if got := s.same(w); got != 11 {
			t.Errorf("the clone has %d, which the first member did not have", got)
		}
	})
}

// purge deletes a version on one disk, whose child gets what it needs.
func (s *sim) purge(node int, version, child uint64) {
	p := s.nodes[node].store.(*platter)
	p.mu.Lock()
	defer p.mu.Unlock()
	for o, cells := range p.now {
		for k, c := range maps.Clone(cells) {
			if k.version != version {
				continue
			}
			if heir := (entryKey{child, k.block}); p.now[o][heir].kind == disk.None {
				p.now.set(o, heir, c)
			}
			p.now.set(o, k, cell{})
			p.counters[o]++
		}
	}
}

// forget takes a version out of the tree, whose child gets its parent.
func (s *sim) forget(version, child uint64) {
	s.t.Helper()
	f, _ := s.state.View().Families.Get(simFamily)
	gone, _ := f.Versions.Get(version)
	heir, _ := f.Versions.Get(child)
	heir.Parent = gone.Parent
	put(s.t, s.store, map[string]record.Record{record.VersionKey(simFamily, child): heir, record.VolumeKey(simFamily): f.Volume.Record})
	_, err := s.store.Txn(s.ctx, coord.Txn{Then: []coord.Op{coord.Delete(record.VersionKey(simFamily, version))}})
	must(s.t, err)
	time.Sleep(100 * time.Millisecond)
}

// A disk joins while a version has been deleted on some members and not yet on others,
// clients write, and a gateway makes members equal that a deletion has made look
// different. The deletion begins again, and in the end all have the same.
func TestDeletionDuringJoin(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		a, b, c, outside := s.cast()
		catalog := record.Catalog{Store: s.store}
		v := s.clean(outside, 1)
		must(t, v.WriteAt(t.Context(), content(5), disk.BlockSize, 0))
		must(t, v.WriteAt(t.Context(), content(6), 2*disk.BlockSize, 0))
		old := v.head.Load().Version
		s.freeze(s.process(outside), v, 0)
		head := v.head.Load().Version
		must(t, v.WriteAt(t.Context(), content(2), 0, 0))
		must(t, catalog.DeleteSnapshot(s.ctx, simVolumes[0], fmt.Sprint("s", old)))
		s.purge(a, old, head)
		// The gateway dies, another one compares what is marked. It must not matter
		// where a block lies.
		s.kill(v)
		v, err := s.attach(b)
		must(t, err)
		look := func(want ...uint64) {
			t.Helper()
			rec, _ := s.state.Group(groupOfBlock0)
			for _, m := range rec.Members {
				v.c.Near = func(o record.Member) bool { return o == m }
				for i, value := range want {
					p := make([]byte, disk.BlockSize)
					must(t, v.ReadAt(t.Context(), p, int64(i)*disk.BlockSize, 0))
					if got, err := valueOf(p); got != value || err != nil {
						t.Errorf("disk %s has %d in block %d, expected %d (%v)", m.Disk, got, i, value, err)
					}
				}
			}
			v.c.Near = nil
		}
		look(2, 5, 6)
		held := s.heldFlush(outside)
		s.add(groupOfBlock0, outside)
		held.come(t)
		must(t, v.WriteAt(t.Context(), content(7), 2*disk.BlockSize, 0))
		close(held.going)
		s.joined(groupOfBlock0, simCopies+1)
		look(2, 5, 7)
		for _, id := range []int{a, b, c, outside} {
			s.purge(id, old, head)
		}
		look(2, 5, 7)
		must(t, v.Flush(t.Context()))
		_, err = v.Tidy(t.Context())
		must(t, err)
		if n, err := v.Tidy(t.Context()); n != 0 || err != nil {
			t.Errorf("%d objects are still marked: %v", n, err)
		}
		s.forget(old, head)
		look(2, 5, 7)
	})
}
