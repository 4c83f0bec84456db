package blocktest

import "encoding/binary"

// Fill fills p with the bytes that a write with this seed stores at off. Every
// byte depends on the seed and on its own place, not on where p begins, so
// that bytes which end up in the wrong place or come from another write are
// recognised. No aligned word of 8 bytes is zero.
func Fill(p []byte, off int64, seed uint64) {
	for len(p) > 0 && off&7 != 0 {
		p[0] = byte(word(seed, off) >> (8 * uint(off&7)))
		p, off = p[1:], off+1
	}
	for ; len(p) >= 8; p, off = p[8:], off+8 {
		binary.LittleEndian.PutUint64(p, word(seed, off))
	}
	for i := range p {
		p[i] = byte(word(seed, off) >> (8 * uint(i)))
	}
}

// filled returns n bytes that Fill made.
func filled(off, n int64, seed uint64) []byte {
	p := make([]byte, n)
	Fill(p, off, seed)
	return p
}

// word is the word that holds the byte at off.
func word(seed uint64, off int64) uint64 {
	return mix(mix(seed)+uint64(off>>3)) | 1<<56
}

// mix is the finisher of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
