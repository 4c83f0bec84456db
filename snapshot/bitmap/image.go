package bitmap

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A rec is an exception: the snapshots of mask have a chunk of the store, or a
// hole, for a chunk of the origin.
type rec struct {
	chunk, place int64
	mask         uint64
}

// A bucket has the exceptions of bucketChunks chunks of the origin, ordered by
// chunk, and the blocks where they are.
type bucket struct {
	nodes []int64
	recs  []rec
}

// find returns the exceptions of a chunk, from i to j.
func (b *bucket) find(c int64) (i, j int) {
	if b == nil {
		return 0, 0
	}
	i, _ = slices.BinarySearchFunc(b.recs, c, func(r rec, c int64) int { return cmp.Compare(r.chunk, c) })
	for j = i; j < len(b.recs) && b.recs[j].chunk == c; j++ {
	}
	return i, j
}

// A snap is a snapshot.
type snap struct {
	id  snapshot.ID
	bit uint8
}

// state is what is small.
type state struct {
	next snapshot.ID
	// walk are the bits that the walk clears that has come to cursor, a
	// bucket; later those of the walk after it.
	walk, later uint64
	cursor      int64
	snaps       []snap
	values      map[string][]byte
}

// live returns the bits of the snapshots that exist.
func (s *state) live() (mask uint64) {
	for _, x := range s.snaps {
		mask |= 1 << x.bit
	}
	return mask
}

// encode returns the stream of the state.
func (s *state) encode() []byte {
	p := make([]byte, 8, statePayload)
	for _, v := range []uint64{uint64(s.next), s.walk, s.later, uint64(s.cursor)} {
		p = le.AppendUint64(p, v)
	}
	p = le.AppendUint32(p, uint32(len(s.snaps)))
	p = le.AppendUint32(p, uint32(len(s.values)))
	for _, x := range s.snaps {
		p = le.AppendUint64(p, uint64(x.id))
		p = append(p, x.bit)
	}
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		p = append(p, byte(len(k)))
		p = le.AppendUint32(p, uint32(len(s.values[k])))
		p = append(append(p, k...), s.values[k]...)
	}
	le.PutUint64(p, uint64(len(p)))
	return p
}

// decode reads what encode wrote.
func (s *state) decode(p []byte) error {
	bad := fmt.Errorf("the list of snapshots is %d bytes that make no sense", len(p))
	if len(p) < 48 {
		return bad
	}
	s.next, s.walk, s.later = snapshot.ID(le.Uint64(p[8:])), le.Uint64(p[16:]), le.Uint64(p[24:])
	s.cursor, s.values = int64(le.Uint64(p[32:])), map[string][]byte{}
	n, values := le.Uint32(p[40:]), le.Uint32(p[44:])
	if p = p[48:]; n > maxSnapshots || len(p) < int(n)*9 {
		return bad
	}
	taken := s.walk | s.later
	last := snapshot.Origin
	for range n {
		x := snap{snapshot.ID(le.Uint64(p)), p[8]}
		if x.id <= last || x.id >= s.next || x.bit >= maxSnapshots || taken>>x.bit&1 != 0 {
			return fmt.Errorf("the snapshot %d with bit %d cannot be", x.id, x.bit)
		}
		last, taken = x.id, taken|1<<x.bit
		s.snaps, p = append(s.snaps, x), p[9:]
	}
	for range values {
		if len(p) < 5 || uint64(len(p)) < 5+uint64(p[0])+uint64(le.Uint32(p[1:])) {
			return bad
		}
		k, v := int(p[0]), int(le.Uint32(p[1:]))
		s.values[string(p[5:5+k])] = slices.Clone(p[5+k : 5+k+v])
		p = p[5+k+v:]
	}
	if len(p) != 0 || s.walk&s.later != 0 || s.walk == 0 && s.later != 0 || len(s.values) != int(values) {
		return bad
	}
	return nil
}

