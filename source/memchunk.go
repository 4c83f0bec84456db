package source

import (
	"fmt"
	"math/bits"
	"sync"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

const (
	pageSize      = 4 << 10
	chunkSize     = 2 << 20
	chunkPages    = chunkSize / pageSize
	populateAbove = 64 << 10
)

// A chunk is the part of a memory disk that is locked as one. Its memory is
// address space that the kernel fills with pages of 4 KiB on first use and
// empties on madvise, so that a chunk in which one page has been written
// costs one page.
type chunk struct {
	mu sync.RWMutex
	// mem is nil as long as no page is used.
	mem *[chunkSize]byte
	// used has a bit for each page that holds data. The memory of every
	// other page is zero.
	used [chunkPages / 64]uint64
}

// read fills p with what lies at offset at. The caller holds mu for reading.
func (c *chunk) read(p []byte, at int) {
	for len(p) > 0 {
		used, to := c.run(at)
		n := min(len(p), to-at)
		if used {
			copy(p[:n], c.mem[at:])
		} else {
			clear(p[:n])
		}
		p, at = p[n:], at+n
	}
}

// write stores p at offset at. The caller holds mu.
func (c *chunk) write(a *arena, p []byte, at int) error {
	if c.mem == nil {
		m, err := a.get()
		if err != nil {
			return err
		}
		c.mem = m
	}
	first, last := at/pageSize, (at+len(p)-1)/pageSize
	if len(p) >= populateAbove && !c.has(first) && !c.has(last) {
		// One call instead of a page fault for each page. It may fail on
		// old kernels, and then the faults happen.
		unix.Madvise(c.mem[first*pageSize:(last+1)*pageSize], unix.MADV_POPULATE_WRITE)
	}
	copy(c.mem[at:], p)
	for i := first; i <= last; i++ {
		c.used[i/64] |= 1 << (i % 64)
	}
	return nil
}

// zero makes the bytes from from up to to read as zeros. Unless keep is set
// it releases the pages that become empty. The caller holds mu.
func (c *chunk) zero(a *arena, from, to int, keep bool) {
	if c.mem == nil {
		return
	}
	for from < to {
		used, end := c.run(from)
		end = min(end, to)
		if used {
			c.zeroUsed(from, end, keep)
		}
		from = end
	}
	if c.used == [chunkPages / 64]uint64{} {
		a.put(c.mem)
		c.mem = nil
	}
}

// zeroUsed is zero for a range in which every page is used.
func (c *chunk) zeroUsed(from, to int, keep bool) {
	first, last := (from+pageSize-1)/pageSize, to/pageSize
	if keep || first >= last {
		clear(c.mem[from:to])
		return
	}
	clear(c.mem[from : first*pageSize])
	clear(c.mem[last*pageSize : to])
	empty(c.mem[first*pageSize : last*pageSize])
	for i := first; i < last; i++ {
		c.used[i/64] &^= 1 << (i % 64)
	}
}

func (c *chunk) has(page int) bool { return c.used[page/64]>>(page%64)&1 != 0 }

// run reports whether the page of offset at is used, and where the next page
// begins that differs in this.
func (c *chunk) run(at int) (used bool, end int) {
	page := at / pageSize
	used = c.has(page)
	for w := page / 64; w < len(c.used); w++ {
		differ := c.used[w]
		if used {
			differ = ^differ
		}
		if w == page/64 {
			differ &= ^uint64(0) << (page % 64)
		}
		if differ != 0 {
			return used, (w*64 + bits.TrailingZeros64(differ)) * pageSize
		}
	}
	return used, chunkSize
}

// empty makes the pages of m zeros and gives their memory back.
func empty(m []byte) {
	if unix.Madvise(m, unix.MADV_DONTNEED) != nil {
		// Locked memory (mlockall) cannot be given back.
		clear(m)
	}
}

// An arena hands out the memory of chunks. It lies outside the Go heap: a
// disk there would let the garbage grow to the size of the disk before the
// collector runs.
type arena struct {
	// limit bounds the address space reserved at a time.
	limit int64

	mu    sync.Mutex
	maps  [][]byte
	rest  []byte
	spare []*[chunkSize]byte
}

const (
	firstMap = 64 << 20
	largeMap = 1 << 30
)

// get returns memory that is zero.
func (a *arena) get() (*[chunkSize]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := len(a.spare); k > 0 {
		m := a.spare[k-1]
		a.spare = a.spare[:k-1]
		return m, nil
	}
	if len(a.rest) == 0 {
		if err := a.grow(); err != nil {
			return nil, err
		}
	}
	m := (*[chunkSize]byte)(a.rest)
	a.rest = a.rest[chunkSize:]
	return m, nil
}

// put takes back memory of which every page is empty.
func (a *arena) put(m *[chunkSize]byte) {
	a.mu.Lock()
	a.spare = append(a.spare, m)
	a.mu.Unlock()
}

func (a *arena) grow() error {
	n := int64(firstMap)
	if len(a.maps) > 0 {
		n = largeMap
	}
	if a.limit < n {
		n = (a.limit + chunkSize - 1) / chunkSize * chunkSize
	}
	m, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("cannot reserve %d bytes of address space (%w): %w", n, err, block.ErrNoMemory)
	}
	// A huge page would make the first byte of a chunk cost all of it. A
	// kernel that has no huge pages refuses the advice.
	unix.Madvise(m, unix.MADV_NOHUGEPAGE)
	a.maps = append(a.maps, m)
	a.rest = m
	return nil
}

func (a *arena) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var first error
	for _, m := range a.maps {
		if err := unix.Munmap(m); err != nil && first == nil {
			first = fmt.Errorf("mem: munmap: %w", err)
		}
	}
	a.maps, a.rest, a.spare = nil, nil, nil
	return first
}
