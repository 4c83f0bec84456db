package ranged

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/strata-storage/strata/snapshot"
)

// logged returns a store with commits in its log, and the address of the frame
// of each.
func logged(t *testing.T, commits int) (b *bench, frames []int64) {
	b = newBench(t, 4<<20, 1<<20, nil)
	b.create()
	for i := range int64(commits) {
		frames = append(frames, b.st.log)
		b.detach(i, 1)
		b.commit()
	}
	return b, frames
}

// TestDamagedLog: a frame that was durable and cannot be read is damage, not
// the end of the log.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	// More commits than blocks in a segment.
	b, frames := logged(t, 24)
	for i, addr := range frames[:len(frames)-1] {
		for _, at := range []int64{3, 13, 40, 88, 100, 130} {
			b.flip(addr+at, 2)
			_, err := b.try()
			if !errors.Is(err, snapshot.ErrDamaged) {
				t.Errorf("byte %d of commit %d of %d: %v, expected %v", at, i+1, len(frames), err, snapshot.ErrDamaged)
			}
			b.flip(addr+at, 2)
		}
	}
	if st := b.load(); st.seq != b.st.seq {
		t.Errorf("undamaged there are %d commits, expected %d", st.seq, b.st.seq)
	}
}

// TestTornTail: what no later frame knows to be durable may be cut.
func TestTornTail(t *testing.T) {
	t.Parallel()
	b, frames := logged(t, 5)
	b.flip(frames[4]+100, 0)
	if st := b.load(); st.seq != b.st.seq-1 {
		t.Errorf("there are %d commits, expected %d", st.seq, b.st.seq-1)
	}
}

// TestFreedInCommit: nobody looks at places that the commit has freed which
// gave them away.
func TestFreedInCommit(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4<<20, 1<<20, nil)
	v := b.create()
	b.commit()
	b.write(v, 3, 1)
	gone := b.place(v, 3)
	b.write(v, 3, 1)
	kept := b.place(v, 3)
	b.commit()
	seq := b.st.seq
	// It is free now, and somebody else writes to it.
	b.must(b.dev.WriteAt(t.Context(), make([]byte, 4096), gone.Off, 0))
	b.st = b.load()
	if got := b.place(v, 3); b.st.seq != seq || got.Place != kept.Place {
		t.Errorf("the place is %v after commit %d, expected %v after %d", got, b.st.seq, kept, seq)
	}
}

// TestFlips flips a bit in each structure: Check finds it.
func TestFlips(t *testing.T) {
	t.Parallel()
	b, _ := logged(t, 6)
	b.must(b.st.compact(t.Context()))
	frames := []int64{}
	for i := range int64(6) {
		frames = append(frames, b.st.log)
		b.detach(10+i, 1)
		b.commit()
	}
	b.st = b.load()
	g := &b.st.geo
	blocks := map[string]int64{
		"superblock": 0, "copy of the superblock": g.size - blockSize,
		"checkpoint": ringSlot(b.st.gen), "copy of the checkpoint": ringCopy(b.st.gen),
		"first commit": frames[0], "last commit": frames[5],
	}
	for name, addr := range b.nodes() {
		blocks[name] = addr
	}
	for name, addr := range blocks {
		for _, at := range []int64{2, 9, 17, 33, 45, 70, 90, 200, 4090} {
			b.flip(addr+at, uint(at)%8)
			if len(b.problems(b.st)) == 0 {
				t.Errorf("%s, byte %d: Check finds nothing", name, at)
			}
			b.flip(addr+at, uint(at)%8)
		}
	}
	if all := b.problems(b.st); len(all) > 0 {
		t.Errorf("undamaged: %v", all)
	}
}

// TestRingCopy: a checkpoint of which one copy is damaged is used, and mended.
func TestRingCopy(t *testing.T) {
	t.Parallel()
	b, _ := logged(t, 2)
	for _, addr := range []int64{ringSlot(b.st.gen), ringCopy(b.st.gen)} {
		b.flip(addr+50, 1)
		st := b.load()
		if all := b.problems(st); st.seq != b.st.seq || len(all) > 0 {
			t.Errorf("commit %d, expected %d; %v", st.seq, b.st.seq, all)
		}
	}
	b.flip(ringSlot(b.st.gen)+50, 1)
	b.flip(ringCopy(b.st.gen)+50, 1)
	if _, err := b.try(); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("without the newest checkpoint: %v, expected %v", err, snapshot.ErrDamaged)
	}
}

// nodes returns the blocks of the checkpoint by name.
func (b *bench) nodes() map[string]int64 {
	all := map[string]int64{"image": b.st.images[0], "map": b.st.chunks.root.addr, "eras": b.st.eras.root.addr}
	for i := range b.st.space.segs {
		if addr := b.st.space.segs[i].addr; addr != 0 {
			all["places of a segment"] = addr
		}
	}
	return all
}

// TestTree fills trees of several levels, changes and deletes, and compares all
// with a model after each checkpoint and after loading.
func TestTree(t *testing.T) {
	t.Parallel()
	b := newBench(t, 64<<20, 32<<20, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	chunks := b.st.geo.chunks()
	var ids []snapshot.ID
	model := map[[2]int64]int64{}
	for round := range 24 {
		if len(ids) < 5 {
			ids = append(ids, b.create())
		}
		for range 150 {
			c := rng.Int64N(chunks)
			if n := 1 + rng.Int64N(min(6, chunks-c)); rng.IntN(2) == 0 {
				b.detach(c, n)
			} else {
				b.write(ids[rng.IntN(len(ids))], c, n)
			}
		}
		b.commit()
		if round%3 == 2 {
			i := rng.IntN(len(ids))
			b.must(b.st.Delete(t.Context(), ids[i:i+1]))
			ids = append(ids[:i], ids[i+1:]...)
			b.work()
		}
		look := func(set bool) {
			for _, id := range ids {
				for c := range chunks {
					s := b.place(id, c)
					k := [2]int64{int64(id), c}
					if set {
						model[k] = s.Off
					} else if model[k] != s.Off {
						t.Fatalf("round %d: snapshot %d has chunk %d at %d, expected %d", round, id, c, s.Off, model[k])
					}
				}
			}
		}
		look(true)
		if round%2 == 0 {
			b.must(b.st.compact(t.Context()))
		} else {
			b.st = b.load()
		}
		look(false)
		if all := b.problems(b.st); len(all) > 0 {
			t.Fatalf("round %d: %v", round, all[:min(len(all), 5)])
		}
	}
	if b.st.chunks.level == 0 {
		t.Error("the tree has one level only")
	}
	b.must(b.st.Delete(t.Context(), ids))
	b.work()
	b.must(b.st.compact(t.Context()))
	if all := b.problems(b.st); len(all) > 0 || b.st.space.all != 0 || b.st.chunks.root != nil || b.st.eras.root != nil {
		t.Errorf("without snapshots %d places are in use; %v", b.st.space.all, all)
	}
}
