package ranged

import (
	"context"
	"hash/crc32"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
)

// A bench drives a store without the engine.
type bench struct {
	testing.TB
	dev *counter
	cfg snapshot.Config
	st  *store
}

// A counter counts what reaches a device.
type counter struct {
	block.Device
	flushes, written, read int64
	// refuse, if not nil, says which writes fail.
	refuse func(off int64) bool
}

func (c *counter) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if c.refuse != nil && c.refuse(off) {
		return block.ErrIO
	}
	c.written += int64(len(p))
	return c.Device.WriteAt(ctx, p, off, flags)
}

func (c *counter) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	c.read += int64(len(p))
	return c.Device.ReadAt(ctx, p, off, flags)
}

func (c *counter) Flush(ctx context.Context) error {
	c.flushes++
	return c.Device.Flush(ctx)
}

// newBench formats a store on a device of size bytes.
func newBench(t testing.TB, size, origin int64, args map[string]string) *bench {
	b := &bench{TB: t, dev: &counter{Device: blocktest.NewDevice(block.Info{Size: size, NoWait: true, FastZeros: true})}}
	b.cfg = snapshot.Config{Device: b.dev, OriginSize: origin, Chunk: 4096, Format: snapshot.Always, Args: args, Retire: func(f func()) { f() }}
	b.st = b.load()
	b.cfg.Format = snapshot.Never
	return b
}

func (b *bench) try() (*store, error) {
	st, err := newStore(b.cfg)
	if err != nil {
		return nil, err
	}
	return st.(*store), st.Load(b.Context())
}

func (b *bench) load() *store {
	b.Helper()
	st, err := b.try()
	b.must(err)
	return st
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) create() snapshot.ID {
	b.Helper()
	id, err := b.st.Create(b.Context(), snapshot.Origin)
	b.must(err)
	return id
}

func (b *bench) commit() {
	b.Helper()
	b.must(b.st.Commit(b.Context(), 0))
}

// do plans, writes what the plan says, and applies it.
func (b *bench) do(r snapshot.Request) {
	b.Helper()
	for r.N > 0 {
		p, err := b.st.Plan(b.Context(), r)
		b.must(err)
		data := make([]byte, p.N*b.st.geo.chunk)
		var sums []uint32
		for i := range p.N {
			c := data[i*b.st.geo.chunk:][:b.st.geo.chunk]
			blocktest.Fill(c, (p.Chunk+i)*b.st.geo.chunk, uint64(p.View))
			sums = append(sums, crc32.Checksum(c, castagnoli))
		}
		for i := range p.Copies {
			for _, off := range p.Copies[i].To {
				b.must(b.dev.WriteAt(b.Context(), data, off, 0))
			}
			p.Copies[i].Sums = sums
		}
		if p.Op == snapshot.Write {
			b.must(b.dev.WriteAt(b.Context(), data, p.Target, 0))
			p.Sums = sums
		}
		if len(p.Copies) > 0 || p.Op != snapshot.Detach {
			b.must(b.st.Apply(b.Context(), p))
		}
		if !p.More {
			r.Chunk, r.N = r.Chunk+p.N, r.N-p.N
		}
	}
}

func (b *bench) detach(c, n int64) {
	b.Helper()
	b.do(snapshot.Request{Op: snapshot.Detach, Chunk: c, N: n})
}

func (b *bench) write(v snapshot.ID, c, n int64) {
	b.Helper()
	b.do(snapshot.Request{Op: snapshot.Write, View: v, Chunk: c, N: n})
}

// refresh reads what others have committed.
func (b *bench) refresh() { b.refreshes(b.st) }

// refreshes is refresh for another store. It reports whether snapshots or values
// have changed.
func (b *bench) refreshes(st *store) bool {
	b.Helper()
	listed, err := st.Refresh(b.Context())
	b.must(err)
	return listed
}

// work does what is pending and commits.
func (b *bench) work() {
	b.Helper()
	for {
		p, err := b.st.Step(b.Context(), 4096)
		b.must(err)
		if !p.More {
			b.commit()
			return
		}
	}
}

func (b *bench) place(v snapshot.ID, c int64) snapshot.Segment {
	b.Helper()
	s, err := b.st.Map(b.Context(), v, c, 1, 0)
	b.must(err)
	return s
}

// problems returns what Check of a store finds.
func (b *bench) problems(st *store) (all []error) {
	b.Helper()
	b.must(st.Check(b.Context(), func(err error) { all = append(all, err) }))
	return all
}

// flip changes a bit of the device.
func (b *bench) flip(off int64, bit uint) {
	b.Helper()
	var x [512]byte
	at := off &^ 511
	b.must(b.dev.Device.ReadAt(b.Context(), x[:], at, 0))
	x[off-at] ^= 1 << bit
	b.must(b.dev.Device.WriteAt(b.Context(), x[:], at, 0))
}
