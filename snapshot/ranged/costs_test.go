package ranged

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// grow gives chunks places without writing data, which must be in a checkpoint
// before anybody verifies them.
func (b *bench) grow(r snapshot.Request) {
	b.Helper()
	p, err := b.st.Plan(b.Context(), r)
	b.must(err)
	sums := make([]uint32, p.N)
	if p.Sums = sums; len(p.Copies) > 0 {
		p.Copies[0].Sums = sums
	}
	b.must(b.st.Apply(b.Context(), p))
}

// TestFlushCosts: a flush after 32 first writes is one barrier, and hardly more
// than the data.
func TestFlushCosts(t *testing.T) {
	t.Parallel()
	b := newBench(t, 256<<20, 1<<30, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	b.create()
	b.commit()
	for range 50 {
		b.dev.written, b.dev.flushes = 0, 0
		for range 32 {
			b.write(snapshot.Origin, rng.Int64N(b.st.geo.chunks()), 1)
		}
		b.commit()
		if b.dev.flushes != 1 || float64(b.dev.written) > 1.10*32*4096 {
			t.Fatalf("a flush after 32 writes has %d barriers and writes %d bytes, expected 1 and at most %d", b.dev.flushes, b.dev.written, 32*4096*110/100)
		}
	}
}

// TestEraCosts (R13): deleting a snapshot visits the entries of its era, however
// large the map is, and a batch visits each once.
func TestEraCosts(t *testing.T) {
	t.Parallel()
	b := newBench(t, 512<<20, 256<<20, nil)
	era := func(from, n int64) snapshot.ID {
		id := b.create()
		for c := from; c < from+2*n; c += 2 {
			b.grow(snapshot.Request{Op: snapshot.Detach, Chunk: c, N: 1})
		}
		return id
	}
	a := era(0, 20000)
	small := era(50000, 100)
	x, y := era(51000, 300), era(51001, 300)
	b.commit()
	b.must(b.st.compact(t.Context()))
	visits := func(ids ...snapshot.ID) int64 {
		before := b.st.visits
		b.must(b.st.Delete(t.Context(), ids))
		b.work()
		return b.st.visits - before
	}
	if got := visits(small); got != 100 {
		t.Errorf("deleting a snapshot with an era of 100 visits %d", got)
	}
	if got := visits(x, y); got != 600 {
		t.Errorf("deleting two with eras of 300 each visits %d", got)
	}
	if got := visits(a); got != 20700 || b.st.space.all != 0 {
		t.Errorf("deleting the last visits %d of 20700, and leaves %d places", got, b.st.space.all)
	}
	if all := b.problems(b.st); len(all) > 0 {
		t.Error(all)
	}
}

// TestCursor (R14): a deletion goes on where it was when the store is loaded.
func TestCursor(t *testing.T) {
	t.Parallel()
	b := newBench(t, 64<<20, 64<<20, nil)
	id := b.create()
	for c := int64(0); c < 2000; c += 2 {
		b.grow(snapshot.Request{Op: snapshot.Detach, Chunk: c, N: 1})
	}
	b.must(b.st.compact(t.Context()))
	b.must(b.st.Delete(t.Context(), []snapshot.ID{id}))
	for b.st.visits < 600 {
		_, err := b.st.Step(t.Context(), 100)
		b.must(err)
	}
	b.commit()
	b.must(b.st.compact(t.Context()))
	b.st = b.load()
	b.work()
	if b.st.visits > 400 || b.st.space.all != 0 {
		t.Errorf("after loading %d entries are visited, expected 400; %d places are in use", b.st.visits, b.st.space.all)
	}
}

// TestRefreshCosts: what others have committed is read, and no more.
func TestRefreshCosts(t *testing.T) {
	t.Parallel()
	b := newBench(t, 256<<20, 1<<30, nil)
	b.create()
	for c := int64(0); c < 20000; c += 2 {
		b.grow(snapshot.Request{Op: snapshot.Detach, Chunk: c, N: 1})
	}
	b.must(b.st.compact(t.Context()))
	other := b.load()
	for commits := range int64(20) {
		for i := range commits {
			b.detach(100000+commits*100+i, 1)
			b.commit()
		}
		b.dev.read = 0
		b.refreshes(other)
		if limit := (2*commits + 2*nearBlocks + 8) * blockSize; b.dev.read > limit || other.seq != b.st.seq {
			t.Errorf("Refresh after %d commits reads %d bytes, expected at most %d; it is at commit %d of %d", commits, b.dev.read, limit, other.seq, b.st.seq)
		}
	}
	b.must(b.st.compact(t.Context()))
	b.detach(0, 1)
	b.write(snapshot.Origin, 1, 1)
	b.commit()
	b.refreshes(other)
	if all := b.problems(other); len(all) > 0 || other.seq != b.st.seq || other.gen != b.st.gen {
		t.Errorf("after a checkpoint Refresh is at commit %d of %d: %v", other.seq, b.st.seq, all)
	}
}

// TestMemory: with the least memory a map that is larger works, and the limit
// holds.
func TestMemory(t *testing.T) {
	t.Parallel()
	b := newBench(t, 512<<20, 4<<30, map[string]string{"memory": "1M"})
	rng := rand.New(rand.NewPCG(3, 3))
	b.create()
	want := map[int64]int64{}
	for range 90_000 {
		c := rng.Int64N(b.st.geo.chunks())
		b.grow(snapshot.Request{Op: snapshot.Write, Chunk: c, N: 1})
		want[c] = b.place(snapshot.Origin, c).Off
		for more := b.st.due(); more; {
			p, err := b.st.Step(t.Context(), 4096)
			b.must(err)
			more = p.More
		}
		if m := b.st.mem.bytes + b.st.chunks.cache.bytes; m > minMemory {
			t.Fatalf("%d bytes are in memory, expected at most %d", m, minMemory)
		}
	}
	b.must(b.st.compact(t.Context()))
	b.st = b.load()
	for c, off := range want {
		if got := b.place(snapshot.Origin, c); got.Off != off {
			t.Fatalf("chunk %d is at %d, expected %d", c, got.Off, off)
		}
	}
	if c := b.st.chunks.cache; c.bytes > c.limit || c.reads.Load() < 1000 {
		t.Errorf("%d bytes of nodes are in memory, expected at most %d; %d were read", c.bytes, c.limit, c.reads.Load())
	}
}

// TestMemoryOfCommits: without any step commits keep the limit.
func TestMemoryOfCommits(t *testing.T) {
	t.Parallel()
	b := newBench(t, 256<<20, 4<<30, map[string]string{"memory": "1M"})
	rng := rand.New(rand.NewPCG(4, 4))
	b.create()
	for range 1000 {
		for range 50 {
			b.grow(snapshot.Request{Op: snapshot.Write, Chunk: rng.Int64N(b.st.geo.chunks()), N: 1})
		}
		b.commit()
		if b.st.mem.bytes > minMemory/2 {
			t.Fatalf("%d bytes have changed, expected at most %d", b.st.mem.bytes, minMemory/2)
		}
	}
	if b.st.gen < 3 {
		t.Errorf("there are %d checkpoints", b.st.gen)
	}
}

// TestNoWait: metadata that are not in memory are not waited for.
func TestNoWait(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4<<20, 1<<20, nil)
	id := b.create()
	b.detach(3, 1)
	b.must(b.st.compact(t.Context()))
	b.st = b.load()
	if _, err := b.st.Map(t.Context(), id, 3, 1, block.NoWait); !errors.Is(err, block.ErrWouldBlock) {
		t.Errorf("a chunk of a node on the device: %v, expected %v", err, block.ErrWouldBlock)
	}
	b.place(id, 3)
	if s, err := b.st.Map(t.Context(), id, 3, 1, block.NoWait); err != nil || s.Where != snapshot.OnStore {
		t.Errorf("a chunk of a node in memory: %v, %v", s, err)
	}
}

