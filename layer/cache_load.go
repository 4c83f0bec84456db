package layer

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// miss reads the bytes at the beginning of p, at offset off, whose block was
// not in memory, and returns how many it has read. That is 0 if the block has
// come into memory meanwhile.
func (c *cache) miss(ctx context.Context, p []byte, off int64, flags block.Flags) (int, error) {
	i, start, k := c.within(off, len(p))
	b, loading, loaded := c.shard(i).claim(i)
	switch {
	case loaded:
		return 0, nil
	case loading != nil:
		select {
		case <-loading:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		if c.shard(i).read(p[:k], i, start) {
			c.hits.Add(1)
			return k, nil
		}
		// The other request failed, or what it read is outdated or gone
		// already. Trying again might go on for ever.
		return k, c.direct(ctx, p[:k], off, flags)
	case b == nil: // every block is being loaded
		return k, c.direct(ctx, p[:k], off, flags)
	case k == 1<<c.shift:
		return c.loadRun(ctx, p, off, flags, b)
	}
	c.misses.Add(1)
	if !c.loadBlock(ctx, p[:k], b, start, flags) {
		// What cannot be read may lie outside of what is asked for.
		return k, c.Device.ReadAt(ctx, p[:k], off, flags)
	}
	return k, nil
}

// direct reads a part of a block past the cache.
func (c *cache) direct(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	c.misses.Add(1)
	return c.Device.ReadAt(ctx, p, off, flags)
}

// loadBlock loads a block that is claimed, copies its bytes from start on to p
// and reports whether it could.
func (c *cache) loadBlock(ctx context.Context, p []byte, b *cacheBlock, start int, flags block.Flags) bool {
	first := b.index << c.shift
	data := b.data[:min(int64(len(b.data)), c.info.Size-first)]
	step := len(data)
	if c.info.MaxBlock > 0 {
		step = min(step, c.info.MaxBlock)
	}
	var err error
	for at := 0; at < len(data) && err == nil; at += step {
		err = c.Device.ReadAt(ctx, data[at:min(at+step, len(data))], first+int64(at), flags)
	}
	copy(p, data[start:])
	c.shard(b.index).finish(b, err == nil)
	return err == nil
}

// loadRun loads the whole blocks at the beginning of p that nobody else has or
// loads, of which the first is claimed, in one request.
func (c *cache) loadRun(ctx context.Context, p []byte, off int64, flags block.Flags, first *cacheBlock) (int, error) {
	size := 1 << c.shift
	run := append(make([]*cacheBlock, 0, 16), first)
	for n := size; len(p)-n >= size; n += size {
		i := (off + int64(n)) >> c.shift
		b, _, _ := c.shard(i).claim(i)
		if b == nil {
			break
		}
		run = append(run, b)
	}
	c.misses.Add(uint64(len(run)))
	n := len(run) << c.shift
	err := c.Device.ReadAt(ctx, p[:n], off, flags)
	for j, b := range run {
		if err == nil {
			copy(b.data, p[j<<c.shift:])
		}
		c.shard(b.index).finish(b, err == nil)
	}
	return n, err
}
