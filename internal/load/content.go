package load

import (
	"encoding/binary"
	"fmt"
)

// fill writes into the buffer what generation g stores at off: every word
// tells where and when it was written, so that a stale or misplaced word is
// noticed.
func (w *worker) fill(off int64, g uint64) {
	for i := 0; i < len(w.buf); i += 8 {
		binary.LittleEndian.PutUint64(w.buf[i:], w.word(off+int64(i), g))
	}
}

// verify compares the buffer with what generation g stored at off.
func (w *worker) verify(off int64, g uint64) error {
	for i := 0; i < len(w.buf); i += 8 {
		got, want := binary.LittleEndian.Uint64(w.buf[i:]), w.word(off+int64(i), g)
		if got != want {
			return fmt.Errorf("read at offset %d: got %016x, but %016x was written there", off+int64(i), got, want)
		}
	}
	return nil
}

// word mixes its inputs with the finalizer of SplitMix64.
func (w *worker) word(off int64, g uint64) uint64 {
	x := w.o.Seed + uint64(off) + g*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
