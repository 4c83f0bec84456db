package disk

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
)

// A full disk says so early, and goes on overwriting, zeroing, deleting and
// repairing; what is freed can be used.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	l := openLab(t, minSlab)
	ctx := t.Context()
	base := l.Stats()
	if base.Free >= base.Size || base.Free == 0 || base.Used != 0 || base.Full {
		t.Fatalf("%+v", base)
	}
	data := fill(1, 1)
	n := int64(0)
	for ; ; n++ {
		err := l.Write(ctx, at(0, 1), data, n*BlockSize)
		if errors.Is(err, block.ErrNoSpace) {
			break
		}
		l.ok(err)
	}
	if n*BlockSize != base.Free || !l.Stats().Full || l.Stats().Free != 0 {
		t.Fatalf("%d blocks were written, %+v", n, l.Stats())
	}
	// Several blocks, of which some have places.
	before, err := l.State(ctx, Object{1, 0})
	l.ok(err)
	if err := l.Write(ctx, at(0, 1), fill(2, 3), (n-2)*BlockSize); !errors.Is(err, block.ErrNoSpace) {
		t.Fatal(err)
	}
	if after, err := l.State(ctx, Object{1, 0}); err != nil || after != before {
		t.Fatalf("%v %v", after, err)
	}
	l.want(at(0, 1), (n-2)*BlockSize, append(bytes.Clone(data), data...))
	l.ok(l.Write(ctx, at(0, 1), fill(3, 2), 0))
	l.checked(true)
	l.reopen()

	// A snapshot costs nothing, but writing after it does.
	head := at(0, l.trees.add(1, 1))
	if err := l.Write(ctx, head, data, 0); !errors.Is(err, block.ErrNoSpace) {
		t.Fatal(err)
	}
	l.ok(l.Zero(ctx, head, 0, 100*BlockSize))
	if err := l.Zero(ctx, head, 200*BlockSize+1, 1); !errors.Is(err, block.ErrNoSpace) {
		t.Fatal(err)
	}
	e := Entry{1, 7, Data, checksum(data)}
	if k, err := l.Repair(ctx, head.Object, 0, []Fix{{Was: e, Kind: Data, Data: data}}); k != 1 || err != nil {
		t.Fatal(k, err)
	}
	l.want(at(0, 1), 7*BlockSize, data)
	// What nobody needs any more is there for the next write, without a flush.
	l.trees.doom(1, 1)
	step, err := l.Delete(ctx, 1, 1, 0, Cursor{}, 1000)
	if err != nil || !step.Done || step.Kept != 0 {
		t.Fatal(step, err)
	}
	l.ok(l.Write(ctx, head, fill(5, 100), 0))
	if err := l.Write(ctx, head, data, n*BlockSize); !errors.Is(err, block.ErrNoSpace) {
		t.Fatal(err)
	}
	l.want(head, 0, fill(5, 100))
	l.ok(l.Flush(ctx))
	l.trees.remove(1, 1)
	l.checked(true)
	l.ok(l.Zero(ctx, head, 0, MaxObject))
	l.ok(l.Flush(ctx))
	l.space.waitForTrims()
	if st := l.Stats(); st.Used != 0 || st.Free != base.Free || st.Full {
		t.Errorf("%+v", st)
	}
}

