package replica

import (
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// stirring changes things for nothing until there is to be quiet: groups lose disks that
// live, and are to be elsewhere as weights change.
func (s *sim) stirring() {
	groups := &Groups{Store: s.store}
	for {
		sleep(s.ctx, s.upTo(s.stir))
		if s.ctx.Err() != nil || s.quietNow() {
			return
		}
		if s.rand.n(3) == 0 {
			s.weigh(s.rand.n(simNodes), int64(s.rand.n(3)))
			s.count("weighed")
			continue
		}
		g := simNumbers[s.rand.n(simGroups)]
		rec, _ := s.state.Group(g)
		all := slices.Concat(rec.Members, rec.Joining)
		if _, _, err := groups.Remove(s.ctx, g, all[s.rand.n(len(all))], s.state.View().Needed(simCopies)); err == nil {
			s.count("removed for nothing")
		}
	}
}

// weigh gives the disk of a node a weight.
func (s *sim) weigh(node int, weight int64) {
	put(s.t, s.store, map[string]record.Record{record.DiskKey(diskName(node)): record.Disk{ID: diskName(node), Node: nodeName(node), Weight: weight}})
}

// faults does harm until it is over.
func (s *sim) faults(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		sleep(s.ctx, s.upTo(s.fault))
		switch k := s.rand.n(100); {
		case k < 20:
			s.restart(s.rand.n(simNodes))
		case k < 24:
			for id := range simNodes {
				s.restart(id)
			}
		case k < 28:
			s.crashGroup(simNumbers[s.rand.n(simGroups)])
		case k < 44:
			s.cutSome()
		case k < 54:
			if p := s.process(s.rand.n(simNodes)); p != nil {
				p.store.Cut(s.rand.n(2) == 0, s.rand.n(2) == 0)
				s.count("coordination cut")
			}
		case k < 60:
			s.isolate(s.rand.n(simNodes))
		case k < 66:
			s.net.mu.Lock()
			s.net.slow = !s.net.slow
			s.net.mu.Unlock()
		case k < 72:
			s.fill(s.rand.n(simNodes), s.rand.n(12))
		default:
			s.heal()
		}
	}
	s.heal()
	s.mu.Lock()
	s.quiet = true
	s.mu.Unlock()
	for id := range simNodes {
		s.weigh(id, 1)
	}
}

func (s *sim) heal() {
	s.net.mu.Lock()
	s.net.cut, s.net.slow = map[[2]int]bool{}, false
	s.net.mu.Unlock()
	for id := range simNodes {
		if p := s.process(id); p != nil {
			p.store.Cut(false, false)
		}
		s.fill(id, plenty)
	}
}

// plenty is room enough.
const plenty = 1 << 30

// fill leaves room for so many more blocks on the disk of a node, if that can be said.
func (s *sim) fill(id, left int) {
	p, ok := s.nodes[id].store.(*platter)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room = p.cells() + left; left < plenty {
		s.count("filled")
	}
}

// crashGroup restarts all that has a group: who serves it may go on.
func (s *sim) crashGroup(g int) {
	rec, _ := s.state.Group(g)
	for _, m := range rec.Members {
		s.restart(nodeOf(m.Disk))
	}
}

// isolate cuts a node off from all that is not itself.
func (s *sim) isolate(a int) {
	s.net.mu.Lock()
	for b := range simNodes {
		if b != a {
			s.net.cut[[2]int{a, b}], s.net.cut[[2]int{b, a}] = true, true
		}
	}
	s.net.mu.Unlock()
	if p := s.process(a); p != nil {
		p.store.Cut(true, true)
	}
	s.count("isolated")
	sleep(s.ctx, s.upTo(4*simTTL))
}

func (s *sim) cutSome() {
	s.count("cut")
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	a := s.rand.n(simNodes)
	for b := range simNodes {
		if b != a && s.rand.n(3) > 0 {
			s.net.cut[[2]int{a, b}] = true
			if s.rand.n(3) > 0 {
				s.net.cut[[2]int{b, a}] = true
			}
		}
	}
}

// restart crashes a node and starts it some time later.
func (s *sim) restart(id int) {
	if s.process(id) == nil {
		return
	}
	s.crash(id)
	pause := time.Duration(s.rand.n(2000)) * time.Millisecond
	s.all.Go(func() {
		sleep(s.ctx, pause)
		if s.ctx.Err() == nil {
			s.start(id)
		}
	})
}
