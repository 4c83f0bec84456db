package disk

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// steps deletes a version to the end, some pieces at a time.
func (l *lab) steps(version uint64, limit int) (sum Step) {
	l.t.Helper()
	for !sum.Done {
		s, err := l.Delete(l.t.Context(), 1, version, 0, sum.Next, limit)
		l.ok(err)
		sum.Next, sum.Done = s.Next, s.Done
		sum.Freed, sum.Moved, sum.Kept = sum.Freed+s.Freed, sum.Moved+s.Moved, sum.Kept+s.Kept
	}
	l.ok(l.Flush(l.t.Context()))
	return sum
}

// have lists who has block 0 of object 0.
func (l *lab) have() (list []uint64) {
	l.t.Helper()
	for e, err := range l.Entries(l.t.Context(), Object{1, 0}) {
		l.ok(err)
		if e.Block == 0 {
			list = append(list, e.Version)
		}
	}
	return list
}

// A block goes to the only one who needs it, also through versions that are
// doomed themselves, stays if there are two, and is freed when there is none.
func TestHeirs(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	data := fill(1, 1)
	l.ok(l.Write(ctx, at(0, 1), data, 0))
	// 1 has the children 2 and 3; 3 has the child 4, and that 5 and 6.
	for _, parent := range []uint64{1, 1, 3, 4, 4} {
		l.trees.add(1, parent)
	}
	l.trees.doom(1, 1)
	if s := l.steps(1, 10); s.Kept != 1 || s.Moved+s.Freed != 0 {
		t.Fatalf("two need it: %+v", s)
	}
	l.trees.doom(1, 2)
	l.steps(2, 10)
	l.trees.remove(1, 2)
	l.trees.doom(1, 3)
	l.trees.doom(1, 4)
	// Two below 4 need it: it is for 4.
	if s := l.steps(1, 10); s.Moved != 1 || !slices.Equal(l.have(), []uint64{4}) {
		t.Fatalf("%+v, %v have it", s, l.have())
	}
	l.trees.remove(1, 1)
	l.steps(3, 10)
	l.trees.remove(1, 3)
	l.ok(l.Write(ctx, at(0, 6), fill(9, 1), 0))
	if s := l.steps(4, 10); s.Moved != 1 || !slices.Equal(l.have(), []uint64{6, 5}) {
		t.Fatalf("%+v, %v have it", s, l.have())
	}
	l.trees.remove(1, 4)
	l.want(at(0, 5), 0, data)
	l.want(at(0, 6), 0, fill(9, 1))
	l.trees.doom(1, 5)
	if s := l.steps(5, 10); s.Freed != 1 {
		t.Fatalf("%+v", s)
	}
	l.trees.remove(1, 5)
	l.checked(true)
}

// Holes that hide nothing any more go with what they have hidden.
func TestHolesGo(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	l.trees.add(1, 1)
	l.trees.add(1, 2)
	l.ok(l.Zero(ctx, at(0, 3), 0, BlockSize))
	if !slices.Equal(l.have(), []uint64{3, 1}) {
		t.Fatal(l.have())
	}
	l.trees.doom(1, 2)
	l.trees.doom(1, 1)
	if s := l.steps(1, 10); s.Freed != 1 || len(l.have()) != 0 {
		t.Fatalf("%+v %v", s, l.have())
	}
	l.want(at(0, 3), 0, make([]byte, BlockSize))
	l.checked(true)
	if len(l.states()) != 0 {
		t.Error(l.states())
	}
}

