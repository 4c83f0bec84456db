package snapshot

import "sync/atomic"

// unshared remembers chunks of the origin that lie on the origin device and on
// which no snapshot lies: writes to them need nothing else. That stays so until
// reset.
type unshared struct {
	epoch atomic.Uint64
	pages []atomic.Pointer[unsharedPage]
	// used counts the pages that were made since they were last dropped.
	used atomic.Int64
}

const (
	unsharedBits = 1 << 15
	// unsharedPages bounds the memory, at 4 KiB a page.
	unsharedPages = 16 << 10
)

// A page is of an epoch; in another one it is empty.
type unsharedPage struct {
	epoch uint64
	words [unsharedBits / 64]atomic.Uint64
}

func newUnshared(chunks int64) *unshared {
	return &unshared{pages: make([]atomic.Pointer[unsharedPage], (chunks+unsharedBits-1)/unsharedBits)}
}

// reset forgets everything, in constant time. No set may be under way.
func (u *unshared) reset() { u.epoch.Add(1) }

// has reports whether the chunks from first up to but not including end are
// known.
func (u *unshared) has(first, end int64) bool {
	epoch := u.epoch.Load()
	for c := first; c < end; {
		p := u.pages[c/unsharedBits].Load()
		if p == nil || p.epoch != epoch {
			return false
		}
		stop := min(end, (c|63)+1)
		mask := ^uint64(0) >> (64 - (stop - c)) << (c & 63)
		if p.words[c%unsharedBits/64].Load()&mask != mask {
			return false
		}
		c = stop
	}
	return true
}

func (u *unshared) set(first, end int64) {
	epoch := u.epoch.Load()
	for c := first; c < end; {
		stop := min(end, (c|63)+1)
		mask := ^uint64(0) >> (64 - (stop - c)) << (c & 63)
		u.page(c/unsharedBits, epoch).words[c%unsharedBits/64].Or(mask)
		c = stop
	}
}

// page returns a page of this epoch. When there are too many it drops all.
func (u *unshared) page(i int64, epoch uint64) *unsharedPage {
	for {
		old := u.pages[i].Load()
		if old != nil && old.epoch == epoch {
			return old
		}
		if old == nil && u.used.Add(1) > unsharedPages {
			u.used.Store(1)
			for j := range u.pages {
				u.pages[j].Store(nil)
			}
		}
		fresh := &unsharedPage{epoch: epoch}
		if u.pages[i].CompareAndSwap(old, fresh) {
			return fresh
		}
	}
}
