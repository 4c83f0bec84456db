package ranged

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A log ends where the next frame cannot be read. Whether it was never written,
// or not to its end, or has been damaged since, only later frames can tell: a
// frame says up to which commit all were durable when it was made.

// A proof is a frame that says so.
type proof struct {
	seq, mark uint64
	addr      int64
}

// nearBlocks is how far a Refresh looks, which must not cost more than what it
// reads; Load looks at everything.
const nearBlocks = 16

// newestProof looks at all that may be in the log behind an address and returns
// the frame there that knows most to be durable. Frames of those who have been
// fenced off since prove nothing.
func (r *recovery) newestProof(ctx context.Context, addr, ahead int64) (best proof, err error) {
	look := func(f frame) {
		if f.token >= r.token && f.seq > r.seq && f.mark > best.mark {
			best = proof{f.seq, f.mark, f.self}
		}
	}
	if err = r.scan(ctx, addr, look); err == nil && !r.near && ahead != 0 && r.geo.segmentOf(ahead) != r.geo.segmentOf(addr) {
		err = r.scan(ctx, ahead, look)
	}
	return best, err
}

// scan calls f with the frames of the log from an address to the end of its
// segment.
func (r *recovery) scan(ctx context.Context, addr int64, f func(frame)) error {
	end := r.geo.start(r.geo.segmentOf(addr) + 1)
	if r.near {
		end = min(end, addr+nearBlocks*blockSize)
	}
	b := make([]byte, min(end-addr, 1<<20))
	for addr < end {
		n := min(int64(len(b)), end-addr)
		if err := (write{addr, b[:n]}).undo(ctx, r.dev); err != nil {
			return err
		}
		for p := b[:n]; len(p) > 0; p, addr = p[blockSize:], addr+blockSize {
			if x, ok := r.geo.parseFrame(p[:blockSize], logMagic, addr); ok {
				f(x)
			}
		}
	}
	return nil
}

// ends makes sure that the log ends before the frame at addr, which could not
// be read as a part of the next commit.
func (r *recovery) ends(ctx context.Context, addr, ahead int64) error {
	p, err := r.newestProof(ctx, addr, ahead)
	if err != nil || p.mark <= r.seq {
		return err
	}
	return fmt.Errorf("block %d of the log, of commit %d, is not what was written, though commit %d, at %d, knows that commit %d was durable: %w",
		addr, r.seq+1, p.seq, p.addr, p.mark, snapshot.ErrDamaged)
}

// undo reads what do writes.
func (w write) undo(ctx context.Context, dev block.Device) error {
	return w.pieces(dev, func(b []byte, off int64) error { return dev.ReadAt(ctx, b, off, 0) })
}
