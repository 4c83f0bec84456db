// Package spell helps people who have mistyped a name.
package spell

import (
	"fmt"
	"slices"
	"strings"
)

// DidYouMean returns the end of an error about an unknown name: which of the
// known names was probably meant, or which there are if they are few, or
// nothing.
func DidYouMean(name string, known []string) string {
	known = slices.Sorted(slices.Values(known))
	switch best := nearest(name, known); {
	case best != "":
		return fmt.Sprintf("; did you mean %q?", best)
	case len(known) > 0 && len(known) <= 12:
		return "; there is " + List(known)
	}
	return ""
}

// Near reports whether a name is probably one of those that are known, mistyped.
func Near(name string, known []string) bool { return nearest(name, known) != "" }

// nearest is the known name that was probably meant, or "".
func nearest(name string, known []string) string {
	best, bestDistance := "", len(fold(name))/3+1
	for _, k := range known {
		if d := editDistance(fold(name), fold(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// fold makes names equal that people confuse.
func fold(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours that make b of a.
func editDistance(a, b string) int {
	before := make([]int, len(b)+1) // two rows up
	above := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// List is `"a", "b" and "c"`.
func List(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	if len(q) < 2 {
		return strings.Join(q, "")
	}
	return strings.Join(q[:len(q)-1], ", ") + " and " + q[len(q)-1]
}
