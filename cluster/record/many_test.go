package record

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/internal/race"
)

const many = 100_000

// meter counts what a client asks of the store.
type meter struct {
	coord.Store
	calls, sent, got int
}

func (m *meter) Get(ctx context.Context, key string) (coord.Entry, coord.Revision, error) {
	e, r, err := m.Store.Get(ctx, key)
	m.calls++
	m.sent += len(key)
	m.got += len(e.Value)
	return e, r, err
}

func (m *meter) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	m.calls++
	for _, op := range t.Then {
		m.sent += len(op.Key) + len(op.Value)
	}
	return m.Store.Txn(ctx, t)
}

func (m *meter) List(context.Context, string) ([]coord.Entry, coord.Revision, error) {
	panic("a transaction that reads everything")
}

// chain returns a store with a volume vm that has n snapshots, s0000001 and so on,
// as if they had been made one after the other.
func chain(t testing.TB, n int) coord.Store {
	t.Helper()
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	t.Cleanup(func() { _ = store.Close() })
	var e edit
	commit := func() {
		if _, err := store.Txn(t.Context(), e.Txn); err != nil || e.err != nil {
			t.Fatal(err, e.err)
		}
		e = edit{}
	}
	for i := range n {
		id := uint64(i + 1)
		name := fmt.Sprintf("s%07d", id)
		e.put(VersionKey(1, id), Version{ID: id, Parent: id - 1, Line: 1, Name: name, Size: 1 << 30, Created: someTime})
		e.put(SnapshotKey(1, 1, name), Snapshot{id})
		if len(e.Then) > coord.MaxOps-2 {
			commit()
		}
	}
	commit()
	head := uint64(n + 1)
	e.put(NextKey, Next{2})
	e.put(VersionKey(1, head), Version{ID: head, Parent: head - 1, Line: 1, Created: someTime})
	e.put(VolumeKey(1), Volume{Family: 1, ObjectSize: 4 << 20, Copies: 3, MinCopies: 2, NextVersion: head + 1})
	e.put(NameKey("vm"), Name{Family: 1, Line: 1, Head: head, Size: 1 << 30, Snapshots: n, Created: someTime})
	commit()
	return store
}

// A volume with 100 000 snapshots works, and no transaction on it costs more than
// on a volume with ten.
func TestManySnapshots(t *testing.T) {
	t.Parallel()
	costs := func(n int) map[string]meter {
		store := chain(t, n)
		s, err := Follow(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m := &meter{Store: store}
		cat := &Catalog{Store: m, Now: func() time.Time { return someTime }}
		list := map[string]meter{}
		var h Head
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"snapshot", func() (err error) { h, err = cat.Snapshot(t.Context(), "vm", "last", 0); return err }},
			{"clone", func() (err error) { h, err = cat.Clone(t.Context(), "vm", "s0000003", "vm2"); return err }},
			{"rename", func() (err error) { _, err = cat.Rename(t.Context(), "vm", "vm3"); return err }},
			{"rollback", func() (err error) {
				h, err = cat.Rollback(t.Context(), "vm3", "s0000002", "", 0)
				return err
			}},
			{"delete a snapshot", func() error { return cat.DeleteSnapshot(t.Context(), "vm3", "s0000007") }},
			{"delete the clone", func() error { return cat.Delete(t.Context(), "vm2") }},
		} {
			*m = meter{Store: store}
			if err := step.do(); err != nil {
				t.Fatal(step.name, err)
			}
			list[step.name] = meter{calls: m.calls, sent: m.sent, got: m.got}
		}
		tree, err := s.Tree(t.Context(), 1, uint64(h.Volume.Revision))
		if err != nil || tree.Len() != n+4 {
			t.Fatalf("%d versions, %v, expected %d", tree.Len(), err, n+4)
		}
		if got := tree.Floor(h.Name.Record.Head, 2); got != 2 {
			t.Errorf("version %d is what the head continues, expected 2", got)
		}
		return list
	}
	n := many
	if race.Enabled {
		n /= 10
	}
	few, lots := costs(10), costs(n)
	for name, a := range few {
		b := lots[name]
		t.Logf("%s: %d calls, %d bytes sent, %d received", name, b.calls, b.sent, b.got)
		// Numbers are longer in decimal.
		if a.calls != b.calls || b.sent > a.sent+60 || b.got > a.got+60 {
			t.Errorf("%s costs %d calls and %d bytes for many, %d and %d for few", name, b.calls, b.sent+b.got, a.calls, a.sent+a.got)
		}
	}
}

// What a copy costs that has many versions: one change, the tree after it, a tree
// that is known, and beginning.
func BenchmarkState(b *testing.B) {
	store := chain(b, many)
	entries, at, err := store.List(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	v, err := load(entries, at, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := load(entries, at, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	change := snapshotChange(b, store, at)
	b.Run("change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.after(change); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tree", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f, _ := v.Families.Get(1)
			fresh := *f
			fresh.tree = &lazyTree{}
			if _, err := fresh.Tree(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// snapshotChange makes a snapshot, and returns that change.
func snapshotChange(b *testing.B, store coord.Store, after coord.Revision) coord.Change {
	cat := &Catalog{Store: store}
	if _, err := cat.Snapshot(b.Context(), "vm", "new", 0); err != nil {
		b.Fatal(err)
	}
	for c, err := range store.Watch(b.Context(), "", after) {
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	return coord.Change{}
}

// What requests ask for.
func BenchmarkLookup(b *testing.B) {
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	defer store.Close()
	var e edit
	for i := range 16384 {
		e.put(GroupKey(GroupOf(3, i)), Group{Members: []Member{{Disk: "a", Incarnation: "i"}, {Disk: "b", Incarnation: "i"}, {Disk: "c", Incarnation: "i"}}})
		if len(e.Then) == coord.MaxOps {
			if _, err := store.Txn(b.Context(), e.Txn); err != nil {
				b.Fatal(err)
			}
			e = edit{}
		}
	}
	cat := &Catalog{Store: store}
	for i := range 1000 {
		if _, err := cat.Create(b.Context(), fmt.Sprint("vm", i), Spec{Size: 1}); err != nil {
			b.Fatal(err)
		}
	}
	s, err := Follow(b.Context(), store)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.Run("group", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Group(GroupOf(3, i*77&16383))
		}
	})
	v := s.View()
	b.Run("group change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = v.Groups.with(GroupOf(3, 77), Entry[Group]{Revision: 1})
		}
	})
	b.Run("tree", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := s.Tree(b.Context(), uint64(1+i*77%1000), 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// All of a snapshot of a volume that has many: the transaction, the change of a
// copy that follows, and the tree for the first request.
func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{10, many} {
		b.Run(fmt.Sprint("snapshots=", n), func(b *testing.B) {
			store := chain(b, n)
			s, err := Follow(b.Context(), store)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			cat := &Catalog{Store: store}
			for i := 0; b.Loop(); i++ {
				h, err := cat.Snapshot(b.Context(), "vm", fmt.Sprint("new", i), 0)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Wait(b.Context(), h.Volume.Revision); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
