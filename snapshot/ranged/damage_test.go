package ranged

import (
	"errors"
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
	b, frames := logged(t, 6)
	b.must(b.st.Close(t.Context()))
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
	return map[string]int64{"first node": b.st.geo.start(b.st.nodes[0])}
}
