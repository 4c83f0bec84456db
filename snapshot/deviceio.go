package snapshot

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/strata-storage/strata/block"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readDevice reads any number of bytes.
func readDevice(ctx context.Context, dev block.Device, p []byte, off int64, flags block.Flags) error {
	return transfer(ctx, dev, false, p, off, flags)
}

// writeDevice writes any number of bytes.
func writeDevice(ctx context.Context, dev block.Device, p []byte, off int64, flags block.Flags) error {
	return transfer(ctx, dev, true, p, off, flags)
}

// transfer makes as many requests as it takes. It is block.ErrWouldBlock if the
// device may wait and must not.
func transfer(ctx context.Context, dev block.Device, write bool, p []byte, off int64, flags block.Flags) (err error) {
	info := dev.Info()
	if flags&block.NoWait != 0 && !info.NoWait {
		return block.ErrWouldBlock
	}
	for err == nil && len(p) > 0 {
		n := len(p)
		if info.MaxBlock > 0 {
			n = min(n, info.MaxBlock)
		}
		if write {
			err = dev.WriteAt(ctx, p[:n], off, flags)
		} else {
			err = dev.ReadAt(ctx, p[:n], off, flags)
		}
		p, off = p[n:], off+int64(n)
	}
	return err
}

// readPlace reads len(p) bytes, skip bytes behind the beginning of chunk c,
// whose place is at. What lies behind the end of the origin is zeros.
func (s *Set) readPlace(ctx context.Context, at Place, c, skip int64, p []byte, flags block.Flags) error {
	switch at.Where {
	case Hole:
		clear(p)
		return nil
	case OnStore:
		return readDevice(ctx, s.dev, p, at.Off+skip, flags)
	case OnOrigin:
		off := c<<s.shift + skip
		if n := max(s.size-off, 0); int64(len(p)) > n {
			clear(p[n:])
			p = p[:n]
		}
		return readDevice(ctx, s.origin, p, off, flags)
	}
	return fmt.Errorf("the store says that chunk %d is nowhere: %w", c, ErrDamaged)
}

// sums appends the checksums of the chunks in p to sums, if the store wants them.
func (s *Set) sums(sums []uint32, p []byte) []uint32 {
	if !s.caps.Sums {
		return nil
	}
	sums = slices.Grow(sums, len(p)>>s.shift)
	for ; len(p) > 0; p = p[s.caps.Chunk:] {
		sums = append(sums, crc32.Checksum(p[:s.caps.Chunk], castagnoli))
	}
	return sums
}

// copyChunks makes the copies of a plan: each is read once.
func (s *Set) copyChunks(ctx context.Context, p *Plan) error {
	if len(p.Copies) == 0 {
		return nil
	}
	select {
	case s.copies <- struct{}{}:
		defer func() { <-s.copies }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	buffer, free := s.buffer(p.N)
	defer free()
	for i := range p.Copies {
		c := &p.Copies[i]
		if err := s.readPlace(ctx, c.From, p.Chunk, 0, buffer, 0); err != nil {
			return err
		}
		c.Sums = s.sums(c.Sums[:0], buffer)
		for _, to := range c.To {
			if err := writeDevice(ctx, s.dev, buffer, to, 0); err != nil {
				return err
			}
			s.counts.copied(p.N)
		}
	}
	return nil
}

// buffer returns room for n chunks, and a function that gives it back.
func (s *Set) buffer(n int64) ([]byte, func()) {
	if n != 1 {
		return make([]byte, n<<s.shift), func() {}
	}
	p := s.buffers.Get().(*[]byte)
	return *p, func() { s.buffers.Put(p) }
}
