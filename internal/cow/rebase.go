package cow

import (
	"bytes"
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// Rebase makes diff, the difference file of base, one of next: next with diff
// reads as base with diff did. What differs between the two bases is copied to
// diff. The bases are not written to, and must be of the same size.
//
// It may be interrupted at any moment; diff belongs to base until Rebase has
// returned nil, and it can be called again. It leaves the devices open.
func Rebase(ctx context.Context, base, diff, next block.Device, progress Progress) error {
	s, err := openFor(ctx, base, diff, false)
	if err != nil {
		return err
	}
	if err := s.mayRebase(next); err != nil {
		return err
	}
	f, err := fingerprint(ctx, next)
	if err != nil {
		return fmt.Errorf("looking at the new base: %w", err)
	}
	r := rebaser{store: s, base: base, next: next}
	if err := r.copyDifference(ctx, progress); err != nil {
		return err
	}
	if err := s.sync(ctx); err != nil {
		return err
	}
	return s.adopt(ctx, f)
}

// RebaseUnchecked makes diff the difference file of next without looking at
// the base that it had. Where diff has no changes, next shows: right if next
// is that base, moved or copied.
func RebaseUnchecked(ctx context.Context, diff, next block.Device) error {
	s, err := openGood(ctx, diff, false)
	if err != nil {
		return err
	}
	if err := s.mayRebase(next); err != nil {
		return err
	}
	f, err := fingerprint(ctx, next)
	if err != nil {
		return fmt.Errorf("looking at the new base: %w", err)
	}
	return s.adopt(ctx, f)
}

// mayRebase reports whether next can become the base.
func (s *store) mayRebase(next block.Device) error {
	switch {
	case s.diff.Info().ReadOnly:
		return fmt.Errorf("the difference file is read-only, a rebase writes to it: %w", block.ErrReadOnly)
	case next.Info().Size != s.head.size:
		return fmt.Errorf("the new base has %d bytes, must have %d as the old one: %w", next.Info().Size, s.head.size, block.ErrInvalid)
	case s.head.merging:
		return fmt.Errorf("a commit of the difference file was interrupted and must be finished first: %w", block.ErrInvalid)
	}
	return checkDevices(next, s.diff, s.head.size, s.head.chunk)
}

// adopt makes the device with fingerprint f the base.
func (s *store) adopt(ctx context.Context, f Fingerprint) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	h := s.head
	h.base, h.inUse = f, false
	return s.putHeader(ctx, h)
}

// A rebaser copies to a difference file what differs between two bases.
type rebaser struct {
	*store
	base, next block.Device
	// old and new are pieces of the two bases.
	old, new []byte
}

func (r *rebaser) copyDifference(ctx context.Context, progress Progress) error {
	size := smaller(copySize, smaller(r.base.Info().MaxBlock, smaller(r.next.Info().MaxBlock, r.diff.Info().MaxBlock))) &^ (MaxChunk - 1)
	r.old, r.new = make([]byte, size), make([]byte, size)
	for i := int64(0); i < r.layout.chunks; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		s, n := r.states.run(i, r.layout.chunks)
		if s == absent {
			n = min(n, int64(size)/r.head.chunk)
			off := i * r.head.chunk
			if err := r.copyPiece(ctx, off, min(n*r.head.chunk, r.head.size-off)); err != nil {
				return err
			}
		}
		i += n
		progress.tell(min(i*r.head.chunk, r.head.size), r.head.size)
	}
	return nil
}

// copyPiece deals with n bytes at off, all absent from the file.
func (r *rebaser) copyPiece(ctx context.Context, off, n int64) error {
	if isHole(ctx, r.base, off, n) && isHole(ctx, r.next, off, n) {
		return nil
	}
	old, new := r.old[:n], r.new[:n]
	if err := r.base.ReadAt(ctx, old, off, 0); err != nil {
		return err
	}
	if err := r.next.ReadAt(ctx, new, off, 0); err != nil {
		return err
	}
	for from := int64(0); from < n; {
		s, k := r.classify(old[from:], new[from:])
		p, at := old[from:from+k], off+from
		if s == data {
			if err := r.diff.WriteAt(ctx, p, r.layout.data+at, 0); err != nil {
				return err
			}
		}
		if s != absent {
			r.states.set(at/r.head.chunk, (at+k-1)/r.head.chunk+1, s)
		}
		from += k
	}
	return nil
}

// classify returns the state that the first chunks of old and new need, and how
// many bytes from there on need the same.
func (r *rebaser) classify(old, new []byte) (s state, n int64) {
	for at := int64(0); at < int64(len(old)); at += r.head.chunk {
		end := min(at+r.head.chunk, int64(len(old)))
		this := data
		switch {
		case bytes.Equal(old[at:end], new[at:end]):
			this = absent
		case block.IsZero(old[at:end]):
			this = zero
		}
		if at == 0 {
			s = this
		}
		if this != s {
			break
		}
		n = end
	}
	return s, n
}

// isHole reports whether dev knows cheaply that a range reads as zeros.
func isHole(ctx context.Context, dev block.Device, off, n int64) bool {
	if !dev.Info().CheapExtents {
		return false
	}
	for e, err := range dev.Extents(ctx, block.Allocation, off, n) {
		if err != nil || e.Status&block.Zero == 0 {
			return false
		}
	}
	return true
}