// TestThread has the example of the thread (R26, R28): there are snapshots 1 to
// 5, and 3 is written; then the origin.
func TestThread(t *testing.T) {
	t.Parallel()
	for share, want := range map[string]int{"refs": 1, "exact": 2} {
		b := newBench(t, 4<<20, 1<<20, map[string]string{"share": share})
		for range 5 {
			b.create()
		}
		b.write(3, 7, 1)
		p, err := b.st.Plan(t.Context(), snapshot.Request{Op: snapshot.Detach, Chunk: 7, N: 1})
		b.must(err)
		if len(p.Copies) != 1 || len(p.Copies[0].To) != want {
			t.Errorf("share=%s: %v, expected %d copies", share, p.Copies, want)
		}
		b.st.Abandon(p)
		b.detach(7, 1)
		// All share a chunk, and the one in the middle is written.
		b.detach(8, 1)
		p, err = b.st.Plan(t.Context(), snapshot.Request{Op: snapshot.Write, View: 3, Chunk: 8, N: 1})
		b.must(err)
		if len(p.Copies) != want-1 {
			t.Errorf("share=%s: a write to snapshot 3 needs %v, expected %d copies besides its own", share, p.Copies, want-1)
		}
		b.st.Abandon(p)
		b.write(3, 8, 1)
		b.commit()
		for c := int64(7); c <= 8; c++ {
			if x, y := b.place(1, c), b.place(5, c); (x.Place == y.Place) != (share == "refs") || b.place(2, c).Place != x.Place || b.place(4, c).Place != y.Place {
				t.Errorf("share=%s: chunk %d of snapshots 1 and 5 is at %v and %v", share, c, x, y)
			}
		}
	}
}

// TestManyRanges: the entries of a chunk may be more than a node has room for.
func TestManyRanges(t *testing.T) {
	t.Parallel()
	b := newBench(t, 16<<20, 1<<20, nil)
	const n = 400
	for id := snapshot.ID(1); id <= n; id++ {
		b.create()
		b.write(id, 5, 1)
		if id%60 == 0 {
			b.commit()
			b.must(b.st.compact(t.Context()))
		}
	}
	b.commit()
	var want []int64
	for id := snapshot.ID(1); id <= n; id++ {
		want = append(want, b.place(id, 5).Off)
	}
	b.must(b.st.compact(t.Context()))
	b.st = b.load()
	for i, off := range want {
		if got := b.place(snapshot.ID(i+1), 5); got.Off != off {
			t.Fatalf("snapshot %d is at %d, expected %d", i+1, got.Off, off)
		}
	}
	if all := b.problems(b.st); len(all) > 0 {
		t.Error(all)
	}
}
