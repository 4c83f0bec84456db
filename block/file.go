package block

import (
	"context"
	"io"
	"iter"
	"os"
	"sync"
)

// FromFile returns a device of the bytes that f has now and owns f. It works
// with every kind of file on every system, and is as simple as that: package
// source has one for Linux that punches holes, knows extents and does not
// block.
func FromFile(f *os.File) (Device, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &fileDevice{f: f, info: Info{Size: size}}, nil
}

type fileDevice struct {
	gate Gate
	info Info
	f    *os.File

	mu   sync.Mutex
	lost error // of the first sync that failed
}

func (d *fileDevice) Info() Info { return d.info }

func (d *fileDevice) ReadAt(ctx context.Context, p []byte, off int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	if n, err := d.f.ReadAt(p, off); n < len(p) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

func (d *fileDevice) WriteAt(ctx context.Context, p []byte, off int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckWrite(off, len(p)); err != nil {
		return err
	}
	return d.write(p, off, flags)
}

// write is WriteAt inside the gate.
func (d *fileDevice) write(p []byte, off int64, flags Flags) error {
	if _, err := d.f.WriteAt(p, off); err != nil {
		return err
	}
	if flags&FUA != 0 {
		return d.sync()
	}
	return nil
}

func (d *fileDevice) Zero(ctx context.Context, off, n int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return WriteZeros(ctx, insideFile{Pass{d}}, off, n, flags)
}

// insideFile is a fileDevice for a request that has passed its gate.
type insideFile struct{ Pass }

func (d insideFile) WriteAt(ctx context.Context, p []byte, off int64, flags Flags) error {
	return d.Device.(*fileDevice).write(p, off, flags)
}

func (d *fileDevice) Trim(ctx context.Context, off, n int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return d.info.CheckChange(off, n)
}

func (d *fileDevice) Flush(ctx context.Context) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return d.sync()
}

// sync brings the file to stable storage. Once that has failed it fails for
// ever: the kernel reports the loss of dirty pages one time only, and the next
// fsync would succeed without them.
func (d *fileDevice) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost == nil {
		d.lost = d.f.Sync()
	}
	return d.lost
}

func (d *fileDevice) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[Extent, error] {
	return plainExtents(&d.gate, &d.info, mc, off, n)
}

func (d *fileDevice) Close() error {
	if err := d.gate.Close(); err != nil {
		return err
	}
	return d.f.Close()
}
