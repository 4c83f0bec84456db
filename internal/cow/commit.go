package cow

import (
	"context"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// Progress is told how many bytes of how many are done. It may be nil.
type Progress func(done, total int64)

func (p Progress) tell(done, total int64) {
	if p != nil {
		p(done, total)
	}
}

// copySize is the length in bytes of the pieces in which Commit and Rebase
// work.
const copySize = 1 << 20

// Commit writes the changes in diff to base and then empties diff, which is
// the difference file of an unchanged base afterwards: the one that has the
// changes. Other difference files of base are of no use any more.
//
// It may be interrupted at any moment, by a cancelled context, an error or the
// loss of power. Until it is done diff keeps all changes, so that base with
// diff reads as before, and Commit can be called again. It leaves both devices
// open.
func Commit(ctx context.Context, base, diff block.Device, progress Progress) error {
	for name, dev := range map[string]block.Device{"the base": base, "the difference file": diff} {
		if dev.Info().ReadOnly {
			return fmt.Errorf("%s is read-only, a commit writes to it: %w", name, block.ErrReadOnly)
		}
	}
	s, err := openFor(ctx, base, diff, false)
	if err != nil {
		return err
	}
	// From now on the base is not the one of the fingerprint.
	h := s.head
	h.merging = true
	if err := s.putHeader(ctx, h); err != nil {
		return err
	}
	if err := s.copyTo(ctx, base, progress); err != nil {
		return err
	}
	if err := base.Flush(ctx); err != nil {
		return err
	}
	if h.base, err = fingerprint(ctx, base); err != nil {
		return fmt.Errorf("looking at the base: %w", err)
	}
	h.merging, h.inUse = false, false
	h.epoch++
	if err := s.putHeader(ctx, h); err != nil {
		return err
	}
	return s.release(ctx)
}

// copyTo writes all changes to base.
func (s *store) copyTo(ctx context.Context, base block.Device, progress Progress) error {
	inData, inZero := s.states.count()
	total := (inData + inZero) * s.head.chunk
	buffer := make([]byte, smaller(copySize, smaller(base.Info().MaxBlock, s.diff.Info().MaxBlock))&^(MaxChunk-1))
	done := int64(0)
	for i := int64(0); i < s.layout.chunks; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		st, n := s.states.run(i, s.layout.chunks)
		if st == data {
			n = min(n, int64(len(buffer))/s.head.chunk)
		}
		off := i * s.head.chunk
		length := min(n*s.head.chunk, s.head.size-off)
		if err := s.copyRun(ctx, base, st, off, buffer[:min(length, int64(len(buffer)))], length); err != nil {
			return err
		}
		if st != absent {
			done += n * s.head.chunk
			progress.tell(min(done, s.head.size), min(total, s.head.size))
		}
		i += n
	}
	return nil
}

// copyRun writes n bytes at off to base, all in state st.
func (s *store) copyRun(ctx context.Context, base block.Device, st state, off int64, p []byte, n int64) error {
	switch st {
	case zero:
		return base.Zero(ctx, off, n, 0)
	case data:
		if err := s.diff.ReadAt(ctx, p, s.layout.data+off, 0); err != nil {
			return err
		}
		return base.WriteAt(ctx, p, off, 0)
	}
	return nil
}

// release frees the storage of a file that has been emptied. It is of no
// consequence if that does not happen.
func (s *store) release(ctx context.Context) error {
	err := s.diff.Zero(ctx, s.layout.maps[0], s.layout.end-s.layout.maps[0], block.FastZero)
	if err != nil && !errors.Is(err, block.ErrNotSupported) {
		return err
	}
	return s.diff.Flush(ctx)
}
