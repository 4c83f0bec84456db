package cow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/internal/race"
	"github.com/strata-storage/strata/source"
)

// A process is killed: what it wrote to the difference file stays in the cache
// of the system, and everything that was acknowledged is there.
func TestKilled(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, c := range []struct {
		chunk    int64
		minBlock int
	}{{512, 0}, {4096, 0}, {4096, 4096}, {64 << 10, 512}} {
		for seed := range uint64(20) {
			const size = 1 << 20
			bytes := noise(size)
			n, err := FileSize(size, c.chunk)
			if err != nil {
				t.Fatal(err)
			}
			s := &shelf{bytes, blocktest.NewMachine(seed).Disk(block.Info{Size: n, MinBlock: c.minBlock})}
			if err := Format(ctx, s.base(), s.diff.Open(), c.chunk); err != nil {
				t.Fatal(err)
			}
			d := s.open(t)
			info := d.Info()
			model := blocktest.NewModel(info)
			if err := model.Learn(ctx, d, 0, size); err != nil {
				t.Fatal(err)
			}
			for k := range uint64(3) {
				if err := play(ctx, model, d, blocktest.Generate(3*seed+k, info, 12)); err != nil {
					t.Fatal(err)
				}
				// Who only looks sees it too.
				r, err := Open(ctx, s.base(), s.diff.Open(), true)
				if err != nil {
					t.Fatal(err)
				}
				d = s.open(t)
				if err := errors.Join(model.Verify(ctx, r), model.Verify(ctx, d)); err != nil {
					t.Fatalf("%+v, seed %d, kill %d: %v", c, seed, k, err)
				}
			}
		}
	}
}

