package source

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

// flushes lets requests to flush that wait for each other share one call, and
// remembers a failure for good.
type flushes struct {
	begun atomic.Uint64
	mu    sync.Mutex
	done  uint64 // number of the last call that succeeded
	err   error
}

// do returns nil after a call of sync that began after do did and succeeded.
// As soon as one has failed it returns the error without a call.
func (f *flushes) do(sync func() error) error {
	need := f.begun.Load() + 1
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil || f.done >= need {
		return f.err
	}
	this := f.begun.Add(1)
	if f.err = sync(); f.err == nil {
		f.done = this
	}
	return f.err
}

// flush makes all that has been written durable.
//
// The size of the file is fixed, so that fdatasync is enough: it omits only
// what is not needed to read the data back (fdatasync(2)), and ext4 and XFS
// count a changed extent, as a punched hole is one, among what is needed
// (i_datasync_tid in ext4_punch_hole, ili_fsync_fields in xfs_file_fsync).
func (d *file) flush() error {
	return d.flushes.do(func() error {
		err := d.kernel.sync(d.side)
		if err != nil {
			err = fmt.Errorf("flush of %s has failed, what was written before may be lost, reopen it to go on: %w", d.path, err)
		}
		return err
	})
}

// writeDurable writes p and makes it durable. It writes back no more than
// that, while a flush would write back all that is dirty.
func (d *file) writeDurable(p []byte, off int64) error {
	fd, err := d.syncs.get()
	if err != nil {
		return d.writeFlush(p, off)
	}
	defer d.syncs.put(fd)
	err = d.writeTo(fd, p, off, unix.RWF_DSYNC)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return d.writeFlush(p, off)
	}
	return err
}

func (d *file) writeFlush(p []byte, off int64) error {
	if err := d.writeAll(p, off); err != nil {
		return err
	}
	return d.flush()
}

// flushIf ends a zero or trim.
func (d *file) flushIf(flags block.Flags) error {
	if d.always || flags&block.FUA != 0 {
		return d.flush()
	}
	return nil
}

// syncFiles are further open file descriptions of one file, one for each
// durable write in flight. When writing back fails in the background, Linux
// tells every description once, at its next sync. Two calls that share a
// description would share that answer: the one that gets it fails, and the
// other, whose bytes were those that were lost, succeeds.
type syncFiles struct {
	again func() (int, error)
	mu    sync.Mutex
	idle  []int
}

func (s *syncFiles) get() (int, error) {
	s.mu.Lock()
	if k := len(s.idle); k > 0 {
		fd := s.idle[k-1]
		s.idle = s.idle[:k-1]
		s.mu.Unlock()
		return fd, nil
	}
	s.mu.Unlock()
	return s.again()
}

func (s *syncFiles) put(fd int) {
	s.mu.Lock()
	s.idle = append(s.idle, fd)
	s.mu.Unlock()
}

// close closes the descriptions. None may be in use.
func (s *syncFiles) close() error {
	var err error
	for _, fd := range s.idle {
		err = errors.Join(err, unix.Close(fd))
	}
	s.idle = nil
	return err
}