// An image is all that the metadata say.
type image struct {
	l *layout
	j *journal
	state
	space   *space
	nodes   *nodes
	buckets map[int64]*bucket
	// pages are the pages of the state as they were committed.
	pages [][]byte
	// count is the number of exceptions with a place.
	count int64
}

// readImage reads the metadata. What is wrong with them is told to bad, with the
// headers of the journal, of which one suffices, to header; when it returns an
// error, that is fatal.
func readImage(ctx context.Context, dev block.Device, l *layout, header, bad func(error)) (*image, error) {
	m := &image{l: l, j: &journal{dev: dev, l: l}, buckets: map[int64]*bucket{}}
	m.space = newSpace(l.chunks)
	m.nodes = newNodes(l, m.space)
	if err := m.j.load(ctx, header); err != nil {
		return m, err
	}
	if err := m.readState(ctx); err != nil {
		return m, err
	}
	if err := m.readBits(ctx, bad); err != nil {
		return m, err
	}
	if err := m.readMap(ctx, bad); err != nil {
		return m, err
	}
	m.count = m.verify(bad)
	return m, nil
}

func (m *image) readState(ctx context.Context) error {
	var stream []byte
	for i := int64(0); ; i++ {
		p, err := m.j.page(ctx, m.l.state+i)
		if err != nil {
			return err
		}
		if err := verify(p, statePage, m.l.state+i, m.l.id()); err != nil {
			return fmt.Errorf("the list of snapshots: %w: %w", err, snapshot.ErrDamaged)
		}
		m.pages = append(m.pages, p[pageHead:])
		stream = append(stream, p[pageHead:]...)
		n := le.Uint64(stream)
		if n > stateBlocks*statePayload {
			return fmt.Errorf("the list of snapshots has %d bytes, at most %d are possible: %w", n, stateBlocks*statePayload, snapshot.ErrDamaged)
		}
		if n > uint64(len(stream)) {
			continue
		}
		if err := m.decode(stream[:n]); err != nil {
			return fmt.Errorf("%w: %w", err, snapshot.ErrDamaged)
		}
		if m.cursor < 0 || m.cursor > m.l.buckets {
			return fmt.Errorf("the walk has come to bucket %d of %d: %w", m.cursor, m.l.buckets, snapshot.ErrDamaged)
		}
		return nil
	}
}

// region reads pages that are empty if they are zero.
func (m *image) region(ctx context.Context, kind byte, first, n int64, bad func(error), f func(i int64, p []byte)) error {
	const batch = 64
	buf := make([]byte, min(n, batch)*pageSize)
	for i := int64(0); i < n; i++ {
		if i%batch == 0 {
			if err := m.j.dev.ReadAt(ctx, buf[:min(n-i, batch)*pageSize], (first+i)*pageSize, 0); err != nil {
				return err
			}
		}
		p := buf[i%batch*pageSize:][:pageSize]
		if q := m.j.logged[first+i]; q != nil {
			p = q
		}
		if block.IsZero(p) {
			continue
		}
		if err := verify(p, kind, first+i, m.l.id()); err != nil {
			bad(err)
			continue
		}
		f(i, p[pageHead:])
	}
	return nil
}

func (m *image) readBits(ctx context.Context, bad func(error)) error {
	return m.region(ctx, bitsPage, m.l.bits, m.l.maps, bad, func(i int64, p []byte) {
		for k := range int64(bitsPerPage) {
			if p[k/8]>>(k%8)&1 == 0 {
				continue
			}
			c := i*bitsPerPage + k
			if c >= m.l.chunks {
				bad(fmt.Errorf("chunk %d of the store is in use, there are only %d", c, m.l.chunks))
				return
			}
			m.space.used[c/64] |= 1 << (c % 64)
			m.space.hold(c)
		}
	})
}

