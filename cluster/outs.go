package cluster

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// outs are the disks that volumes of this node have removed from groups, because they did
// not do what they must. An operator is told once of each, not of each group and request.
type outs struct {
	mu   sync.Mutex
	list map[string]*out // by disk
	// news says that there is one more.
	news chan struct{}
}

// An out is a disk that is out.
type out struct {
	disk   string
	groups map[int]bool // whether they miss it still
	why    error
	told   bool
	since  time.Duration
	// calm is since when nothing is missing, if told.
	calm time.Duration
}

const (
	// gatherOuts is how long groups are collected until one is told of, and how often
	// is looked whether it is back.
	gatherOuts = time.Second
	// calmOuts is how long it has to be back to be told of: it may be removed again.
	calmOuts = 10 * time.Second
)

func newOuts() outs { return outs{list: map[string]*out{}, news: make(chan struct{}, 1)} }

// removed notes that a volume has removed a disk from a group.
func (n *Node) removed(group int, m record.Member, why error) {
	now := n.store.Clock().Now()
	n.outs.mu.Lock()
	defer n.outs.mu.Unlock()
	o := n.outs.list[m.Disk]
	if o == nil {
		o = &out{disk: m.Disk, groups: map[int]bool{}, why: why, since: now}
		n.outs.list[m.Disk] = o
		select {
		case n.outs.news <- struct{}{}:
		default:
		}
	}
	o.groups[group], o.calm = true, 0
	n.o.Log.Debug("a disk was removed from a group", "disk", m.Disk, "group", group, "error", why)
}

// watchOuts is the goroutine that tells of them.
func (n *Node) watchOuts() {
	for {
		select {
		case <-n.outs.news:
		case <-n.ctx.Done():
			return
		}
		for more := true; more; {
			if !n.pause(n.ctx, gatherOuts) {
				return
			}
			more = n.tellOuts(n.state.View(), n.store.Clock().Now())
		}
	}
}

// tellOuts tells of those that are new, and of those that are back. It reports whether any
// are out.
func (n *Node) tellOuts(v *record.View, now time.Duration) bool {
	n.outs.mu.Lock()
	defer n.outs.mu.Unlock()
	var list []*out
	for _, o := range n.outs.list {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *out) int { return cmp.Compare(a.disk, b.disk) })
	for _, o := range list {
		d, known := v.Disks.Get(o.disk)
		who, _ := v.Nodes.Get(d.Record.Node)
		told := []any{"disk", o.disk, "node", cmp.Or(who.Record.Name, d.Record.Node), "groups", len(o.groups)}
		if !o.told {
			o.told = true
			n.o.Log.Warn("a disk did not do what it must, and was removed from placement groups: volumes go on with the other copies", append(told, "error", o.why)...)
		}
		o.settle(v, now)
		switch {
		case !known:
			delete(n.outs.list, o.disk)
		case o.calm != 0 && now-o.calm >= calmOuts:
			delete(n.outs.list, o.disk)
			n.o.Log.Info("a disk that was removed from placement groups has its place again", append(told, "after", (o.calm-o.since).Round(time.Second))...)
		}
	}
	return len(n.outs.list) > 0
}

// settle finds out which groups have the disk again, or do not miss it.
func (o *out) settle(v *record.View, now time.Duration) {
	missing := 0
	for number, misses := range o.groups {
		if !misses {
			continue
		}
		g, epoch := v.Group(number)
		copies, _ := record.SplitGroup(number)
		is := func(m record.Member) bool { return m.Disk == o.disk }
		if epoch == 0 || len(g.Members) >= copies || slices.ContainsFunc(g.Members, is) {
			o.groups[number] = false
		} else {
			missing++
		}
	}
	if missing == 0 && o.calm == 0 {
		o.calm = max(now, 1)
	}
}
