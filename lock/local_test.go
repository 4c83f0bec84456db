package lock

import (
	"errors"
	"testing"
)

func TestLocalTellsWhoHadIt(t *testing.T) {
	t.Parallel()
	var l Local
	a, b := l.Join(), l.Join()
	step := func(p Lock, generation uint64, other bool) Hold {
		t.Helper()
		h, err := p.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if h.Generation() != generation || h.HeldByOther() != other {
			t.Fatalf("generation %d, held by other %v, expected %d, %v", h.Generation(), h.HeldByOther(), generation, other)
		}
		return h
	}
	step(a, 1, false).Unlock()
	step(a, 1, false).Unlock()
	step(b, 2, true).Unlock()
	h := step(a, 3, true)
	if !l.Revoke() {
		t.Fatal("nothing to revoke")
	}
	<-h.Lost()
	if err := h.Unlock(); !errors.Is(err, ErrLost) {
		t.Fatalf("unlocking a lost lock: %v", err)
	}
	step(a, 4, true).Unlock()
}
