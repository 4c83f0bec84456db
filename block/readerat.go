package block

import (
	"context"
	"io"
	"iter"
)

// FromReaderAt returns a read-only device of the first size bytes of r. If r
// is an io.Closer, Close closes it. An r that ends early makes reads fail
// with an error that wraps io.ErrUnexpectedEOF.
func FromReaderAt(r io.ReaderAt, size int64) Device {
	return &readerDevice{r: r, info: Info{Size: size, ReadOnly: true}}
}

type readerDevice struct {
	gate Gate
	info Info
	r    io.ReaderAt
}

func (d *readerDevice) Info() Info { return d.info }

func (d *readerDevice) ReadAt(ctx context.Context, p []byte, off int64, flags Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	n, err := d.r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *readerDevice) WriteAt(ctx context.Context, p []byte, off int64, flags Flags) error {
	return d.refuse()
}

func (d *readerDevice) Zero(ctx context.Context, off, n int64, flags Flags) error { return d.refuse() }
func (d *readerDevice) Trim(ctx context.Context, off, n int64, flags Flags) error { return d.refuse() }

func (d *readerDevice) refuse() error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	d.gate.Leave()
	return ErrReadOnly
}

func (d *readerDevice) Flush(ctx context.Context) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	d.gate.Leave()
	return nil
}

func (d *readerDevice) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[Extent, error] {
	return plainExtents(&d.gate, &d.info, mc, off, n)
}

func (d *readerDevice) Close() error {
	if err := d.gate.Close(); err != nil {
		return err
	}
	if c, ok := d.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
