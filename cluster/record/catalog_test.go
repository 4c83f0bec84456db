package record

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
)

// lab is a store with a catalog.
type lab struct {
	*testing.T
	ctx    context.Context
	server *memory.Server
	store  coord.Store
	cat    *Catalog
}

func newLab(t *testing.T) *lab {
	t.Parallel()
	server := memory.NewServer(memory.Options{})
	store := server.Client(memory.ClientOptions{})
	t.Cleanup(func() { _ = store.Close() })
	return &lab{t, t.Context(), server, store, &Catalog{store, func() time.Time { return someTime }}}
}

func (l *lab) view() *View {
	l.Helper()
	entries, at, err := l.store.List(l.ctx, "")
	l.must(err)
	v, err := load(entries, at, nil)
	l.must(err)
	return v
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// fails checks an error and that it says this.
func (l *lab) fails(err, want error, text string) {
	l.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		l.Errorf("the error is %v, expected %q: %v", err, text, want)
	}
}

func (l *lab) create(name string) Head {
	l.Helper()
	h, err := l.cat.Create(l.ctx, name, Spec{Size: 1 << 30})
	l.must(err)
	return h
}

func (l *lab) lease() coord.LeaseID {
	l.Helper()
	id, _, err := l.store.Grant(l.ctx, time.Minute)
	l.must(err)
	return id
}

// The life of a volume, told by what is in the store.
func TestCatalog(t *testing.T) {
	l := newLab(t)
	h := l.create("vm1")
	if want := (Volume{1, 4 << 20, 3, 2, 0, 2}); h.Volume.Record != want || h.Name.Record != (Name{1, 1, 1, 1 << 30, 0, someTime}) {
		t.Errorf("created %+v", h)
	}
	if got, ok := l.view().Head("vm1"); !ok || got != h {
		t.Errorf("it is %+v, created was %+v", got, h)
	}
	h, err := l.cat.Snapshot(l.ctx, "vm1", "monday", 0)
	l.must(err)
	if got, _ := l.view().Head("vm1"); got != h || h.Name.Record.Head != 2 || h.Name.Record.Line != 1 || h.Name.Record.Snapshots != 1 {
		t.Errorf("it is %+v after a snapshot that returned %+v", got, h)
	}
	_, err = l.cat.Resize(l.ctx, "vm1", 2<<30, 0)
	l.must(err)
	clone, err := l.cat.Clone(l.ctx, "vm1", "monday", "vm2")
	l.must(err)
	if n := clone.Name.Record; clone.Called != "vm2" || n.Head != 3 || n.Line != 3 || n.Size != 1<<30 || n.Snapshots != 0 {
		t.Errorf("the clone is %+v", clone)
	}
	h, err = l.cat.Rename(l.ctx, "vm1", "db")
	l.must(err)
	if v, ok := l.view().Snapshot(h.Line(), "monday"); !ok || v.Name != "monday" || v.Size != 1<<30 {
		t.Errorf("the snapshot after renaming is %+v", v)
	}
	h, err = l.cat.Rollback(l.ctx, "db", "monday", "before", 0)
	l.must(err)
	if n := h.Name.Record; n.Head != 4 || n.Size != 1<<30 || n.Snapshots != 2 {
		t.Errorf("rolled back, it is %+v", h)
	}
	h, err = l.cat.Rollback(l.ctx, "db", "before", "", 0)
	l.must(err)
	v := l.view()
	f, _ := v.Families.Get(1)
	if old, _ := f.Versions.Get(4); !old.Doomed {
		t.Errorf("the head that was given up is %+v", old)
	}
	if before, ok := v.Snapshot(h.Line(), "before"); !ok || before.Size != 2<<30 || h.Name.Record.Size != 2<<30 {
		t.Errorf("the head that was kept is %+v", before)
	}
	l.fails(l.cat.Delete(l.ctx, "db"), ErrInUse, "2 snapshots")
	l.must(l.cat.DeleteSnapshot(l.ctx, "db", "monday"))
	l.must(l.cat.DeleteSnapshot(l.ctx, "db", "before"))
	l.must(l.cat.Delete(l.ctx, "db"))
	if _, ok := l.view().Head("vm2"); !ok {
		t.Error("the clone has gone with what it was made of")
	}
	l.must(l.cat.Delete(l.ctx, "vm2"))
	for vid := uint64(1); ; vid++ {
		f, ok := l.view().Families.Get(1)
		if !ok {
			break
		}
		done, err := l.cat.Forget(l.ctx, f, only(vid), []uint64{vid})
		l.must(err)
		if !done {
			t.Errorf("version %d is still there", vid)
		}
	}
	if entries, _, _ := l.store.List(l.ctx, ""); len(entries) != 1 || entries[0].Key != NextKey {
		t.Errorf("there is left %v", entries)
	}
	if again := l.create("vm1"); again.Volume.Record.Family != 2 {
		t.Errorf("family %d was given twice", again.Volume.Record.Family)
	}
}

