package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
)

const (
	simNodes  = 4
	simCopies = 3
	simGroups = 2
	simBlocks = 24
	simPer    = 4 // blocks of an object
	simFamily = 1

	simTTL     = 3 * time.Second
	simObjects = simBlocks / simPer
)

// simVolumes are an origin and its clone: two heads of one family.
var simVolumes = [...]string{"v", "c"}

// simNumbers are the numbers of the groups.
var simNumbers = [simGroups]int{record.GroupOf(simCopies, 0), record.GroupOf(simCopies, 1)}

// simSteward is how fast the steward is.
var simSteward = steward.Options{Grace: 2 * time.Second, Urgent: time.Second, Revive: 500 * time.Millisecond, Hold: 300 * time.Millisecond}

// A climate is what makes histories differ in kind.
type climate struct {
	blocks  int           // that are used
	think   time.Duration // between requests, at most
	stir    time.Duration // between changes of groups and weights for nothing, at most
	latency time.Duration // of a message, at most
	fault   time.Duration // between faults, at most
	length  time.Duration
}

var climates = []climate{
	{blocks: simBlocks, think: 20 * time.Millisecond, stir: 10 * time.Second, latency: time.Millisecond, fault: time.Second, length: 60 * time.Second},
	// Disks come and go while everybody writes the same.
	{blocks: 8, think: 3 * time.Millisecond, stir: 200 * time.Millisecond, latency: 10 * time.Millisecond, fault: 4 * time.Second, length: 40 * time.Second},
	{blocks: 4, think: 3 * time.Millisecond, stir: time.Second, latency: 20 * time.Millisecond, fault: 2 * time.Second, length: 40 * time.Second},
	// Everything fails all the time.
	{blocks: 8, think: 10 * time.Millisecond, stir: 3 * time.Second, latency: 5 * time.Millisecond, fault: 800 * time.Millisecond, length: 40 * time.Second},
}

// A sim is a cluster with a volume and its clone.
type sim struct {
	climate
	t      *testing.T
	rand   *chance
	ctx    context.Context
	server *memory.Server
	store  *memory.Client // of the simulation itself
	state  *record.State  // of it, too
	net    *network
	all    sync.WaitGroup
	// calm: nodes have no steward.
	calm bool

	mu     sync.Mutex
	nodes  [simNodes]*simNode
	ops    [len(simVolumes)][simBlocks][]op
	open   [len(simVolumes)][][2]int // those of unknown outcome: block and place
	clock  int64
	next   uint64
	stats  map[string]int
	quiet  bool // no more faults
	stop   bool // no more requests
	writer int  // gateways that serve, for names
	// revived is how often groups were, and losses what that may have undone for a
	// volume since it was attached.
	revived map[int]uint64
	losses  [len(simVolumes)][]loss
	frozen  [len(simVolumes)][]snap
}

// A snap is a snapshot: made between two moments, with a tree that has it.
type snap struct {
	version, tree uint64
	begin, end    int64
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
	name        string // of the disk
	incarnation string
	ctx         context.Context
	kill        context.CancelFunc
	store       *memory.Client
	revives     coord.Store // the same, watched
	state       *record.State
	agreed      records
	catalog     record.Catalog
	member      *Member
	disk        Disk
}

func diskName(node int) string { return fmt.Sprintf("d%d", node) }
func nodeName(node int) string { return fmt.Sprintf("n%d", node) }

// nodeOf is the node of a disk.
func nodeOf(disk string) (node int) {
	fmt.Sscanf(disk, "d%d", &node)
	return node
}

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

// record notes what was done with blocks of a volume.
func (s *sim) record(volume int, o op, blocks ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	o.end = s.clock
	for _, b := range blocks {
		if o.maybe {
			o.end = never
			s.open[volume] = append(s.open[volume], [2]int{b, len(s.ops[volume][b])})
		}
		s.ops[volume][b] = append(s.ops[volume][b], o)
	}
}

// decided notes that a volume has been attached: what its gateways before may have done is
// done by now, or never will be.
func (s *sim) decided(volume int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	for _, at := range s.open[volume] {
		s.ops[volume][at[0]][at[1]].end = s.clock
	}
	s.open[volume] = nil
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
	p.revives = revivals{p.store, s}
	p.catalog.Store = p.store
	var err error
	if p.state, err = record.Follow(p.ctx, p.store); err != nil {
		s.t.Errorf("reading the records: %v", err)
		return
	}
	p.agreed = records{p.state}
	p.disk = n.store.open(s, p.agreed)
	p.member = NewMember(MemberConfig{
		ID: p.name, Incarnation: p.incarnation, Disk: p.disk, Agreed: p.agreed, Clock: p.store.Clock(),
		Groups: simGroups, Peer: s.peer(p), Patience: patience,
		Pace: func(ctx context.Context, step Step) error {
			for more := true; more; {
				sleep(ctx, s.upTo(10*time.Millisecond))
				var err error
				if more, _, err = step(ctx, 1+s.rand.n(batch)); err != nil {
					return err
				}
			}
			return nil
		},
		Finish: func(ctx context.Context) error { sleep(ctx, s.upTo(10*time.Millisecond)); return nil },
	})
	s.mu.Lock()
	n.p = p
	s.mu.Unlock()
	s.all.Go(func() { s.keepAlive(p) })
	for _, g := range simNumbers {
		s.all.Go(func() { s.join(p, g) })
	}
}

