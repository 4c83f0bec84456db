package disk

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// A volume is a version as a device: what a gateway makes of disks, in short.
type volume struct {
	disk    *Disk
	version uint64
	object  int64
	info    block.Info
	gate    block.Gate
}

func (v *volume) Info() block.Info { return v.info }

// each calls f with the parts of a range.
func (v *volume) each(check error, off, n int64, f func(at At, off, n, from int64) error) error {
	if err := v.gate.Enter(); err != nil {
		return err
	}
	defer v.gate.Leave()
	if check != nil {
		return check
	}
	for from := int64(0); from < n; {
		k := min(n-from, v.object-off%v.object)
		if err := f(at(uint64(off/v.object), v.version), off%v.object, k, from); err != nil {
			return err
		}
		off, from = off+k, from+k
	}
	return nil
}

func (v *volume) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return v.each(v.info.CheckRead(off, len(p)), off, int64(len(p)), func(at At, off, n, from int64) error {
		if flags&block.NoWait != 0 {
			if !v.disk.ReadNow(at, p[from:from+n], off) {
				return block.ErrWouldBlock
			}
			return nil
		}
		return v.disk.Read(ctx, at, p[from:from+n], off)
	})
}

func (v *volume) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := v.each(v.info.CheckWrite(off, len(p)), off, int64(len(p)), func(at At, off, n, from int64) error {
		if flags&block.NoWait != 0 {
			if flags&block.FUA != 0 {
				return block.ErrWouldBlock
			}
			done, err := v.disk.WriteNow(at, p[from:from+n], off)
			if !done {
				err = block.ErrWouldBlock
			}
			return err
		}
		return v.disk.Write(ctx, at, p[from:from+n], off)
	})
	return v.fua(ctx, err, flags)
}

func (v *volume) fua(ctx context.Context, err error, flags block.Flags) error {
	if err == nil && flags&block.FUA != 0 {
		err = v.Flush(ctx)
	}
	return err
}

func (v *volume) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	err := v.each(v.info.CheckChange(off, n), off, n, func(at At, off, n, _ int64) error {
		return v.disk.Zero(ctx, at, off, n)
	})
	return v.fua(ctx, err, flags)
}

func (v *volume) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	err := v.each(v.info.CheckChange(off, n), off, n, func(at At, off, n, _ int64) error {
		return v.disk.Trim(ctx, at, off, n)
	})
	return v.fua(ctx, err, flags)
}

func (v *volume) Flush(ctx context.Context) error {
	return v.each(nil, 0, 1, func(At, int64, int64, int64) error { return v.disk.Flush(ctx) })
}

func (v *volume) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		stop := errors.New("enough")
		err := v.each(v.info.CheckExtents(mc, off, n), off, n, func(at At, in, n, from int64) error {
			for e, err := range v.disk.Extents(ctx, at, in, n) {
				if err != nil {
					return err
				}
				e.Off += off + from - in
				if !yield(e, nil) {
					return stop
				}
			}
			return nil
		})
		if err != nil && err != stop {
			yield(block.Extent{}, err)
		}
	}
}

func (v *volume) Close() error {
	if err := v.gate.Close(); err != nil {
		return err
	}
	return v.disk.Close()
}

const volumeSize = 3*modelObject + 7*sector

// A version of a family is a block device.
func TestConformance(t *testing.T) {
	t.Parallel()
	open := func(l *lab) block.Device {
		l.ok(l.tryOpen())
		return &volume{disk: l.Disk, version: 2, object: modelObject, info: block.Info{Size: volumeSize, CheapExtents: true, Trims: true, NoWait: true}}
	}
	create := func(t testing.TB) *lab {
		l := newLab(t, minSlab+4<<20)
		l.trees.add(1, 0)
		l.ok(l.tryOpen())
		p := make([]byte, volumeSize/2)
		blocktest.Fill(p, 0, 1)
		v := &volume{disk: l.Disk, version: 1, object: modelObject, info: block.Info{Size: volumeSize}}
		l.ok(v.WriteAt(t.Context(), p, sector, 0))
		l.ok(v.Close())
		l.trees.add(1, 1)
		return l
	}
	blocktest.Run(t, func(t testing.TB) block.Device { return open(create(t)) },
		blocktest.Seeds(times(3)),
		blocktest.Reopen(func(t testing.TB) func() block.Device {
			l := create(t)
			return func() block.Device { return open(l) }
		}))
}
