package record

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
)

// An action is one call of a client, and what became of it.
type action struct {
	what       string
	a, b, c    string
	size       int64
	generation coord.Revision
	// It was called after, and had returned by these revisions; done is that of
	// its transaction.
	from, to, done coord.Revision
	err            error
}

// spy remembers the revision of the last transaction of a client, and lets others
// go first now and then.
type spy struct {
	coord.Store
	rng  *rand.Rand
	done coord.Revision
}

func (s *spy) Get(ctx context.Context, key string) (coord.Entry, coord.Revision, error) {
	for range s.rng.IntN(3) {
		runtime.Gosched()
	}
	return s.Store.Get(ctx, key)
}

func (s *spy) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	r, err := s.Store.Txn(ctx, t)
	if err == nil && r.Done && len(t.Then) > 0 {
		s.done = r.Revision
	}
	return r, err
}

// A player is a client that does random things.
type player struct {
	name   string
	rng    *rand.Rand
	server *memory.Server
	spy    *spy
	cat    *Catalog
	lease  coord.LeaseID
	// held has the generations that were got, by the name at that time.
	held    map[string]held
	actions []action
}

type held struct {
	line       Line
	generation coord.Revision
}

func (p *player) pick(prefix string, n int) string {
	return fmt.Sprint(prefix, p.rng.IntN(n))
}

func (p *player) play(ctx context.Context) {
	kinds := []string{"create", "snapshot", "snapshot", "clone", "clone", "rollback", "adopt", "adopt", "adopt", "rename", "resize", "delete", "unsnap", "unsnap", "forget", "attach", "detach"}
	x := action{what: kinds[p.rng.IntN(len(kinds))], a: p.pick("v", 4), b: p.pick("s", 4), c: p.pick("v", 4), size: 1 + p.rng.Int64N(100)}
	if p.rng.IntN(2) == 0 {
		x.generation = p.held[x.a].generation
	}
	if x.what == "detach" && p.held[x.a].generation == 0 {
		return
	}
	p.spy.done, x.from = 0, p.server.Revision()
	switch x.what {
	case "create":
		_, x.err = p.cat.Create(ctx, x.a, Spec{Size: x.size})
	case "snapshot":
		var h Head
		h, x.err = p.cat.Snapshot(ctx, x.a, x.b, x.generation)
		p.beheaded(x, h)
	case "clone":
		_, x.err = p.cat.Clone(ctx, x.a, x.b, x.c)
	case "rollback":
		if x.c = ""; p.rng.IntN(2) == 0 {
			x.c = p.pick("s", 4)
		}
		var h Head
		h, x.err = p.cat.Rollback(ctx, x.a, x.b, x.c, x.generation)
		p.beheaded(x, h)
	case "adopt":
		var h Head
		h, x.err = p.cat.Adopt(ctx, x.a, x.c, x.b, x.generation)
		p.beheaded(x, h)
	case "rename":
		_, x.err = p.cat.Rename(ctx, x.a, x.c)
	case "resize":
		_, x.err = p.cat.Resize(ctx, x.a, x.size, x.generation)
	case "delete":
		x.err = p.cat.Delete(ctx, x.a)
	case "unsnap":
		x.err = p.cat.DeleteSnapshot(ctx, x.a, x.b)
	case "forget":
		p.forget(ctx, &x)
	case "attach":
		var h Head
		h, x.generation, x.err = p.cat.Attach(ctx, x.a, p.lease, Attachment{p.name, "i"})
		if x.err == nil {
			p.held[x.a] = held{h.Line(), x.generation}
		}
		x.b = p.name
	case "detach":
		x.generation = p.held[x.a].generation
		x.err = p.cat.Detach(ctx, p.held[x.a].line, x.generation)
		delete(p.held, x.a)
	}
	x.to, x.done = p.server.Revision(), p.spy.done
	p.actions = append(p.actions, x)
}

// beheaded notes the generation that came with a new head.
func (p *player) beheaded(x action, h Head) {
	if x.err == nil && x.generation != 0 {
		p.held[x.a] = held{h.Line(), h.Name.Revision}
	}
}

