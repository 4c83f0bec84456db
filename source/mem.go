package source

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/strata-storage/strata/block"
)

// MemOptions configures Mem.
type MemOptions struct {
	_    struct{} `doc:"A sparse disk in memory." long:"Memory is used for what has been written and returned by trim and zero, in pages of 4 KiB, so that a disk of an exabyte costs nothing until it is used. Nothing survives the process: flush has no stable storage to reach."`
	Size int64    `name:"size" arg:"1" required:"true" unit:"bytes" doc:"Size of the disk."`
}

// Mem returns a disk in memory that reads as zeros until it is written. It
// costs memory for the pages of 4 KiB that have been written, outside the Go
// heap, and gives it back on Trim, Zero and Close. Flush and FUA succeed and
// promise nothing: the disk ends with the process. Zero with NoHole keeps the
// pages that exist; it reserves none.
//
// When the system refuses more address space, writes fail with ErrNoMemory.
func Mem(ctx context.Context, o MemOptions) (block.Device, error) {
	if err := checkSize("mem", o.Size); err != nil {
		return nil, err
	}
	d := &mem{info: block.Info{
		Size:           o.Size,
		PreferredBlock: pageSize,
		Trims:          true,
		FastZeros:      true,
		NativeFUA:      true,
		CheapExtents:   true,
		NoWait:         true,
	}}
	d.chunks.init((uint64(o.Size) + chunkSize - 1) / chunkSize)
	d.arena.limit = o.Size
	return d, nil
}

type mem struct {
	gate   block.Gate
	info   block.Info
	chunks chunkTable
	arena  arena
	notes  sync.Map // texts by their keys
}

func (d *mem) Info() block.Info { return d.info }

func (d *mem) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	err := d.read(p, off, flags)
	d.gate.Leave()
	return err
}

func (d *mem) read(p []byte, off int64, flags block.Flags) error {
	if err := d.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	for len(p) > 0 {
		at := int(off % chunkSize)
		n := min(len(p), chunkSize-at)
		c := d.chunks.get(uint64(off) / chunkSize)
		switch {
		case c == nil:
			clear(p[:n])
		case flags&block.NoWait == 0:
			c.mu.RLock()
			c.read(p[:n], at)
			c.mu.RUnlock()
		case c.mu.TryRLock():
			c.read(p[:n], at)
			c.mu.RUnlock()
		default:
			return block.ErrWouldBlock
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (d *mem) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	err := d.write(p, off, flags)
	d.gate.Leave()
	return err
}

func (d *mem) write(p []byte, off int64, flags block.Flags) error {
	if err := d.info.CheckWrite(off, len(p)); err != nil {
		return err
	}
	for len(p) > 0 {
		at := int(off % chunkSize)
		n := min(len(p), chunkSize-at)
		i := uint64(off) / chunkSize
		c := d.chunks.get(i)
		if c == nil {
			c = d.chunks.add(i)
		}
		switch {
		case flags&block.NoWait == 0:
			c.mu.Lock()
		case !c.mu.TryLock():
			return block.ErrWouldBlock
		}
		err := c.write(&d.arena, p[:n], at)
		c.mu.Unlock()
		if err != nil {
			return fmt.Errorf("mem: %w", err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (d *mem) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.zero(ctx, off, n, flags&block.NoHole != 0)
}

func (d *mem) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.zero(ctx, off, n, false)
}

// zero visits the chunks that exist, however large the range is.
func (d *mem) zero(ctx context.Context, off, n int64, keep bool) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	if err := d.info.CheckChange(off, n); err != nil || n == 0 {
		return err
	}
	begin, end := uint64(off), uint64(off)+uint64(n)
	if off+n == d.info.Size {
		// The last page is whole even where the disk ends inside it.
		end = (end + pageSize - 1) / pageSize * pageSize
	}
	last := (end - 1) / chunkSize
	for i, c := d.chunks.next(begin/chunkSize, last); c != nil; i, c = d.chunks.next(i+1, last) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		base := i * chunkSize
		from, to := max(begin, base)-base, min(end-base, chunkSize)
		c.mu.Lock()
		c.zero(&d.arena, int(from), int(to), keep)
		c.mu.Unlock()
	}
	return nil
}

func (d *mem) Flush(ctx context.Context) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	d.gate.Leave()
	return nil
}

func (d *mem) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := d.gate.Enter(); err != nil {
		return block.FailExtents(err)
	}
	defer d.gate.Leave()
	if err := d.info.CheckExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return block.MergeExtents(func(yield func(block.Extent, error) bool) {
		for at, end := off, off+n; at < end; {
			e, err := d.extent(at, end)
			if !yield(e, err) || err != nil {
				return
			}
			at = e.End()
		}
	})
}

// extent returns a prefix of [off, end) that has one status. It is a request
// of its own, so that the device can be closed while a caller looks at the
// extents.
func (d *mem) extent(off, end int64) (block.Extent, error) {
	if err := d.gate.Enter(); err != nil {
		return block.Extent{}, err
	}
	defer d.gate.Leave()
	e := block.Extent{Off: off, Len: end - off, Status: block.Hole | block.Zero}
	first := uint64(off) / chunkSize
	i, c := d.chunks.next(first, uint64(end-1)/chunkSize)
	if c == nil {
		return e, nil
	}
	if i > first {
		e.Len = int64(i*chunkSize) - off
		return e, nil
	}
	base := off - off%chunkSize
	c.mu.RLock()
	used, to := c.run(int(off - base))
	c.mu.RUnlock()
	if used {
		e.Status = 0
	}
	e.Len = min(end-base, int64(to)) + base - off
	return e, nil
}

func (d *mem) Close() error {
	if err := d.gate.Close(); err != nil {
		return err
	}
	d.chunks = chunkTable{}
	return d.arena.close()
}
