package replica

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
)

// A store is what survives the process of a node.
type store interface {
	// open returns the disk for a new process.
	open(s *sim, trees disk.Trees) Disk
	// crash loses what was not flushed. The disk does nothing any more.
	crash()
	// content returns what is there.
	content(ctx context.Context) (things, error)
}

func (p *platter) content(context.Context) (things, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return copyThings(p.now), nil
}

const (
	realSlab   = 64 << 20
	realSector = 512
)

// sectors is a block.Device in memory whose power goes with crash.
type sectors struct {
	block.Pass // of nothing: what is not here is not called
	mu         sync.Mutex
	off        bool
	now        map[int64][realSector]byte
	// older has what sectors that were written since the last flush had then.
	older map[int64][realSector]byte
}

var errOff = fmt.Errorf("the power is off: %w", block.ErrIO)

func (d *sectors) Info() block.Info { return block.Info{Size: realSlab} }
func (d *sectors) Close() error     { return nil }

// do calls f while the power is on.
func (d *sectors) do(f func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return errOff
	}
	f()
	return nil
}

func (d *sectors) ReadAt(_ context.Context, p []byte, off int64, _ block.Flags) error {
	return d.do(func() {
		for i := 0; i < len(p); i += realSector {
			s := d.now[(off+int64(i))/realSector]
			copy(p[i:], s[:])
		}
	})
}

func (d *sectors) WriteAt(_ context.Context, p []byte, off int64, _ block.Flags) error {
	return d.do(func() {
		for i := 0; i < len(p); i += realSector {
			n := (off + int64(i)) / realSector
			if _, ok := d.older[n]; !ok {
				d.older[n] = d.now[n]
			}
			d.now[n] = [realSector]byte(p[i : i+realSector])
		}
	})
}

func (d *sectors) Flush(context.Context) error { return d.do(func() { clear(d.older) }) }

func (d *sectors) Extents(context.Context, string, int64, int64) iter.Seq2[block.Extent, error] {
	return block.FailExtents(errOff)
}

// left returns what there is after the power has gone.
func (d *sectors) left(r *chance) *sectors {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	// Blocks of the histories have one value: they are not torn.
	kept := map[int64]bool{}
	for n, old := range d.older {
		b := n * realSector / disk.BlockSize
		if _, ok := kept[b]; !ok {
			kept[b] = r.n(2) == 0
		}
		if !kept[b] {
			d.now[n] = old
		}
	}
	return &sectors{now: d.now, older: map[int64][realSector]byte{}}
}

// A realStore is a *disk.Disk on a slab and files that lose what was not flushed.
type realStore struct {
	s    *sim
	rand *chance
	slab *sectors
	fs   *vfs.MemFS
	d    *disk.Disk
}

func newRealStore(r *chance) *realStore {
	return &realStore{rand: r, slab: &sectors{now: map[int64][realSector]byte{}, older: map[int64][realSector]byte{}}, fs: vfs.NewCrashableMem()}
}

func (p *realStore) config(trees disk.Trees) disk.Config {
	return disk.Config{Slab: p.slab, Dir: "meta", FS: p.fs, Trees: trees, Cache: 64 << 10, MetaCache: 1 << 20}
}

func (p *realStore) open(s *sim, trees disk.Trees) Disk {
	if p.s == nil {
		p.s = s
		if _, err := disk.Format(context.Background(), p.config(trees), false); err != nil {
			s.t.Fatal(err)
		}
	}
	d, err := disk.Open(context.Background(), p.config(trees))
	if err != nil {
		s.t.Fatal(err)
	}
	p.d = d
	p.examine()
	return d
}

// examine looks for damage: after a power loss there may be some, but only in objects
// whose marks say so.
func (p *realStore) examine() {
	ctx := context.Background()
	unsettled := map[disk.Object]bool{}
	for o, err := range p.d.Dirty(ctx, 0, 1<<64-1) {
		must(p.s.t, err)
		unsettled[o.Object] = o.Unsettled
	}
	for o, err := range p.d.List(ctx, 0, 1<<64-1) {
		must(p.s.t, err)
		must(p.s.t, p.d.Verify(ctx, o.Object, func(b *disk.BlockError) bool {
			if !unsettled[o.Object] {
				p.s.t.Errorf("after a power loss, with marks %v: %v", unsettled, b)
			}
			return true
		}))
	}
}

func (p *realStore) crash() {
	old := p.d
	// Nothing becomes durable on the slab any more, so nothing in the metadata that
	// is about it.
	p.slab = p.slab.left(p.rand)
	p.fs = p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * p.rand.n(3), RNG: rand.New(rand.NewPCG(uint64(p.rand.n(1<<30)), 0))})
	p.s.all.Go(func() { _ = old.Close() })
}

func (p *realStore) content(ctx context.Context) (things, error) {
	t := things{}
	for o, err := range p.d.List(ctx, 0, 1<<64-1) {
		if err != nil {
			return nil, err
		}
		for e, err := range p.d.Entries(ctx, o.Object) {
			if err != nil {
				return nil, err
			}
			b := make([]byte, disk.BlockSize)
			if _, err := p.d.Raw(ctx, o.Object, e.Version, e.Block, b); err != nil {
				return nil, err
			}
			c := cell{kind: e.Kind}
			if e.Kind == disk.Data {
				c = dataCell(b)
				c.sum = e.Sum
			}
			t.set(o.Object, entryKey{e.Version, e.Block}, c)
		}
	}
	return t, nil
}

// TestRealDisks is TestSimulation with disks as they are.
func TestRealDisks(t *testing.T) {
	t.Parallel()
	histories(t, 2, nil, func(r *chance) store { return newRealStore(r) })
}
