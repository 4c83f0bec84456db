package replica

import (
	"fmt"
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/disk"
)

// steward does what the steward of a cluster does, now and then.
func (s *sim) steward() {
	groups := &Groups{s.store}
	for s.ctx.Err() == nil {
		sleep(s.ctx, s.upTo(s.rounds))
		for _, g := range simNumbers {
			s.tend(groups, g)
		}
	}
}

func (s *sim) tend(groups *Groups, g int) {
	rec, _, err := groups.Get(s.ctx, g)
	if err != nil {
		return
	}
	s.mu.Lock()
	living := slices.ContainsFunc(rec.Members, s.lives)
	now := map[string]string{}
	for _, n := range s.nodes {
		if n.p != nil {
			now[n.p.name] = n.p.incarnation
		}
	}
	s.mu.Unlock()
	if !living {
		if s.rand.n(4) == 0 || len(now) == simNodes {
			before := rec.Revived
			_, _ = groups.Revive(s.ctx, g, func(d string) string { return now[d] })
			if rec, _, _ = groups.Get(s.ctx, g); rec.Revived != before {
				s.revived(g)
			}
		}
		return
	}
	for _, m := range slices.Concat(rec.Members, rec.Joining) {
		if i, ok := now[m.Disk]; ok && i != m.Incarnation && s.rand.n(2) == 0 {
			_, _ = groups.Remove(s.ctx, g, m, 1)
		}
	}
	if s.rand.n(100) < s.move && !s.quietNow() {
		all := slices.Concat(rec.Members, rec.Joining)
		_, _ = groups.Remove(s.ctx, g, all[s.rand.n(len(all))], 1+s.rand.n(2))
	} else if len(rec.Members)+len(rec.Joining) < simCopies || s.rand.n(20) == 0 && !s.quietNow() {
		id := s.rand.n(simNodes)
		if i, ok := now[diskName(id)]; ok {
			_, _ = groups.Add(s.ctx, g, diskName(id), i)
		}
	} else if len(rec.Members) > simCopies {
		_, _ = groups.Remove(s.ctx, g, rec.Members[s.rand.n(len(rec.Members))], 2)
	}
}

// revived notes that what was not flushed may be lost.
func (s *sim) revived(g int) {
	var blocks []int
	for b := range simBlocks {
		if GroupOf(disk.Object{Family: simFamily, Index: uint64(b / simPer)}, simCopies, simGroups) == g {
			blocks = append(blocks, b)
		}
	}
	s.mu.Lock()
	begin := s.dead[g]
	s.dead[g] = 0
	s.stats["revived"]++
	s.mu.Unlock()
	s.record(op{kind: loses, begin: begin, who: "revive"}, blocks...)
	// Those that came back may have died meanwhile.
	s.lookForLoss()
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
		default:
			s.heal()
		}
	}
	s.heal()
	s.mu.Lock()
	s.quiet = true
	s.mu.Unlock()
}

func (s *sim) heal() {
	s.net.mu.Lock()
	s.net.cut, s.net.slow = map[[2]int]bool{}, false
	s.net.mu.Unlock()
	for id := range simNodes {
		if p := s.process(id); p != nil {
			p.store.Cut(false, false)
		}
	}
}

// crashGroup restarts all that has a group: who serves it may go on.
func (s *sim) crashGroup(g int) {
	rec, _, err := (&Groups{s.store}).Get(s.ctx, g)
	if err != nil {
		return
	}
	for _, m := range rec.Members {
		var id int
		fmt.Sscanf(m.Disk, "d%d", &id)
		s.restart(id)
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
