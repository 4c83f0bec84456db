package source

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/patience"
	"golang.org/x/sys/unix"
)

// FileOptions configures File.
type FileOptions struct {
	_        struct{} `doc:"A raw file or a block device." long:"The file is locked against a second use, served to its last byte, and keeps its size. Reads that hit the page cache are answered without waiting. Trim and zero punch holes."`
	Path     string   `name:"path" arg:"1" required:"true" unit:"path" doc:"The file or block device."`
	ReadOnly bool     `name:"read_only" doc:"Open for reading only; several readers may share the file."`
	Create   bool     `name:"create" doc:"Make a sparse file of the given size if there is none and it is not read_only."`
	Size     int64    `name:"size" unit:"bytes" doc:"With create: the size of the file. A file that exists must have it."`
	Direct   bool     `name:"direct" doc:"Bypass the page cache (O_DIRECT); requests must then be whole sectors."`
	Shared   bool     `name:"shared" doc:"Take no lock: something else makes sure that writers do not meet."`
	Sync     bool     `name:"sync" doc:"Make every write durable before it is answered."`
}

// File returns a device of the bytes of a regular file or a block device.
// The size is that of the moment of opening. A regular file that something
// else makes shorter gives an error (EIO) to reads behind its end and to all
// writes, so that a gap is never filled with zeros.
//
// Unless Shared is set the file is locked for as long as the device is open:
// an OFD lock, exclusive for writing and shared for ReadOnly, and O_EXCL on a
// block device that is opened for writing.
//
// Flush is fdatasync. It persists the data and the metadata needed to find
// it, which includes holes and allocations; the size never changes. After a
// Flush has failed all later ones fail: Linux may count the pages that it
// could not write as clean, and would report success without having stored
// them. Reopening the file gives a working device of what the storage holds.
func File(ctx context.Context, o FileOptions) (block.Device, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	d, err := openFile(ctx, o, linux{})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// file is a regular file or a block device. Its parts: fileopen.go makes it,
// fileread.go, filewrite.go and direct.go move bytes, filesync.go makes them
// durable, filezero.go and fileextents.go deal with holes.
type file struct {
	gate   block.Gate
	kernel kernel
	info   block.Info
	path   string

	// fd reads, writes and holds the lock.
	fd int
	// side is the same file, opened once more: for Flush, see syncFiles,
	// and for looking for holes, which locks the position of a file.
	side int

	device bool // a block device
	sector int  // of a block device: what fallocate wants ranges to be aligned to
	direct *aligner
	always bool // every write is durable when it returns

	quick    quickReads
	noQuick  atomic.Bool // pwritev2 does not know RWF_NOWAIT here
	epoch    time.Time
	patience patience.Patience
	sized    atomic.Int64 // when the size was looked at last, since epoch
	short    atomic.Bool  // the file has been found shorter than info.Size

	flushes     flushes
	syncs       syncFiles
	noPunch     atomic.Bool
	noCachestat atomic.Bool
	noZeroing   atomic.Bool
}

func (d *file) Info() block.Info { return d.info }

func (d *file) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	err := d.read(p, off, flags)
	d.gate.Leave()
	return err
}

func (d *file) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	err := d.write(p, off, flags)
	d.gate.Leave()
	return err
}

func (d *file) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return d.zero(ctx, off, n, flags)
}

func (d *file) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return d.trim(off, n, flags)
}

func (d *file) Flush(ctx context.Context) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if d.info.ReadOnly {
		return nil
	}
	return d.flush()
}

func (d *file) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := d.gate.Enter(); err != nil {
		return block.FailExtents(err)
	}
	defer d.gate.Leave()
	if err := d.info.CheckExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return d.extents(off, off+n)
}

func (d *file) Close() error {
	if err := d.gate.Close(); err != nil {
		return err
	}
	return d.release()
}

// release unlocks the file and closes its descriptors. Closing alone is not
// enough: a process that is just being forked has copies of all descriptors
// until it runs its own program, and they would keep the lock.
func (d *file) release() error {
	unix.FcntlFlock(uintptr(d.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
	err := d.syncs.close()
	if d.side >= 0 {
		err = errors.Join(err, unix.Close(d.side))
	}
	if err = errors.Join(err, unix.Close(d.fd)); err != nil {
		return wrap(d.path, "close", err)
	}
	return nil
}

// fail says which operation failed on which file.
func (d *file) fail(op string, off int64, err error) error {
	return &os.PathError{Op: fmt.Sprintf("%s at %d", op, off), Path: d.path, Err: err}
}

// since is the time by which the file measures: nanoseconds since epoch.
func (d *file) since() int64 { return int64(time.Since(d.epoch)) }

// sizeAge is how long, in nanoseconds, a look at the size of a file is
// believed by writes. Looking costs as much as a tenth of a small write.
const sizeAge = int64(time.Millisecond)

// checkSize reports an error if the file is shorter than it was. It looks at
// most once in sizeAge.
func (d *file) checkSize(now int64) error {
	if d.short.Load() {
		return d.errShort()
	}
	if now-d.sized.Load() < sizeAge {
		return nil
	}
	return d.checkSizeNow()
}

// checkSizeNow is checkSize that looks.
func (d *file) checkSizeNow() error {
	if d.device {
		return nil
	}
	size, err := d.kernel.seek(d.fd, 0, unix.SEEK_END)
	if err != nil {
		return wrap(d.path, "size", err)
	}
	if size < d.info.Size {
		d.short.Store(true)
		return d.errShort()
	}
	d.sized.Store(d.since())
	return nil
}

// vanished returns an error if err, of a write, says that there is no space because the
// block device was taken out: it has no bytes any more then.
func (d *file) vanished(err error) error {
	if !d.device || !errors.Is(err, unix.ENOSPC) {
		return nil
	}
	size, err := d.kernel.seek(d.fd, 0, unix.SEEK_END)
	if err != nil || size >= d.info.Size {
		return nil
	}
	d.short.Store(true)
	return d.errShort()
}

func (d *file) errShort() error {
	return fmt.Errorf("file %s is shorter than when it was opened, %d bytes: %w", d.path, d.info.Size, block.ErrIO)
}
