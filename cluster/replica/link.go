package replica

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/cluster/record"
)

// linkKey names a process of a disk.
type linkKey struct{ disk, incarnation string }

// A link is a gateway's way to a disk in one incarnation.
type link struct {
	v    *Volume
	key  linkKey
	peer Peer
	// starter and prompt are peer if that is one, else nil.
	starter Starter
	prompt  Prompt
	// open is the session in use, nil if a new one is needed.
	open atomic.Pointer[Writer]
	// fails counts the calls without an answer since the last answer.
	fails atomic.Int32
	// forgoing: the disk is being removed from all groups of the volume.
	forgoing atomic.Bool

	mu      sync.Mutex
	last    uint64
	opening chan struct{}
}

// link returns the link to a disk.
func (v *Volume) link(m record.Member) *link {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.linkTo(m)
}

// linkTo is link for who holds mu.
func (v *Volume) linkTo(m record.Member) *link {
	key := linkKey{m.Disk, m.Incarnation}
	l := v.links[key]
	if l == nil {
		l = &link{v: v, key: key, peer: v.c.Peer(m)}
		l.starter, _ = l.peer.(Starter)
		l.prompt, _ = l.peer.(Prompt)
		v.links[key] = l
	}
	return l
}

// current returns the session in use, nil if a new one is needed.
func (l *link) current(h *heading) *Writer {
	w := l.open.Load()
	if w != nil && w.Head == h.Head && w.Generation == h.generation {
		return w
	}
	return nil
}

// session returns the session in use, or opens a new one.
func (l *link) session(ctx context.Context) (w *Writer, err error) {
	for {
		h := l.v.head.Load()
		if w := l.current(h); w != nil {
			return w, nil
		}
		l.mu.Lock()
		if c := l.opening; c != nil {
			l.mu.Unlock()
			if err := wait(ctx, c); err != nil {
				return nil, err
			}
			continue
		}
		c := make(chan struct{})
		l.opening = c
		l.last++
		w = &Writer{h.Head, h.generation, l.last}
		l.mu.Unlock()
		err = l.peer.Open(ctx, l.key.disk, l.key.incarnation, *w)
		if err == nil {
			l.open.Store(w)
		}
		l.mu.Lock()
		l.opening = nil
		close(c)
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return w, nil
	}
}

// broken says that a session is not to be used any more.
func (l *link) broken(w *Writer) { l.open.CompareAndSwap(w, nil) }

func (a linkKey) compare(b linkKey) int {
	return cmp.Or(strings.Compare(a.disk, b.disk), strings.Compare(a.incarnation, b.incarnation))
}
