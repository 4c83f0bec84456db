package disk

import "testing"

// A mark without a change is one that survives a crash, and can be cleared.
func TestMark(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	id := Object{Family: 1, Index: 7}
	dirty := func() (n int) {
		for o, err := range l.Dirty(t.Context(), 0, lastHash) {
			if err != nil || o.Object != id {
				t.Fatal(o, err)
			}
			n++
		}
		return n
	}
	for range 2 {
		if err := l.Mark(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if n := dirty(); n != 1 {
		t.Fatalf("%d dirty objects, want 1", n)
	}
	if cleared, err := l.Clear(t.Context(), id, State{}); !cleared || err != nil {
		t.Fatal(cleared, err)
	}
	if n := dirty(); n != 0 {
		t.Fatalf("%d dirty objects after Clear", n)
	}
}
