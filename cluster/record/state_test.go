package record

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/family"
)

// dump has everything in a view but its revision.
func dump(v *View) []string {
	var list []string
	add := func(kind string, key, value any) { list = append(list, fmt.Sprintf("%s %v %+v", kind, key, value)) }
	add("pool", 0, v.Pool)
	for k, e := range v.Nodes.All() {
		add("node", k, e)
	}
	for k, e := range v.Runs.All() {
		add("run", k, e)
	}
	for k, e := range v.Disks.All() {
		add("disk", k, e)
	}
	for k, e := range v.Groups.All() {
		add("group", k, e)
	}
	for k, e := range v.Names.All() {
		add("name", k, e)
	}
	for k, e := range v.Attachments.All() {
		add("attachment", k, e)
	}
	for k, e := range v.Deletions.All() {
		add("deletion", k, e)
	}
	for k, e := range v.Health.All() {
		add("health", k, e)
	}
	for copies := range 4 {
		add("needed", copies, v.Needed(copies))
	}
	for k, e := range v.Bad.All() {
		add("bad", k, e)
	}
	for id, f := range v.Families.All() {
		add("family", id, f.Volume)
		add("bad of family", id, f.bad)
		for k, e := range f.Versions.All() {
			add("version", k, e)
		}
		for k, e := range f.Snapshots.All() {
			add("snapshot", k, e)
		}
		if tree, err := f.Tree(); err != nil {
			add("no tree", id, err)
		} else {
			add("tree", tree.Revision(), tree.Versions())
		}
	}
	return list
}

func sameViews(t *testing.T, a, b *View) {
	t.Helper()
	x, y := dump(a), dump(b)
	if a.Revision != b.Revision || !slices.Equal(x, y) {
		for i := range max(len(x), len(y)) {
			if i >= len(x) || i >= len(y) || x[i] != y[i] {
				t.Fatalf("views of revisions %d and %d differ: %v and %v", a.Revision, b.Revision, x[min(i, len(x)):min(i+1, len(x))], y[min(i, len(y)):min(i+1, len(y))])
			}
		}
	}
}

func (l *lab) put(key string, value string) coord.Revision {
	l.Helper()
	r, err := l.store.Txn(l.ctx, coord.Txn{Then: []coord.Op{coord.Put(key, []byte(value))}})
	l.must(err)
	return r.Revision
}

func (l *lab) remove(key string) coord.Revision {
	l.Helper()
	r, err := l.store.Txn(l.ctx, coord.Txn{Then: []coord.Op{coord.Delete(key)}})
	l.must(err)
	return r.Revision
}

func (l *lab) follow() *State {
	l.Helper()
	s, err := Follow(l.ctx, l.store)
	l.must(err)
	l.Cleanup(func() { _ = s.Close() })
	return s
}

// All kinds of records come and go, can and cannot be understood.
func TestFollow(t *testing.T) {
	l := newLab(t)
	s := l.follow()
	var r coord.Revision
	for _, sample := range samples {
		r = l.put(sample.key, sample.value)
	}
	v, err := s.Wait(l.ctx, r)
	l.must(err)
	sameViews(t, v, l.view())
	for _, sample := range samples {
		if sample.key == PoolKey || sample.key == NextKey {
			continue
		}
		v, err := s.Wait(l.ctx, l.put(sample.key, "{}"))
		l.must(err)
		if why, bad := v.Bad.Get(sample.key); !bad || !errors.Is(why, ErrInvalid) {
			t.Errorf("%s is bad: %v, %v", sample.key, bad, why)
		}
		sameViews(t, v, l.view())
		if v, err = s.Wait(l.ctx, l.put(sample.key, sample.value)); err != nil || v.Bad.Len() != 0 {
			t.Errorf("%s is still bad", sample.key)
		}
		sameViews(t, v, l.view())
	}
	l.put("group/x", "{}")
	l.put("job/x", "anything")
	for _, sample := range samples {
		v, err := s.Wait(l.ctx, l.remove(sample.key))
		l.must(err)
		sameViews(t, v, l.view())
	}
	v, err = s.Wait(l.ctx, l.remove("group/x"))
	l.must(err)
	empty := newView()
	empty.Revision = v.Revision
	sameViews(t, v, empty)
}

// What disks ask for trees is this.
var _ interface {
	Tree(ctx context.Context, family, revision uint64) (*family.Tree, error)
} = (*State)(nil)

// Where groups should be follows from the records of disks and nodes.
func TestPlacement(t *testing.T) {
	l := newLab(t)
	for i, extra := range []string{"", "", `,"draining":true`, "", "", ""} {
		node := fmt.Sprint("n", i)
		l.put(NodeKey(node), fmt.Sprintf(`{"id":%q,"name":"","zone":%q%s}`, node, node, extra))
	}
	for i, extra := range []string{"", "", "", `,"failed":"it smokes"`, "", ""} {
		l.put(DiskKey(fmt.Sprint("d", i)), fmt.Sprintf(`{"id":"d%d","node":"n%d","size":9,"weight":9%s}`, i, i, extra))
	}
	l.put(DiskKey("d9"), `{"id":"d9","node":"n9","size":9,"weight":9}`)
	m, err := l.view().Placement(func(d Disk) bool { return d.ID == "d4" })
	l.must(err)
	got := m.Disks(1, 9)
	if slices.Sort(got); !slices.Equal(got, []string{"d0", "d1", "d5"}) {
		t.Errorf("a group should be on %v", got)
	}
	if m, err = l.view().Placement(nil); err != nil || len(m.Disks(1, 9)) != 4 {
		t.Errorf("a group should be on %v, %v", m.Disks(1, 9), err)
	}
}

