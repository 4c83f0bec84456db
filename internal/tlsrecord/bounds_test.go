package tlsrecord

import "testing"

// A record is whole when its last byte is there, wherever one begins to look.
func TestWhole(t *testing.T) {
	t.Parallel()
	record := []byte{23, 3, 3, 0, 4, 1, 2, 3, 4}
	for passed := range len(record) {
		for known := passed; known <= len(record)+1; known++ {
			var b Bounds
			b.Pass(record[:min(passed, 5)])
			if passed > 5 {
				b.Pass(record[5:passed])
			}
			in := append(append([]byte{}, record...), 22)[passed:known]
			if got := b.Whole(in); got != (known >= len(record)) {
				t.Errorf("%d bytes passed, %d known: %v", passed, known, got)
			}
		}
	}
}
