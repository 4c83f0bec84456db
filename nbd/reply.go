package nbd

import "encoding/binary"

// maxErrorReply bounds the size of an error reply, and of any other reply
// without data: the largest header, the numbers behind it and a text.
const maxErrorReply = extendedReplySize + 4 + 2 + maxErrorText + 8

// maxErrorText bounds the text of an error.
const maxErrorText = 512

// maxReadHead is the most that stands in front of the data of a READ.
const maxReadHead = extendedReplySize + 8

// appendSimple appends the header of a simple reply.
func (r *request) appendSimple(b []byte, code uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, magicSimpleReply)
	b = binary.BigEndian.AppendUint32(b, code)
	return binary.BigEndian.AppendUint64(b, r.cookie)
}

// appendChunk appends the header of a chunk with n bytes of payload, in the
// form that has been agreed on.
func (r *request) appendChunk(b []byte, flags, kind uint16, n int) []byte {
	if r.t.session.extended {
		b = binary.BigEndian.AppendUint32(b, magicExtendedReply)
		b = binary.BigEndian.AppendUint16(b, flags)
		b = binary.BigEndian.AppendUint16(b, kind)
		b = binary.BigEndian.AppendUint64(b, r.cookie)
		b = binary.BigEndian.AppendUint64(b, r.off)
		return binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = binary.BigEndian.AppendUint32(b, magicStructuredReply)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, r.cookie)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// needsChunks reports whether a reply without error must consist of chunks:
// with structured replies those to READ and BLOCK_STATUS, with extended headers
// all. Errors are chunks wherever chunks are understood, for their text.
func (r *request) needsChunks() bool {
	s := r.t.session
	return s.extended || s.structured && (r.cmd == cmdRead || r.cmd == cmdBlockStatus)
}

// appendOK appends the reply to a request that gives no data.
func (r *request) appendOK(b []byte) []byte {
	if r.needsChunks() {
		return r.appendChunk(b, chunkFlagDone, chunkNone, 0)
	}
	return r.appendSimple(b, 0)
}

// appendError appends an error reply; of a READ that has been answered in part
// it tells where it failed.
func (r *request) appendError(b []byte, code uint32, text string) []byte {
	if !r.t.session.structured {
		return r.appendSimple(b, code)
	}
	text = text[:min(len(text), maxErrorText)]
	kind, n := chunkError, 6+len(text)
	located := r.cmd == cmdRead && r.done > 0
	if located {
		kind, n = chunkErrorOffset, n+8
	}
	b = r.appendChunk(b, chunkFlagDone, kind, n)
	b = binary.BigEndian.AppendUint32(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	if located {
		b = binary.BigEndian.AppendUint64(b, r.off+uint64(r.done))
	}
	return b
}

// appendReadHead appends what stands in front of n bytes of data for a READ,
// those at r.done.
func (r *request) appendReadHead(b []byte, n int) []byte {
	if !r.t.session.structured {
		return r.appendSimple(b, 0)
	}
	b = r.appendChunk(b, r.lastFlag(n), chunkOffsetData, 8+n)
	return binary.BigEndian.AppendUint64(b, r.off+uint64(r.done))
}

// appendHole appends a chunk that says that the n bytes at r.done are zeros.
func (r *request) appendHole(b []byte, n int) []byte {
	b = r.appendChunk(b, r.lastFlag(n), chunkOffsetHole, 12)
	b = binary.BigEndian.AppendUint64(b, r.off+uint64(r.done))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// lastFlag marks the chunk with the last bytes of a READ.
func (r *request) lastFlag(n int) uint16 {
	if r.done+n == int(r.length) {
		return chunkFlagDone
	}
	return 0
}