// keepAlive lets others know of a process, which takes part in the election of the
// steward meanwhile.
func (s *sim) keepAlive(p *process) {
	key := record.RunKey(nodeName(p.node))
	value, err := record.Encode(key, record.Run{Incarnation: p.incarnation})
	must(s.t, err)
	for p.ctx.Err() == nil {
		l, err := coord.NewLease(p.ctx, p.store, simTTL)
		if err != nil {
			continue
		}
		if _, err = p.store.Txn(p.ctx, coord.Txn{Then: []coord.Op{coord.PutLeased(l.ID(), key, value)}}); err != nil {
			_ = l.Revoke(p.ctx)
			continue
		}
		if s.calm {
			select {
			case <-l.Lost():
			case <-p.ctx.Done():
			}
		} else {
			_ = steward.New(steward.Config{Store: p.revives, State: p.state, Lease: l, Node: nodeName(p.node), Options: simSteward}).Run(p.ctx)
		}
		if p.ctx.Err() != nil {
			_ = l.Revoke(p.ctx) // stops the keeper; the entry goes or stays
		}
	}
}

// peer returns how a process gets to disks.
func (s *sim) peer(p *process) func(record.Member) Peer {
	return func(m record.Member) Peer {
		if m.Disk == p.name && m.Incarnation == p.incarnation {
			return p.member
		}
		return &wire{n: s.net, from: p.node, to: nodeOf(m.Disk), ctx: p.ctx}
	}
}

// join makes the disk a member whenever it is in a record as a joining one.
func (s *sim) join(p *process, group int) {
	groups := &Groups{Store: p.store}
	for p.ctx.Err() == nil {
		rec, _ := p.state.Group(group)
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
	_ = p.state.Close()
	s.count("crash")
}

func (s *sim) init(newStore func(*chance) store, needed int) {
	s.revived, s.stats = map[int]uint64{}, map[string]int{}
	s.store = s.server.Client(memory.ClientOptions{})
	list := map[string]record.Record{record.PoolKey: record.Pool{Cluster: fmt.Sprintf("%032x", 1), Format: record.Format, Groups: simGroups}}
	for id := range simNodes {
		s.nodes[id] = &simNode{id: id, store: newStore(s.rand)}
		list[record.NodeKey(nodeName(id))] = record.Node{ID: nodeName(id), Zone: nodeName(id)}
		list[record.DiskKey(diskName(id))] = record.Disk{ID: diskName(id), Node: nodeName(id), Weight: 100}
	}
	put(s.t, s.store, list)
	c := record.Catalog{Store: s.store}
	_, err := c.Create(s.ctx, simVolumes[0], record.Spec{Size: simBlocks << 12, ObjectSize: record.MinObjectSize, Copies: simCopies, MinCopies: needed})
	must(s.t, err)
	_, err = c.Snapshot(s.ctx, simVolumes[0], "begin", 0)
	must(s.t, err)
	_, err = c.Clone(s.ctx, simVolumes[0], "begin", simVolumes[1])
	must(s.t, err)
	s.state, err = record.Follow(s.ctx, s.store)
	must(s.t, err)
	s.net = &network{rand: s.rand, latency: s.latency, patience: patience, cut: map[[2]int]bool{}, member: func(node int) *Member {
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
	for _, g := range simNumbers {
		var members []record.Member
		for i := range simCopies {
			id := (g + i) % simNodes
			members = append(members, record.Member{Disk: diskName(id), Incarnation: fmt.Sprintf("d%d.1", id)})
		}
		put(s.t, s.store, map[string]record.Record{record.GroupKey(g): record.Group{Members: members}})
	}
	for id := range simNodes {
		s.start(id)
	}
}

// simulate runs one history.
func simulate(t *testing.T, seed uint64, newStore func(*chance) store) *sim {
	s := &sim{t: t, rand: newChance(seed), server: memory.NewServer(memory.Options{})}
	s.climate = climates[seed%uint64(len(climates))]
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	s.init(newStore, 1+s.rand.n(2))
	var gateways sync.WaitGroup
	for range 2 {
		gateways.Go(s.gateways)
	}
	s.all.Go(s.stirring)
	s.faults(s.length)
	sleep(ctx, 2*time.Second)
	s.mu.Lock()
	s.stop = true
	s.mu.Unlock()
	gateways.Wait()
	s.settled()
	s.end(cancel)
	return s
}

// end ends everything.
func (s *sim) end(cancel context.CancelFunc) {
	for id := range simNodes {
		s.crash(id)
	}
	cancel()
	s.all.Wait()
	s.net.all.Wait()
	_ = s.store.Close()
	_ = s.state.Close()
}
