package disk

import (
	"math/rand/v2"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// A computer is a machine whose power cuts hit the slab and the file system of
// the metadata at the same moment: each change of a file is also a write to a
// disk of the machine, the clock, so that the power may go during it, and what
// is left of the clock says what is left of the files.
type computer struct {
	m     *blocktest.Machine
	slab  *blocktest.Disk
	clock *blocktest.Disk
	fs    *vfs.MemFS
	rng   *rand.Rand

	mu   sync.Mutex
	tick block.Device
	// ticks is the number of writes to the clock, first that when the power came
	// on.
	ticks, first int64
	// left are the files as they may be after the cut, by how many percent of
	// what was not synced is left.
	left map[int]*vfs.MemFS
}

const clockTicks = 1 << 20

func newComputer(m *blocktest.Machine, size int64) *computer {
	c := &computer{m: m, slab: m.Disk(block.Info{Size: size}), clock: m.Disk(block.Info{Size: clockTicks * sector}), fs: vfs.NewCrashableMem()}
	c.rng = rand.New(rand.NewPCG(1, 2))
	c.tick = c.clock.Open()
	return c
}

// change carries out a change of the files, unless the power is off.
func (c *computer) change(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil && !c.m.Off() {
		c.ticks++
		err := c.tick.WriteAt(nil0, append([]byte{1}, make([]byte, sector-1)...), c.ticks*sector, 0)
		if err == nil {
			return do()
		}
		// It was cut short, or had just been done.
		if c.rng.IntN(2) == 0 {
			_ = do()
		}
	}
	c.crash()
	return block.ErrIO
}

// crash keeps the files as they are when the power is cut.
func (c *computer) crash() {
	if c.left != nil {
		return
	}
	c.left = map[int]*vfs.MemFS{}
	for _, percent := range []int{0, 50, 100} {
		c.left[percent] = c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng})
	}
}

// restart makes the files those that were left, if the power was cut. Nothing
// may use the old ones any more.
func (c *computer) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick = c.clock.Open()
	n := c.ticks - c.first
	if n == 0 {
		return
	}
	c.crash()
	p := make([]byte, n*sector)
	if err := c.tick.ReadAt(nil0, p, (c.first+1)*sector, 0); err != nil {
		panic(err)
	}
	kept := int64(0)
	for i := range n {
		kept += int64(p[i*sector])
	}
	percent := 50
	switch kept {
	case 0:
		percent = 0
	case n:
		percent = 100
	}
	c.fs, c.left, c.first = c.left[percent], nil, c.ticks
}

// hookFS is a file system whose changes go through a function, and whose reads
// another one may refuse.
type hookFS struct {
	vfs.FS
	change func(do func() error) error
	read   func() error
}

func (f *hookFS) file(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &hookFile{file, f}, nil
}

func (f *hookFS) Create(name string, cat vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = f.change(func() error { file, err = f.file(f.FS.Create(name, cat)); return err })
	return file, err
}

func (f *hookFS) OpenReadWrite(name string, cat vfs.DiskWriteCategory, o ...vfs.OpenOption) (file vfs.File, err error) {
	err = f.change(func() error { file, err = f.file(f.FS.OpenReadWrite(name, cat, o...)); return err })
	return file, err
}

func (f *hookFS) ReuseForWrite(old, name string, cat vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = f.change(func() error { file, err = f.file(f.FS.ReuseForWrite(old, name, cat)); return err })
	return file, err
}

func (f *hookFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if err := f.refuse(); err != nil {
		return nil, err
	}
	return f.file(f.FS.Open(name, o...))
}

func (f *hookFS) OpenDir(name string) (vfs.File, error) { return f.file(f.FS.OpenDir(name)) }

func (f *hookFS) MkdirAll(name string, perm os.FileMode) error {
	return f.change(func() error { return f.FS.MkdirAll(name, perm) })
}

func (f *hookFS) Link(old, name string) error {
	return f.change(func() error { return f.FS.Link(old, name) })
}

func (f *hookFS) Rename(old, name string) error {
	return f.change(func() error { return f.FS.Rename(old, name) })
}

func (f *hookFS) Remove(name string) error {
	return f.change(func() error { return f.FS.Remove(name) })
}

func (f *hookFS) List(dir string) ([]string, error) {
	if err := f.refuse(); err != nil {
		return nil, err
	}
	return f.FS.List(dir)
}

func (f *hookFS) refuse() error {
	if f.read == nil {
		return nil
	}
	return f.read()
}

// hookFile is a file of a hookFS.
type hookFile struct {
	vfs.File
	fs *hookFS
}

func (f *hookFile) Write(p []byte) (n int, err error) {
	err = f.fs.change(func() error { n, err = f.File.Write(p); return err })
	return n, err
}

func (f *hookFile) Sync() error     { return f.fs.change(f.File.Sync) }
func (f *hookFile) SyncData() error { return f.fs.change(f.File.SyncData) }

func (f *hookFile) SyncTo(n int64) (full bool, err error) {
	err = f.fs.change(func() error { full, err = f.File.SyncTo(n); return err })
	return full, err
}

func (f *hookFile) Read(p []byte) (int, error) {
	if err := f.fs.refuse(); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.refuse(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}
