package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/internal/patience"
)

// A Disk holds objects. Its methods may be called from any goroutine at any
// time; requests for overlapping ranges of an object are carried out one after
// another if one of them is a change.
type Disk struct {
	cfg   Config
	slab  block.Device
	super super
	meta  *meta
	run   run
	space *space
	cache cache
	gate  block.Gate

	// failure is why the disk has failed, nil if it has not.
	failure atomic.Pointer[error]

	// changes counts the changes that have returned, slabChanges the writes to
	// the slab. flushed and slabFlushed are how many of them are durable.
	changes, slabChanges, flushed atomic.Uint64
	slabFlushed                   uint64
	// unflushed is the number of views that are kept until a flush has ended:
	// changed ones and captured ones.
	unflushed atomic.Int64
	// blanks counts the objects that were loaded with a mark and nothing else.
	blanks  atomic.Uint64
	flusher flusher
	listMu  sync.Mutex
	// list has the objects that the next flush captures, each with a reference;
	// listMu guards it.
	list  []*object
	batch batch

	stats counters

	// patience is that of WriteNow, with times since began.
	patience patience.Patience
	began    time.Time
}

// Format makes a disk of an empty slab and an empty directory, and returns its
// name. A slab that already belongs to a disk is refused unless overwrite is
// set.
func Format(ctx context.Context, cfg Config, overwrite bool) (UUID, error) {
	if cfg.Trees == nil {
		cfg.Trees = noTrees{}
	}
	if err := cfg.check(); err != nil {
		return UUID{}, err
	}
	if s, err := readSuper(ctx, cfg.Slab); !overwrite && !errors.Is(err, errNoSuper) {
		if err != nil {
			return UUID{}, err
		}
		return UUID{}, fmt.Errorf("the slab belongs to disk %v: %w", s.id, ErrForeign)
	}
	s := super{size: slabSize(cfg.Slab.Info().Size)}
	rand.Read(s.id[:])
	var failure error
	m, err := openMeta(&cfg, metaCreate, func(err error) { failure = err })
	if err != nil {
		return UUID{}, errors.Join(failure, err)
	}
	err = m.db.Set(keySuper, s.encode(), pebble.Sync)
	if err = errors.Join(err, m.db.Close(), failure); err != nil {
		return UUID{}, fmt.Errorf("formatting the metadata: %w", err)
	}
	// The superblock comes last: without it there is no disk.
	return s.id, writeSuper(ctx, cfg.Slab, s)
}

// noTrees is for disks that are not used.
type noTrees struct{}

func (noTrees) Tree(context.Context, uint64, uint64) (*family.Tree, error) {
	return nil, fmt.Errorf("there are no trees: %w", block.ErrInvalid)
}

// Open opens a disk that Format has made. The caller owns the slab if it fails.
func Open(ctx context.Context, cfg Config) (d *Disk, err error) {
	real := cfg.FS == nil
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if real {
		cfg.ballast = newBallast(cfg.Dir, cfg.Slab.Info().Size)
	}
	s, err := readSuper(ctx, cfg.Slab)
	if err != nil {
		return nil, err
	}
	d = &Disk{cfg: cfg, slab: cfg.Slab, super: s, began: time.Now()}
	d.flusher.disk = d
	d.cache.init(cfg.Cache)
	d.space = newSpace(s.blocks(), int64(min(64, s.blocks()/64)), d.loadSegment)
	if cfg.ballast != nil {
		cfg.FS = vfs.OnDiskFull(cfg.FS, d.dropBallast)
	}
	if d.meta, err = openMeta(&cfg, metaUse, d.fail); err != nil {
		return nil, errors.Join(d.failed(), err)
	}
	err = d.start()
	if err == nil {
		err = mendSuper(ctx, cfg.Slab, s)
	}
	if err != nil {
		return nil, errors.Join(err, d.meta.db.Close())
	}
	return d, nil
}

// start makes d ready from its metadata.
func (d *Disk) start() error {
	if err := d.meta.belongsTo(d.super); err != nil {
		return err
	}
	if err := d.scanSegments(); err != nil {
		return err
	}
	if _, err := d.meta.get(keyRun, d.run.decode); err != nil {
		return err
	}
	d.run.number++
	if err := d.meta.db.Set(keyRun, d.run.encode(nil), pebble.Sync); err != nil {
		return fmt.Errorf("writing the metadata: %w", err)
	}
	d.LookForRoom()
	return d.failed()
}