func TestRefused(t *testing.T) {
	l := newLab(t)
	l.create("vm1")
	h, err := l.cat.Snapshot(l.ctx, "vm1", "monday", 0)
	l.must(err)
	_, err = l.cat.Create(l.ctx, "vm1", Spec{Size: 1})
	l.fails(err, ErrExists, "volume vm1: exists")
	_, err = l.cat.Create(l.ctx, "../x", Spec{Size: 1})
	l.fails(err, ErrInvalid, "expected letters")
	_, err = l.cat.Create(l.ctx, "vm2", Spec{})
	l.fails(err, ErrInvalid, "size of 0")
	_, err = l.cat.Create(l.ctx, "vm2", Spec{Size: math.MaxInt64, Copies: 99})
	l.fails(err, ErrInvalid, "99 copies, expected 1 to 16")
	_, err = l.cat.Snapshot(l.ctx, "vm2", "monday", 0)
	l.fails(err, ErrNotFound, "volume vm2: not found")
	_, err = l.cat.Snapshot(l.ctx, "vm1", "monday", 0)
	l.fails(err, ErrExists, "snapshot vm1@monday: exists")
	_, err = l.cat.Snapshot(l.ctx, "vm1", "mon/day", 0)
	l.fails(err, ErrInvalid, "expected letters")
	_, err = l.cat.Clone(l.ctx, "vm1", "sunday", "vm2")
	l.fails(err, ErrNotFound, "snapshot vm1@sunday: not found")
	_, err = l.cat.Clone(l.ctx, "vm1", "monday", "vm1")
	l.fails(err, ErrExists, "volume vm1: exists")
	_, err = l.cat.Rollback(l.ctx, "vm1", "sunday", "", 0)
	l.fails(err, ErrNotFound, "snapshot vm1@sunday: not found")
	_, err = l.cat.Rollback(l.ctx, "vm1", "monday", "monday", 0)
	l.fails(err, ErrExists, "snapshot vm1@monday: exists")
	_, err = l.cat.Rename(l.ctx, "vm1", "vm1")
	l.fails(err, ErrExists, "volume vm1: exists")
	_, err = l.cat.Resize(l.ctx, "vm1", 1, 0)
	l.fails(err, ErrInvalid, "expected 1073741824 or more")
	_, err = l.cat.Resize(l.ctx, "vm1", 1, 5)
	l.fails(err, ErrDetached, "in generation 5")
	l.fails(l.cat.DeleteSnapshot(l.ctx, "vm1", "sunday"), ErrNotFound, "vm1@sunday")
	l.fails(l.cat.Delete(l.ctx, "vm2"), ErrNotFound, "volume vm2")
	f, _ := l.view().Families.Get(h.Line().Family)
	_, err = l.cat.Forget(l.ctx, f, only(1), []uint64{1})
	l.fails(err, ErrInUse, "not doomed")
	_, err = l.cat.Forget(l.ctx, f, only(77), []uint64{77})
	l.fails(err, ErrNotFound, "version 77")
	l.must(l.store.Close())
	_, err = l.cat.Snapshot(l.ctx, "vm1", "tuesday", 0)
	l.fails(err, coord.ErrClosed, `"vm1"@"tuesday"`)
}

