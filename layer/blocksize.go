package layer

import (
	"context"
	"fmt"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/rangelock"
)

// BlockSizeOptions choose the block sizes of a device.
type BlockSizeOptions struct {
	_         struct{} `doc:"Changes the block sizes of a device: accepts requests that are not aligned, and splits those that are too long." long:"What does not fill a block of the device is read, changed and written back, safely against other such requests. The least size can also be raised."`
	Min       int      `name:"min" unit:"bytes" default:"1" doc:"What offsets and lengths of requests must be multiples of: a power of two up to 64K."`
	Preferred int      `name:"preferred" unit:"bytes" doc:"The smallest efficient request that is advertised, a power of two; 0 is that of the device."`
	Max       int      `name:"max" unit:"bytes" doc:"The longest read or write that is passed on, a multiple of the device's block size; longer ones are split. 0 is that of the device."`
}

// BlockSize returns dev with other block sizes: MinBlock is o.Min, and
// requests may have any length. A request that fills blocks of dev in part is
// carried out by reading and writing those blocks, in turn with all others
// that touch them, so it never undoes another write. Trim leaves such blocks
// alone. It is an error if the size of dev is not a multiple of o.Min.
func BlockSize(dev block.Device, o BlockSizeOptions) (block.Device, error) {
	b := &blockSize{dev: dev, info: dev.Info()}
	b.unit = int64(max(b.info.MinBlock, 1))
	if o.Min == 0 {
		o.Min = 1
	}
	if o.Preferred == 0 {
		o.Preferred = max(preferredBlock(&b.info), o.Min)
	}
	switch {
	case !isPowerOfTwo(o.Min) || o.Min > 64<<10:
		return nil, fmt.Errorf("blocksize: min is %d, must be a power of two from 1 to 65536: %w", o.Min, block.ErrInvalid)
	case !isPowerOfTwo(o.Preferred) || o.Preferred < max(512, o.Min):
		return nil, fmt.Errorf("blocksize: preferred is %d, must be a power of two and at least %d: %w",
			o.Preferred, max(512, o.Min), block.ErrInvalid)
	case o.Max < 0 || int64(o.Max)%b.unit != 0:
		return nil, fmt.Errorf("blocksize: max is %d, must be a multiple of the device's block size %d: %w", o.Max, b.unit, block.ErrInvalid)
	case b.info.MaxBlock > 0 && o.Max > b.info.MaxBlock:
		return nil, fmt.Errorf("blocksize: max is %d, the device takes at most %d: %w", o.Max, b.info.MaxBlock, block.ErrInvalid)
	case b.info.Size%int64(o.Min) != 0:
		return nil, fmt.Errorf("blocksize: the device has %d bytes, must be a multiple of min %d: %w", b.info.Size, o.Min, block.ErrInvalid)
	}
	b.most = int64(b.info.MaxBlock)
	if o.Max > 0 {
		b.most = int64(o.Max)
	}
	if b.most == 0 {
		b.most = b.info.Size
	}
	if b.cut = max(b.unit, 512); b.most < b.cut {
		b.cut = b.unit
	}
	b.smaller = int64(o.Min) < b.unit
	b.info.MinBlock, b.info.PreferredBlock, b.info.MaxBlock = o.Min, o.Preferred, 0
	b.buffers.New = func() any { p := make([]byte, 2*b.unit); return &p }
	return b, nil
}

func isPowerOfTwo(n int) bool { return n > 0 && n&(n-1) == 0 }

type blockSize struct {
	latch
	// gate is entered by requests that make several of the device.
	gate block.Gate
	dev  block.Device
	info block.Info
	// unit is the block size of dev, most the longest read or write that
	// goes to it.
	unit, most int64
	// cut is what the offsets at which requests are split are multiples of:
	// a sector, so that none is written in two pieces, if most allows it.
	cut int64
	// smaller says that requests need not be multiples of unit.
	smaller bool
	// blocks are held shared by changes of whole blocks, alone by those of
	// parts of one: these write back what was there before.
	blocks rangelock.Lock
	// buffers are two units long.
	buffers sync.Pool
}

func (b *blockSize) Info() block.Info { return b.info }

func (b *blockSize) down(off int64) int64 { return off &^ (b.unit - 1) }
func (b *blockSize) up(off int64) int64   { return (off + b.unit - 1) &^ (b.unit - 1) }

// aligned reports whether a request needs nothing but whole blocks.
func (b *blockSize) aligned(off, n int64) bool { return (off|n)&(b.unit-1) == 0 }

func (b *blockSize) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	n := int64(len(p))
	if err := b.info.CheckRead(off, len(p)); err != nil {
		return b.refuse(err)
	}
	if b.aligned(off, n) && n <= b.most {
		return b.dev.ReadAt(ctx, p, off, flags)
	}
	if n == 0 {
		return b.dev.ReadAt(ctx, p, b.down(off), flags)
	}
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	if b.aligned(off, n) {
		return b.pieces(ctx, OpRead, p, off, flags)
	}
	start, end := b.down(off), b.up(off+n)
	if end-start <= 2*b.unit {
		return b.readPart(ctx, p, off, flags)
	}
	// The blocks that are wanted in part, then those between them.
	if start < off {
		k := start + b.unit - off
		if err := b.readPart(ctx, p[:k], off, flags); err != nil {
			return err
		}
		p, off = p[k:], off+k
	}
	if k := int64(len(p)) & (b.unit - 1); k > 0 {
		m := int64(len(p)) - k
		if err := b.readPart(ctx, p[m:], off+m, flags); err != nil {
			return err
		}
		p = p[:m]
	}
	return b.pieces(ctx, OpRead, p, off, flags)
}

// readPart reads bytes of one or two blocks.
func (b *blockSize) readPart(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	buf := b.buffers.Get().(*[]byte)
	defer b.buffers.Put(buf)
	start := b.down(off)
	q := (*buf)[:b.up(off+int64(len(p)))-start]
	if err := b.pieces(ctx, OpRead, q, start, flags); err != nil {
		return err
	}
	copy(p, q[off-start:])
	return nil
}

// pieces reads or writes whole blocks in pieces that the device takes.
func (b *blockSize) pieces(ctx context.Context, op Op, p []byte, off int64, flags block.Flags) error {
	n := int64(len(p))
	if n <= b.most {
		if op == OpRead {
			return b.dev.ReadAt(ctx, p, off, flags)
		}
		return b.dev.WriteAt(ctx, p, off, flags)
	}
	s := newScatter(ctx, op, p, flags)
	defer s.free()
	for at := int64(0); at < n; {
		next := min((off+at+b.most)&^(b.cut-1)-off, n)
		s.parts = append(s.parts, part{dev: b.dev, off: off + at, n: next - at, at: at})
		at = next
	}
	_, err := s.run()
	return err
}

func (b *blockSize) Flush(ctx context.Context) error { return b.dev.Flush(ctx) }

func (b *blockSize) Close() error {
	if err := b.gate.Close(); err != nil {
		return err
	}
	b.shut()
	return b.dev.Close()
}
