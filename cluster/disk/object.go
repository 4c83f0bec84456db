package disk

import (
	"fmt"
	"math"

	"github.com/strata-storage/strata/block"
)

const (
	// BlockSize is the unit in bytes of places, checksums and versions.
	BlockSize = 4 << 10
	// MaxObject bounds the size of an object in bytes.
	MaxObject = 1 << 30

	// pieceBlocks is the number of blocks in a piece, the part of an object
	// that one record of the metadata is about, and the longest extent.
	pieceBlocks = 16
	pieceSize   = pieceBlocks * BlockSize
	maxPieces   = MaxObject / pieceSize
)

// An Object is one part of all versions of a volume: what a family has at
// one index.
type Object struct {
	Family, Index uint64
}

// String is "family/index".
func (o Object) String() string { return fmt.Sprintf("%d/%d", o.Family, o.Index) }

// Hash spreads objects evenly over all numbers. The placement group of an
// object, where there are 2^k of them, is made of the k upper bits, so that a
// group is a range of hashes.
func (o Object) Hash() uint64 { return mix(mix(o.Family) + o.Index) }

// mix is the generator splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// compare orders objects by hash, as the metadata do.
func (o Object) compare(p Object) int {
	a, b := [3]uint64{o.Hash(), o.Family, o.Index}, [3]uint64{p.Hash(), p.Family, p.Index}
	for i := range a {
		if a[i] < b[i] {
			return -1
		}
		if a[i] > b[i] {
			return 1
		}
	}
	return 0
}

// At names a version of an object.
type At struct {
	Object
	Version uint64
	// Revision of the family's tree that the request needs to know.
	Revision uint64
}

// String is "version V of object F/I".
func (a At) String() string { return fmt.Sprintf("version %d of object %v", a.Version, a.Object) }

// checkRange refuses what is not within an object of the greatest size.
func checkRange(off, n int64) error {
	if off < 0 || n < 0 || off > MaxObject || n > MaxObject-off {
		return fmt.Errorf("%d bytes at %d, an object has at most %d: %w", n, off, MaxObject, block.ErrRange)
	}
	return nil
}

// A Kind says what a version of an object has at a block.
type Kind uint8

// The kinds.
const (
	// None: what the nearest ancestor has.
	None Kind = iota
	// Data: content of its own.
	Data
	// Hole: zeros, whatever the ancestors have.
	Hole
)

// String returns the name of k in lower case.
func (k Kind) String() string {
	switch k {
	case None:
		return "none"
	case Data:
		return "data"
	case Hole:
		return "hole"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// An Entry is what one version of an object has at one block.
type Entry struct {
	Version uint64
	// Block counts from the beginning of the object.
	Block uint32
	Kind  Kind
	// Sum is the CRC-32C of the content, if the kind is Data.
	Sum uint32
}

// digest is what an entry adds to the digest of its object.
func (e Entry) digest() uint64 {
	if e.Kind == None {
		return 0
	}
	return mix(mix(e.Version) ^ (uint64(e.Block)<<34 | uint64(e.Kind)<<32 | uint64(e.Sum)))
}

// A State tells whether two objects are the same.
type State struct {
	// Counter counts the changes of the object on this disk. As long as it is
	// the same and the disk has not been opened anew, nothing has changed. It
	// says nothing about other disks.
	Counter uint64
	// Digest is the same on two disks whose objects have the same entries, and
	// else, but for one chance in 2^32 for each block that differs, another one.
	// It is 0 for an object without entries. It says what should be on the slab;
	// whether it is there is for Verify to find out.
	Digest uint64
}

// lastHash is the end of the range of all hashes.
const lastHash = math.MaxUint64
