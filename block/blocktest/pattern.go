package blocktest

import "encoding/binary"

// Fill fills p with the bytes that a write with this seed stores at off. Every
// byte depends on the seed and on its own place, not on where p begins, so
// that bytes which end up in the wrong place or come from another write are
// recognised. No aligned word of 8 bytes is zero.
func Fill(p []byte, off int64, seed uint64) {
	var chunk [512]byte
	base := mix(seed)
	for len(p) > 0 {
		start := off &^ 7
		words(&chunk, base, start)
		k := copy(p, chunk[off-start:])
		p, off = p[k:], off+int64(k)
	}
}

// words fills chunk with the words from off on, a multiple of 8. The race
// detector, which would slow it down ten times, sees the copy of it.
//
//go:norace
func words(chunk *[512]byte, base uint64, off int64) {
	for i := 0; i < len(chunk); i += 8 {
		binary.LittleEndian.PutUint64(chunk[i:], word(base, off+int64(i)))
	}
}

// filled returns n bytes that Fill made.
func filled(off, n int64, seed uint64) []byte {
	p := make([]byte, n)
	Fill(p, off, seed)
	return p
}

// word is the word that holds the byte at off.
//
//go:norace
func word(base uint64, off int64) uint64 {
	return mix(base+uint64(off>>3)) | 1<<56
}

// mix is the finisher of splitmix64.
//
//go:norace
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
