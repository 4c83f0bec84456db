package disk

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/family"
)

// Trees knows the trees of versions.
type Trees interface {
	// Tree returns the tree of a family at this revision or a later one. It
	// waits until it knows one, or ctx ends. It is called for every request.
	Tree(ctx context.Context, family, revision uint64) (*family.Tree, error)
}

// Config says what a disk is made of. Slab, Dir and Trees are needed; the zero
// values of the others are the defaults.
type Config struct {
	// Slab holds the blocks. The disk owns it from when Open succeeds.
	Slab block.Device
	// Dir is the directory of the metadata in FS, whose default is the file
	// system of the operating system.
	Dir string
	FS  vfs.FS
	// Trees is asked for the tree of versions of each request.
	Trees Trees

	// Cache bounds the memory in bytes for knowing where blocks are, 64 MiB if 0.
	// 1 MiB is enough for some 200 MiB of data.
	Cache int64
	// MetaCache bounds the memory in bytes of the metadata store, 64 MiB if 0.
	MetaCache int64
	// MaxUnflushed bounds the number of changed pieces of 64 KiB that are kept
	// in memory without a flush, 16384 if 0.
	MaxUnflushed int
	// MetaReserve is the room in bytes that the file system of the metadata must
	// have for new places to be given out, 256 MiB if 0. It is not looked at if
	// the file system does not say.
	MetaReserve int64

	// ballast is nil if there is none.
	ballast *ballast
}

const (
	defaultCache        = 64 << 20
	defaultMetaCache    = 64 << 20
	defaultMaxUnflushed = 16384
	defaultMetaReserve  = 256 << 20
)

// check sets defaults and refuses what cannot be.
func (c *Config) check() error {
	if c.Slab == nil {
		return fmt.Errorf("a disk needs a slab: %w", block.ErrInvalid)
	}
	if c.Dir == "" {
		return fmt.Errorf("a disk needs a directory for its metadata: %w", block.ErrInvalid)
	}
	if c.Trees == nil {
		return fmt.Errorf("a disk needs trees of versions: %w", block.ErrInvalid)
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	for _, x := range []struct {
		name       string
		value      *int64
		usual, min int64
	}{
		{"Cache", &c.Cache, defaultCache, 64 << 10},
		{"MetaCache", &c.MetaCache, defaultMetaCache, 256 << 10},
		{"MetaReserve", &c.MetaReserve, defaultMetaReserve, 1},
	} {
		if *x.value == 0 {
			*x.value = x.usual
		}
		if *x.value < x.min {
			return fmt.Errorf("%s is %d, expected %d at least: %w", x.name, *x.value, x.min, block.ErrInvalid)
		}
	}
	if c.MaxUnflushed == 0 {
		c.MaxUnflushed = defaultMaxUnflushed
	}
	if c.MaxUnflushed < 2*pieceBlocks {
		return fmt.Errorf("MaxUnflushed is %d, expected %d at least: %w", c.MaxUnflushed, 2*pieceBlocks, block.ErrInvalid)
	}
	return checkSlab(c.Slab.Info())
}