// A pool of a newer program ends the copy, before it begins or later.
func TestNewerPool(t *testing.T) {
	l := newLab(t)
	s := l.follow()
	l.put(PoolKey, `{"cluster":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","format":99,"groups":1}`)
	<-s.Done()
	l.fails(s.Err(), ErrNewer, "record pool: format 99")
	l.fails(s.Close(), ErrNewer, "format 99")
	_, err := Follow(l.ctx, l.store)
	l.fails(err, ErrNewer, "format 99")
}

// A tree comes when its revision is known, and no earlier.
func TestTreeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(memory.Options{})
		store := server.Client(memory.ClientOptions{})
		cat := &Catalog{Store: store}
		s, err := Follow(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Tree(t.Context(), 1, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("a family that is not there: %v", err)
		}
		got := make(chan uint64)
		wait := func(revision uint64) {
			tree, err := s.Tree(t.Context(), 1, revision)
			if err != nil {
				t.Error(err)
				close(got)
				return
			}
			got <- tree.Revision()
		}
		at := uint64(server.Revision())
		go wait(at + 1)
		go wait(at + 2)
		synctest.Wait()
		if _, err := cat.Create(t.Context(), "vm1", Spec{Size: 1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if first := <-got; first != at+1 {
			t.Errorf("revision %d, expected %d", first, at+1)
		}
		select {
		case r := <-got:
			t.Errorf("a tree of revision %d came too early", r)
		default:
		}
		if _, err := cat.Snapshot(t.Context(), "vm1", "a", 0); err != nil {
			t.Fatal(err)
		}
		if second := <-got; second != at+2 {
			t.Errorf("revision %d, expected %d", second, at+2)
		}
		if _, err := cat.Create(t.Context(), "vm2", Spec{Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Tree(t.Context(), 1, at+3); !errors.Is(err, ErrInvalid) {
			t.Errorf("a revision of another family: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Tree(ctx, 1, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a revision that does not come: %v", err)
		}
		time.AfterFunc(time.Second, func() { _ = s.Close() })
		if _, err := s.Tree(t.Context(), 1, 1000); !errors.Is(err, ErrClosed) {
			t.Errorf("a copy that is closed: %v", err)
		}
	})
}

// What cannot be understood of a family makes it have no tree; others have theirs.
func TestBadFamily(t *testing.T) {
	l := newLab(t)
	s := l.follow()
	l.create("vm1")
	h := l.create("vm2")
	r := l.put(VersionKey(1, 7), `{"id":7,"line":1,"quantum":true}`)
	v, err := s.Wait(l.ctx, r)
	l.must(err)
	if why, _ := v.Bad.Get(VersionKey(1, 7)); !errors.Is(why, ErrNewer) {
		t.Errorf("it is bad because of %v", why)
	}
	_, err = s.Tree(l.ctx, 1, 0)
	l.fails(err, ErrInvalid, "records of family 1 are not whole")
	_, err = s.Tree(l.ctx, 2, uint64(h.Volume.Revision))
	l.must(err)
}

// flaky has lists that fail for a while.
type flaky struct {
	coord.Store
	fail atomic.Int32
}

func (f *flaky) List(ctx context.Context, prefix string) ([]coord.Entry, coord.Revision, error) {
	if f.fail.Load() > 0 {
		f.fail.Add(-1)
		return nil, 0, coord.ErrUnavailable
	}
	return f.Store.List(ctx, prefix)
}

// A copy that was cut off for too long begins anew, and keeps the trees that are
// still the same. Trees are made once.
func TestCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memory.NewServer(memory.Options{})
		store, cut := server.Client(memory.ClientOptions{}), server.Client(memory.ClientOptions{})
		cat := &Catalog{Store: store}
		for _, name := range []string{"vm1", "vm2"} {
			if _, err := cat.Create(t.Context(), name, Spec{Size: 1}); err != nil {
				t.Fatal(err)
			}
		}
		weak := &flaky{Store: cut}
		s, err := Follow(t.Context(), weak)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		weak.fail.Store(3)
		var trees [3]any
		for fid := range uint64(3) {
			trees[fid], _ = s.Tree(t.Context(), fid, 0)
		}
		cut.Cut(true, true)
		h, err := cat.Snapshot(t.Context(), "vm1", "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		server.Compact()
		time.Sleep(time.Minute)
		cut.Cut(false, false)
		v, err := s.Wait(t.Context(), h.Volume.Revision)
		if err != nil {
			t.Fatal(err)
		}
		entries, at, err := store.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		want, err := load(entries, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		sameViews(t, v, want)
		if again, _ := s.Tree(t.Context(), 2, 0); !reflect.DeepEqual(again, trees[2]) || any(again) != trees[2] {
			t.Error("a tree that has not changed was made again")
		}
		if again, _ := s.Tree(t.Context(), 1, 0); any(again) == trees[1] {
			t.Error("a tree that has changed was not made again")
		}
		if left := weak.fail.Load(); left != 0 {
			t.Errorf("%d lists have not been tried", left)
		}
		_ = cut.Close()
		<-s.Done()
		if err := s.Err(); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("the store was closed: %v", err)
		}
	})
}
