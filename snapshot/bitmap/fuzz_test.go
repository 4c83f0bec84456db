package bitmap

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// FuzzLoad changes pages, with good checksums or bad ones: three bytes for the
// page, the offset and the value, and whether to seal it.
func FuzzLoad(f *testing.F) {
	st, good := filled(f)
	l := &st.l
	pages := []int64{0, 1, 2, firstJournal, firstJournal + 1, l.state, l.state + 1, l.dir, l.bits, l.last}
	for _, n := range []int64{0, 1, 2} {
		pages = append(pages, st.buckets[n].nodes...)
	}
	f.Add([]byte{0, 48, 0, 3}, true)
	f.Add([]byte{5, 72, 0, 255, 7, 32, 0, 9}, true)
	f.Add([]byte{10, 40, 0, 1, 10, 60, 0, 255}, true)
	f.Fuzz(func(t *testing.T, edits []byte, sealed bool) {
		disk := slices.Clone(good)
		for e := range slices.Chunk(edits[:min(len(edits), 400)], 4) {
			if len(e) < 4 {
				break
			}
			at := pages[int(e[0])%len(pages)]
			p := disk[at*pageSize:][:pageSize]
			p[(int(e[1])|int(e[2])<<8)%pageSize] = e[3]
			if sealed {
				seal(p, cmp.Or(p[3], 'S'), at, le.Uint64(p[16:]), l.id())
			}
		}
		st, err := load(t, config(disk))
		if err == nil {
			shape(t, st)
			_ = problems(t, st)
			_ = st.Close(t.Context())
			return
		}
		_ = problems(t, st)
	})
}

// page returns a page that begins with its head and goes on with p.
func page(p []byte) []byte {
	q := make([]byte, pageSize)
	copy(q[pageHead:], p)
	return q
}

// A superblock that is accepted says what is written again, and its layout has
// everything on the device, one behind the other.
func FuzzSuper(f *testing.F) {
	st, good := blank(f)
	f.Add(good[pageHead:100])
	for _, l := range []layout{{chunk: 512}, {chunk: 1 << 20}, {origin: 1 << 62, chunk: 512}, {size: 1 << 62, chunk: 4096}} {
		l.uuid, l.size, l.origin, l.journal = st.l.uuid, cmp.Or(l.size, st.l.size), cmp.Or(l.origin, 1), journalBlocks
		f.Add(l.super(0)[pageHead:100])
	}
	f.Fuzz(func(t *testing.T, fields []byte) {
		// All that is behind the fields is zero, or it would be refused.
		p := page(fields[:min(len(fields), 92-pageHead)])
		seal(p, superPage, 0, 0, le.Uint64(p[56:]))
		l, err := parseSuper(p, 0)
		if err != nil {
			return
		}
		if !bytes.Equal(l.super(0), p) {
			t.Error("the superblock is not what it was")
		}
		if l.plan() != nil {
			return
		}
		order := []int64{firstJournal, l.state, l.dir, l.bits, l.data / pageSize, (l.data + l.chunks*l.chunk) / pageSize}
		if !slices.IsSorted(order) || order[len(order)-1] > l.last || l.chunks < 1 {
			t.Errorf("parts at %d, the copy of the superblock at %d, %d chunks", order, l.last, l.chunks)
		}
	})
}

// A state that is accepted makes sense, and is written as it was.
func FuzzState(f *testing.F) {
	f.Add((&state{next: 1}).encode())
	f.Add((&state{next: 9, walk: 6, later: 8, cursor: 3, snaps: []snap{{2, 0}, {8, 63}},
		values: map[string][]byte{"": {1}, "name/2": []byte("value")}}).encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < 8 || len(p) > stateBlocks*statePayload {
			return
		}
		p = bytes.Clone(p)
		le.PutUint64(p, uint64(len(p)))
		var s, again state
		if s.decode(p) != nil {
			return
		}
		if s.live()&(s.walk|s.later) != 0 || len(s.snaps) > maxSnapshots {
			t.Errorf("snapshots %v while %#x and %#x are being deleted", s.snaps, s.walk, s.later)
		}
		q := s.encode()
		if err := again.decode(q); err != nil {
			t.Fatal(err)
		}
		if len(q) != len(p) || again.next != s.next || again.cursor != s.cursor || again.walk != s.walk || again.later != s.later ||
			!slices.Equal(again.snaps, s.snaps) || !maps.EqualFunc(again.values, s.values, bytes.Equal) {
			t.Errorf("%+v was written, %+v is read", s, again)
		}
	})
}

// A journal of which some blocks are anything, with good checksums or bad ones,
// ends within itself and goes to where metadata can be.
func FuzzJournal(f *testing.F) {
	st, good := filled(f)
	l := &st.l
	n := st.j.at
	f.Add([]byte{}, false)
	f.Add([]byte{0, 32, 0, 255}, true)            // more pages than there are
	f.Add([]byte{0, 40, 0, 1}, true)              // home is a header
	f.Add([]byte{1, 99, 0, 1}, false)             // a page is not what it was
	f.Add([]byte{0, 16, 0, 9, 0, 32, 0, 0}, true) // another transaction
	f.Fuzz(func(t *testing.T, edits []byte, sealed bool) {
		disk := slices.Clone(good[:(firstJournal+l.journal)*pageSize])
		for e := range slices.Chunk(edits[:min(len(edits), 400)], 4) {
			if len(e) < 4 {
				break
			}
			at := firstJournal + int64(e[0])%n
			p := disk[at*pageSize:][:pageSize]
			p[(int(e[1])|int(e[2])<<8)%pageSize] = e[3]
			if sealed {
				seal(p, tagPage, at, le.Uint64(p[16:]), l.id())
			}
		}
		j := journal{dev: block.FromBytes(disk), l: l}
		must(t, j.load(t.Context(), func(err error) { t.Error(err) }))
		if j.at > l.journal || j.at < 0 {
			t.Errorf("the journal has %d blocks, %d are in use", l.journal, j.at)
		}
		for at := range j.logged {
			if at < l.state || at >= l.last {
				t.Errorf("a page goes to block %d", at)
			}
		}
	})
}

// A leaf of which some bytes are anything is refused, or the store is as sound
// as Check says. Three bytes are an offset and a value.
func FuzzLeaf(f *testing.F) {
	st, good := filled(f)
	must(f, st.Close(f.Context()))
	l := &st.l
	at := st.buckets[0].nodes[0]
	f.Add([]byte{})
	f.Add([]byte{48, 0, 1})                      // one exception only
	f.Add([]byte{40, 0, 1})                      // another leaf
	f.Add([]byte{leafHead + 16, 0, 1, 99, 0, 7}) // another mask, another place
	f.Fuzz(func(t *testing.T, edits []byte) {
		disk := slices.Clone(good)
		p := disk[at*pageSize:][:pageSize]
		for e := range slices.Chunk(edits[:min(len(edits), 60)], 3) {
			if len(e) == 3 {
				p[(int(e[0])|int(e[1])<<8)%pageSize] = e[2]
			}
		}
		seal(p, leafPage, at, 1, l.id())
		st, err := load(t, config(disk))
		all := problems(t, st)
		if (err == nil) != (len(all) == 0) {
			t.Errorf("loading the store says %v, checking it %v", err, all)
		}
		if err == nil {
			change(t, st, snapshot.Detach, snapshot.Origin, 0, testOrigin/4096)
			must(t, st.Close(t.Context()))
			if all := problems(t, st); len(all) > 0 {
				t.Error(all)
			}
		}
	})
}
