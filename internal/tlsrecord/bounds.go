// Package tlsrecord knows where the records of TLS begin and end.
package tlsrecord

import "encoding/binary"

// Bounds follows the records of TLS, for a connection under it whose Read never
// gives more than the rest of one record: TLS would keep the start of the next one
// in a buffer that then grows to three times the size of a record, and stays.
type Bounds struct {
	header [5]byte
	known  int // of header
	body   int // what is left of the body
}

// Within returns the part of in up to the next end of a record. in is not
// empty, nor is the result.
func (b *Bounds) Within(in []byte) []byte {
	n := b.body
	if n == 0 {
		h := b.header
		copy(h[b.known:], in)
		n = len(h) - b.known
		if len(in) >= n {
			n += int(binary.BigEndian.Uint16(h[3:]))
		}
	}
	return in[:min(n, len(in))]
}

// Pass goes past p, which is the beginning of what Within returned.
func (b *Bounds) Pass(p []byte) {
	if b.body == 0 {
		n := copy(b.header[b.known:], p)
		if b.known += n; b.known < len(b.header) {
			return
		}
		p = p[n:]
		b.known, b.body = 0, int(binary.BigEndian.Uint16(b.header[3:]))
	}
	b.body -= len(p)
}
