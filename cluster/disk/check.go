package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// A Census is what a check has counted.
type Census struct {
	// Objects, and Blocks with data of all their versions.
	Objects, Blocks uint64
	// Dirty objects, and Unfinished blocks of those of them that were written
	// when the power failed. Neither is damage.
	Dirty, Unfinished uint64
}

// Check verifies everything that the disk keeps while it is in use: the
// metadata as they are after a flush, and, if data is set, the checksum of every
// block. report is called with one sentence for each finding, which wraps
// ErrDamaged or ErrRot or says what could not be read. The error is one that kept
// the check from going on.
func (d *Disk) Check(ctx context.Context, data bool, report func(error)) (Census, error) {
	if err := d.enter(); err != nil {
		return Census{}, err
	}
	defer d.gate.Leave()
	if err := d.flusher.flush(ctx); err != nil {
		return Census{}, err
	}
	snap := d.meta.db.NewSnapshot()
	defer snap.Close()
	c := newChecker(ctx, d.meta, snap, &d.cfg, d.super, d.run, report)
	if err := c.run(); err != nil || !data {
		return c.census, err
	}
	for s, err := range d.List(ctx, 0, lastHash) {
		if err == nil {
			err = d.Verify(ctx, s.Object, func(e *BlockError) bool {
				c.block(e)
				return true
			})
		}
		if err != nil {
			return c.census, err
		}
	}
	return c.census, nil
}

// Check verifies a disk that nobody has open, as the method does, and changes
// nothing. Trees may be nil: then versions need not be in a tree.
func Check(ctx context.Context, cfg Config, data bool, report func(error)) (census Census, err error) {
	trees := cfg.Trees
	if trees == nil {
		cfg.Trees = noTrees{}
	}
	if err := cfg.check(); err != nil {
		return Census{}, err
	}
	s, err := readSuper(ctx, cfg.Slab)
	if err != nil {
		return Census{}, err
	}
	m, err := openMeta(&cfg, metaInspect, func(error) {})
	if err != nil {
		return Census{}, err
	}
	defer func() { err = errors.Join(err, m.db.Close()) }()
	if err := m.belongsTo(s); err != nil {
		return Census{}, err
	}
	last := run{}
	if _, err := m.get(keyRun, last.decode); err != nil {
		return Census{}, err
	}
	// Marks of the last run are in doubt unless it has ended well.
	last.number++
	cfg.Trees = trees
	c := newChecker(ctx, m, m.db, &cfg, s, last, report)
	c.data = data
	err = c.run()
	return c.census, err
}

// A checker goes over the metadata in the order of the keys.
type checker struct {
	ctx    context.Context
	meta   *meta
	r      pebble.Reader
	cfg    *Config
	super  super
	last   run
	report func(error)
	census Census
	// data: the blocks are read, by a checker that is alone, into content.
	data    bool
	content [BlockSize]byte

	// Places are looked at one window after the other, so that the memory is
	// bounded: used has a bit for each place from start on.
	used       []uint64
	start, end uint64
	first      bool

	// The object that is looked at, what was found of it, and its versions.
	object   Object
	found    header
	versions map[uint64]*tally
	// tallies and headers are the numbers of those that must be there.
	tallies, headers uint64
}

// window is the number of places that are looked at in one go: bits of 16 MiB.
const window = 1 << 27

func newChecker(ctx context.Context, m *meta, r pebble.Reader, cfg *Config, s super, last run, report func(error)) *checker {
	return &checker{ctx: ctx, meta: m, r: r, cfg: cfg, super: s, last: last, report: report, versions: map[uint64]*tally{}}
}

func (c *checker) finding(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c.report(err)
}

// block counts what is wrong with a block.
func (c *checker) block(e *BlockError) {
	if errors.Is(e, ErrUnfinished) {
		c.census.Unfinished++
		return
	}
	c.report(e)
}

func (c *checker) run() error {
	if err := c.supers(); err != nil {
		return err
	}
	blocks := c.super.blocks()
	c.used = make([]uint64, (min(window, blocks)+63)/64)
	for c.first = true; c.start < blocks; c.start, c.first = c.end, false {
		c.end = min(c.start+window, blocks)
		clear(c.used)
		if err := c.pieces(); err != nil {
			return err
		}
		if err := c.segments(); err != nil {
			return err
		}
	}
	for _, step := range []func() error{c.headersThere, c.talliesThere, c.marks, c.strangers} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// supers verifies both superblocks.
func (c *checker) supers() error {
	b := make([]byte, BlockSize)
	for _, off := range []int64{0, c.super.copyAt()} {
		if err := c.cfg.Slab.ReadAt(c.ctx, b, off, 0); err != nil {
			return fmt.Errorf("reading the superblock at %d: %w", off, err)
		}
		if s, err := parseSuper(b); err != nil {
			c.finding("the superblock at %d is not what was written: %w", off, err)
		} else if s != c.super {
			c.finding("the superblock at %d is of disk %v with %d bytes, expected %v with %d", off, s.id, s.size, c.super.id, c.super.size)
		}
	}
	return nil
}

// scan is scan of a table.
func (c *checker) scan(table byte, f func(key, value []byte) error) error {
	return c.meta.scan(c.r, []byte{table}, after([]byte{table}), func(key, value []byte) (bool, error) {
		if err := context.Cause(c.ctx); err != nil {
			return false, err
		}
		return true, f(key, value)
	})
}

// lookUp calls f with the value of a key, nil if it is not there.
func (c *checker) lookUp(key []byte, f func(value []byte)) error {
	value, closer, err := c.r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		f(nil)
		return nil
	}
	if err != nil {
		return c.meta.unreadable(err)
	}
	f(value)
	return closer.Close()
}

