package disk

import (
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	a := at(0, 1)
	l.want(a, 0, make([]byte, 3*BlockSize))
	l.ok(l.Write(ctx, a, fill(1, 3), BlockSize))
	l.want(a, 0, append(make([]byte, BlockSize), fill(1, 3)...))
	// A snapshot keeps what it has.
	head := at(0, l.trees.add(1, 1))
	if err := l.Write(ctx, a, fill(9, 1), 0); !errors.Is(err, ErrVersion) {
		t.Fatalf("writing a snapshot: %v", err)
	}
	l.ok(l.Write(ctx, head, fill(7, 1), 2*BlockSize))
	l.ok(l.Zero(ctx, head, 3*BlockSize, BlockSize))
	l.want(a, BlockSize, fill(1, 3))
	l.want(head, BlockSize, append(append(fill(1, 1), fill(7, 1)...), make([]byte, BlockSize)...))
	l.reopen()
	l.want(a, BlockSize, fill(1, 3))
	l.want(head, BlockSize, append(append(fill(1, 1), fill(7, 1)...), make([]byte, BlockSize)...))
	if c := l.checked(true); c.Blocks != 4 || c.Objects != 1 || c.Dirty != 1 {
		t.Errorf("%+v", c)
	}
	// Deleting the snapshot leaves the head as it was.
	l.trees.doom(1, 1)
	step, err := l.Delete(ctx, 1, 1, 0, Cursor{}, 100)
	if err != nil || !step.Done || step.Kept != 0 || step.Moved != 1 || step.Freed != 2 {
		t.Fatalf("%+v %v", step, err)
	}
	l.ok(l.Flush(ctx))
	l.trees.remove(1, 1)
	l.want(head, BlockSize, append(append(fill(1, 1), fill(7, 1)...), make([]byte, BlockSize)...))
	if c := l.checked(true); c.Blocks != 2 {
		t.Errorf("%+v", c)
	}
	l.shut()
	if c := l.checked(true); c.Blocks != 2 {
		t.Errorf("%+v", c)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	p := make([]byte, BlockSize)
	for name, tt := range map[string]struct{ got, want error }{
		"no version":      {l.Read(ctx, at(0, 2), p, 0), ErrVersion},
		"write nowhere":   {l.Write(ctx, at(0, 2), p, 0), ErrVersion},
		"behind the end":  {l.Write(ctx, at(0, 1), p, MaxObject), block.ErrRange},
		"before it":       {l.Read(ctx, at(0, 1), p, -1), block.ErrRange},
		"zero too much":   {l.Zero(ctx, at(0, 1), 1, MaxObject), block.ErrRange},
		"a later tree":    {l.Read(ctx, At{Object{1, 0}, 1, 99}, p, 0), block.ErrInvalid},
		"delete a head":   {second(l.Delete(ctx, 1, 1, 0, Cursor{}, 1)), ErrVersion},
		"raw of half":     {second(l.Raw(ctx, Object{1, 0}, 1, 0, p[1:])), block.ErrInvalid},
		"fix of half":     {second(l.Repair(ctx, Object{1, 0}, 0, []Fix{{Kind: Data}})), block.ErrInvalid},
		"fix of no block": {second(l.Repair(ctx, Object{1, 0}, 0, []Fix{{Was: Entry{Block: 1 << 30}}})), block.ErrRange},
	} {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("%s: %v", name, tt.got)
		}
	}
	if err := l.Read(ctx, At{Object: Object{2, 0}, Version: 1}, p, 0); err == nil {
		t.Error("a family that does not exist was read")
	}
	l.ok(l.Write(ctx, at(0, 1), nil, 0))
	if n := l.Stats().Marks; n != 0 {
		t.Errorf("%d objects became dirty", n)
	}
	l.ok(l.Close())
	if err := l.Read(ctx, at(0, 1), p, 0); !errors.Is(err, block.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Close(); !errors.Is(err, block.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// A write that knows an older tree, in which there was no snapshot yet, is seen
// through the snapshot as well, whatever has been read through it before.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 2), 0))
	r, err := l.beginChange(ctx, at(0, 1), 0, BlockSize)
	l.ok(err)
	head := at(0, l.trees.add(1, 1))
	l.want(head, 0, fill(1, 2))
	l.ok(r.writeBlocks(ctx, new(plan), 0, fill(5, 1)))
	r.end()
	l.want(head, 0, fill(5, 1))
	l.want(at(0, 1), 0, fill(5, 1))
}

// A block that has moved, because it was repaired, is found where it is, also by
// a version that has changes in the same piece which are not flushed.
func TestRepairUnderChanges(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 2), 0))
	l.ok(l.Flush(ctx))
	head := at(0, l.trees.add(1, 1))
	l.want(head, 0, fill(1, 2))
	l.ok(l.Write(ctx, head, fill(7, 1), BlockSize))
	e := Entry{1, 0, Data, checksum(fill(1, 1))}
	l.bytes[offset(l.placeOf(e, head.Object))]++
	if n, err := l.Repair(ctx, head.Object, 0, []Fix{{Was: e, Kind: Data, Data: fill(1, 1)}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	l.want(head, 0, append(fill(1, 1), fill(7, 1)...))
	l.checked(true)
}