// Who has attached a volume may change its head, and nobody else.
func TestAttachment(t *testing.T) {
	l := newLab(t)
	l.create("vm1")
	me, other := Attachment{"n1", "i1"}, Attachment{"n2", "i2"}
	mine, others := l.lease(), l.lease()
	h, generation, err := l.cat.Attach(l.ctx, "vm1", mine, me)
	l.must(err)
	if a, g := l.view().Attachment(h.Line()); a != me || g != generation {
		t.Errorf("attached by %v in generation %d, expected %d", a, g, generation)
	}
	if _, again, err := l.cat.Attach(l.ctx, "vm1", mine, me); err != nil || again != generation {
		t.Errorf("attached again in generation %d, %v, expected %d", again, err, generation)
	}
	_, _, err = l.cat.Attach(l.ctx, "vm1", others, other)
	l.fails(err, ErrInUse, "attached by node n1")
	_, err = l.cat.Snapshot(l.ctx, "vm1", "monday", 0)
	l.fails(err, ErrInUse, "attached by node n1")
	_, err = l.cat.Snapshot(l.ctx, "vm1", "monday", generation+1)
	l.fails(err, ErrDetached, "generation")
	l.fails(l.cat.Delete(l.ctx, "vm1"), ErrInUse, "attached by node n1")
	h, err = l.cat.Snapshot(l.ctx, "vm1", "monday", generation)
	l.must(err)
	first := generation
	if _, generation = l.view().Attachment(h.Line()); generation != h.Volume.Revision || generation == first {
		t.Errorf("after a snapshot the generation is %d, expected %d", generation, h.Volume.Revision)
	}
	_, err = l.cat.Snapshot(l.ctx, "vm1", "tuesday", first)
	l.fails(err, ErrDetached, "generation")
	_, err = l.cat.Resize(l.ctx, "vm1", 4096, generation)
	l.must(err)
	h, err = l.cat.Rollback(l.ctx, "vm1", "monday", "", generation)
	l.must(err)
	generation = h.Volume.Revision
	_, err = l.cat.Rename(l.ctx, "vm1", "vm2")
	l.must(err)
	l.must(l.cat.Detach(l.ctx, h.Line(), generation-1))
	if _, g := l.view().Attachment(h.Line()); g != generation {
		t.Errorf("the wrong generation was detached, %d is there", g)
	}
	l.must(l.store.Revoke(l.ctx, mine))
	_, second, err := l.cat.Attach(l.ctx, "vm2", others, other)
	l.must(err)
	if second <= generation {
		t.Errorf("generation %d after %d", second, generation)
	}
	l.must(l.cat.Detach(l.ctx, h.Line(), second))
	l.must(l.cat.Detach(l.ctx, h.Line(), second))
	_, _, err = l.cat.Attach(l.ctx, "vm2", mine, me)
	l.fails(err, coord.ErrNoLease, "it was not done")
}

// A version with more children than fit into a transaction.
func TestForgetManyChildren(t *testing.T) {
	l := newLab(t)
	l.create("vm1")
	for _, s := range []string{"a", "b"} {
		_, err := l.cat.Snapshot(l.ctx, "vm1", s, 0)
		l.must(err)
	}
	for i := range 250 {
		_, err := l.cat.Clone(l.ctx, "vm1", "b", "clone"+string(rune('a'+i/26))+string(rune('a'+i%26)))
		l.must(err)
	}
	l.must(l.cat.DeleteSnapshot(l.ctx, "vm1", "b"))
	stale, _ := l.view().Families.Get(1)
	for steps := 1; ; steps++ {
		f, _ := l.view().Families.Get(1)
		done, err := l.cat.Forget(l.ctx, f, only(2), []uint64{2})
		l.must(err)
		if done {
			if steps != 4 {
				t.Errorf("%d transactions", steps)
			}
			break
		}
	}
	f, _ := l.view().Families.Get(1)
	tree, err := f.Tree()
	l.must(err)
	if n := len(tree.Children(1)); n != 251 {
		t.Errorf("%d children have been adopted", n)
	}
	_, err = l.cat.Forget(l.ctx, stale, only(2), []uint64{2})
	l.fails(err, ErrConflict, "versions [2] of family 1")
}
