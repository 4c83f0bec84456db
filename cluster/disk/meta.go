package disk

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// meta is the metadata store.
type meta struct {
	db *pebble.DB
	// failed is called when it cannot be read.
	failed func(error)
}

// metaMode says what for a metadata store is opened.
type metaMode int

const (
	metaCreate metaMode = iota
	metaUse
	metaInspect
)

// metaFormat is the format of the metadata store, which a later version of pebble
// does not change by itself.
const metaFormat = pebble.FormatTableFormatV6

// openMeta opens the metadata store. failed is called with errors that happen
// on their own account.
func openMeta(cfg *Config, mode metaMode, failed func(error)) (*meta, error) {
	cache := pebble.NewCache(cfg.MetaCache / 2)
	defer cache.Unref()
	o := &pebble.Options{
		FS:                 cfg.FS,
		Cache:              cache,
		MemTableSize:       uint64(cfg.MetaCache / 8),
		FormatMajorVersion: metaFormat,
		ErrorIfExists:      mode == metaCreate,
		ErrorIfNotExists:   mode != metaCreate,
		ReadOnly:           mode == metaInspect,
		Logger:             quietLogger{},
		// Requests wait for the slab, not for compactions.
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       1000,
		MaxOpenFiles:                500,
		EventListener: &pebble.EventListener{
			BackgroundError: failed,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { failed(i.Details) },
		},
	}
	for i := range o.Levels {
		// Most first writes ask for a record that is not there.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	if mode != metaInspect {
		o.FS = newStillFS(cfg.FS, failed)
	}
	db, err := pebble.Open(cfg.Dir, o)
	if err != nil {
		return nil, fmt.Errorf("opening the metadata in %s: %w", cfg.Dir, err)
	}
	return &meta{db, failed}, nil
}

// quietLogger drops what pebble has to say. Fatal errors do not occur: what
// fails in the file system does not get as far, see stillFS.
type quietLogger struct{}

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Errorf(string, ...any) {}
func (quietLogger) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("the metadata store gives up: "+format, args...))
}

// get calls f with the value of a key, if it is there. The value is valid
// during the call only.
func (m *meta) get(key []byte, f func(value []byte) error) (found bool, err error) {
	value, closer, err := m.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, m.unreadable(err)
	}
	err = f(value)
	return true, errors.Join(err, closer.Close())
}

// unreadable says that the disk has failed, as its metadata cannot be read.
func (m *meta) unreadable(err error) error {
	m.failed(err)
	return fmt.Errorf("reading the metadata: %w", err)
}

// scan calls f with the keys of r, which is the store or a snapshot of it, from lo on and below hi, and their values, until f
// returns false.
func (m *meta) scan(r pebble.Reader, lo, hi []byte, f func(key, value []byte) (more bool, err error)) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return m.unreadable(err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		more, err := f(it.Key(), it.Value())
		if err != nil || !more {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return m.unreadable(err)
	}
	return nil
}

// room returns the free bytes of the file system of the metadata, false if it
// does not tell.
func room(cfg *Config) (int64, bool) {
	u, err := cfg.FS.GetDiskUsage(cfg.Dir)
	if err != nil {
		return 0, false
	}
	return int64(min(u.AvailBytes, 1<<62)), true
}

var _ vfs.FS = (*stillFS)(nil)