// A deletion looks at what the version has, some pieces at a time, and goes on
// where it stopped, after a restart too.
func TestDeletionInSteps(t *testing.T) {
	t.Parallel()
	l := openLab(t, minSlab+8<<20)
	ctx := t.Context()
	for i := range uint64(10) {
		l.ok(l.Write(ctx, at(i*i, 1), fill(byte(i), 40), 5*BlockSize))
	}
	head := l.trees.add(1, 1)
	for i := range uint64(5) {
		l.ok(l.Write(ctx, at(i*i, head), fill(77, 40), 5*BlockSize))
	}
	l.trees.doom(1, 1)
	var sum Step
	for n := 0; !sum.Done; n++ {
		s, err := l.Delete(ctx, 1, 1, 0, sum.Next, 4)
		l.ok(err)
		sum.Next, sum.Done, sum.Freed, sum.Moved = s.Next, s.Done, sum.Freed+s.Freed, sum.Moved+s.Moved
		if s.Freed+s.Moved > 4*pieceBlocks {
			t.Fatalf("%+v in one step", s)
		}
		if n%3 == 2 {
			l.reopen()
		}
	}
	if sum.Freed != 200 || sum.Moved != 200 {
		t.Errorf("%+v", sum)
	}
	for i := range uint64(10) {
		want := fill(byte(i), 40)
		if i < 5 {
			want = fill(77, 40)
		}
		l.want(at(i*i, head), 5*BlockSize, want)
	}
	if s := l.steps(1, 100); s.Freed+s.Moved+s.Kept != 0 {
		t.Errorf("again: %+v", s)
	}
	l.trees.remove(1, 1)
	l.checked(true)
}

// Long chains of doomed versions are no work for ever, and end up right.
func TestLongChain(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 4), 0))
	const n = 3 * maxDoomed
	for v := uint64(1); v < n; v++ {
		l.trees.add(1, v)
		l.trees.doom(1, v)
		if v%10 == 0 {
			l.ok(l.Write(ctx, at(0, v+1), fill(byte(v), 1), 0))
		}
	}
	for v := uint64(1); v < n; v++ {
		if s := l.steps(v, 10); s.Kept != 0 {
			t.Fatalf("version %d: %+v", v, s)
		}
		l.trees.remove(1, v)
	}
	want := fill(1, 4)
	copy(want, fill(90, 1))
	l.want(at(0, n), 0, want)
	if c := l.checked(true); c.Blocks != 4 {
		t.Errorf("%+v", c)
	}
}

// Objects that are not admitted are left as they are, and looked at another time.
func TestDeleteWhere(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	for i := range uint64(6) {
		l.ok(l.Write(ctx, at(i, 1), fill(byte(i), 1), 0))
	}
	l.trees.doom(1, 1)
	objects := func() (list []uint64) {
		l.ok(l.Flush(ctx))
		for o, err := range l.Objects(ctx, 1, 1) {
			l.ok(err)
			list = append(list, o.Index)
		}
		return list
	}
	inside := 0
	var sum Step
	l.ok(l.Flush(ctx))
	for !sum.Done {
		s, err := l.DeleteWhere(ctx, 1, 1, 0, sum.Next, 2, func(_ context.Context, o Object) (func(), bool, error) {
			if o.Index%2 == 1 {
				return nil, false, nil
			}
			inside++
			return func() { inside-- }, true, nil
		})
		l.ok(err)
		sum.Next, sum.Done, sum.Skipped, sum.Freed, sum.Objects = s.Next, s.Done, sum.Skipped+s.Skipped, sum.Freed+s.Freed, sum.Objects+s.Objects
	}
	if sum.Skipped != 3 || sum.Freed != 3 || sum.Objects != 6 || inside != 0 || !slices.Equal(objects(), []uint64{1, 3, 5}) {
		t.Errorf("%+v, %d are inside, left are %v", sum, inside, objects())
	}
	l.steps(1, 10)
	if list := objects(); len(list) > 0 {
		t.Errorf("left are %v", list)
	}
	l.checked(true)
}

// What versions have that are gone can be taken away, and not be replaced.
func TestRepairOfGone(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 1), 0))
	l.trees.add(1, 1)
	var was Entry
	for e, err := range l.Entries(ctx, Object{1, 0}) {
		l.ok(err)
		was = e
	}
	l.trees.remove(1, 1)
	if _, err := l.Repair(ctx, Object{1, 0}, 0, []Fix{{Was: was, Kind: Data, Data: fill(2, 1)}}); !errors.Is(err, ErrVersion) {
		t.Errorf("replaced what a version that is gone has: %v", err)
	}
	if n, err := l.Repair(ctx, Object{1, 0}, 0, []Fix{{Was: was}}); n != 1 || err != nil {
		t.Errorf("%d were taken away: %v", n, err)
	}
	l.ok(l.Flush(ctx))
	l.checked(true)
}
