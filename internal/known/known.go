// Package known remembers for which of many numbers something is so, until all is
// forgotten at once.
package known

import "sync/atomic"

// A Set has those numbers, from 0 up to a limit, of which something is known. It
// takes a bit for each, but only where there are some. All methods but Reset may
// be called at any time.
type Set struct {
	epoch atomic.Uint64
	pages []atomic.Pointer[page]
	// used counts the pages that were made since they were last dropped.
	used atomic.Int64
}

const (
	pageBits = 1 << 15
	// maxPages bounds the memory, at 4 KiB a page.
	maxPages = 16 << 10
)

// A page is of an epoch; in another one it is empty.
type page struct {
	epoch uint64
	words [pageBits / 64]atomic.Uint64
}

// New returns a set of numbers below n, of which none is known.
func New(n int64) *Set {
	return &Set{pages: make([]atomic.Pointer[page], (n+pageBits-1)/pageBits)}
}

// Reset forgets everything, in constant time. No Add may be under way.
func (u *Set) Reset() { u.epoch.Add(1) }

// Has reports whether the numbers from first up to but not including end are
// known.
func (u *Set) Has(first, end int64) bool {
	epoch := u.epoch.Load()
	for c := first; c < end; {
		p := u.pages[c/pageBits].Load()
		if p == nil || p.epoch != epoch {
			return false
		}
		stop := min(end, (c|63)+1)
		mask := ^uint64(0) >> (64 - (stop - c)) << (c & 63)
		if p.words[c%pageBits/64].Load()&mask != mask {
			return false
		}
		c = stop
	}
	return true
}

// Add notes that the numbers from first up to but not including end are known.
func (u *Set) Add(first, end int64) {
	epoch := u.epoch.Load()
	for c := first; c < end; {
		stop := min(end, (c|63)+1)
		mask := ^uint64(0) >> (64 - (stop - c)) << (c & 63)
		u.page(c/pageBits, epoch).words[c%pageBits/64].Or(mask)
		c = stop
	}
}

// page returns a page of this epoch. When there are too many it drops all.
func (u *Set) page(i int64, epoch uint64) *page {
	for {
		old := u.pages[i].Load()
		if old != nil && old.epoch == epoch {
			return old
		}
		if old == nil && u.used.Add(1) > maxPages {
			u.used.Store(1)
			for j := range u.pages {
				u.pages[j].Store(nil)
			}
		}
		fresh := &page{epoch: epoch}
		if u.pages[i].CompareAndSwap(old, fresh) {
			return fresh
		}
	}
}
