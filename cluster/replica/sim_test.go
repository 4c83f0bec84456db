package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/cluster/record"
)

const (
	simNodes  = 4
	simCopies = 3
	simGroups = 2
	simBlocks = 24
	simPer    = 4 // blocks of an object
	simFamily = 1

	simSnapshot = 7 // a version that is one

	simTTL     = 3 * time.Second
	simObjects = simBlocks / simPer
)

// simNumbers are the numbers of the groups.
var simNumbers = [simGroups]int{record.GroupOf(simCopies, 0), record.GroupOf(simCopies, 1)}

// A climate is what makes histories differ in kind.
type climate struct {
	blocks  int           // that are used
	think   time.Duration // between requests, at most
	rounds  time.Duration // between the steward's rounds, at most
	move    int           // per cent of rounds that remove a living disk, for nothing
	latency time.Duration // of a message, at most
	fault   time.Duration // between faults, at most
	length  time.Duration
}

var climates = []climate{
	{blocks: simBlocks, think: 20 * time.Millisecond, rounds: time.Second, move: 5, latency: time.Millisecond, fault: time.Second, length: 60 * time.Second},
	// Disks come and go while everybody writes the same.
	{blocks: 8, think: 3 * time.Millisecond, rounds: 100 * time.Millisecond, move: 40, latency: 10 * time.Millisecond, fault: 4 * time.Second, length: 40 * time.Second},
	{blocks: 4, think: 3 * time.Millisecond, rounds: 200 * time.Millisecond, move: 20, latency: 20 * time.Millisecond, fault: 2 * time.Second, length: 40 * time.Second},
	// Everything fails all the time.
	{blocks: 8, think: 10 * time.Millisecond, rounds: 300 * time.Millisecond, move: 10, latency: 5 * time.Millisecond, fault: 800 * time.Millisecond, length: 40 * time.Second},
}

// A sim is a cluster with one volume.
type sim struct {
	climate
	t      *testing.T
	rand   *chance
	ctx    context.Context
	server *memory.Server
	store  *memory.Client // of the simulation itself
	net    *network
	all    sync.WaitGroup

	mu     sync.Mutex
	nodes  [simNodes]*simNode
	ops    [simBlocks][]op
	clock  int64
	next   uint64
	dead   map[int]int64 // when all members of a group had died
	stats  map[string]int
	quiet  bool // no more faults
	stop   bool // no more requests
	writer int  // gateways that serve, for names
	frozen []op // snapshots: the value is the version
}

// A simNode is a machine: the store survives, the rest is the process.
type simNode struct {
	id     int
	store  store
	starts int
	p      *process
}

// A process is one run of a node.
type process struct {
	node        int
	name        string
	incarnation string
	ctx         context.Context
	kill        context.CancelFunc
	store       *memory.Client
	mirror      *mirror
	member      *Member
	disk        Disk
}

func diskName(node int) string { return fmt.Sprintf("d%d", node) }

// upTo is some time.
func (s *sim) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rand.n(int(d/time.Microsecond))+1) * time.Microsecond
}

// now is the next moment.
func (s *sim) now() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	return s.clock
}

func (s *sim) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats[what]++
}

func (s *sim) record(o op, blocks ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.end != never {
		s.clock++
		o.end = s.clock
	}
	for _, b := range blocks {
		s.ops[b] = append(s.ops[b], o)
	}
}

// process returns what runs on a node, nil if nothing does.
func (s *sim) process(node int) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[node].p
}

func (s *sim) quietNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quiet
}

func (s *sim) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// start starts a process.
func (s *sim) start(id int) {
	s.mu.Lock()
	n := s.nodes[id]
	n.starts++
	p := &process{node: id, name: diskName(id), incarnation: fmt.Sprintf("d%d.%d", id, n.starts)}
	s.mu.Unlock()
	p.ctx, p.kill = context.WithCancel(s.ctx)
	p.store = s.server.Client(memory.ClientOptions{Patience: time.Second})
	p.store.Delay(func() time.Duration { return time.Duration(s.rand.n(1500)) * time.Microsecond })
	p.mirror = newMirror()
	p.mirror.needed = 2
	s.all.Go(func() { p.mirror.follow(p.ctx, p.store) })
	p.disk = n.store.open(s, p.mirror)
	p.member = NewMember(MemberConfig{
		ID: p.name, Incarnation: p.incarnation, Disk: p.disk, Agreed: p.mirror, Clock: p.store.Clock(),
		Groups: simGroups, Peer: s.peer(p), Patience: patience,
		Pace: func(ctx context.Context, _ int64) error { sleep(ctx, s.upTo(10*time.Millisecond)); return nil },
	})
	s.mu.Lock()
	n.p = p
	s.mu.Unlock()
	s.all.Go(func() { s.keepAlive(p) })
	for _, g := range simNumbers {
		s.all.Go(func() { s.join(p, g) })
	}
}

