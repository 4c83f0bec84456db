package cow

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The map agrees with a slice of states, and knows which pages changed.
func TestStates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const chunks = pageChunks + 700
		var m states
		m.init(2)
		want := make([]state, chunks)
		place := rapid.OneOf(
			rapid.Int64Range(0, chunks),
			rapid.Map(rapid.Int64Range(-70, 70), func(k int64) int64 { return pageChunks + k }),
			rapid.Map(rapid.Int64Range(0, 1), func(k int64) int64 { return k * pageChunks }))
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			i, end := place.Draw(t, "i"), place.Draw(t, "end")
			if i > end {
				i, end = end, i
			}
			if i == end {
				continue
			}
			s := state(rapid.IntRange(0, 2).Draw(t, "state"))
			had := slices.Contains(want[i:end], data)
			before := slices.Clone(want)
			for k := i; k < end; k++ {
				want[k] = s
			}
			if got := m.set(i, end, s); got != had {
				t.Fatalf("set %d to %d says %v, there were data: %v", i, end, got, had)
			}
			dirty := m.takeDirty()
			for page := range int64(2) {
				from, to := page*pageChunks, min((page+1)*pageChunks, chunks)
				changed := !slices.Equal(before[from:to], want[from:to])
				if slices.Contains(dirty, page) != changed {
					t.Fatalf("page %d changed: %v, dirty %v", page, changed, dirty)
				}
			}
			for _, page := range dirty {
				var w words
				target, _ := m.snapshot(page, &w)
				m.settle(page, target, true)
			}
			compare(t, &m, want)
		}
	})
}

// compare looks at all runs.
func compare(t *rapid.T, m *states, want []state) {
	inData, inZero := int64(0), int64(0)
	for i := int64(0); i < int64(len(want)); {
		s, n := m.run(i, int64(len(want)))
		if n < 1 {
			t.Fatalf("a run of %d chunks at %d", n, i)
		}
		for k := i; k < i+n; k++ {
			if want[k] != s || m.at(k) != s {
				t.Fatalf("chunk %d is in state %d, run says %d, want %d", k, m.at(k), s, want[k])
			}
			switch s {
			case data:
				inData++
			case zero:
				inZero++
			}
		}
		if i += n; i < int64(len(want)) && want[i] == s {
			t.Fatalf("run at %d ends too early", i-n)
		}
	}
	if d, z := m.count(); d != inData || z != inZero {
		t.Fatalf("count says %d and %d, want %d and %d", d, z, inData, inZero)
	}
}

// A chunk is in state data only if the notes that were written last say so, and
// those of which nobody is told to write them say what is true.
func TestStatesNoted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const pages = 3
		var m states
		m.init(pages)
		file := make([]byte, 32*noteSize) // more than there are, as on disk
		place := rapid.Map(rapid.Int64Range(0, 2*pages*pageNotes), func(k int64) int64 {
			return min(k/2*32*noteWords-k%2*rapid.Int64Range(0, 40).Draw(t, "back"), pages*pageChunks)
		})
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			i, end := max(0, place.Draw(t, "i")), max(0, place.Draw(t, "end"))
			if i = min(i, end); i == end {
				continue
			}
			m.set(i, end, rapid.SampledFrom([]state{absent, zero, arriving}).Draw(t, "state"))
			first := rapid.Int64Range(0, pages*pageNotes-1).Draw(t, "first")
			last := rapid.Int64Range(first+1, pages*pageNotes).Draw(t, "last")
			p := make([]byte, 8*noteSize*rapid.IntRange(1, 2).Draw(t, "room"))
			from, to := m.takeNotes(first, last, rapid.SampledFrom([]int64{1, 8}).Draw(t, "unit"), p)
			if from < to && rapid.Bool().Draw(t, "race") {
				m.set(i, end, rapid.SampledFrom([]state{absent, zero, arriving}).Draw(t, "then"))
			}
			written := rapid.Bool().Draw(t, "written")
			if written {
				copy(file[from*noteSize:], p[:(to-from)*noteSize])
			}
			m.settleNotes(from, to, p, written)
			compareNotes(t, &m, file)
		}
	})
}

// compareNotes looks at all chunks.
func compareNotes(t *rapid.T, m *states, file []byte) {
	for i := range int64(len(m.pages)) * pageChunks {
		n := noteOf(i/pageChunks, i%pageChunks)
		k := i%pageChunks - n%pageNotes*noteWords*32
		noted := state(file[n*noteSize+noteHead+k/4] >> (k % 4 * 2) & 3)
		s := m.at(i)
		fresh := m.fresh[n/64]>>(n%64)&1 != 0
		if s == data && noted != data || !fresh && noted != s {
			t.Fatalf("chunk %d is in state %d, in the note %d; fresh %v", i, s, noted, fresh)
		}
	}
}

// A disk that is zeroed as a whole takes no memory for its pages.
func TestStatesOfOneKind(t *testing.T) {
	t.Parallel()
	var m states
	m.init(1000)
	m.set(0, 1000*pageChunks, zero)
	for i := range m.pages {
		if m.pages[i].Load() != &same[zero] {
			t.Fatalf("page %d has words of its own", i)
		}
	}
}
