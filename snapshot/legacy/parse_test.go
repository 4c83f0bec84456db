package legacy

import (
	"bytes"
	"testing"

	"github.com/strata-storage/strata/block"
)

// A header that is accepted is written as it was.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("SnAp\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00"))
	f.Add([]byte("SnAp\x00\x00\x00\x00\x01\x00\x00\x00\x00\x08\x00\x00"))
	f.Add([]byte("SnAp\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x80"))
	f.Add([]byte("SnAp\x00\x00\x00\x00\x01\x00\x00\x00\x00\x08\x00\x00StrEmpty"))
	f.Fuzz(func(t *testing.T, fields []byte) {
		p := make([]byte, sector)
		copy(p, fields[:min(len(fields), 24)])
		if p[4] != 0 {
			clear(p[16:])
		}
		chunk, valid, err := parseHeader(p)
		if err != nil {
			return
		}
		l := newLayout(chunk, 1<<30, 1<<30)
		if !bytes.Equal(l.header(valid)[:sector], p) {
			t.Errorf("chunks of %d bytes, valid %v: not what the header said", chunk, valid)
		}
	})
}

// The exceptions of an area that is accepted are within bounds, and written as
// they were; what is behind them is noticed.
func FuzzArea(f *testing.F) {
	l := newLayout(512, 100*512, 50*512)
	area := func(all ...entry) []byte {
		p := make([]byte, l.chunk)
		for i, e := range all {
			put(p, int64(i), e)
		}
		return p
	}
	f.Add(area())
	f.Add(area(entry{0, 2}, entry{49, 3}, entry{}, entry{7, 8}))
	f.Add(area(entry{-1, 2}))
	f.Add(area(entry{1, 34}))
	f.Add(area(entry{1, -1}))
	f.Fuzz(func(t *testing.T, p []byte) {
		p = append(bytes.Clone(p), make([]byte, l.chunk)...)[:l.chunk]
		all, litter, err := l.parseArea(p)
		if err != nil {
			return
		}
		n := int64(len(all))
		for _, e := range all {
			if e.old < 0 || e.old >= l.origin || !l.isData(e.new) {
				t.Errorf("exception %v, of an origin with %d chunks and a device with %d", e, l.origin, l.total)
			}
		}
		q := area(all...)
		if !bytes.Equal(q[:n*entrySize], p[:n*entrySize]) {
			t.Error("the exceptions are not what they were")
		}
		if rest := p[n*entrySize:]; litter == block.IsZero(rest) {
			t.Errorf("litter %v, behind %d exceptions is %x", litter, n, rest)
		}
	})
}
