package known

import "testing"

// Numbers are known until the reset, and no others.
func TestSet(t *testing.T) {
	t.Parallel()
	u := New(1 << 20)
	u.Add(100, 40_000)
	for _, x := range []struct {
		first, end int64
		want       bool
	}{{100, 40_000, true}, {99, 101, false}, {39_999, 40_001, false}, {63, 65, false}, {128, 129, true}, {500_000, 500_001, false}} {
		if u.Has(x.first, x.end) != x.want {
			t.Errorf("%d to %d: %v, expected %v", x.first, x.end, !x.want, x.want)
		}
	}
	u.Reset()
	if u.Has(200, 201) {
		t.Error("a number is known after the reset")
	}
	u.Add(5, 6)
	if !u.Has(5, 6) || u.Has(200, 201) {
		t.Error("after the reset one number is known")
	}
}

// When memory runs out what was known is forgotten, and what is noted then is
// known.
func TestSetIsBounded(t *testing.T) {
	t.Parallel()
	u := New((maxPages + 2) * pageBits)
	for i := range int64(maxPages + 1) {
		u.Add(i*pageBits, i*pageBits+1)
	}
	if last := int64(maxPages) * pageBits; u.Has(0, 1) || !u.Has(last, last+1) || u.used.Load() != 1 {
		t.Errorf("beyond the bound there are %d pages; the first number is known: %v, the last: %v", u.used.Load(), u.Has(0, 1), u.Has(last, last+1))
	}
}