// forget takes a doomed version out of a tree, if there is one.
func (p *player) forget(ctx context.Context, x *action) {
	entries, at, err := p.spy.List(ctx, "")
	if x.err = err; err != nil {
		return
	}
	v, err := load(entries, at, nil)
	if x.err = err; err != nil {
		return
	}
	for _, f := range v.Families.All() {
		for id, version := range f.Versions.All() {
			if version.Doomed && p.rng.IntN(3) == 0 {
				x.a, x.size = fmt.Sprint(f.ID), int64(id)
				if _, x.err = p.cat.Forget(ctx, f, only(id), []uint64{id}); errors.Is(x.err, ErrConflict) {
					x.err = nil
				}
				return
			}
		}
	}
}

// Several clients do what they like to a few volumes at the same time. In the order
// of revisions, each transaction does what a simple model does; what was refused was
// wrong at some moment while it was tried; and all heads and snapshots have the
// content that they should have, read through the trees.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(blocktest.Times(12)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			server := memory.NewServer(memory.Options{})
			players := make([]*player, 1+seed%5)
			s, err := Follow(t.Context(), server.Client(memory.ClientOptions{}))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var all, reader sync.WaitGroup
			played := make(chan struct{})
			reader.Go(func() { readAll(t, s, played) })
			for i := range players {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				s := &spy{Store: server.Client(memory.ClientOptions{}), rng: rng}
				lease, _, err := s.Grant(t.Context(), coord.MaxTTL)
				if err != nil {
					t.Fatal(err)
				}
				players[i] = &player{name: fmt.Sprint("n", i), rng: rng, server: server, spy: s, cat: &Catalog{Store: s}, lease: lease, held: map[string]held{}}
				all.Go(func() {
					for range 400 {
						players[i].play(t.Context())
					}
				})
			}
			all.Wait()
			close(played)
			reader.Wait()
			last := replay(t, rand.New(rand.NewPCG(seed, 99)), server, players)
			v, err := s.Wait(t.Context(), last.Revision)
			if err != nil {
				t.Fatal(err)
			}
			sameViews(t, v, last)
		})
	}
}

// readAll looks at views while others change what they follow: each of them is
// whole, and none is older than one before.
func readAll(t *testing.T, s *State, until <-chan struct{}) {
	for old := s.View(); ; {
		v := s.View()
		if v.Revision < old.Revision {
			t.Errorf("a view of revision %d after one of %d", v.Revision, old.Revision)
		}
		for name := range v.Names.All() {
			h, _ := v.Head(name)
			tree, err := s.Tree(t.Context(), h.Line().Family, uint64(h.Volume.Revision))
			if errors.Is(err, ErrNotFound) {
				continue // gone by now
			}
			if err != nil {
				t.Errorf("the tree of %+v: %v", h, err)
				return
			}
			if tree.Revision() == uint64(h.Volume.Revision) && !tree.Leaf(h.Name.Record.Head) {
				t.Errorf("the head of %+v is no leaf", h)
			}
		}
		old = v
		select {
		case <-until:
			return
		default:
			runtime.Gosched()
		}
	}
}

// replay follows the changes from the beginning, and returns the last view.
func replay(t *testing.T, rng *rand.Rand, server *memory.Server, players []*player) *View {
	var actions []action
	done := map[coord.Revision]action{}
	for _, p := range players {
		for _, x := range p.actions {
			actions = append(actions, x)
			if x.done != 0 {
				done[x.done] = x
			}
		}
	}
	m := &model{T: t, rng: rng, volumes: map[string]*volume{}, data: map[Line]map[int]int{}}
	store := server.Client(memory.ClientOptions{})
	possible := make([]bool, len(actions))
	refused := func(at coord.Revision) {
		for i, x := range actions {
			if x.err != nil && x.from <= at && at <= x.to {
				possible[i] = possible[i] || slices.ContainsFunc(m.problems(x), func(p error) bool { return errors.Is(x.err, p) })
			}
		}
	}
	v := newView()
	refused(1)
	last := server.Revision()
	for c, err := range store.Watch(t.Context(), "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		for r := v.Revision + 1; r < c.Revision; r++ {
			refused(r)
		}
		before := v
		if v, err = v.after(c); err != nil {
			t.Fatal(err)
		}
		x, ok := done[c.Revision]
		if !ok {
			t.Fatalf("nobody has made the change %+v", c)
		}
		delete(done, c.Revision)
		m.do(x, before)
		m.compare(v)
		m.write(v)
		refused(c.Revision)
		if c.Revision == last {
			break
		}
	}
	if len(done) > 0 {
		t.Errorf("not in the watch: %v", done)
	}
	kinds := map[string]int{}
	for i, x := range actions {
		if x.err != nil && !possible[i] {
			t.Errorf("%+v was refused without reason: %v", x, x.err)
		}
		if x.err == nil {
			kinds[x.what]++
		}
	}
	t.Log(kinds, v.Families.Len(), "families")
	return v
}

