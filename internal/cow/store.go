package cow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

// A store is a difference file that is open: its header, its map in memory,
// and the order in which they become durable.
type store struct {
	diff   block.Device
	layout layout
	states states
	notes  notes
	loader loader

	// turn is held by those who write headers or pages. It guards what
	// follows.
	turn sync.Mutex
	head header
	// safe is a header that is valid on stable storage: the other one is
	// written first.
	safe int
	// buffer holds the pages being written.
	buffer []byte

	// begun counts the syncs, done is the last one that succeeded.
	begun atomic.Uint64
	done  uint64
}

// format makes diff an empty difference file. What it held is lost.
func format(ctx context.Context, diff block.Device, h header) error {
	l, err := newLayout(h.size, h.chunk)
	if err != nil {
		return err
	}
	if err := checkDevice(diff, l.end); err != nil {
		return err
	}
	h.version = Version1
	if _, err := rand.Read(h.uuid[:]); err != nil {
		return err
	}
	// Without headers the file is none while it is half made.
	if err := diff.Zero(ctx, 0, l.data, 0); err != nil {
		return err
	}
	if err := diff.Flush(ctx); err != nil {
		return err
	}
	s := &store{diff: diff, layout: l, safe: 1}
	return s.putHeader(ctx, h)
}

// checkDevice reports whether a device of at least size bytes can hold a
// difference file.
func checkDevice(diff block.Device, size int64) error {
	info := diff.Info()
	switch {
	case info.Size < size:
		return fmt.Errorf("difference file is cut short: it has %d bytes, needs %d: %w", info.Size, size, block.ErrInvalid)
	case info.MinBlock > slotSize:
		return fmt.Errorf("difference file is on a device with blocks of %d bytes, at most %d are possible: %w", info.MinBlock, slotSize, block.ErrInvalid)
	case info.MaxBlock > 0 && info.MaxBlock < MaxChunk:
		return fmt.Errorf("difference file is on a device that takes at most %d bytes at once, must be %d: %w", info.MaxBlock, MaxChunk, block.ErrInvalid)
	}
	return nil
}

// open reads a difference file. Everything that is wrong with it is told to
// report; the store is usable if nothing is.
func open(ctx context.Context, diff block.Device, report func(error)) (*store, error) {
	s := &store{diff: diff}
	if err := s.readHeaders(ctx, report); err != nil {
		return nil, err
	}
	if err := checkDevice(diff, s.layout.end); err != nil {
		return nil, err
	}
	s.states.init(s.layout.pages)
	s.notes.init(diff, s.head.uuid)
	s.loader = loader{store: s, report: report}
	return s, s.loader.load(ctx)
}

// openGood is open that ends with the first thing that does harm. Unless
// readOnly is set it makes the file ready for writing.
func openGood(ctx context.Context, diff block.Device, readOnly bool) (*store, error) {
	var first error
	s, err := open(ctx, diff, func(err error) {
		var spare *spareHeaderError
		if first == nil && !errors.As(err, &spare) {
			first = err
		}
	})
	if err == nil {
		err = first
	}
	if err == nil && !readOnly {
		err = s.recover(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// recover clears away what a loss of power left of pages, so that whatever is
// unreadable later is damage.
func (s *store) recover(ctx context.Context) error {
	for _, torn := range s.loader.torn {
		if err := s.diff.Zero(ctx, s.layout.page(torn.copy, torn.page), slotSize, 0); err != nil {
			return err
		}
	}
	s.loader = loader{}
	s.turn.Lock()
	defer s.turn.Unlock()
	// A process that was killed may have left what is not yet durable. What
	// is written from now on relies on what has been read.
	if err := s.writeDirty(ctx); err != nil || !s.head.inUse {
		return err
	}
	// The notes of that process have served their purpose.
	if err := s.putHeader(ctx, s.head); err != nil {
		return err
	}
	return s.use(ctx)
}

// use marks the file as one in use before the first page or note is written.
// Its callers hold turn.
func (s *store) use(ctx context.Context) error {
	if !s.head.inUse {
		h := s.head
		h.inUse = true
		if err := s.putHeader(ctx, h); err != nil {
			return err
		}
	}
	s.notes.generation.Store(s.head.sequence)
	return nil
}

// readHeaders finds the header that counts. One of the two may be unusable: it
// is reported to Check only, as both say the same unless the power went while
// they were written.
func (s *store) readHeaders(ctx context.Context, report func(error)) error {
	p := make([]byte, 2*slotSize)
	if size := s.diff.Info().Size; size < int64(len(p)) {
		return fmt.Errorf("a file of %d bytes: %w", size, errNoHeader)
	}
	if err := s.diff.ReadAt(ctx, p, 0, 0); err != nil {
		return err
	}
	var heads [2]header
	var layouts [2]layout
	var errs [2]error
	for i := range heads {
		heads[i], layouts[i], errs[i] = decodeHeader(p[i*slotSize:][:slotSize])
	}
	switch {
	case errs[0] != nil && errs[1] != nil:
		if errs[0] == errNoHeader {
			return errs[1]
		}
		return errs[0]
	case errs[0] == nil && errs[1] == nil && (heads[0].uuid != heads[1].uuid || layouts[0] != layouts[1] || heads[0].chunk != heads[1].chunk):
		return damaged("its two headers are of different files")
	case errs[0] != nil || errs[1] == nil && heads[1].sequence > heads[0].sequence:
		s.safe = 1
	}
	s.head, s.layout = heads[s.safe], layouts[s.safe]
	if err := errs[1-s.safe]; err != nil {
		report(&spareHeaderError{1 - s.safe, err})
	}
	return nil
}

// A spareHeaderError says that one of the headers is unusable, which does no
// harm.
type spareHeaderError struct {
	which int
	err   error
}

func (e *spareHeaderError) Error() string {
	return fmt.Sprintf("header %d is unusable, the other one is good: %v", e.which, e.err)
}

func (e *spareHeaderError) Unwrap() error { return e.err }

// putHeader writes both headers, one after the other, and makes them durable.
// When it fails either header may count. The notes written before do not count
// once the first of the two has been written.
func (s *store) putHeader(ctx context.Context, h header) error {
	s.head.sequence++
	h.sequence = s.head.sequence
	p := h.encode(&s.layout)
	for range 2 {
		other := 1 - s.safe
		if err := s.diff.WriteAt(ctx, p, int64(other)*slotSize, 0); err != nil {
			return err
		}
		if err := s.diff.Flush(ctx); err != nil {
			return err
		}
		s.safe = other
		s.head = h
	}
	return nil
}

// close makes everything durable and the file one that nobody uses.
func (s *store) close(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.writeDirty(ctx); err != nil || !s.head.inUse {
		return err
	}
	h := s.head
	h.inUse = false
	if err := s.putHeader(ctx, h); err != nil {
		return err
	}
	// The notes only take room now, which does no harm.
	_ = s.diff.Zero(ctx, s.layout.notes, s.layout.data-s.layout.notes, block.FastZero)
	return nil
}
