package nbd

import (
	"encoding/binary"
	"slices"
)

const (
	// maxParts bounds the disjoint parts in which the data of one READ may
	// have come at any time.
	maxParts = 4096
	// maxStatusExtents bounds the extents in one chunk; the protocol's.
	maxStatusExtents = 1 << 20
)

// replyState is what has come of a reply so far.
type replyState struct {
	failure *replyError
	// parts of a READ that have come, in order, as offsets in its buffer;
	// adjacent ones are joined.
	parts []part
	// seen has a bit for each context (by its index in wire.ids) of which
	// the extents have come; extents are those of call.context.
	seen    uint64
	got     bool
	extents []statusExtent
}

type part struct{ from, to uint64 }

type statusExtent struct{ n, status uint64 }

func (r *replyState) reset() {
	*r = replyState{parts: r.parts[:0], extents: r.extents[:0]}
}

// add notes the data from..to and reports whether all of it is new.
func (r *replyState) add(from, to uint64) bool {
	i := len(r.parts)
	for i > 0 && r.parts[i-1].from >= from {
		i--
	}
	if i > 0 && r.parts[i-1].to > from || i < len(r.parts) && r.parts[i].from < to {
		return false
	}
	before := i > 0 && r.parts[i-1].to == from
	after := i < len(r.parts) && r.parts[i].from == to
	switch {
	case before && after:
		r.parts[i-1].to = r.parts[i].to
		r.parts = slices.Delete(r.parts, i, i+1)
	case before:
		r.parts[i-1].to = to
	case after:
		r.parts[i].from = from
	default:
		r.parts = slices.Insert(r.parts, i, part{from, to})
	}
	return true
}

// A chunkHead is the header of a chunk.
type chunkHead struct {
	flags, kind uint16
	n           uint64 // bytes of payload that have not been read
}

// chunk takes one chunk of a structured or extended reply.
func (l *lane) chunk(w *wire) error {
	size := structuredReplySize
	if w.form == ExtendedReplies {
		size = extendedReplySize
	}
	p, err := w.in.next(size)
	if err != nil {
		return err
	}
	head := chunkHead{flags: binary.BigEndian.Uint16(p[4:]), kind: binary.BigEndian.Uint16(p[6:])}
	cookie := binary.BigEndian.Uint64(p[8:])
	off := uint64(0)
	if w.form == ExtendedReplies {
		off, head.n = binary.BigEndian.Uint64(p[16:]), binary.BigEndian.Uint64(p[24:])
	} else {
		head.n = uint64(binary.BigEndian.Uint32(p[16:]))
	}
	k, wanted, err := l.claim(cookie)
	if err != nil {
		return err
	}
	if w.form == ExtendedReplies && off != k.off {
		return violation("chunk for offset %d of a request at offset %d", off, k.off)
	}
	if err := l.payload(w, k, wanted, head); err != nil {
		return err
	}
	if head.flags&chunkFlagDone == 0 {
		l.unclaim(w, k)
		return nil
	}
	if k.reply.failure != nil {
		return l.refuse(w, k, k.reply.failure)
	}
	if err := k.complete(); err != nil {
		return err
	}
	l.conclude(w, k, nil)
	return nil
}

// complete checks that a reply without error has all that belongs to it.
func (k *call) complete() error {
	switch k.cmd {
	case cmdRead:
		if len(k.reply.parts) != 1 || k.reply.parts[0] != (part{0, k.n}) {
			return violation("reply to READ of %d bytes at offset %d does not have all of them", k.n, k.off)
		}
	case cmdBlockStatus:
		if !k.reply.got {
			return violation("reply to BLOCK_STATUS has no extents of %q", k.context)
		}
	}
	return nil
}

func (l *lane) payload(w *wire, k *call, wanted bool, head chunkHead) error {
	switch {
	case head.kind == chunkNone:
		if head.n != 0 || head.flags&chunkFlagDone == 0 {
			return violation("chunk of no type with %d bytes and flags %#x", head.n, head.flags)
		}
		return nil
	case head.kind == chunkOffsetData && k.cmd == cmdRead:
		return l.dataChunk(w, k, wanted, head.n)
	case head.kind == chunkOffsetHole && k.cmd == cmdRead:
		return l.holeChunk(w, k, wanted, head.n)
	case k.cmd == cmdBlockStatus && (head.kind == chunkBlockStatus && w.form == StructuredReplies ||
		head.kind == chunkBlockStatusExt && w.form == ExtendedReplies):
		return w.statusChunk(k, head)
	case head.kind&(1<<15) != 0:
		return w.errorChunk(k, head)
	}
	return violation("chunk of type %d in the reply to %v", head.kind, k.cmd)
}

// within checks that the data of a chunk lies in the request and has not come
// before, and returns where in the buffer it goes.
func (k *call) within(off, n uint64) (uint64, error) {
	if n == 0 || off < k.off || off-k.off > k.n || n > k.n-(off-k.off) {
		return 0, violation("%d bytes for offset %d in the reply to READ of %d bytes at offset %d", n, off, k.n, k.off)
	}
	at := off - k.off
	if !k.reply.add(at, at+n) {
		return 0, violation("bytes for offset %d come twice in the reply to READ of %d bytes at offset %d", off, k.n, k.off)
	}
	if len(k.reply.parts) > maxParts {
		return 0, violation("reply to READ is scattered in more than %d parts", maxParts)
	}
	return at, nil
}

