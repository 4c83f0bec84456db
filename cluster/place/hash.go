package place

import "math/bits"

// Groups is the number of groups to make a cluster with. With three copies, 100
// disks of the same size get 492 of them each, with a standard deviation of 4.5 %,
// and the fullest has some 15 % too many; 500 disks get 98, with 10 % and 32 %.
// Four times as many groups halve that, a quarter of them doubles it.
const Groups = 16384

// MaxGroups bounds the number of groups.
const MaxGroups = 1 << 20

// Index returns which of so many groups, a power of two, has objects of that hash.
func Index(hash uint64, groups int) int {
	return int(hash >> 1 >> (63 - bits.TrailingZeros64(uint64(groups))))
}

// Range returns the first and the last hash of a group, one of so many, a power of
// two.
func Range(index, groups int) (first, last uint64) {
	shift := 63 - bits.TrailingZeros64(uint64(groups))
	return uint64(index) << shift << 1, (uint64(index)<<1<<shift | (1<<shift-1)<<1 | 1)
}

// mix is the generator splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// seedOf is what makes the draws of a disk its own.
func seedOf(id string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 0x100000001b3
	}
	return mix(h)
}

const (
	tableBits = 10 // of the mantissa that choose a place of the table
	fracBits  = 24 // of it that say where between two places
	logBits   = 48 // behind the point of a logarithm
)

// table has log2(1 + i/1024).
var table = makeTable()

func makeTable() (t [1<<tableBits + 1]uint64) {
	for i := range 1 << tableBits {
		m := uint64(1<<tableBits+i) << (63 - tableBits)
		for range logBits {
			hi, lo := bits.Mul64(m, m)
			if hi>>63 == 1 {
				t[i], m = t[i]<<1|1, hi
			} else {
				t[i], m = t[i]<<1, hi<<1|lo>>63
			}
		}
	}
	t[1<<tableBits] = 1 << logBits
	return t
}

// cost is -log2(x / 2^64) for x > 0, and greater than 0.
func cost(x uint64) uint64 {
	n := bits.LeadingZeros64(x)
	m := x << n << 1 // without the highest bit
	i := m >> (64 - tableBits)
	r := m << tableBits >> (64 - fracBits)
	log := table[i] + (table[i+1]-table[i])*r>>fracBits
	return uint64(n+1)<<logBits - log
}
