package steward

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// A world is a cluster in simulated time: nodes that fail, disks that take their time
// to join, gateways that write.
type world struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	f     Facts
	p     *Planner
	epoch coord.Revision
	// ready is when a joining disk has pulled everything from the one that it pulls
	// from. has is the last write that a disk has of a group, written what was
	// acknowledged.
	ready   map[pull]time.Duration
	has     map[Hold]int
	written map[int]int
	joins   map[Hold]int
	moved   int // joins of disks that had nothing of the group
	starts  int
	// gateways remove disks that do not live, too; lossy are changes of which some
	// are not made, as somebody else was faster.
	gateways, lossy bool
}

// A pull is a joining disk, and where it pulls from.
type pull struct {
	group      int
	disk, from record.Member
}

const tick = 5 * time.Second

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), p: &Planner{},
		f:     Facts{Now: time.Hour, Nodes: map[string]Node{}, Disks: map[string]Disk{}, Held: map[Hold]time.Duration{}},
		ready: map[pull]time.Duration{}, has: map[Hold]int{}, written: map[int]int{}, joins: map[Hold]int{},
	}
	w.p.Joins, w.p.Moves = 40, 10
	return w
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d at %v: %s", w.seed, w.f.Now, fmt.Sprintf(format, args...))
}

// addNode adds a node with some disks that runs.
func (w *world) addNode(disks int, zone string) {
	id := fmt.Sprintf("n%d", len(w.f.Nodes))
	if zone == "" {
		zone = id
	}
	w.f.Nodes[id] = Node{Node: record.Node{ID: id, Zone: zone}}
	w.start(id)
	for i := range disks {
		d := record.Disk{ID: fmt.Sprintf("%sd%d", id, i), Node: id, Size: 1 << 40, Weight: int64(1+w.rng.IntN(3)) << 40}
		w.f.Disks[d.ID] = Disk{Disk: d}
	}
}

func (w *world) start(id string) {
	w.starts++
	n := w.f.Nodes[id]
	n.Incarnation, n.Since = fmt.Sprintf("i%d", w.starts), w.f.Now
	w.f.Nodes[id] = n
}

func (w *world) stop(id string) {
	n := w.f.Nodes[id]
	n.Incarnation, n.Since = "", w.f.Now
	w.f.Nodes[id] = n
}

// makeGroups makes groups where they should be.
func (w *world) makeGroups(n, copies int) {
	for i := range n {
		w.epoch++
		g := Group{Number: record.GroupOf(copies, i), Epoch: w.epoch}
		wish, err := w.p.Wish(&w.f, &g)
		if err != nil {
			w.fatalf("%v", err)
		}
		for _, d := range wish {
			g.Record.Members = append(g.Record.Members, record.Member{Disk: d, Incarnation: w.f.incarnation(d)})
			w.has[Hold{g.Number, d}] = 0
		}
		w.f.Groups = append(w.f.Groups, g)
	}
}

// step lets some time pass, and the steward act.
func (w *world) step() (changes int) {
	w.f.Now += tick
	for i := range w.f.Groups {
		if w.gateways && w.rng.IntN(3) == 0 {
			w.remove(&w.f.Groups[i])
		}
		w.write(&w.f.Groups[i])
		w.promote(&w.f.Groups[i])
	}
	plan, err := w.p.Plan(&w.f)
	if err != nil {
		w.fatalf("%v", err)
	}
	for _, c := range plan {
		if w.lossy && w.rng.IntN(4) == 0 {
			continue
		}
		i := slices.IndexFunc(w.f.Groups, func(g Group) bool { return g.Number == c.Group })
		w.apply(&w.f.Groups[i], c)
	}
	return len(plan)
}

// remove removes disks that do not live, as a gateway does that waits for them: joining
// ones in any case.
func (w *world) remove(g *Group) {
	r := &g.Record
	for _, m := range slices.Concat(r.Members, r.Joining) {
		if !w.f.lives(m) && (slices.Contains(r.Joining, m) || len(r.Members) > max(g.min(), 1)) {
			r.Members, r.Joining = without(slices.Clone(r.Members), m.Disk), without(slices.Clone(r.Joining), m.Disk)
			w.bump(g)
		}
	}
}

// write is a write to the group that is flushed, if all disks that have to do it live,
// as a gateway makes it.
func (w *world) write(g *Group) {
	all := slices.Concat(g.Record.Members, g.Record.Joining)
	for _, m := range all {
		if !w.f.lives(m) {
			return
		}
	}
	if len(all) < g.min() {
		if w.gateways {
			return // they count
		}
		w.fatalf("group %#x takes writes with %v", g.Number, g.Record)
	}
	w.written[g.Number]++
	for _, m := range g.Record.Members {
		w.has[Hold{g.Number, m.Disk}] = w.written[g.Number]
	}
}