// A model is what volumes are for people, and the blocks of all versions.
type model struct {
	*testing.T
	rng     *rand.Rand
	volumes map[string]*volume
	written int
	// data are what was written, by block, to a version: Line is a family with
	// the ID of a version here.
	data map[Line]map[int]int
}

type volume struct {
	state
	snapshots map[string]state
	attached  coord.Revision
	// family is that of its clones, too, and counts them; line is the number of this.
	family *int
	line   int
}

// state is the content of a volume or a snapshot.
type state struct {
	size    int64
	content map[int]int
}

func (s state) copied() state { return state{s.size, maps.Clone(s.content)} }

// problems returns all that is wrong with an action now.
func (m *model) problems(x action) (list []error) {
	v := m.volumes[x.a]
	if x.what == "create" {
		if v != nil {
			list = append(list, ErrExists)
		}
		return list
	}
	if v == nil {
		list = append(list, ErrNotFound)
	}
	if (x.what == "clone" || x.what == "rename") && m.volumes[x.c] != nil {
		list = append(list, ErrExists)
	}
	if v == nil {
		return list
	}
	_, there := v.snapshots[x.b]
	if x.what == "adopt" {
		if other := m.volumes[x.c]; other == nil {
			list = append(list, ErrNotFound)
		} else if _, has := other.snapshots[x.b]; other.line <= v.line || other.family != v.family {
			list = append(list, ErrInvalid)
		} else if !has {
			list = append(list, ErrNotFound)
		}
	}
	switch {
	case (x.what == "clone" || x.what == "rollback" || x.what == "unsnap") && !there:
		list = append(list, ErrNotFound)
	case (x.what == "snapshot" || x.what == "adopt") && there:
		list = append(list, ErrExists)
	case x.what == "delete" && len(v.snapshots) > 0:
		list = append(list, ErrInUse)
	case x.what == "attach" && v.attached != 0:
		list = append(list, ErrInUse)
	}
	if _, kept := v.snapshots[x.c]; x.what == "rollback" && kept {
		list = append(list, ErrExists)
	}
	shrinks := x.what == "resize" && x.size < v.size
	if shrinks && x.generation == 0 {
		list = append(list, ErrInvalid)
	} else if shrinks || x.what == "snapshot" || x.what == "rollback" || x.what == "adopt" || x.what == "delete" {
		switch {
		case x.what == "delete" && v.attached != 0 || x.generation == 0 && v.attached != 0:
			list = append(list, ErrInUse)
		case x.what != "delete" && x.generation != v.attached:
			list = append(list, ErrDetached)
		}
	}
	return list
}

