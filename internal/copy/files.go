package copy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/block"
)

// Files copies the regular file src to the beginning of the regular file dst
// inside the kernel, where file systems that can share storage do so. Holes
// stay holes. It is to files what Devices is to devices, with the same
// promises. Options.Sparse has no meaning here: zeros that are stored are
// copied.
func Files(ctx context.Context, dst, src *os.File, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	from, err := src.Stat()
	if err != nil {
		return err
	}
	to, err := dst.Stat()
	if err != nil {
		return err
	}
	switch {
	case os.SameFile(from, to):
		return errors.New("source and destination are the same file")
	case to.Size() < from.Size():
		return fmt.Errorf("%w: it has %d bytes, the source %d", ErrTooSmall, to.Size(), from.Size())
	}
	f := &fileCopier{dst: dst, src: src, o: o, size: from.Size()}
	if err := f.run(ctx); err != nil {
		return err
	}
	if o.Unflushed {
		return nil
	}
	if err := dst.Sync(); err != nil {
		return fmt.Errorf("flush the destination: %w", err)
	}
	return nil
}

// A fileCopier copies with two goroutines: the kernel copies as fast as
// memory, and more of them only wait for each other.
type fileCopier struct {
	dst, src *os.File
	o        Options
	size     int64
}

const (
	fileCopiers = 2
	// filePiece is what is copied by one call: progress and cancelling wait
	// for it.
	filePiece = 8 << 20
)

func (f *fileCopier) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pieces := make(chan piece)
	var workers sync.WaitGroup
	for range fileCopiers {
		workers.Go(func() {
			for p := range pieces {
				if context.Cause(ctx) != nil {
					continue // drain
				}
				if err := f.move(ctx, p); err != nil {
					cancel(err)
				}
			}
		})
	}
	if err := f.plan(ctx, pieces); err != nil {
		cancel(err)
	}
	close(pieces)
	workers.Wait()
	return context.Cause(ctx)
}

// plan sends the data and the holes of src. A file system that does not know
// its holes reports data everywhere.
func (f *fileCopier) plan(ctx context.Context, pieces chan<- piece) error {
	for off := int64(0); off < f.size; {
		data, err := unix.Seek(int(f.src.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, syscall.ENXIO) || err == nil && data > f.size:
			data = f.size
		case err != nil:
			data = off
		}
		hole, err := unix.Seek(int(f.src.Fd()), data, unix.SEEK_HOLE)
		if err != nil || hole > f.size {
			hole = f.size
		}
		if !send(ctx, pieces, off, data, zeroPiece, true) || !send(ctx, pieces, data, hole, filePiece, false) {
			return nil
		}
		off = hole
	}
	return nil
}

func send(ctx context.Context, pieces chan<- piece, off, end, step int64, zero bool) bool {
	for ; off < end; off += step {
		select {
		case pieces <- piece{off, min(step, end-off), zero}:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (f *fileCopier) move(ctx context.Context, p piece) error {
	if !p.zero {
		return f.data(ctx, p.off, p.off+p.n)
	}
	if !f.o.Zeroed {
		if err := f.zero(p.off, p.n); err != nil {
			return fmt.Errorf("zero %d bytes at offset %d of the destination: %w", p.n, p.off, err)
		}
	}
	f.o.Progress.add(0, p.n)
	return nil
}

func (f *fileCopier) zero(off, n int64) error {
	err := unix.Fallocate(int(f.dst.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == nil || !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	dev, err := block.FromFile(f.dst)
	if err != nil {
		return err
	}
	return block.WriteZeros(context.Background(), dev, off, n, 0)
}

func (f *fileCopier) data(ctx context.Context, off, end int64) error {
	for off < end {
		from, to := off, off
		n, err := unix.CopyFileRange(int(f.src.Fd()), &from, int(f.dst.Fd()), &to, int(end-off), 0)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case cannotCopyRange(err):
			return f.dataByHand(ctx, off, end)
		case err != nil:
			return fmt.Errorf("copy %d bytes at offset %d: %w", end-off, off, err)
		case n == 0:
			return fmt.Errorf("read %d bytes at offset %d of the source: %w", end-off, off, io.ErrUnexpectedEOF)
		}
		f.o.Progress.add(int64(n), 0)
		off += int64(n)
	}
	return nil
}

// cannotCopyRange tells the errors of copy_file_range(2) that speak of the
// call, not of the files.
func cannotCopyRange(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EINVAL) ||
		errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM)
}

func (f *fileCopier) dataByHand(ctx context.Context, off, end int64) error {
	buf := alignedBuffer(int(min(end-off, int64(f.o.Request))))
	for off < end {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), end-off)]
		if n, err := f.src.ReadAt(p, off); n < len(p) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read %d bytes at offset %d of the source: %w", len(p), off, err)
		}
		if _, err := f.dst.WriteAt(p, off); err != nil {
			return fmt.Errorf("write %d bytes at offset %d of the destination: %w", len(p), off, err)
		}
		f.o.Progress.add(int64(len(p)), 0)
		off += int64(len(p))
	}
	return nil
}