// keepAlive lets others know of a process.
func (s *sim) keepAlive(p *process) {
	for p.ctx.Err() == nil {
		l, err := coord.NewLease(p.ctx, p.store, simTTL)
		if err != nil {
			continue
		}
		_, err = p.store.Txn(p.ctx, coord.Txn{Then: []coord.Op{coord.PutLeased(l.ID(), "run/"+p.name, []byte(p.incarnation))}})
		if err != nil {
			_ = l.Revoke(p.ctx)
			continue
		}
		select {
		case <-l.Lost():
		case <-p.ctx.Done():
			_ = l.Revoke(p.ctx) // stops the keeper; the entry goes or stays
		}
	}
}

// peer returns how a process gets to disks.
func (s *sim) peer(p *process) func(record.Member) Peer {
	return func(m record.Member) Peer {
		var to int
		fmt.Sscanf(m.Disk, "d%d", &to)
		if m.Disk == p.name && m.Incarnation == p.incarnation {
			return p.member
		}
		return &wire{n: s.net, from: p.node, to: to, ctx: p.ctx}
	}
}

// join makes the disk a member whenever it is in a record as a joining one.
func (s *sim) join(p *process, group int) {
	groups := &Groups{p.store}
	for p.ctx.Err() == nil {
		rec, _ := p.mirror.Group(group)
		if slices.ContainsFunc(rec.Joining, func(m record.Member) bool { return m.Incarnation == p.incarnation }) {
			if err := p.member.Join(p.ctx, groups, group); err == nil {
				s.count("joined")
			} else {
				s.count("join failed")
			}
		}
		sleep(p.ctx, 50*time.Millisecond)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// crash ends a process.
func (s *sim) crash(id int) {
	p := s.process(id)
	if p == nil {
		return
	}
	s.mu.Lock()
	s.nodes[id].p = nil
	s.mu.Unlock()
	s.nodes[id].store.crash()
	p.kill()
	_ = p.store.Close()
	s.lookForLoss()
	s.count("crash")
}

// lookForLoss notes when the last member of a group has died.
func (s *sim) lookForLoss() {
	for _, g := range simNumbers {
		rec, _, err := (&Groups{s.store}).Get(s.ctx, g)
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.dead[g] == 0 && !slices.ContainsFunc(rec.Members, s.lives) {
			s.clock++
			s.dead[g] = s.clock
		}
		s.mu.Unlock()
	}
}

// lives reports whether the process of a member exists. mu is held.
func (s *sim) lives(m record.Member) bool {
	for _, n := range s.nodes {
		if n.p != nil && n.p.incarnation == m.Incarnation {
			return true
		}
	}
	return false
}

func (s *sim) init(newStore func(*chance) store) {
	s.store = s.server.Client(memory.ClientOptions{})
	tree, _ := json.Marshal([]family.Version{{ID: 1}})
	if _, err := s.store.Txn(s.ctx, coord.Txn{Then: []coord.Op{coord.Put("tree", tree)}}); err != nil {
		s.t.Fatal(err)
	}
	for id := range simNodes {
		s.nodes[id] = &simNode{id: id, store: newStore(s.rand)}
	}
	s.net = &network{rand: s.rand, latency: s.latency, cut: map[[2]int]bool{}, member: func(node int) *Member {
		if p := s.process(node); p != nil {
			return p.member
		}
		return nil
	}, alive: func(node int) context.Context {
		if p := s.process(node); p != nil {
			return p.ctx
		}
		dead, cancel := context.WithCancel(context.Background())
		cancel()
		return dead
	}}
	for id := range simNodes {
		s.start(id)
	}
	for _, g := range simNumbers {
		var members []record.Member
		for i := range simCopies {
			id := (g + i) % simNodes
			members = append(members, record.Member{Disk: diskName(id), Incarnation: s.process(id).incarnation})
		}
		if _, err := (&Groups{s.store}).Create(s.ctx, g, members); err != nil {
			s.t.Fatal(err)
		}
	}
}

// simulate runs one history.
func simulate(t *testing.T, seed uint64, newStore func(*chance) store) map[string]int {
	s := &sim{t: t, rand: newChance(seed), server: memory.NewServer(memory.Options{}), stats: map[string]int{}, dead: map[int]int64{}}
	s.climate = climates[seed%uint64(len(climates))]
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	s.init(newStore)
	s.all.Go(s.steward)
	var gateways sync.WaitGroup
	for i := range 2 {
		gateways.Go(func() { s.gateways(i) })
	}
	s.faults(s.length)
	sleep(ctx, 2*time.Second)
	s.mu.Lock()
	s.stop = true
	s.mu.Unlock()
	gateways.Wait()
	s.settled()
	for id := range simNodes {
		s.crash(id)
	}
	cancel()
	s.all.Wait()
	s.net.all.Wait()
	_ = s.store.Close()
	for b := range s.ops {
		if why := explain(s.ops[b]); why != "" {
			t.Errorf("seed %d, block %d: %s", seed, b, why)
			break
		}
	}
	return s.stats
}
