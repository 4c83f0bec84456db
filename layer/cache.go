package layer

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/rangelock"
)

// CacheOptions are the options of Cache.
type CacheOptions struct {
	_     struct{} `doc:"Keeps in memory what was read, in blocks." long:"Writes go through to the device and into the blocks that are in memory. Reading a disk from end to end once does not drive out what is read time and again. Nobody else may write to the device underneath."`
	Size  int64    `name:"size" arg:"1" unit:"bytes" default:"64M" doc:"The most memory that is used, bookkeeping included; at least one block and 256 bytes."`
	Block int64    `name:"block" unit:"bytes" default:"64K" doc:"The size of a block, a power of two from 512 bytes to 16M; a miss reads all of the blocks that it touches."`
}

const (
	defaultCacheSize  = 64 << 20
	defaultCacheBlock = 64 << 10
	maxCacheBlock     = 16 << 20
	// cacheOverhead is more memory than a block takes beyond its content:
	// its entry and its places in a map, a queue and the list of the blocks
	// that were dropped of late.
	cacheOverhead = 256
)

// A Cacher is what Cache returns.
type Cacher interface {
	block.Device
	// CacheStats returns the totals so far. It may be called at any time.
	CacheStats() CacheStats
}

// CacheStats tell what a cache does.
type CacheStats struct {
	// Hits and Misses count blocks: those that reads found in memory, and
	// those that they had to ask the device for.
	Hits   uint64 `json:"hits"`
	Misses uint64 `json:"misses"`
	// Bytes is the content of the blocks in memory, those being loaded
	// included. Limit is the most that it can be.
	Bytes int64 `json:"bytes"`
	Limit int64 `json:"limit"`
}

// Cache returns dev with a read cache: a [Cacher]. A block that several
// requests want at the same time is read once.
//
// Info().NoWait is set: a read with NoWait is answered if all of it is in
// memory. A write with NoWait never is, because a write that gave up half-way
// would cost the blocks in memory that it touched.
func Cache(dev block.Device, o CacheOptions) (block.Device, error) {
	c := &cache{Pass: block.Pass{Device: dev}, info: dev.Info()}
	if o.Size == 0 {
		o.Size = defaultCacheSize
	}
	if o.Block == 0 {
		o.Block = max(defaultCacheBlock, int64(c.info.MinBlock))
	}
	switch {
	case o.Block < 512 || o.Block > maxCacheBlock || o.Block&(o.Block-1) != 0:
		return nil, fmt.Errorf("cache: block is %d, must be a power of two from 512 to %d", o.Block, maxCacheBlock)
	case o.Block < int64(c.info.MinBlock):
		return nil, fmt.Errorf("cache: block is %d, must be at least %d, the block size of the device", o.Block, c.info.MinBlock)
	case o.Size < o.Block+cacheOverhead:
		return nil, fmt.Errorf("cache: size is %d, must be at least %d, which is one block and the bookkeeping for it", o.Size, o.Block+cacheOverhead)
	}
	c.info.NoWait = true
	c.shift = bits.TrailingZeros64(uint64(o.Block))
	blocks := o.Size / (o.Block + cacheOverhead)
	blocks = min(blocks, (c.info.Size+o.Block-1)>>c.shift)
	c.limit = blocks << c.shift
	// Many shards for many processors, as long as each has a fair number of
	// blocks to choose a victim from.
	c.shards = make([]cacheShard, 1<<min(4, bits.Len64(uint64(blocks)>>7)))
	for i := range c.shards {
		n := int64(len(c.shards))
		c.shards[i].init(int((blocks+n-1-int64(i))/n), 1<<c.shift)
	}
	return c, nil
}

// A cache keeps coherent by three rules.
//
// A block is loaded with its entry in the map, so that whoever changes the
// device can see it.
//
// Whoever changes the device deals with the entries only once the device is
// done, and before the request returns: it updates or drops those that are
// loaded and detaches those that are being loaded, whose content may be
// older. A load that begins later reads what was written.
//
// Overlapping changes take turns, so that the entries are updated in the order
// in which the device was.
type cache struct {
	block.Pass
	info   block.Info
	shift  int // the logarithm of the block size
	limit  int64
	shards []cacheShard
	turns  rangelock.Lock
	closed atomic.Bool

	hits, misses atomic.Uint64
}

func (c *cache) Info() block.Info { return c.info }

// shard returns the shard that has block i.
func (c *cache) shard(i int64) *cacheShard { return &c.shards[i&int64(len(c.shards)-1)] }

// within returns the block that holds offset off, where in the block that is
// and how many of n bytes lie in the block.
func (c *cache) within(off int64, n int) (i int64, start, k int) {
	size := 1 << c.shift
	start = int(off & int64(size-1))
	return off >> c.shift, start, min(n, size-start)
}

func (c *cache) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if c.closed.Load() {
		return block.ErrClosed
	}
	if err := c.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	hits := uint64(0)
	for len(p) > 0 {
		i, start, k := c.within(off, len(p))
		if c.shard(i).read(p[:k], i, start) {
			hits++
		} else if flags&block.NoWait != 0 {
			// It comes again and is counted then.
			return block.ErrWouldBlock
		} else {
			var err error
			if k, err = c.miss(ctx, p, off, flags); err != nil {
				return err
			}
		}
		p, off = p[k:], off+int64(k)
	}
	c.hits.Add(hits)
	return nil
}

func (c *cache) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if c.closed.Load() {
		return block.ErrClosed
	}
	if err := c.info.CheckWrite(off, len(p)); err != nil {
		return err
	}
	if flags&block.NoWait != 0 {
		return block.ErrWouldBlock
	}
	turn, err := c.turns.Lock(ctx, off, int64(len(p)))
	if err != nil {
		return err
	}
	defer turn.Unlock()
	err = c.Device.WriteAt(ctx, p, off, flags)
	if err != nil {
		c.drop(off, int64(len(p)))
		return err
	}
	for len(p) > 0 {
		i, start, k := c.within(off, len(p))
		c.shard(i).update(p[:k], i, start)
		p, off = p[k:], off+int64(k)
	}
	return nil
}

func (c *cache) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return c.change(ctx, off, n, func() error { return c.Device.Zero(ctx, off, n, flags) })
}

func (c *cache) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return c.change(ctx, off, n, func() error { return c.Device.Trim(ctx, off, n, flags) })
}

// change makes a request that leaves a range of the device changed.
func (c *cache) change(ctx context.Context, off, n int64, request func() error) error {
	if c.info.CheckChange(off, n) != nil {
		return request() // which says what is wrong
	}
	turn, err := c.turns.Lock(ctx, off, n)
	if err != nil {
		return err
	}
	defer turn.Unlock()
	if err = request(); !errors.Is(err, block.ErrNotSupported) {
		c.drop(off, n)
	}
	return err
}

// drop forgets all blocks of a range.
func (c *cache) drop(off, n int64) {
	if n == 0 {
		return
	}
	first, last := off>>c.shift, (off+n-1)>>c.shift
	if last-first >= c.limit>>c.shift {
		// Fewer blocks are in memory than in the range.
		for s := range c.shards {
			c.shards[s].dropRange(first, last)
		}
		return
	}
	for i := first; i <= last; i++ {
		c.shard(i).drop(i)
	}
}

func (c *cache) Close() error {
	c.closed.Store(true)
	err := c.Device.Close()
	for s := range c.shards {
		c.shards[s].clear()
	}
	return err
}

func (c *cache) CacheStats() CacheStats {
	s := CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load(), Limit: c.limit}
	for i := range c.shards {
		s.Bytes += int64(c.shards[i].used()) << c.shift
	}
	return s
}