// No new places are given out when the metadata have no room, and everything
// else goes on.
func TestMetadataFull(t *testing.T) {
	t.Parallel()
	l := openLab(t, labSize)
	ctx := t.Context()
	fs := l.fs.(*vfs.MemFS)
	l.ok(l.Write(ctx, at(0, 1), fill(1, 2), 0))
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: defaultMetaReserve - 1, TotalBytes: 1 << 40})
	l.reopen()
	if st := l.Stats(); !st.MetaFull || st.Free != 0 {
		t.Errorf("%+v", st)
	}
	if err := l.Write(ctx, at(0, 1), fill(1, 1), 1<<20); !errors.Is(err, block.ErrNoSpace) {
		t.Fatal(err)
	}
	l.ok(l.Write(ctx, at(0, 1), fill(2, 2), 0))
	l.ok(l.Zero(ctx, at(0, 1), 0, BlockSize))
	l.ok(l.Flush(ctx))
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: defaultMetaReserve, TotalBytes: 1 << 40})
	if err := l.Write(ctx, at(0, 1), fill(3, 1), 1<<20); !errors.Is(err, block.ErrNoSpace) {
		t.Fatalf("with hardly more room than before: %v", err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: defaultMetaReserve / 8 * 9, TotalBytes: 1 << 40})
	// That there is room again is seen by who needs some.
	l.ok(l.Write(ctx, at(0, 1), fill(3, 1), 1<<20))
	if st := l.Stats(); st.MetaFull || st.Full || st.Free == 0 {
		t.Errorf("%+v", st)
	}
	// And by who looks.
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1, TotalBytes: 1 << 40})
	l.LookForRoom()
	if st := l.Stats(); !st.MetaFull {
		t.Errorf("%+v", st)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 39, TotalBytes: 1 << 40})
	l.LookForRoom()
	if st := l.Stats(); st.MetaFull {
		t.Errorf("%+v", st)
	}
	l.checked(true)
}

// Only what replaces data may use the places that are kept for repairs, also if
// it comes together with something else.
func TestReserveIsForRepairs(t *testing.T) {
	t.Parallel()
	l := openLab(t, minSlab)
	ctx := t.Context()
	data := fill(1, 1)
	n := l.Stats().Free / BlockSize
	for i := range n {
		// The first block of each pair.
		l.ok(l.Write(ctx, at(0, 1), data, 2*i*BlockSize))
	}
	l.ok(l.Flush(ctx))
	fixes := []Fix{
		{Was: Entry{1, 0, Data, checksum(data)}, Kind: Data, Data: fill(2, 1)},
		{Was: Entry{1, 1, None, 0}, Kind: Data, Data: data},
	}
	if k, err := l.Repair(ctx, Object{1, 0}, 0, fixes); k != 0 || !errors.Is(err, block.ErrNoSpace) {
		t.Fatal(k, err)
	}
	if k, err := l.Repair(ctx, Object{1, 0}, 0, fixes[:1]); k != 1 || err != nil {
		t.Fatal(k, err)
	}
	// As many as one likes.
	for i := range n {
		sum := checksum(data)
		if i == 0 {
			sum = checksum(fill(2, 1))
		}
		fix := Fix{Was: Entry{1, uint32(2 * i), Data, sum}, Kind: Data, Data: fill(3, 1)}
		if k, err := l.Repair(ctx, Object{1, 0}, 0, []Fix{fix}); k != 1 || err != nil {
			t.Fatal(i, k, err)
		}
	}
	l.checked(true)
}

// The room is looked at again after some writing.
func TestRoomIsLookedAt(t *testing.T) {
	t.Parallel()
	l := newLab(t, labSize)
	l.trees.add(1, 0)
	l.adjust = func(c *Config) { c.MetaReserve = 1 << 20 }
	l.open()
	ctx := t.Context()
	l.fs.(*vfs.MemFS).TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1, TotalBytes: 1 << 40})
	for i := range int64(64) {
		if err := l.Write(ctx, at(0, 1), fill(1, 1), i*BlockSize); errors.Is(err, block.ErrNoSpace) {
			return
		}
		l.ok(l.Flush(ctx))
	}
	t.Error("nobody has looked")
}

