package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// Frozen is a snapshot, which any number of nodes may read at the same time. All members
// of all later epochs have it as it is: when it was made, everything had been flushed,
// and nobody writes it any more.
type Frozen struct{ v *Volume }

var _ block.Device = (*Frozen)(nil)

// OpenFrozen returns a snapshot as a device. Of the configuration, what is about the
// attachment is not looked at.
func OpenFrozen(c Config) (*Frozen, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	v := newVolume(context.Background(), c)
	v.info.Store(&block.Info{Size: c.Size, PreferredBlock: disk.BlockSize, ReadOnly: true, CheapExtents: true})
	return &Frozen{v}, nil
}

// Info is that of block.Device.
func (f *Frozen) Info() block.Info { return f.v.Info() }

// ReadAt is that of block.Device.
func (f *Frozen) ReadAt(ctx context.Context, p []byte, off int64, _ block.Flags) error {
	if err := f.v.info.Load().CheckRead(off, len(p)); err != nil {
		return err
	}
	if err := f.v.gate.Enter(); err != nil {
		return err
	}
	defer f.v.gate.Leave()
	return f.v.pieces(off, int64(len(p)), func(index uint64, at, from, n int64) error {
		return f.readPart(ctx, index, p[from:from+n], at)
	})
}

// readPart reads from one object.
func (f *Frozen) readPart(ctx context.Context, index uint64, p []byte, at int64) error {
	if (at|int64(len(p)))%disk.BlockSize == 0 {
		return f.read(ctx, index, p, at)
	}
	from, end := at&^(disk.BlockSize-1), (at+int64(len(p))+disk.BlockSize-1)&^(disk.BlockSize-1)
	b := make([]byte, end-from)
	err := f.read(ctx, index, b, from)
	copy(p, b[at-from:])
	return err
}

// read reads blocks of one object.
func (f *Frozen) read(ctx context.Context, index uint64, p []byte, at int64) error {
	found, err := f.consult(ctx, index, at, func(peer Peer, r *Request) error { return peer.Read(ctx, r, p) })
	if err == nil && !found {
		clear(p)
	}
	return err
}

// consult asks one member, whichever can answer, about blocks of one object, and
// reports whether there is one: there never was an object in a group without a record.
func (f *Frozen) consult(ctx context.Context, index uint64, at int64, ask func(Peer, *Request) error) (found bool, err error) {
	v := f.v
	h := v.head.Load()
	r := Request{Writer: Writer{Head: h.Head}, Index: index, Tree: h.tree, Off: at}
	group := v.groupOf(index)
	var t trial
	var avoid []record.Member
	last := ErrTooFew
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		rec, epoch := v.c.Agreed.Group(group)
		if epoch == 0 {
			return false, nil
		}
		m := v.choose(rec, avoid)
		if m == (record.Member{}) {
			if err := v.later(&t, fmt.Errorf("group %d: %w", group, last)); err != nil {
				return false, err
			}
			avoid = nil
			continue
		}
		r.To = To{m.Disk, m.Incarnation, group, epoch}
		err := ask(v.link(m).peer, &r)
		if err == nil || final(err) {
			return true, err
		}
		last = err
		if avoid, err = f.another(&t, avoid, m, err); err != nil {
			return false, err
		}
	}
}

// another returns whom to avoid after an error of a member, if it is of use to ask again.
func (f *Frozen) another(t *trial, avoid []record.Member, m record.Member, err error) ([]record.Member, error) {
	var stale *EpochError
	if !errors.As(err, &stale) {
		return append(avoid, m), nil
	}
	if err := t.over(f.v, err); err != nil {
		return nil, err
	}
	return avoid, f.v.catchUp(t, stale.Known)
}

// WriteAt is that of block.Device.
func (f *Frozen) WriteAt(_ context.Context, p []byte, off int64, _ block.Flags) error {
	return f.v.info.Load().CheckWrite(off, len(p))
}

// Zero is that of block.Device.
func (f *Frozen) Zero(_ context.Context, off, n int64, _ block.Flags) error {
	return f.v.info.Load().CheckChange(off, n)
}

// Trim is that of block.Device.
func (f *Frozen) Trim(_ context.Context, off, n int64, _ block.Flags) error {
	return f.v.info.Load().CheckChange(off, n)
}

// Flush is that of block.Device.
func (f *Frozen) Flush(context.Context) error {
	if err := f.v.gate.Enter(); err != nil {
		return err
	}
	f.v.gate.Leave()
	return nil
}

// Extents is that of block.Device.
func (f *Frozen) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := f.Flush(ctx); err != nil {
		return block.FailExtents(err)
	}
	return allocation(f.v.info.Load(), mc, off, n, func(off, n int64) iter.Seq2[block.Extent, error] { return f.Map(ctx, 0, off, n) })
}

// Close is that of block.Device.
func (f *Frozen) Close() error { return f.v.Close() }
