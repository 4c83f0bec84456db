package cow

import (
	"context"
	"errors"
)

// maxBatch bounds the pages that are copied to be written at once.
const maxBatch = 256

// sync makes everything durable that changed the file or the map before it was
// called. Calls that wait for each other share the work.
//
// The order is the law of the format: data first. A page is copied, then all
// data written so far become durable, and only then is the copy written. So
// the map never tells of data that are not there, whatever of the copy
// survives a loss of power.
func (s *store) sync(ctx context.Context) error {
	need := s.begun.Load() + 1
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.done >= need {
		return nil
	}
	this := s.begun.Add(1)
	if err := s.writeDirty(ctx); err != nil {
		return err
	}
	s.done = this
	return nil
}

// writeDirty is sync for the holder of turn.
func (s *store) writeDirty(ctx context.Context) error {
	dirty := s.states.takeDirty()
	if len(dirty) == 0 {
		return s.flush(ctx)
	}
	if err := s.use(ctx); err != nil {
		s.states.putBack(dirty)
		return err
	}
	for len(dirty) > 0 {
		k := min(len(dirty), maxBatch)
		if err := s.writePages(ctx, dirty[:k]); err != nil {
			s.states.putBack(dirty[k:])
			return err
		}
		dirty = dirty[k:]
	}
	return nil
}

// writePages makes these pages durable as they are now.
func (s *store) writePages(ctx context.Context, pages []int64) error {
	s.buffer = append(s.buffer[:0], make([]byte, len(pages)*slotSize)...)
	targets := make([]int, len(pages))
	var g page
	for k, number := range pages {
		g.number, g.epoch = number, s.head.epoch
		targets[k], g.sequence = s.states.snapshot(number, &g.states)
		g.encode(s.buffer[k*slotSize:][:slotSize], &s.head.uuid)
	}
	err := s.flush(ctx)
	for k := 0; err == nil && k < len(pages); {
		// Neighbours go out in one write.
		n := 1
		for k+n < len(pages) && pages[k+n] == pages[k]+int64(n) && targets[k+n] == targets[k] && n < MaxChunk/slotSize {
			n++
		}
		err = s.diff.WriteAt(ctx, s.buffer[k*slotSize:][:n*slotSize], s.layout.page(targets[k], pages[k]), 0)
		k += n
	}
	if err == nil {
		err = s.flush(ctx)
	}
	for k, number := range pages {
		s.states.settle(number, targets[k], err == nil)
	}
	return err
}

// flush makes durable what was written to the file. When that fails, data may
// be lost that notes tell of: none of those written so far may count any more,
// and no further ones are written.
func (s *store) flush(ctx context.Context) error {
	err := s.diff.Flush(ctx)
	if err == nil || !s.head.inUse {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return err
	}
	if s.notes.on.Swap(false) {
		// That a header reaches the file is enough, see putHeader.
		_ = s.putHeader(ctx, s.head)
	}
	return err
}