// The allocator finds room in one piece where there is some, every last place,
// and never gives one twice.
func TestSpace(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		blocks := uint64(3*segmentBlocks + 100)
		durable := map[int]bitset{}
		s := newSpace(blocks, 5, func(seg int, b *bitset) error { *b = durable[seg]; return nil })
		const (
			free = iota
			taken
			kept
		)
		state := make([]int, blocks)
		var named []uint64
		count := 0
		for range 3000 {
			switch rng.IntN(5) {
			case 0, 1:
				n := 1 + rng.IntN(20)
				p, k, err := s.take(n, false)
				if err != nil {
					if count < int(blocks)-5 {
						t.Fatalf("%d of %d places are in use: %v", count, blocks, err)
					}
					continue
				}
				if k < 1 || k > n {
					t.Fatalf("%d places for %d", k, n)
				}
				for i := range uint64(k) {
					if state[p+i] != free {
						t.Fatalf("place %d was given twice", p+i)
					}
					state[p+i] = taken
				}
				count += k
			case 2: // some of them are not used
				for p := range blocks {
					if state[p] == taken && rng.IntN(4) == 0 {
						s.drop(p)
						state[p] = free
						count--
					}
				}
			case 3: // a batch
				var frees, takes []uint64
				rng.Shuffle(len(named), func(i, j int) { named[i], named[j] = named[j], named[i] })
				for k := rng.IntN(1 + len(named)/2); k > 0; k-- {
					frees = append(frees, named[0])
					named = named[1:]
				}
				for p := range blocks {
					if state[p] == taken && rng.IntN(2) == 0 {
						state[p] = kept
						takes = append(takes, p)
						named = append(named, p)
					}
				}
				if err := s.commit(frees, takes); err != nil {
					t.Fatal(err)
				}
				s.eachTouched(func(seg, _ int, b *bitset) { durable[seg] = *b })
				for _, seg := range s.settle(frees) {
					s.trimmed(seg)
				}
				for _, p := range frees {
					state[p] = free
				}
				count -= len(frees)
			case 4:
				s.cool()
			}
			if got := int64(blocks) - s.total; got != int64(count) {
				t.Fatalf("%d places are in use, expected %d", got, count)
			}
		}
	}
}

// Finding one of the last places of a large disk takes no time, as a place is free
// only here and there.
func TestCrampedSpace(t *testing.T) {
	t.Parallel()
	const segments = 1 << 20 // 4 TiB
	s := newSpace(segments*segmentBlocks, 0, func(seg int, b *bitset) error {
		for i := range uint32(segmentBlocks) {
			if i != 7 || seg%3 != 0 {
				b.set(i)
			}
		}
		return nil
	})
	for i := range s.free {
		s.free[i] = 0
		if i%3 == 0 {
			s.free[i] = 1
		}
	}
	s.total = segments / 3
	last := uint64(0)
	for range 10_000 {
		p, n, err := s.take(16, false)
		if err != nil || n != 1 || p%segmentBlocks != 7 || p == last {
			t.Fatalf("place %d after %d: %d, %v", p, last, n, err)
		}
		last = p
	}
	if !s.cramped {
		t.Error("there is room in one piece")
	}
	// Room that appears somewhere is found.
	s.get(segments / 2)
	s.warm[segments/2].durable = bitset{}
	s.gained(segments/2, segmentBlocks)
	if p, n, err := s.take(16, false); err != nil || n != 16 || p/segmentBlocks != segments/2 {
		t.Fatal(p, n, err)
	}
}

// Segments that become empty are trimmed, and not before that is durable.
func TestTrim(t *testing.T) {
	t.Parallel()
	l := newLab(t, minSlab+8<<20)
	l.trees.add(1, 0)
	slab := block.FromBytes(l.bytes)
	var trims []int64
	l.wrapSlab = func(block.Device) block.Device { return &trimmer{block.Pass{Device: slab}, &trims} }
	l.open()
	ctx := t.Context()
	l.ok(l.Write(ctx, at(0, 1), fill(1, 2*segmentBlocks+1), 0))
	l.ok(l.Flush(ctx))
	l.ok(l.Zero(ctx, at(0, 1), 0, MaxObject))
	if len(trims) != 0 {
		t.Fatalf("trimmed at %v before the flush", trims)
	}
	l.ok(l.Flush(ctx))
	l.space.waitForTrims()
	l.flusher.wait()
	if len(trims) != 2 {
		t.Errorf("trimmed at %v", trims)
	}
	l.checked(true)
}

type trimmer struct {
	block.Pass
	trims *[]int64
}

func (d *trimmer) Info() block.Info {
	info := d.Pass.Info()
	info.Trims = true
	return info
}

func (d *trimmer) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	*d.trims = append(*d.trims, off)
	return d.Pass.Trim(ctx, off, n, flags)
}

func (d *trimmer) Close() error { return nil }
