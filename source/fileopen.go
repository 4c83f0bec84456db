package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

// openFile is File with a kernel of choice.
func openFile(ctx context.Context, o FileOptions, k kernel) (*file, error) {
	fd, created, err := openOrCreate(ctx, o)
	if err != nil {
		return nil, err
	}
	d := &file{
		kernel: k,
		path:   o.Path,
		fd:     fd,
		side:   -1,
		always: o.Sync,
		epoch:  time.Now(),
	}
	if err := d.prepare(o, created); err != nil {
		d.release()
		if created {
			os.Remove(o.Path)
		}
		return nil, err
	}
	return d, nil
}

func (o *FileOptions) check() error {
	switch {
	case o.Path == "":
		return fmt.Errorf("path is empty: %w", block.ErrInvalid)
	case o.Size < 0:
		return fmt.Errorf("size %d is negative: %w", o.Size, block.ErrInvalid)
	case o.Create && o.Size == 0:
		return fmt.Errorf("create needs the size of the file: %w", block.ErrInvalid)
	case o.Size != 0 && !o.Create:
		return fmt.Errorf("size is for create only: %w", block.ErrInvalid)
	}
	return nil
}

func (o *FileOptions) flags() int {
	flags := unix.O_RDWR
	if o.ReadOnly {
		flags = unix.O_RDONLY
	}
	if o.Direct {
		flags |= unix.O_DIRECT
	}
	return flags
}

// openOrCreate returns a descriptor of a regular file or block device. A file
// that it created is empty.
func openOrCreate(ctx context.Context, o FileOptions) (fd int, created bool, err error) {
	var st unix.Stat_t
	err = again(func() error { return unix.Stat(o.Path, &st) })
	if errors.Is(err, unix.ENOENT) && o.Create && !o.ReadOnly {
		fd, err = openAt(o.Path, o.flags()|unix.O_CREAT|unix.O_EXCL)
		if !errors.Is(err, unix.EEXIST) {
			return fd, err == nil, explain(o, err)
		}
		err = again(func() error { return unix.Stat(o.Path, &st) })
	}
	if err != nil {
		return -1, false, explain(o, err)
	}
	flags := o.flags()
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		if !o.ReadOnly && !o.Shared {
			flags |= unix.O_EXCL
		}
	default:
		// Looked at before opening: opening a pipe waits for its writer.
		return -1, false, fmt.Errorf("%s is neither a regular file nor a block device: %w", o.Path, block.ErrInvalid)
	}
	fd, err = openAt(o.Path, flags)
	for wait := time.Millisecond; err == unix.EBUSY && wait < claimTime && ctx.Err() == nil; wait *= 2 {
		time.Sleep(wait)
		fd, err = openAt(o.Path, flags)
	}
	return fd, false, explain(o, err)
}

// claimTime is about how long opening a block device that is in use is tried:
// one that has just been closed may still be open, see release.
const claimTime = 200 * time.Millisecond

func openAt(path string, flags int) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// explain makes an error of opening one that tells what to do.
func explain(o FileOptions, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return &busyError{fmt.Sprintf("%s is mounted or in use (shared=True opens it all the same)", o.Path)}
	case errors.Is(err, unix.EINVAL) && o.Direct:
		return fmt.Errorf("open %s: %w; its file system may not support direct", o.Path, err)
	case (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS)) && !o.ReadOnly:
		return fmt.Errorf("open %s for writing: %w", o.Path, err)
	}
	return wrap(o.Path, "open", err)
}

func wrap(path, op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

// prepare makes a device of a file that is open.
func (d *file) prepare(o FileOptions, created bool) error {
	if !o.Shared {
		if err := d.lock(o.ReadOnly); err != nil {
			return err
		}
	}
	if created {
		if err := d.allot(o.Size); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return wrap(d.path, "stat", err)
	}
	d.info = block.Info{Size: st.Size, ReadOnly: o.ReadOnly, NativeFUA: true}
	describe := d.describeFile
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		d.device = true
		describe = d.describeDevice
	default:
		return fmt.Errorf("%s has been replaced while it was opened: %w", d.path, block.ErrIO)
	}
	if err := describe(&st); err != nil {
		return err
	}
	if o.Create && d.info.Size != o.Size {
		return fmt.Errorf("%s exists and has %d bytes, want %d: %w", d.path, d.info.Size, o.Size, block.ErrInvalid)
	}
	if err := d.checkLimit(); err != nil {
		return err
	}
	if o.Direct {
		if err := d.alignDirect(); err != nil {
			return err
		}
	}
	return d.reopen(o)
}

// reopen opens the further descriptions of the file.
func (d *file) reopen(o FileOptions) (err error) {
	self := "/proc/self/fd/" + strconv.Itoa(d.fd)
	d.syncs.again = func() (int, error) { return openAt(self, o.flags()) }
	if d.side, err = d.syncs.again(); err != nil {
		return fmt.Errorf("open %s a second time (through /proc): %w", d.path, err)
	}
	if !d.device {
		_, err = d.kernel.seek(d.side, 0, unix.SEEK_HOLE)
		d.info.CheapExtents = err == nil || errors.Is(err, unix.ENXIO)
	}
	if !o.Direct {
		d.quick = d.probeQuick()
		d.info.NoWait = d.quick != quickNever
		if d.kernel == (linux{}) && d.quick == quickMemory {
			d.kernel = linux{memory: true}
		}
	}
	return nil
}

// lock takes the lock of the file without waiting. It belongs to the open
// file, unlike older kinds, so that it also works within one process and ends
// with the descriptor.
func (d *file) lock(shared bool) error {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if shared {
		l.Type = unix.F_RDLCK
	}
	err := again(func() error { return unix.FcntlFlock(uintptr(d.fd), unix.F_OFD_SETLK, &l) })
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES):
		return &busyError{fmt.Sprintf("%s is locked: this process or another one has it open (shared=True takes no lock)", d.path)}
	case err != nil:
		return fmt.Errorf("cannot lock %s (shared=True takes no lock): %w", d.path, err)
	}
	return nil
}

// A busyError says in its own words that a file is in use.
type busyError struct{ text string }

func (e *busyError) Error() string { return e.text }
func (e *busyError) Unwrap() error { return unix.EBUSY }

// allot gives a new file its size and makes it survive a loss of power.
func (d *file) allot(size int64) error {
	if err := limitAllows(d.path, size); err != nil {
		return err
	}
	if err := again(func() error { return unix.Ftruncate(d.fd, size) }); err != nil {
		return fmt.Errorf("cannot give %s a size of %d bytes: %w", d.path, size, err)
	}
	if err := again(func() error { return unix.Fsync(d.fd) }); err != nil {
		return wrap(d.path, "sync", err)
	}
	dir, err := os.Open(filepath.Dir(d.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// checkLimit refuses a file that the limits of the process do not let it
// write to its end: the attempt would end the process by SIGXFSZ.
func (d *file) checkLimit() error {
	if d.device || d.info.ReadOnly {
		return nil
	}
	return limitAllows(d.path, d.info.Size)
}

func limitAllows(path string, size int64) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &l); err != nil || l.Cur >= uint64(size) {
		return nil
	}
	return fmt.Errorf("%s has %d bytes, the process may write files of up to %d (ulimit -f): %w", path, size, l.Cur, unix.EFBIG)
}
