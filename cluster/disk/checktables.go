package disk

import "bytes"

// segments compares the places that are in use with those that are taken.
func (c *checker) segments() error {
	next := int(c.start / segmentBlocks)
	last := int((c.end + segmentBlocks - 1) / segmentBlocks)
	space := newSpace(c.super.blocks(), 0, nil)
	free := func(upTo int) {
		for ; next < upTo; next++ {
			c.segment(next, space.sizeOf(next), &bitset{})
		}
	}
	err := c.scan(tableSegment, func(key, value []byte) error {
		seg, err := parseSegmentKey(key)
		if err != nil || int64(seg) >= int64(len(space.free)) {
			if c.first {
				c.finding("key %x is not that of a segment, there are %d", key, len(space.free))
			}
			return nil
		}
		if int(seg) < next || int(seg) >= last {
			return nil
		}
		free(int(seg))
		var b bitset
		if err := b.decode(value, space.sizeOf(int(seg))); err != nil {
			c.finding("segment %d: %w", seg, err)
		} else {
			c.segment(int(seg), space.sizeOf(int(seg)), &b)
		}
		next++
		return nil
	})
	free(last)
	return err
}

// segment compares the places of one segment, and has one finding for those that
// follow each other.
func (c *checker) segment(seg, size int, b *bitset) {
	first := uint64(seg) * segmentBlocks
	wrong := func(i int) (used, is bool) {
		p := first + uint64(i) - c.start
		used = c.used[p/64]&(1<<(p%64)) != 0
		return used, used != b.has(uint32(i))
	}
	for i := 0; i < size; i++ {
		used, is := wrong(i)
		if !is {
			continue
		}
		from := i
		for ; i+1 < size; i++ {
			if u, is := wrong(i + 1); !is || u != used {
				break
			}
		}
		what := "are taken, nobody uses them"
		if used {
			what = "are in use and free"
		}
		c.finding("places %d to %d %s", first+uint64(from), first+uint64(i), what)
	}
}

// headersThere looks for headers of objects without entries.
func (c *checker) headersThere() error {
	n := uint64(0)
	err := c.scan(tableObject, func(key, _ []byte) error {
		n++
		if _, err := parseObjectKey(key, tableObject); err != nil {
			c.report(err)
		}
		return nil
	})
	if err != nil || n == c.headers {
		return err
	}
	return c.scan(tableObject, func(key, _ []byte) error {
		o, err := parseObjectKey(key, tableObject)
		if err != nil {
			return nil
		}
		some, err := c.anyKey(pieceKey(nil, o, 0, ^uint64(0)), pieceKey(nil, o, maxPieces, 0))
		if err == nil && !some {
			c.finding("object %v has a header and no entries", o)
		}
		return err
	})
}

// anyKey reports whether there is a key in a range.
func (c *checker) anyKey(lo, hi []byte) (some bool, err error) {
	err = c.meta.scan(c.r, lo, hi, func([]byte, []byte) (bool, error) {
		some = true
		return false, nil
	})
	return some, err
}

// talliesThere compares the number of tallies with that of those that were found
// to be right, as one more has nothing to be compared with.
func (c *checker) talliesThere() error {
	n := uint64(0)
	err := c.scan(tableTally, func(key, _ []byte) error {
		n++
		if _, _, err := parseTallyKey(key); err != nil {
			c.report(err)
		}
		return nil
	})
	if err == nil && n != c.tallies {
		c.finding("there are %d tallies, expected %d", n, c.tallies)
	}
	return err
}

// marks verifies the marks of dirty objects.
func (c *checker) marks() error {
	return c.scan(tableDirty, func(key, value []byte) error {
		o, err := parseObjectKey(key, tableDirty)
		if err != nil {
			c.report(err)
			return nil
		}
		c.census.Dirty++
		var m mark
		if err := m.decode(value); err != nil {
			c.finding("object %v: %w", o, err)
		} else if m.run > c.last.number {
			c.finding("object %v is dirty since run %d, the last one was %d", o, m.run, c.last.number)
		}
		return nil
	})
}

// strangers looks for keys that belong to no table.
func (c *checker) strangers() error {
	tables := []byte{tableDirty, tableMeta, tableObject, tablePiece, tableSegment, tableTally, 0xff}
	from := []byte{0}
	for _, table := range tables {
		if bytes.Compare(from, []byte{table}) < 0 {
			err := c.meta.scan(c.r, from, []byte{table}, func(key, _ []byte) (bool, error) {
				c.finding("key %x belongs to no table", key)
				return true, nil
			})
			if err != nil {
				return err
			}
		}
		from = []byte{table + 1}
	}
	return nil
}