// belongsTo verifies that the metadata are those of a slab.
func (m *meta) belongsTo(s super) error {
	var have super
	found, err := m.get(keySuper, func(value []byte) (err error) {
		have, err = parseSuper(value)
		return err
	})
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("the metadata are not those of a disk: %w", ErrForeign)
	case have.id != s.id:
		return fmt.Errorf("the slab belongs to disk %v, the metadata to disk %v: %w", s.id, have.id, ErrForeign)
	case have != s:
		return damaged("disk %v has %d bytes, according to the metadata %d", s.id, s.size, have.size)
	}
	return nil
}

// scanSegments counts what is in use.
func (d *Disk) scanSegments() error {
	table := []byte{tableSegment}
	return d.meta.scan(d.meta.db, table, after(table), func(key, value []byte) (bool, error) {
		seg, err := parseSegmentKey(key)
		if err != nil {
			return false, err
		}
		if int64(seg) >= int64(len(d.space.free)) {
			return false, damaged("segment %d is in use, there are %d", seg, len(d.space.free))
		}
		var b bitset
		if err := b.decode(value, d.space.sizeOf(int(seg))); err != nil {
			return false, fmt.Errorf("segment %d: %w", seg, err)
		}
		d.space.found(int(seg), &b)
		return true, nil
	})
}

// loadSegment reads the bits of a segment.
func (d *Disk) loadSegment(seg int, b *bitset) error {
	_, err := d.meta.get(segmentKey(nil, uint32(seg)), func(value []byte) error {
		return b.decode(value, d.space.sizeOf(seg))
	})
	return err
}

// fail notes that the disk has failed.
func (d *Disk) fail(err error) { d.failure.CompareAndSwap(nil, &err) }

// failed returns why the disk has failed, nil if it has not.
func (d *Disk) failed() error {
	if err := d.failure.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, *err)
	}
	return nil
}

// UUID is the name of the disk.
func (d *Disk) UUID() UUID { return d.super.id }

// Run is the number of times that the disk has been opened, this time included: a
// greater one than ever before, durably. What was not flushed in an earlier run
// may be lost.
func (d *Disk) Run() uint64 { return d.run.number }

// Err returns nil, or an error that wraps ErrFailed and says why nothing works
// any more.
func (d *Disk) Err() error { return d.failed() }

// Close makes everything durable and releases slab and metadata. It waits for
// the requests in flight.
func (d *Disk) Close() error {
	if err := d.gate.Close(); err != nil {
		return err
	}
	err := d.failed()
	if err == nil {
		if err = d.flusher.flush(context.Background()); err == nil {
			err = d.settle()
		}
	}
	d.flusher.wait()
	if d.batch.b != nil {
		err = errors.Join(err, d.batch.b.Close())
	}
	err = errors.Join(err, d.meta.db.Close())
	if err == nil {
		err = d.failed()
	}
	return errors.Join(err, d.slab.Close())
}

// settle notes that the run has ended well. Objects that have been dirty since
// a run that did not are still in doubt, and with them, for simplicity, those
// of this run.
func (d *Disk) settle() error {
	settled := true
	table := []byte{tableDirty}
	err := d.meta.scan(d.meta.db, table, after(table), func(key, value []byte) (bool, error) {
		var m mark
		if err := m.decode(value); err != nil {
			return false, err
		}
		settled = !d.interrupted(m)
		return settled, nil
	})
	if err != nil || !settled {
		return err
	}
	d.run.settled = d.run.number
	return d.meta.db.Set(keyRun, d.run.encode(nil), pebble.Sync)
}

// unsettled reports whether blocks of an object with this mark may not have
// their checksums for another reason than rot.
func (d *Disk) unsettled(m mark) bool { return m.torn || d.interrupted(m) }

// interrupted reports whether the mark was made in a run that ended without
// Close.
func (d *Disk) interrupted(m mark) bool { return m.run > d.run.settled && m.run < d.run.number }
