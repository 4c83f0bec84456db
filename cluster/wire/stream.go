package wire

import (
	"context"
	"fmt"
	"iter"
)

// An Item is one of a stream. It is valid until the next one is asked for.
type Item struct{ Head, Payload []byte }

// A stream is what has arrived of one, and how much more may.
type stream struct {
	ready chan struct{} // tells of more; holds one

	// Guarded by lane.mu.
	queue  []received
	credit int // what the node may send
	owed   int // what has been taken and not been told
}

// received is an item that waits to be taken.
type received struct {
	Item
	mem  *buffer // of the item, or nil
	size int
}

func (i *received) release() {
	if i.mem != nil {
		i.mem.release()
		i.mem = nil
	}
}

// pooledItem is from which size on items are in memory that is used again.
const pooledItem = 2 << 10

// Stream carries out a request that is answered by items. The loop ends after the
// last one, or with an error, which then comes alone. At most Limits.Window of items
// wait to be taken: a slow loop slows the node down. Leaving the loop early cancels
// the request. ctx and Timeout bound all of it, the steps of the loop included; without
// them each item may take Limits.Timeout. Into and HeadInto of r are not used.
func (c *Client) Stream(ctx context.Context, r Call) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if r.Timeout > 0 {
			bounded, cancel := context.WithTimeout(ctx, r.Timeout)
			defer cancel()
			ctx = bounded
		}
		l := c.pick()
		k, err := l.beginStream(ctx, &r)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for {
			i, more, err := l.nextItem(ctx, k)
			if !more && err == nil {
				l.recycle(k)
				return
			}
			if err != nil {
				l.leaveStream(k)
				yield(Item{}, err)
				return
			}
			on := yield(i.Item, nil)
			i.release()
			if !on {
				l.leaveStream(k)
				return
			}
			l.giveCredit(k, i.size)
		}
	}
}

func (l *lane) beginStream(ctx context.Context, r *Call) (*call, error) {
	window := l.limits.window
	if err := l.check(r, 0); err != nil {
		return nil, err
	}
	bound, left, err := l.c.timeFor(ctx, 0)
	if err != nil {
		return nil, err
	}
	k, err := l.acquire(ctx, charge(r, window), bound)
	if err != nil {
		return nil, err
	}
	h := header{kind: kindStream, op: uint16(r.Op), room: uint32(window)}
	if _, ok := ctx.Deadline(); ok {
		h.millis = millis(left)
	}
	k.stream = &stream{ready: make(chan struct{}, 1), credit: window}
	l.submit(k, h, r, nil)
	return k, nil
}

// nextItem returns the next item, or that there is none, and why.
func (l *lane) nextItem(ctx context.Context, k *call) (i received, more bool, err error) {
	s := k.stream
	take := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(s.queue) == 0 {
			return false
		}
		i, s.queue = s.queue[0], s.queue[1:]
		return true
	}
	switch {
	case ctx.Err() != nil:
		return i, false, context.Cause(ctx)
	case take():
		return i, true, nil
	}
	k.timer.Reset(l.c.limits.Timeout)
	defer k.timer.Stop()
	for {
		select {
		case <-s.ready:
			if take() {
				return i, true, nil
			}
		case <-k.done:
			if take() {
				k.done <- struct{}{} // comes again when all have been taken
				return i, true, nil
			}
			if k.err != nil {
				k.done <- struct{}{}
			}
			return i, false, k.err
		case <-ctx.Done():
			return i, false, context.Cause(ctx)
		case <-k.timer.C:
			return i, false, fmt.Errorf("node %s has sent no item for %v: %w", l.c.peer.Node, l.c.limits.Timeout, context.DeadlineExceeded)
		}
	}
}

// leaveStream gives up k before its end, or after it has failed.
func (l *lane) leaveStream(k *call) {
	if !l.abandon(k) {
		l.drop(k)
		l.recycle(k)
	}
}

// drop releases what waits to be taken.
func (l *lane) drop(k *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range k.stream.queue {
		k.stream.queue[i].release()
	}
	k.stream.queue = nil
}

// giveCredit lets the node send n bytes more, though not before half of the window
// has been taken.
func (l *lane) giveCredit(k *call, n int) {
	l.mu.Lock()
	s := k.stream
	s.owed += n
	n = s.owed
	if n < l.limits.window/2 || k.answered {
		l.mu.Unlock()
		return
	}
	s.owed = 0
	s.credit += n
	l.mu.Unlock()
	i := newItem(header{kind: kindCredit, id: k.id, room: uint32(n)}, nil, nil)
	l.out.put(&i.frame, prompt, false)
}

// item takes an item of a stream.
func (l *lane) item(h *header) error {
	size := itemSize(int(h.head), int(h.payload))
	l.mu.Lock()
	k, err := l.find(h.id)
	switch {
	case err != nil:
	case k.stream == nil:
		err = violation("item for request %#x, which is no stream", h.id)
	case size > k.stream.credit:
		err = violation("item of %d bytes, there is room for %d", size, k.stream.credit)
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	k.stream.credit -= size
	wanted := !k.abandoned
	l.mu.Unlock()
	if !wanted {
		return l.in.discard(size - headerSize)
	}
	i, err := l.readItem(h)
	if err != nil {
		return err
	}
	i.size = size
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.abandoned {
		i.release()
		return nil
	}
	k.stream.queue = append(k.stream.queue, i)
	select {
	case k.stream.ready <- struct{}{}:
	default:
	}
	return nil
}

func (l *lane) readItem(h *header) (i received, err error) {
	head, n := int(h.head), int(h.head)+int(h.payload)
	var p []byte
	if n < pooledItem {
		p = make([]byte, n)
	} else {
		i.mem = newBuffer(n)
		p = i.mem.mem[:n]
	}
	if err := l.in.into(p); err != nil {
		i.release()
		return i, err
	}
	i.Head, i.Payload = p[:head:head], p[head:]
	return i, nil
}