// do does what an action does. before is the view that it changed.
func (m *model) do(x action, before *View) {
	if x.err != nil || x.what != "forget" && x.what != "detach" && len(m.problems(x)) > 0 {
		m.Fatalf("%+v was done although %v", x, m.problems(x))
	}
	v := m.volumes[x.a]
	switch x.what {
	case "create":
		m.volumes[x.a] = &volume{state{x.size, map[int]int{}}, map[string]state{}, 0, new(int), 0}
	case "snapshot":
		v.snapshots[x.b] = v.copied()
		v.behead(x)
	case "clone":
		*v.family++
		m.volumes[x.c] = &volume{v.snapshots[x.b].copied(), map[string]state{}, 0, v.family, *v.family}
	case "rollback":
		if x.c != "" {
			v.snapshots[x.c] = v.copied()
		}
		v.state = v.snapshots[x.b].copied()
		v.behead(x)
	case "adopt":
		other := m.volumes[x.c]
		v.snapshots[x.b] = other.snapshots[x.b]
		delete(other.snapshots, x.b)
		v.state = v.snapshots[x.b].copied()
		v.behead(x)
	case "rename":
		m.volumes[x.c] = v
		delete(m.volumes, x.a)
	case "resize":
		v.size = x.size
	case "delete":
		delete(m.volumes, x.a)
	case "unsnap":
		delete(v.snapshots, x.b)
	case "attach":
		v.attached = x.done
	case "detach":
		for _, v := range m.volumes {
			if v.attached == x.generation {
				v.attached = 0
			}
		}
	case "forget":
		m.inherit(x, before)
	}
}

// inherit is what disks do before a version is forgotten: its children get what
// they do not have.
func (m *model) inherit(x action, before *View) {
	var fid uint64
	fmt.Sscan(x.a, &fid)
	f, _ := before.Families.Get(fid)
	tree, err := f.Tree()
	if err != nil {
		m.Fatal(err)
	}
	for _, child := range tree.Children(uint64(x.size)) {
		own := m.of(fid, child)
		for block, n := range m.of(fid, uint64(x.size)) {
			if _, has := own[block]; !has {
				own[block] = n
			}
		}
	}
	delete(m.data, Line{fid, uint64(x.size)})
}

func (m *model) of(fid, vid uint64) map[int]int {
	l := Line{fid, vid}
	if m.data[l] == nil {
		m.data[l] = map[int]int{}
	}
	return m.data[l]
}

// write writes to the heads of some volumes.
func (m *model) write(v *View) {
	for _, name := range slices.Sorted(maps.Keys(m.volumes)) {
		if m.rng.IntN(2) == 0 {
			continue
		}
		h, _ := v.Head(name)
		block := m.rng.IntN(6)
		m.written++
		m.volumes[name].content[block] = m.written
		m.of(h.Line().Family, h.Name.Record.Head)[block] = m.written
	}
}

// behead gives an attachment another generation.
func (v *volume) behead(x action) {
	if v.attached != 0 {
		v.attached = x.done
	}
}

// compare compares all names, sizes and contents.
func (m *model) compare(v *View) {
	if v.Names.Len() != len(m.volumes) || v.Bad.Len() != 0 {
		m.Fatalf("there are %d volumes, expected %d; bad are %v", v.Names.Len(), len(m.volumes), v.Bad)
	}
	whole(m.T, v)
	for name, want := range m.volumes {
		h, ok := v.Head(name)
		if !ok {
			m.Fatalf("there is no volume %s", name)
		}
		f, _ := v.Families.Get(h.Line().Family)
		if _, g := v.Attachment(h.Line()); g != want.attached || h.Name.Record.Snapshots != len(want.snapshots) {
			m.Fatalf("the volume %s is %+v in generation %d, expected %+v", name, h, g, want)
		}
		m.read(f, name, h.Name.Record.Head, h.Name.Record.Size, want.state)
		for snap, version := range v.Snapshots(h.Line()) {
			if version.Name != snap {
				m.Fatalf("the version of the snapshot %s is %+v", snap, version)
			}
			m.read(f, name+"@"+snap, version.ID, version.Size, want.snapshots[snap])
		}
	}
}

// read compares the content of a version.
func (m *model) read(f *Family, what string, vid uint64, size int64, want state) {
	version, _ := f.Versions.Get(vid)
	if size != want.size || version.Doomed {
		m.Fatalf("%s has %d bytes, expected %d; its version is %+v", what, size, want.size, version)
	}
	for block := range 6 {
		got := 0
		for at := vid; at != 0 && got == 0; {
			got = m.data[Line{f.ID, at}][block]
			v, _ := f.Versions.Get(at)
			at = v.Parent
		}
		if got != want.content[block] {
			m.Fatalf("block %d of %s is %d, expected %d", block, what, got, want.content[block])
		}
	}
}
