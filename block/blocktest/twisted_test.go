package blocktest

import (
	"context"
	"iter"

	"github.com/strata-storage/strata/block"
)

// twisted is a device of which a test replaces some methods.
type twisted struct {
	block.Pass
	info    func(block.Info) block.Info
	read    func(ctx context.Context, p []byte, off int64, flags block.Flags) error
	write   func(ctx context.Context, p []byte, off int64, flags block.Flags) error
	zero    func(ctx context.Context, off, n int64, flags block.Flags) error
	trim    func(ctx context.Context, off, n int64, flags block.Flags) error
	flush   func(ctx context.Context) error
	extents func(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error]
	close   func() error
}

func (d *twisted) Info() block.Info {
	if d.info != nil {
		return d.info(d.Pass.Info())
	}
	return d.Pass.Info()
}

func (d *twisted) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if d.read != nil {
		return d.read(ctx, p, off, flags)
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *twisted) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if d.write != nil {
		return d.write(ctx, p, off, flags)
	}
	return d.Pass.WriteAt(ctx, p, off, flags)
}

func (d *twisted) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if d.zero != nil {
		return d.zero(ctx, off, n, flags)
	}
	return d.Pass.Zero(ctx, off, n, flags)
}

func (d *twisted) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if d.trim != nil {
		return d.trim(ctx, off, n, flags)
	}
	return d.Pass.Trim(ctx, off, n, flags)
}

func (d *twisted) Flush(ctx context.Context) error {
	if d.flush != nil {
		return d.flush(ctx)
	}
	return d.Pass.Flush(ctx)
}

func (d *twisted) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if d.extents != nil {
		return d.extents(ctx, mc, off, n)
	}
	return d.Pass.Extents(ctx, mc, off, n)
}

func (d *twisted) Close() error {
	if d.close != nil {
		return d.close()
	}
	return d.Pass.Close()
}

// everyExtent returns an Extents that changes each extent of d with f.
func everyExtent(d *twisted, f func(block.Extent) block.Extent) func(context.Context, string, int64, int64) iter.Seq2[block.Extent, error] {
	return func(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
		return func(yield func(block.Extent, error) bool) {
			for e, err := range d.Device.Extents(ctx, mc, off, n) {
				if !yield(f(e), err) {
					return
				}
			}
		}
	}
}
