package wire

import "fmt"

// receive takes one frame.
func (l *lane) receive() error {
	var h header
	if err := l.in.next(&h); err != nil {
		return err
	}
	switch h.kind {
	case kindReply:
		return l.reply(&h)
	case kindItem:
		return l.item(&h)
	case kindPing:
		return nil
	case kindGoodbye:
		l.c.stop(fmt.Errorf("node %s: %w", l.c.peer.Node, ErrGoingAway))
		return nil
	}
	return violation("frame of kind %d from a server", h.kind)
}

// find returns the request in flight with that ID. The caller holds mu.
func (l *lane) find(id uint64) (*call, error) {
	if slot := id & 0xffff; slot < uint64(len(l.slots)) {
		if k := l.slots[slot]; k.active && k.id == id && !k.answered {
			return k, nil
		}
	}
	return nil, violation("answer to request %#x, which is not in flight", id)
}

// claim finds the request that a reply is for, and keeps its memory from being
// taken away until conclude. Not wanted means that its caller has left.
func (l *lane) claim(h *header) (k *call, wanted bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k, err = l.find(h.id); err != nil {
		return nil, false, err
	}
	switch {
	case h.op != uint16(CodeOK) && h.payload != 0:
		return nil, false, violation("error with a payload of %d bytes", h.payload)
	case k.stream != nil && h.payload != 0:
		return nil, false, violation("end of a stream with a payload of %d bytes", h.payload)
	case !k.abandoned && int(h.payload) > len(k.into):
		return nil, false, violation("reply with a payload of %d bytes, there is room for %d", h.payload, len(k.into))
	}
	k.busy = !k.abandoned
	return k, k.busy, nil
}

func (l *lane) reply(h *header) error {
	k, wanted, err := l.claim(h)
	if err != nil {
		return err
	}
	if k.head, err = l.in.appendTo(k.head[:0], int(h.head)); err != nil {
		return err
	}
	if wanted {
		k.n = int(h.payload)
		err = l.in.into(k.into[:k.n])
	} else {
		err = l.in.discard(int(h.payload))
	}
	if err != nil {
		return err
	}
	if h.op != uint16(CodeOK) {
		k.err = l.c.codec.remote(l.c.peer.Node, h, k.head)
	}
	l.mu.Lock()
	k.busy, k.answered = false, true
	done := l.proceed(k)
	l.mu.Unlock()
	if done == isTold {
		k.tell(&l.burst)
		return nil
	}
	l.after(k, done)
	return nil
}