func (m *image) readMap(ctx context.Context, bad func(error)) error {
	seen := map[int64]bool{}
	var failed error
	err := m.region(ctx, dirPage, m.l.dir, m.l.dirs, bad, func(i int64, p []byte) {
		for k := range int64(dirPerPage) {
			at := int64(le.Uint64(p[k*8:]))
			n := i*dirPerPage + k
			if at == 0 || failed != nil {
				continue
			}
			if n >= m.l.buckets {
				bad(fmt.Errorf("there is a bucket %d of %d", n, m.l.buckets))
				return
			}
			failed = m.readBucket(ctx, n, at, seen, bad)
		}
	})
	for i := range m.nodes.slabs {
		for _, at := range m.nodes.blocksOf(i) {
			if !seen[at] {
				m.nodes.idle = append(m.nodes.idle, at)
			}
		}
	}
	if failed != nil {
		return failed
	}
	return err
}

// readBucket reads the leaves of a bucket.
func (m *image) readBucket(ctx context.Context, n, at int64, seen map[int64]bool, bad func(error)) error {
	b := &bucket{}
	m.buckets[n] = b
	for at != 0 {
		if !m.nodes.adopt(at, seen) {
			bad(fmt.Errorf("bucket %d: a leaf at block %d cannot be", n, at))
			return nil
		}
		p, err := m.j.page(ctx, at)
		if err != nil {
			return err
		}
		if err := verify(p, leafPage, at, m.l.id()); err != nil {
			bad(fmt.Errorf("bucket %d: %w", n, err))
			return nil
		}
		count := int64(le.Uint32(p[48:]))
		if int64(le.Uint64(p[32:])) != n || count < 1 || count > recsPerLeaf {
			bad(fmt.Errorf("bucket %d: the leaf at block %d is of bucket %d with %d exceptions", n, at, le.Uint64(p[32:]), count))
			return nil
		}
		b.nodes = append(b.nodes, at)
		for i := range count {
			e := p[leafHead+i*recSize:]
			b.recs = append(b.recs, rec{int64(le.Uint64(e)), int64(le.Uint64(e[8:])), le.Uint64(e[16:])})
		}
		at = int64(le.Uint64(p[40:]))
	}
	return nil
}

// verify checks the invariants, and counts the exceptions with a place.
func (m *image) verify(bad func(error)) (count int64) {
	want := make([]uint64, len(m.space.used))
	take := func(c int64, what string, n int64) {
		switch {
		case c < 0 || c >= m.l.chunks:
			bad(fmt.Errorf("%s %d: there is no chunk %d of the store", what, n, c))
		case has(want, c):
			bad(fmt.Errorf("%s %d: chunk %d of the store is used twice", what, n, c))
		default:
			want[c/64] |= 1 << (c % 64)
		}
	}
	for i := range m.nodes.slabs {
		for _, c := range m.nodes.chunksOf(i) {
			take(c, "leaf", i)
		}
	}
	known := m.live() | m.walk | m.later
	for n, b := range m.buckets {
		last, mask := int64(-1), uint64(0)
		for _, r := range b.recs {
			if r.chunk != last {
				mask = 0
			}
			if r.chunk < last || r.chunk/bucketChunks != n || r.chunk < 0 || r.chunk >= m.l.originChunks || r.mask == 0 || r.mask&^known != 0 || r.mask&mask != 0 {
				bad(fmt.Errorf("bucket %d: the exception of chunk %d with mask %#x cannot be behind chunk %d with %#x", n, r.chunk, r.mask, last, mask))
			}
			last, mask = r.chunk, mask|r.mask
			if r.place != hole {
				take(r.place, "chunk", r.chunk)
				count++
			}
		}
		if (len(b.recs)+recsPerLeaf-1)/recsPerLeaf != len(b.nodes) {
			bad(fmt.Errorf("bucket %d: %d leaves for %d exceptions", n, len(b.nodes), len(b.recs)))
		}
	}
	for i, w := range want {
		if u := m.space.used[i]; u != w {
			bad(fmt.Errorf("chunks %d to %d of the store: the bitmap is %#x, in use are %#x", i*64, i*64+63, u, w))
		}
	}
	return count
}
