package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
)

// When others fill the file system of the metadata, all goes on that needs no new places,
// with the room that was kept for that; and that is kept again when there is some.
func TestBallast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ballast := filepath.Join(dir, "meta", "ballast")
	held := func() int64 {
		info, err := os.Stat(ballast)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	var mu sync.Mutex
	full := false
	l := &lab{t: t, trees: newForest(), bytes: make([]byte, labSize)}
	l.adjust = func(c *Config) {
		c.Dir, c.MetaReserve = filepath.Join(dir, "meta"), 1
		c.FS = &hookFS{FS: vfs.Default, change: func(do func() error) error {
			mu.Lock()
			defer mu.Unlock()
			if full && held() > 0 {
				return fmt.Errorf("what others have filled: %w", syscall.ENOSPC)
			}
			return do()
		}}
		c.ballast = newBallast(c.Dir, 64<<20)
	}
	if _, err := Format(t.Context(), l.config(), false); err != nil {
		t.Fatal(err)
	}
	l.trees.add(1, 0)
	l.open()
	size := held()
	if size == 0 {
		peer.Cannot(t, "take room for a file in %s ahead of time", dir)
	}
	if size > 1<<20 {
		t.Errorf("%d bytes are kept for a slab of 64 MiB", size)
	}
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 2), 0))
	l.ok(l.Flush(ctx))
	mu.Lock()
	full = true
	mu.Unlock()
	l.ok(l.Write(ctx, at(0, 1), fill(2, 2), 0))
	l.ok(l.Flush(ctx))
	l.ok(l.Err())
	l.want(at(0, 1), 0, fill(2, 2))
	l.reopen() // that needs room, too
	l.want(at(0, 1), 0, fill(2, 2))
	mu.Lock()
	full = false
	mu.Unlock()
	l.LookForRoom()
	if got := held(); got != size {
		t.Errorf("%d bytes are kept again, expected %d", got, size)
	}
	l.shut()
	l.checked(true)
}

// Where there is no room for it, there is no ballast, and where there is nothing else it
// does not help.
func TestNoBallast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBallast(dir, 1<<40)
	b.take(mostBallast/ballastPart - mostBallast)
	if _, err := os.Stat(b.path); err == nil {
		t.Error("there is one, and was no room for it")
	}
	b.drop() // nothing
	l := openLab(t, labSize)
	l.wrapFS = func(fs vfs.FS) vfs.FS {
		return &hookFS{FS: fs, change: func(func() error) error { return syscall.ENOSPC }}
	}
	l.adjust = func(c *Config) { c.ballast = newBallast(dir, 1<<40) }
	l.shut()
	if err := l.tryOpen(); !errors.Is(err, block.ErrNoSpace) {
		t.Errorf("a disk whose metadata have no room at all: %v", err)
	}
}
