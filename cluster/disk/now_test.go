package disk

import (
	"testing"

	"github.com/strata-storage/strata/block"
)

// What is in memory is read and written without waiting, and everything else is left to
// those who may wait.
func TestNow(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx, a := t.Context(), at(0, 1)
	p := make([]byte, 2*BlockSize)
	write := func(a At, p []byte, off int64, want bool) {
		t.Helper()
		if done, err := l.WriteNow(a, p, off); done != want || err != nil {
			t.Fatalf("WriteNow: %v, %v, want %v", done, err, want)
		}
	}
	read := func(a At, off int64, want bool) {
		t.Helper()
		if got := l.ReadNow(a, p, off); got != want {
			t.Fatalf("ReadNow: %v", got)
		}
	}
	write(a, p, 0, false) // it is not marked yet
	read(a, 0, false)     // nor loaded
	l.ok(l.Write(ctx, a, fill(1, 2), 0))
	write(a, fill(5, 1), BlockSize, true)
	write(a, fill(7, 2), 2*BlockSize, true) // new places
	l.want(a, 0, append(append(fill(1, 1), fill(5, 1)...), fill(7, 2)...))
	read(a, 2*BlockSize, true)
	if string(p) != string(fill(7, 2)) {
		t.Error("ReadNow gives something else")
	}
	write(a, p[1:], 0, false)
	read(a, 1, false)
	write(at(0, 2), p, 0, false)

	r, err := l.begin(ctx, a, 0, BlockSize)
	l.ok(err)
	lock, err := r.lock(ctx, 0, BlockSize)
	l.ok(err)
	write(a, p, 0, false) // somebody else does something there
	read(a, 0, false)
	write(a, p, BlockSize, true)
	lock.Unlock()
	r.end()

	// Damage is for Read to find.
	l.ok(l.Flush(ctx))
	l.bytes[offset(l.placeOf(Entry{1, 0, Data, checksum(fill(1, 1))}, a.Object))]++
	read(a, 0, false)

	// A snapshot is not written, its child at once.
	head := at(0, l.trees.add(1, 1))
	write(a, p, BlockSize, false)
	write(head, fill(9, 1), 2*BlockSize, true)
	l.want(a, 3*BlockSize, fill(7, 2)[BlockSize:])
	l.ok(l.Close())
	read(head, BlockSize, false)
	write(head, p, BlockSize, false)
}

// A slab that may wait is not read by those who must not.
func TestNowOfSlowSlab(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	l.wrapSlab = func(d block.Device) block.Device { return slowSlab{block.Pass{Device: d}} }
	l.open()
	l.ok(l.Write(t.Context(), at(0, 1), fill(1, 1), 0))
	if l.ReadNow(at(0, 1), make([]byte, BlockSize), 0) {
		t.Error("it was read")
	}
}

type slowSlab struct{ block.Pass }

func (s slowSlab) Info() block.Info {
	i := s.Pass.Info()
	i.NoWait = false
	return i
}