// The same with a file, which is in the page cache.
func TestKilledFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const size = 32 << 20
	path := filepath.Join(t.TempDir(), "x.cow")
	n, err := FileSize(size, 4096)
	if err != nil {
		t.Fatal(err)
	}
	base := func() block.Device { return block.FromReaderAt(bytes.NewReader(make([]byte, size)), size) }
	diff, err := source.File(ctx, source.FileOptions{Path: path, Create: true, Size: n})
	if err != nil {
		t.Fatal(err)
	}
	if err := Format(ctx, base(), diff, 4096); err != nil {
		t.Fatal(err)
	}
	if diff.(interface{ Era() string }).Era() == "" {
		peer.Cannot(t, "the file system of the temporary directory is not known to keep what it was given")
	}
	model := blocktest.NewModel(block.Info{Size: size, NoWait: true})
	h := blocktest.Generate(4, block.Info{Size: size}, 200)
	if err := model.LearnHistory(ctx, base(), h); err != nil {
		t.Fatal(err)
	}
	for len(h) > 0 {
		d, err := Open(ctx, base(), diff, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(model.Verify(ctx, d), play(ctx, model, d, h[:40])); err != nil {
			t.Fatal(err)
		}
		h = h[40:]
		// The device is left as it is; the kernel closes the file.
		if err := diff.Close(); err != nil {
			t.Fatal(err)
		}
		if diff, err = source.File(ctx, source.FileOptions{Path: path}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(ctx, base(), diff, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(model.Verify(ctx, d), d.Close()); err != nil {
		t.Error(err)
	}
}

// What a killed process has left counts no more than it should.
func TestNotesThatDoNotCount(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const size = 256 << 10
	write := func(d block.Device, off int64, b byte) error {
		return d.WriteAt(ctx, bytes.Repeat([]byte{b}, 4096), off, 0)
	}
	n := noise(size)
	b1, b2 := n[4096], n[8192]
	for name, c := range map[string]struct {
		// prepare leaves a difference file and the era in which it is opened.
		prepare func(s *shelf) (era string, err error)
		want    [3]byte // the first bytes of the first chunks
	}{
		"the same era": {func(s *shelf) (string, error) {
			d, err := s.openIn("1")
			return "1", errors.Join(err, write(d, 0, 1), write(d, 4096, 2))
		}, [3]byte{1, 2, b2}},
		"another era": {func(s *shelf) (string, error) {
			d, err := s.openIn("1")
			return "2", errors.Join(err, write(d, 0, 1), d.Flush(ctx), write(d, 4096, 2))
		}, [3]byte{1, b1, b2}},
		"no era": {func(s *shelf) (string, error) {
			d, err := s.openIn("")
			return "", errors.Join(err, write(d, 0, 1), d.Flush(ctx), write(d, 4096, 2))
		}, [3]byte{1, b1, b2}},
		// The page that says so is newer than the note.
		"a trim that was flushed": {func(s *shelf) (string, error) {
			d, err := Open(ctx, s.base(), ageing{slowZeros{s.diff.Open()}, "1"}, false)
			return "1", errors.Join(err, write(d, 0, 1), write(d, 4096, 2), d.Trim(ctx, 0, 4096, 0), d.Flush(ctx))
		}, [3]byte{0, 2, b2}},
		// It may have lost data although the cache looks as if it had not.
		"a flush that failed": {func(s *shelf) (string, error) {
			f := blocktest.NewFaults(blocktest.Fault{Kinds: blocktest.Flush, N: 8})
			d, err := Open(ctx, s.base(), ageing{f.Wrap(s.diff.Open()), "1"}, false)
			err = errors.Join(err, write(d, 0, 1), d.Flush(ctx), write(d, 4096, 2), d.Flush(ctx))
			if len(f.Fired()) != 0 {
				return "", errors.New("too early")
			}
			return "1", errors.Join(err, write(d, 8192, 3), refused(d.Flush(ctx)), write(d, 0, 4))
		}, [3]byte{4, 2, b2}},
		// What it could not see does not come back.
		"a session without an era between": {func(s *shelf) (string, error) {
			d, err := s.openIn("1")
			err = errors.Join(err, write(d, 0, 1), d.Flush(ctx), write(d, 4096, 2))
			_, err2 := s.openIn("")
			return "1", errors.Join(err, err2)
		}, [3]byte{1, b1, b2}},
	} {
		s := newShelf(t, blocktest.NewMachine(1), size, 4096)
		era, err := c.prepare(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d, err := s.openIn(era)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := make([]byte, 8193)
		if err := errors.Join(d.ReadAt(ctx, p, 0, 0), d.Close()); err != nil {
			t.Fatal(err)
		}
		if got := [3]byte{p[0], p[4096], p[8192]}; got != c.want {
			t.Errorf("%s: the chunks begin with %x, want %x", name, got, c.want)
		}
	}
}

// slowZeros has no holes.
type slowZeros struct{ block.Device }

func (s slowZeros) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if flags&block.FastZero != 0 {
		return block.ErrNotSupported
	}
	return s.Device.Zero(ctx, off, n, flags)
}

// openIn opens the device in an era of choice.
func (s *shelf) openIn(era string) (block.Device, error) {
	return Open(context.Background(), s.base(), ageing{s.diff.Open(), era}, false)
}

// refused turns an error into none.
func refused(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return nil
}

// Everybody changes the same chunks until the process is killed. What a chunk
// holds then comes from a change that no acknowledged one has followed.
func TestKilledInRace(t *testing.T) {
	t.Parallel()
	const chunks, workers = 3, 6
	seeds := uint64(300)
	if race.Enabled {
		seeds = 50
	}
	for seed := range seeds {
		s := newShelf(t, blocktest.NewMachine(seed), chunks*4096, 4096)
		f := blocktest.NewFaults(blocktest.Fault{Kinds: blocktest.Write | blocktest.Zero, N: 8 + int(seed)%100, Sticky: true})
		disk := s.diff.Open()
		d, err := Open(t.Context(), s.base(), withEra(slow{f.Wrap(disk)}, disk), false)
		if err != nil {
			t.Fatal(err)
		}
		var r raceLog
		var group sync.WaitGroup
		for w := range uint64(workers) {
			group.Go(func() {
				rng := rand.New(rand.NewPCG(seed, w))
				for r.change(t.Context(), d, rng.Int64N(chunks), rng) == nil {
				}
			})
		}
		group.Wait()
		d = s.open(t)
		p := make([]byte, chunks*4096)
		if err := errors.Join(d.ReadAt(t.Context(), p, 0, 0), d.Close()); err != nil {
			t.Fatal(err)
		}
		for i := range int64(chunks) {
			if err := r.check(i, s.bytes[i*4096:][:4096], p[i*4096:][:4096]); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	}
}

// slow lets others go first.
type slow struct{ block.Device }

func (s slow) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	runtime.Gosched()
	err := s.Device.WriteAt(ctx, p, off, flags)
	runtime.Gosched()
	return err
}

// A raceLog knows the changes of chunks that were made at the same time.
type raceLog struct {
	clock   atomic.Int64
	mu      sync.Mutex
	changes []raced
}

// raced is a change that fills a chunk with the sector content.
type raced struct {
	chunk      int64
	content    []byte
	begun, end int64 // end is never if it was not acknowledged
}

const never = math.MaxInt64

// change makes a random change of a chunk, or flushes.
func (r *raceLog) change(ctx context.Context, d block.Device, chunk int64, rng *rand.Rand) error {
	x := raced{chunk: chunk, content: zeros[:512], begun: r.clock.Add(1), end: never}
	flags := []block.Flags{0, 0, 0, block.FUA}[rng.IntN(4)]
	var err error
	switch rng.IntN(8) {
	case 0:
		return d.Flush(ctx)
	case 1, 2:
		err = d.Zero(ctx, chunk*4096, 4096, flags)
	case 3:
		err = d.Zero(ctx, chunk*4096, 4096, flags|block.NoHole)
	default:
		x.content = bytes.Repeat(binary.LittleEndian.AppendUint64(nil, uint64(x.begun)), 64)
		err = d.WriteAt(ctx, bytes.Repeat(x.content, 8), chunk*4096, flags)
	}
	if err == nil {
		x.end = r.clock.Add(1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, x)
	return err
}

// check reports whether a chunk that read as base may read as p.
func (r *raceLog) check(chunk int64, base, p []byte) error {
	for off := 0; off < len(p); off += 512 {
		begin := raced{chunk: chunk, content: base[off : off+512]}
		if !slices.ContainsFunc(append(r.changes, begin), func(x raced) bool {
			return x.chunk == chunk && bytes.Equal(x.content, p[off:off+512]) && !slices.ContainsFunc(r.changes, func(y raced) bool {
				return y.chunk == chunk && y.end != never && y.begun > x.end
			})
		}) {
			return fmt.Errorf("byte %d of chunk %d reads as %x, of %+v", off, chunk, p[off:off+8], r.changes)
		}
	}
	return nil
}
