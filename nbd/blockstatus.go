package nbd

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/strata-storage/strata/block"
)

// maxExtents bounds the extents in one reply for one context. The protocol
// allows fewer than were asked for, and 2^20 at the most.
const maxExtents = 8192

// blockStatus answers BLOCK_STATUS: one chunk for each context.
func (r *request) blockStatus() {
	t := r.t
	contexts, refused := r.askedContexts()
	if refused != nil {
		t.w.send(r.result(refused))
		return
	}
	r.length = r.effectLength()
	r.dropData() // nobody who waits for memory may hold any
	b, err := t.borrow(len(contexts) * (maxReadHead + r.maxExtents()*16))
	if err != nil {
		return // the connection is gone
	}
	defer func() {
		if b != nil {
			b.release()
		}
	}()
	reply := b.mem[b.start:b.start]
	for i, mc := range contexts {
		flags := uint16(0)
		if i == len(contexts)-1 {
			flags = chunkFlagDone
		}
		extents, err := r.extents(mc.name)
		if err != nil {
			t.w.send(r.result(err))
			return
		}
		reply = r.appendStatus(reply, flags, mc.id, extents)
	}
	r.answered()
	b.end += len(reply)
	t.w.send(b)
	b = nil
}

// maxExtents bounds the extents in the reply for one context.
func (r *request) maxExtents() int {
	if r.flags&cmdFlagReqOne != 0 {
		return 1
	}
	return maxExtents
}

// extents collects the status of the range in one context.
func (r *request) extents(context string) ([]block.Extent, error) {
	off, n := int64(r.off), int64(r.length)
	seq := r.t.session.device.Extents(r.t.ctx, context, off, n)
	if unit := int64(r.t.session.info.MinBlock); unit > 1 {
		seq = wholeBlocks(seq, unit, context)
	}
	list, err := collect(seq, r.maxExtents(), r.t.session.extended)
	if len(list) == 0 && err == nil {
		err = fmt.Errorf("no status for %q: %w", context, block.ErrInvalid)
	}
	return list, err
}

// statusTime is after how long the status of a part of the range is the answer: a device
// that is large, and empty, may have to look at very much to say that.
const statusTime = time.Second

// collect returns the first extents of seq, so many at most, of which neighbours have
// different status.
func collect(seq iter.Seq2[block.Extent, error], limit int, extended bool) (list []block.Extent, err error) {
	began := time.Now()
	for e, err := range seq {
		if err == nil && e.Status > math.MaxUint32 && !extended {
			err = fmt.Errorf("status %#x does not fit into 32 bits: %w", e.Status, block.ErrInvalid)
		}
		last := len(list) - 1
		switch {
		case err != nil && last >= 0:
			return list, nil // what is known is an answer
		case err != nil:
			return nil, err
		case last >= 0 && list[last].Status == e.Status:
			list[last].Len += e.Len
		case last+1 == limit:
			return list, nil
		default:
			list = append(list, e)
		}
		if time.Since(began) > statusTime {
			break
		}
	}
	return list, nil
}

// wholeBlocks moves the ends of extents to the ends of blocks of unit bytes, as
// the protocol demands. A block of several extents is a hole, or zero, if all
// of them are; in other contexts it has all of their bits.
func wholeBlocks(seq iter.Seq2[block.Extent, error], unit int64, context string) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		var part block.Extent // the start of a block of several extents
		for e, err := range seq {
			if err != nil {
				yield(e, err)
				return
			}
			if part.Len > 0 {
				n := min(unit-part.Len, e.Len)
				if part.Len += n; context == block.Allocation {
					part.Status &= e.Status
				} else {
					part.Status |= e.Status
				}
				if part.Len < unit {
					continue
				}
				if !yield(part, nil) {
					return
				}
				e.Off, e.Len = e.Off+n, e.Len-n
			}
			tail := e.Len % unit
			if e.Len -= tail; e.Len > 0 && !yield(e, nil) {
				return
			}
			part = block.Extent{Off: e.End(), Len: tail, Status: e.Status}
		}
	}
}

func (r *request) appendStatus(b []byte, flags uint16, id uint32, extents []block.Extent) []byte {
	if r.t.session.extended {
		b = r.appendChunk(b, flags, chunkBlockStatusExt, 8+16*len(extents))
		b = binary.BigEndian.AppendUint32(b, id)
		b = binary.BigEndian.AppendUint32(b, uint32(len(extents)))
		for _, e := range extents {
			b = binary.BigEndian.AppendUint64(b, uint64(e.Len))
			b = binary.BigEndian.AppendUint64(b, e.Status)
		}
		return b
	}
	b = r.appendChunk(b, flags, chunkBlockStatus, 4+8*len(extents))
	b = binary.BigEndian.AppendUint32(b, id)
	for _, e := range extents {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Len))
		b = binary.BigEndian.AppendUint32(b, uint32(e.Status))
	}
	return b
}

// maxStatusPayload bounds the payload of BLOCK_STATUS: the length and the ids
// of all contexts that a client can have selected.
const maxStatusPayload = 4096

// checkStatusPayload checks the size of the payload that limits BLOCK_STATUS
// to some of the contexts.
func (r *request) checkStatusPayload() *refusal {
	if r.payload < 8 || r.payload > maxStatusPayload || r.payload%4 != 0 {
		return refuse(wireEINVAL, "BLOCK_STATUS with a payload of %d bytes, expected 8 and 4 for each context", r.payload)
	}
	return nil
}

// effectLength is the length of the range that BLOCK_STATUS is about.
func (r *request) effectLength() uint64 {
	if r.data != nil {
		return binary.BigEndian.Uint64(r.data.payload(8))
	}
	return r.length
}

// askedContexts returns the selected contexts that r is about: all, or those
// whose ids are in the payload.
func (r *request) askedContexts() ([]metaContext, *refusal) {
	selected := r.t.session.contexts
	if r.data == nil {
		return selected, nil
	}
	if f := r.checkRange(&r.t.session.info, r.effectLength()); f != nil {
		return nil, f
	}
	var asked []metaContext
	for ids := r.data.payload(int(r.payload))[8:]; len(ids) > 0; ids = ids[4:] {
		id := binary.BigEndian.Uint32(ids)
		i := slices.IndexFunc(selected, func(mc metaContext) bool { return mc.id == id })
		if i < 0 {
			return nil, refuse(wireEINVAL, "metadata context %d has not been selected", id)
		}
		if !slices.Contains(asked, selected[i]) {
			asked = append(asked, selected[i])
		}
	}
	if len(asked) == 0 {
		return nil, refuse(wireEINVAL, "BLOCK_STATUS for no context")
	}
	return asked, nil
}
