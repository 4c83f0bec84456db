// Package source holds the devices that have no device under them: files and
// block devices, memory, test patterns, remote NBD exports.
//
// Each source is one constructor, a function of a context and a struct of
// options. The context bounds the construction only; a device lives until it
// is closed. The package needs Linux.
package source

import (
	"context"
	"fmt"
	"iter"

	"github.com/strata-storage/strata/block"
)

// checkSize reports whether size can be the size of the source called name.
func checkSize(name string, size int64) error {
	if size < 0 {
		return fmt.Errorf("%s: size %d is negative: %w", name, size, block.ErrInvalid)
	}
	return nil
}

// plain is what the sources that keep no data have in common.
type plain struct {
	gate   block.Gate
	info   block.Info
	status uint64 // of every extent
}

func (d *plain) Info() block.Info { return d.info }

// pass makes a request out of check.
func (d *plain) pass(check error) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	d.gate.Leave()
	return check
}

func (d *plain) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return d.pass(d.info.CheckWrite(off, len(p)))
}

func (d *plain) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.pass(d.info.CheckChange(off, n))
}

func (d *plain) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.pass(d.info.CheckChange(off, n))
}

func (d *plain) Flush(ctx context.Context) error { return d.pass(nil) }

func (d *plain) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := d.pass(d.info.CheckExtents(mc, off, n)); err != nil {
		return block.FailExtents(err)
	}
	return block.OneExtent(off, n, d.status)
}

func (d *plain) Close() error { return d.gate.Close() }
