package bond

import "testing"

// A text is a mark in one way only.
func FuzzMark(f *testing.F) {
	f.Add("ranged 0123456789abcdef 7")
	f.Add("ranged 0123456789abcdef 07")
	f.Add("  1")
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := Parse(text); err == nil && m.String() != text {
			t.Errorf("%q is the mark %q", text, m)
		}
	})
}