func (l *lane) dataChunk(w *wire, k *call, wanted bool, n uint64) error {
	if n < 9 || n > k.n+8 {
		return violation("data chunk of %d bytes in the reply to READ of %d bytes", n, k.n)
	}
	p, err := w.in.next(8)
	if err != nil {
		return err
	}
	at, err := k.within(binary.BigEndian.Uint64(p), n-8)
	if err != nil {
		return err
	}
	return l.readInto(w, k, wanted, at, n-8)
}

func (l *lane) holeChunk(w *wire, k *call, wanted bool, n uint64) error {
	if n != 12 {
		return violation("hole chunk has %d bytes, must have 12", n)
	}
	p, err := w.in.next(12)
	if err != nil {
		return err
	}
	n = uint64(binary.BigEndian.Uint32(p[8:]))
	at, err := k.within(binary.BigEndian.Uint64(p), n)
	if err == nil && wanted {
		clear(k.buf[at : at+n])
	}
	return err
}

// errorChunk notes the first error of a reply.
func (w *wire) errorChunk(k *call, head chunkHead) error {
	if head.n < 6 || head.n > 6+maxString+8 {
		return violation("error chunk of %d bytes", head.n)
	}
	p, err := w.in.next(int(head.n))
	if err != nil {
		return err
	}
	code, size := binary.BigEndian.Uint32(p), int(binary.BigEndian.Uint16(p[4:]))
	rest := len(p) - 6 - size
	switch {
	case code == 0:
		return violation("error chunk without an error")
	case rest < 0 || size > maxString:
		return violation("error text of %d bytes in a chunk of %d bytes", size, len(p))
	case head.kind == chunkError && rest != 0:
		return violation("error chunk with %d bytes behind its text", rest)
	case head.kind == chunkErrorOffset && rest != 8:
		return violation("error chunk with %d bytes for its offset, must be 8", rest)
	}
	e := &replyError{cmd: k.cmd, off: k.off, n: k.n, code: code, text: clean(p[6 : 6+size])}
	if head.kind == chunkErrorOffset {
		off := binary.BigEndian.Uint64(p[6+size:])
		if off < k.off || off-k.off >= max(k.n, 1) {
			return violation("error at offset %d in the reply to %v of %d bytes at offset %d", off, k.cmd, k.n, k.off)
		}
		e.at, e.located = off, true
	}
	if k.reply.failure == nil {
		k.reply.failure = e
	}
	return nil
}

// statusChunk takes the extents of one context.
func (w *wire) statusChunk(k *call, head chunkHead) error {
	fixed, size := uint64(4), uint64(8)
	if head.kind == chunkBlockStatusExt {
		fixed, size = 8, 16
	}
	if head.n < fixed+size || (head.n-fixed)%size != 0 || (head.n-fixed)/size > maxStatusExtents {
		return violation("block status chunk of %d bytes", head.n)
	}
	p, err := w.in.next(int(fixed))
	if err != nil {
		return err
	}
	id, count := binary.BigEndian.Uint32(p), (head.n-fixed)/size
	if fixed == 8 && uint64(binary.BigEndian.Uint32(p[4:])) != count {
		return violation("block status chunk of %d bytes with %d extents", head.n, binary.BigEndian.Uint32(p[4:]))
	}
	i := slices.IndexFunc(w.ids, func(c contextID) bool { return c.id == id })
	if i < 0 {
		return violation("extents of metadata context %d, which was not agreed on", id)
	}
	if k.reply.seen&(1<<i) != 0 {
		return violation("extents of %q come twice", w.ids[i].name)
	}
	k.reply.seen |= 1 << i
	keep := w.ids[i].name == k.context
	k.reply.got = k.reply.got || keep
	return w.extents(k, int(size), count, keep)
}

// extents checks count extents and keeps what lies within the request.
func (w *wire) extents(k *call, size int, count uint64, keep bool) error {
	least := uint64(max(w.export.MinBlock, 1))
	limit := uint64(w.export.Size) - k.off
	for sum := uint64(0); count > 0; count-- {
		p, err := w.in.next(size)
		if err != nil {
			return err
		}
		n, status := uint64(binary.BigEndian.Uint32(p)), uint64(binary.BigEndian.Uint32(p[4:]))
		if size == 16 {
			n, status = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
		}
		switch {
		case n == 0:
			return violation("empty extent at offset %d", k.off+sum)
		case n%least != 0:
			return violation("extent of %d bytes, must be a multiple of %d", n, least)
		case n > limit-sum:
			return violation("extent of %d bytes at offset %d goes beyond the end of the export", n, k.off+sum)
		case sum >= k.n:
			return violation("extent behind the end of a request for %d bytes at offset %d", k.n, k.off)
		}
		if keep {
			k.reply.extents = append(k.reply.extents, statusExtent{min(n, k.n-sum), status})
		}
		sum += n
	}
	return nil
}