// promote makes disks members that have pulled all.
func (w *world) promote(g *Group) {
	for _, m := range g.Record.Joining {
		from := g.Record.Members[0]
		if !w.f.lives(m) || !w.f.lives(from) {
			continue
		}
		p := pull{g.Number, m, from}
		if w.ready[p] == 0 {
			w.ready[p] = w.f.Now + time.Duration(w.rng.IntN(30))*tick
		}
		if w.ready[p] > w.f.Now {
			continue
		}
		w.has[Hold{g.Number, m.Disk}] = w.has[Hold{g.Number, from.Disk}]
		g.Record.Joining = without(slices.Clone(g.Record.Joining), m.Disk)
		g.Record.Members = append(slices.Clone(g.Record.Members), m)
		w.bump(g)
		return
	}
}

func (w *world) bump(g *Group) {
	w.epoch++
	g.Epoch = w.epoch
	for _, m := range g.Record.Members {
		if w.has[Hold{g.Number, m.Disk}] != w.written[g.Number] {
			w.fatalf("group %#x has member %s with write %d of %d", g.Number, m.Disk, w.has[Hold{g.Number, m.Disk}], w.written[g.Number])
		}
	}
}

// apply makes a change and looks at the promises.
func (w *world) apply(g *Group, c Change) {
	was, is := g.Record, c.Record
	if c.Epoch != g.Epoch {
		w.fatalf("%v is for another epoch than %d", c, g.Epoch)
	}
	living := func(r record.Group) (n int) {
		for _, m := range r.Members {
			if w.f.lives(m) {
				n++
			}
		}
		return n
	}
	all := len(is.Members) + len(is.Joining)
	switch fewer := len(is.Members) < len(was.Members); {
	case len(is.Members) == 0 || living(is) == 0:
		w.fatalf("%v leaves no member of %v", c, was)
	case all < len(was.Members)+len(was.Joining) && all < g.min() && c.Kind != Revive:
		w.fatalf("%v leaves %v of %v", c, is, was)
	case c.Kind == Revive && (living(was) > 0 || all < min(g.min(), len(was.Members)+len(was.Joining)) || is.Revived != was.Revived+1):
		w.fatalf("%v makes %v of %v", c, is, was)
	case fewer && (c.Kind == Remove || c.Kind == Leave) && len(is.Members) < g.min():
		w.fatalf("%v leaves %v of %v", c, is, was)
	case c.Kind == Leave && living(is) < min(g.Copies(), len(w.p.wish.of(g))):
		w.fatalf("%v leaves too few copies in %v", c, is)
	case c.Kind == Leave && w.nodesOf(is) < min(g.Copies(), w.nodesOf(was)):
		w.fatalf("%v leaves fewer copies in %v than in %v, which are none too many", c, is, was)
	case c.Kind != Leave && c.Kind != Revive && living(is) < living(was):
		w.fatalf("%v removes one that lives of %v", c, was)
	}
	if c.Kind == Leave {
		w.checkZones(g, c)
	}
	if c.Kind == Join {
		key := Hold{g.Number, c.Disk}
		w.joins[key]++
		if _, had := w.has[key]; !had {
			w.moved++
		}
	}
	g.Record = is
	w.bump(g)
}

// nodesOf is on how many nodes members live.
func (w *world) nodesOf(r record.Group) int {
	nodes := map[string]bool{}
	for _, m := range r.Members {
		if w.f.lives(m) {
			nodes[w.f.Disks[m.Disk].Node] = true
		}
	}
	return len(nodes)
}

// checkZones: no other one could have left and the rest be in more zones.
func (w *world) checkZones(g *Group, c Change) {
	zones := func(without string) int {
		in := map[string]bool{}
		for _, m := range g.Record.Members {
			if m.Disk != without {
				in[w.f.zone(m.Disk)] = true
			}
		}
		return len(in)
	}
	for _, m := range g.Record.Members {
		spare := len(g.Record.Members) > g.Copies() || slices.ContainsFunc(g.Record.Members, func(o record.Member) bool {
			return o != m && w.f.Disks[o.Disk].Node == w.f.Disks[m.Disk].Node
		})
		if spare && !slices.Contains(w.p.wish.of(g), m.Disk) && zones(m.Disk) > zones(c.Disk) {
			w.fatalf("%v of %v gives up a zone that %s would not", c, g.Record, m.Disk)
		}
	}
}

// settle goes on until nothing happens any more, and returns the time that it took.
func (w *world) settle() time.Duration {
	from := w.f.Now
	for quiet := 0; quiet < 40; quiet++ {
		if w.step() > 0 {
			quiet = 0
		}
		if len(w.joining()) > 0 {
			quiet = 0
		}
		if w.f.Now-from > 100*time.Hour {
			plan, err := w.p.Plan(&w.f)
			w.fatalf("it does not come to rest: %v %v, %v", plan, err, w.joining())
		}
	}
	return w.f.Now - from - 40*tick
}

