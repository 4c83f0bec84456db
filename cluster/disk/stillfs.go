package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A stillFS is a file system that lets nothing change any more once a change has
// failed. Pebble cannot go on after such an error: it ends the process, with
// which all other disks of the node would go. So it is told that all is well,
// and may work on in memory until it is closed, while failed, which has been
// called before, keeps everybody from believing it. What is stored is what was
// there at the first error, as if the power had been cut.
//
// Errors of reading are passed on, as pebble returns those, but for List: if that
// fails while a store is being opened, pebble takes away the files under a
// compaction that is already running.
type stillFS struct {
	vfs.FS
	failed func(error)

	still atomic.Bool
	mu    sync.Mutex
	// mem has the files that were created since.
	mem *vfs.MemFS
}

func newStillFS(under vfs.FS, failed func(error)) *stillFS {
	return &stillFS{FS: under, failed: failed, mem: vfs.NewMem()}
}

// change carries out do, or stops everything if it fails. It reports whether
// the change has to be made in memory.
func (s *stillFS) change(do func() error) (inMemory bool) {
	if s.still.Load() {
		return true
	}
	err := do()
	if err == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.still.Load() {
		s.failed(err)
		s.still.Store(true)
	}
	return true
}

// file wraps a file of the file system below.
func (s *stillFS) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &stillFile{File: f, fs: s}, nil
}

// inMem makes a file in memory, and the directory that it is in.
func (s *stillFS) inMem(name string) (vfs.File, error) {
	if err := s.mem.MkdirAll(s.FS.PathDir(name), 0o755); err != nil {
		return nil, err
	}
	return s.mem.Create(name, vfs.WriteCategoryUnspecified)
}

// Create of a marker, which says which file counts from now on, makes sure that
// the file that it names is in the directory first: pebble leaves that to the
// order in which file systems happen to make entries durable.
func (s *stillFS) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	create := func() error {
		if strings.HasPrefix(s.FS.PathBase(name), "marker.") {
			if err := s.syncDir(s.FS.PathDir(name)); err != nil {
				return err
			}
		}
		f, err = s.file(s.FS.Create(name, c))
		return err
	}
	if s.change(create) {
		return s.inMem(name)
	}
	return f, nil
}

func (s *stillFS) syncDir(name string) error {
	d, err := s.FS.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *stillFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (f vfs.File, err error) {
	if s.change(func() error { f, err = s.file(s.FS.OpenReadWrite(name, c, o...)); return err }) {
		return s.inMem(name)
	}
	return f, nil
}

func (s *stillFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	if s.change(func() error { f, err = s.file(s.FS.ReuseForWrite(old, name, c)); return err }) {
		return s.inMem(name)
	}
	return f, nil
}

func (s *stillFS) Link(old, name string) error {
	if s.change(func() error { return s.FS.Link(old, name) }) {
		return there(s.mem.Link(old, name))
	}
	return nil
}

func (s *stillFS) Rename(old, name string) error {
	if s.change(func() error { return s.FS.Rename(old, name) }) {
		return there(s.mem.Rename(old, name))
	}
	return nil
}

// Remove of what is not there is no failure.
func (s *stillFS) Remove(name string) (err error) {
	if s.change(func() error { err = s.FS.Remove(name); return there(err) }) {
		return there(s.mem.Remove(name))
	}
	return err
}

func (s *stillFS) RemoveAll(name string) error {
	if s.change(func() error { return s.FS.RemoveAll(name) }) {
		return there(s.mem.RemoveAll(name))
	}
	return nil
}

func (s *stillFS) MkdirAll(dir string, perm os.FileMode) error {
	if s.change(func() error { return s.FS.MkdirAll(dir, perm) }) {
		return s.mem.MkdirAll(dir, perm)
	}
	return nil
}

// there is err but for the one that says that there is no such file.
func there(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *stillFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if s.still.Load() {
		if f, err := s.mem.Open(name, o...); err == nil {
			return f, nil
		}
	}
	return s.FS.Open(name, o...)
}

func (s *stillFS) List(dir string) (names []string, err error) {
	if s.change(func() error { names, err = s.FS.List(dir); return there(err) }) {
		return nil, nil
	}
	return names, err
}

func (s *stillFS) OpenDir(name string) (vfs.File, error) { return s.file(s.FS.OpenDir(name)) }

func (s *stillFS) Stat(name string) (vfs.FileInfo, error) {
	if s.still.Load() {
		if info, err := s.mem.Stat(name); err == nil {
			return info, nil
		}
	}
	return s.FS.Stat(name)
}

// Lock that fails changes nothing.
func (s *stillFS) Lock(name string) (io.Closer, error) { return s.FS.Lock(name) }

// Unwrap hides the file system below from those who look for it.
func (s *stillFS) Unwrap() vfs.FS { return nil }

// A stillFile is a file of a stillFS.
type stillFile struct {
	vfs.File
	fs *stillFS
}

func (f *stillFile) Write(p []byte) (n int, err error) {
	if f.fs.change(func() error { n, err = f.File.Write(p); return err }) {
		return len(p), nil
	}
	return n, nil
}

func (f *stillFile) WriteAt(p []byte, off int64) (n int, err error) {
	if f.fs.change(func() error { n, err = f.File.WriteAt(p, off); return err }) {
		return len(p), nil
	}
	return n, nil
}

func (f *stillFile) Preallocate(off, n int64) error {
	f.fs.change(func() error { return f.File.Preallocate(off, n) })
	return nil
}

func (f *stillFile) Sync() error {
	f.fs.change(f.File.Sync)
	return nil
}

func (f *stillFile) SyncData() error {
	f.fs.change(f.File.SyncData)
	return nil
}

func (f *stillFile) SyncTo(n int64) (full bool, err error) {
	if f.fs.change(func() error { full, err = f.File.SyncTo(n); return err }) {
		return true, nil
	}
	return full, nil
}
