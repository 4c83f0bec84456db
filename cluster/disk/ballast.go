package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Up to that much room is kept for the metadata, but no more than one part in ballastSlab of
// what the slab has and one in ballastPart of what their file system has.
const (
	mostBallast = 64 << 20
	ballastSlab = 64
	ballastPart = 32
)

// A ballast is a file that takes room in the file system of the metadata, for when others
// have filled it: then it is made empty, and the metadata can be written on. That is for
// what needs no new places, as those are refused before.
type ballast struct {
	path string
	most int64
	mu   sync.Mutex
	// held is how much room it has.
	held int64
}

// newBallast returns the one of a directory with the metadata of a slab of that size, which
// may have been made before.
func newBallast(dir string, slab int64) *ballast {
	b := &ballast{path: filepath.Join(dir, "ballast"), most: min(mostBallast, slab/ballastSlab)}
	if info, err := os.Stat(b.path); err == nil {
		b.held = info.Size()
	}
	return b
}

// take takes room if it has none, and as much is to spare. If that cannot be, there is none.
func (b *ballast) take(spare int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held > 0 {
		return
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(b.path), &s); err != nil {
		return
	}
	size := min(b.most, int64(s.Blocks)*int64(s.Bsize)/ballastPart)
	if size <= 0 || spare < size {
		return
	}
	if err := allocate(b.path, size); err != nil {
		_ = os.Remove(b.path)
		return
	}
	b.held = size
}

// allocate makes a file for which the file system has taken room.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
}

// drop gives the room back.
func (b *ballast) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.Truncate(b.path, 0); err == nil || errors.Is(err, fs.ErrNotExist) {
		b.held = 0
	}
}

// dropBallast is called when something of the metadata could not be written for want of
// room, and is written again afterwards.
func (d *Disk) dropBallast() {
	d.cfg.ballast.drop()
	d.lookForRoom(0) // or clients would use it up
}