// pieces goes over all records.
func (c *checker) pieces() error {
	some := false
	err := c.scan(tablePiece, func(key, value []byte) error {
		o, piece, version, err := parsePieceKey(key)
		if err != nil {
			c.report(err)
			return nil
		}
		if some && o != c.object {
			if err := c.endObject(); err != nil {
				return err
			}
		}
		some, c.object = true, o
		var rec own
		if err := rec.decode(value); err != nil {
			c.finding("piece %d of version %d of object %v: %w", piece, version, o, err)
			return nil
		}
		return c.record(&view{version: version, piece: piece, own: rec})
	})
	if err == nil && some {
		err = c.endObject()
	}
	return err
}

// record verifies one record.
func (c *checker) record(v *view) error {
	t := c.versions[v.version]
	if t == nil {
		t = &tally{}
		c.versions[v.version] = t
	}
	for i := range pieceBlocks {
		e := v.entry(i)
		c.found.Digest += e.digest()
		switch e.Kind {
		case Hole:
			t.holes++
			c.found.holes++
		case Data:
			t.data++
			c.found.data++
			if err := c.place(e, v.places[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// place verifies the place of an entry.
func (c *checker) place(e Entry, place uint64) error {
	if place >= c.super.blocks() {
		if c.first {
			c.finding("block %d of version %d of object %v is at place %d, the disk has %d", e.Block, e.Version, c.object, place, c.super.blocks())
		}
		return nil
	}
	if place < c.start || place >= c.end {
		return nil
	}
	word, bit := &c.used[(place-c.start)/64], uint64(1)<<((place-c.start)%64)
	if *word&bit != 0 {
		c.finding("block %d of version %d of object %v is at place %d, where another block is", e.Block, e.Version, c.object, place)
	}
	*word |= bit
	if !c.data {
		return nil
	}
	b := c.content[:]
	if err := c.cfg.Slab.ReadAt(c.ctx, b, offset(place), 0); err != nil {
		c.report(&BlockError{c.object, e.Version, e.Block, e.Sum, err})
		return context.Cause(c.ctx)
	}
	if checksum(b) == e.Sum {
		return nil
	}
	bad := &BlockError{c.object, e.Version, e.Block, e.Sum, ErrRot}
	err := c.lookUp(objectKey(nil, tableDirty, c.object), func(value []byte) {
		d, m := Disk{run: c.last}, mark{}
		if value != nil && m.decode(value) == nil && d.unsettled(m) {
			bad.Err = ErrUnfinished
		}
	})
	c.block(bad)
	return err
}

// endObject compares what was found of an object with what is noted about it.
func (c *checker) endObject() error {
	defer func() {
		clear(c.versions)
		c.found = header{}
	}()
	if !c.first {
		return nil
	}
	c.headers++
	c.tallies += uint64(len(c.versions))
	c.census.Objects++
	c.census.Blocks += c.found.data
	err := c.lookUp(objectKey(nil, tableObject, c.object), func(value []byte) {
		var h header
		if value == nil {
			c.finding("object %v has entries and no header", c.object)
		} else if err := h.decode(value); err != nil {
			c.finding("object %v: %w", c.object, err)
		} else if c.found.Counter = h.Counter; h != c.found {
			c.finding("object %v has %d blocks, %d holes and digest %016x, its header says %d, %d and %016x",
				c.object, c.found.data, c.found.holes, c.found.Digest, h.data, h.holes, h.Digest)
		}
	})
	if err != nil {
		return err
	}
	for version, t := range c.versions {
		if err := c.version(version, t); err != nil {
			return err
		}
	}
	return nil
}

// version verifies the tally of a version of the object, and that there is such
// a version.
func (c *checker) version(version uint64, t *tally) error {
	if c.cfg.Trees != nil {
		tree, err := c.cfg.Trees.Tree(c.ctx, c.object.Family, 0)
		if err != nil {
			return fmt.Errorf("asking for the tree of family %d: %w", c.object.Family, err)
		}
		if _, ok := tree.Version(version); !ok {
			c.finding("object %v has blocks of version %d, family %d has no such version", c.object, version, c.object.Family)
		}
	}
	return c.lookUp(tallyKey(nil, c.object, version), func(value []byte) {
		var have tally
		if value == nil {
			c.finding("version %d of object %v has entries and no tally", version, c.object)
		} else if err := have.decode(value); err != nil {
			c.finding("version %d of object %v: %w", version, c.object, err)
		} else if have != *t {
			c.finding("version %d of object %v has %d blocks and %d holes, its tally says %d and %d",
				version, c.object, t.data, t.holes, have.data, have.holes)
		}
	})
}