// joining are the groups that disks join, and can.
func (w *world) joining() (list []Group) {
	for _, g := range w.f.Groups {
		if slices.ContainsFunc(g.Record.Joining, w.f.lives) && slices.ContainsFunc(g.Record.Members, w.f.lives) {
			list = append(list, g)
		}
	}
	return list
}

// checkWish: the groups are where they should be.
func (w *world) checkWish() {
	for i := range w.f.Groups {
		g := &w.f.Groups[i]
		wish, err := w.p.Wish(&w.f, g)
		if err != nil {
			w.fatalf("%v", err)
		}
		if (len(g.Record.Joining) > 0 || !sameDisks(g.Record.Members, wish)) && !w.cannot(g, wish) {
			w.fatalf("group %#x ended at %v, expected %v", g.Number, g.Record, wish)
		}
	}
}

// cannot reports whether a group has to stay as it is: it has no disk that is left, or
// fewer are wished for than writes need, or than there are to be: then those stay that are on
// nodes of their own.
func (w *world) cannot(g *Group, wish []string) bool {
	left := 0
	for _, m := range g.Record.Members {
		if c := w.f.Condition(m); c == Lives || c == Back {
			left++
		}
	}
	stays := len(wish) < g.Copies() && len(g.Record.Joining) == 0 && len(g.Record.Members) <= g.Copies() &&
		w.nodesOf(g.Record) == len(g.Record.Members)
	for _, d := range wish {
		stays = stays && slices.ContainsFunc(g.Record.Members, func(m record.Member) bool { return m.Disk == d })
	}
	return left == 0 || len(wish) < g.min() || stays
}

func sameDisks(members []record.Member, wish []string) bool {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.Disk)
	}
	slices.Sort(ids)
	return slices.Equal(ids, slices.Sorted(slices.Values(wish)))
}

// fault does something to the cluster.
func (w *world) fault() {
	nodes := sorted(w.f.Nodes)
	disks := sorted(w.f.Disks)
	id := nodes[w.rng.IntN(len(nodes))]
	n := w.f.Nodes[id]
	d := w.f.Disks[disks[w.rng.IntN(len(disks))]]
	switch k := w.rng.IntN(20); {
	case k < 8 && n.Incarnation != "":
		w.stop(id)
	case k < 14 && n.Incarnation == "":
		w.start(id)
	case k < 14:
		w.stop(id)
		w.start(id)
	case k == 14:
		for _, id := range nodes {
			w.stop(id)
		}
	case k == 15 && len(nodes) < 12:
		w.addNode(1+w.rng.IntN(2), w.someZone())
	case k == 16:
		n.Draining = !n.Draining
		w.f.Nodes[id] = n
	case k == 17:
		d.Weight = w.rng.Int64N(3) << 40
		w.f.Disks[d.ID] = d
	case k == 18 && w.rng.IntN(3) == 0:
		d.Failed = "an I/O error"
		w.f.Disks[d.ID] = d
	case k == 19 && w.rng.IntN(3) == 0 && len(disks) > 3:
		delete(w.f.Disks, d.ID)
	}
}

func (w *world) someZone() string {
	if w.rng.IntN(3) == 0 {
		return ""
	}
	return fmt.Sprintf("z%d", w.rng.IntN(4))
}

// Whatever fails, in whatever order: no group ever has a member that misses a write
// that was acknowledged, none takes writes with too few disks, and when all nodes run
// again everything comes to rest where it should be, each disk having joined each
// group once at most.
func TestSimulation(t *testing.T) {
	t.Parallel()
	times := 10
	if n, err := strconv.Atoi(os.Getenv("BLOCKTEST_TIMES")); err == nil && n > 0 {
		times *= n
	}
	first := rand.Uint64() >> 1
	if n, err := strconv.ParseUint(os.Getenv("STEWARD_SEED"), 10, 64); err == nil {
		first, times = n, 1
	}
	for seed := first; seed < first+uint64(times); seed++ {
		simulate(t, seed)
	}
}

func simulate(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	for range 1 + w.rng.IntN(7) {
		w.addNode(1+w.rng.IntN(2), w.someZone())
	}
	for copies := 1; copies <= 4; copies++ {
		if copies <= len(w.f.Nodes) {
			w.makeGroups(8, copies)
		}
	}
	for i := range w.f.Groups {
		w.f.Groups[i].MinCopies = w.rng.IntN(w.f.Groups[i].Copies() + 1)
	}
	w.gateways, w.lossy = w.rng.IntN(2) == 0, w.rng.IntN(2) == 0
	for range 60 {
		w.fault()
		for range 1 + w.rng.IntN(10)*w.rng.IntN(30) {
			w.step()
		}
	}
	for _, id := range sorted(w.f.Nodes) {
		if w.f.Nodes[id].Incarnation == "" {
			w.start(id)
		}
	}
	clear(w.joins)
	w.lossy = false
	w.settle()
	w.checkWish()
	for key, n := range w.joins {
		if n > 1 {
			w.fatalf("disk %s has joined group %#x %d times while nothing happened", key.Disk, key.Group, n)
		}
	}
}
