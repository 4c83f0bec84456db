package disk

import (
	"bytes"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
)

// Several blocks are read as they are, whatever the version has there, and only
// what it has itself.
func TestRawBlocks(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 40), 0))
	head := at(0, l.trees.add(1, 1))
	l.ok(l.Write(ctx, head, fill(7, 3), 14*BlockSize))
	l.ok(l.Zero(ctx, head, 20*BlockSize, BlockSize))
	l.bytes[offset(l.placeOf(Entry{head.Version, 16, Data, checksum(fill(7, 3)[2*BlockSize:])}, head.Object))]++
	p := bytes.Repeat([]byte{0xee}, 10*BlockSize)
	list, err := l.RawBlocks(ctx, head.Object, head.Version, 12, p, nil)
	l.ok(err)
	want := bytes.Repeat([]byte{0xee}, 10*BlockSize)
	copy(want[2*BlockSize:], fill(7, 3))
	want[4*BlockSize]++
	if !bytes.Equal(p, want) {
		t.Error("it has other content")
	}
	for i, e := range list {
		one := make([]byte, BlockSize)
		single, err := l.Raw(ctx, head.Object, head.Version, 12+uint32(i), one)
		if err != nil || single != e || e.Block != 12+uint32(i) || e.Version != head.Version {
			t.Errorf("block %d: %+v, alone %+v (%v)", 12+i, e, single, err)
		}
		kind := None
		switch i {
		case 2, 3, 4:
			kind = Data
		case 8:
			kind = Hole
		}
		if e.Kind != kind {
			t.Errorf("block %d is %v, expected %v", 12+i, e.Kind, kind)
		}
	}
	if len(list) != 10 {
		t.Errorf("%d entries", len(list))
	}
	for _, n := range []int{0, 1, chunkSize + BlockSize} {
		if _, err := l.RawBlocks(ctx, head.Object, 1, 0, make([]byte, n), nil); !errors.Is(err, block.ErrInvalid) {
			t.Errorf("room for %d bytes: %v", n, err)
		}
	}
	if _, err := l.RawBlocks(ctx, head.Object, 1, MaxObject/BlockSize-1, p, nil); !errors.Is(err, block.ErrRange) {
		t.Errorf("behind the end: %v", err)
	}
}
