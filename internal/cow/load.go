package cow

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// A loader reads the map of a difference file into memory.
type loader struct {
	store  *store
	report func(error)
	buffer []byte
	// torn are the copies of pages that a loss of power made unreadable.
	torn []tornPage
	// broken are the pages of which a copy is unreadable.
	broken map[int64]bool
}

type tornPage struct {
	copy int
	page int64
}

// load reads both copies of all pages. Of each page the valid copy with the
// highest sequence number counts, if it is of the epoch of the header.
func (l *loader) load(ctx context.Context) error {
	s := l.store
	l.broken = make(map[int64]bool)
	l.buffer = make([]byte, MaxChunk)
	for copy := range s.layout.maps {
		if err := l.readMap(ctx, copy); err != nil {
			return err
		}
	}
	return nil
}

// readMap reads one copy of the map, but for its holes.
func (l *loader) readMap(ctx context.Context, copy int) error {
	s := l.store
	first := s.layout.maps[copy]
	end := s.layout.page(copy, s.layout.pages)
	if !s.diff.Info().CheapExtents {
		return l.readPart(ctx, copy, 0, s.layout.pages)
	}
	next := int64(0) // the first page that has not been read
	for e, err := range s.diff.Extents(ctx, block.Allocation, first, end-first) {
		if err != nil {
			return err
		}
		if e.Status&block.Zero != 0 {
			continue
		}
		from := max(next, (e.Off-first)/slotSize)
		to := (e.End() - first + slotSize - 1) / slotSize
		if err := l.readPart(ctx, copy, from, to); err != nil {
			return err
		}
		next = max(next, to)
	}
	return nil
}

// readPart reads one copy of the pages from..to.
func (l *loader) readPart(ctx context.Context, copy int, from, to int64) error {
	for from < to {
		n := min(to-from, int64(len(l.buffer)/slotSize))
		p := l.buffer[:n*slotSize]
		if err := l.store.diff.ReadAt(ctx, p, l.store.layout.page(copy, from), 0); err != nil {
			return err
		}
		for k := range n {
			l.page(copy, from+k, p[k*slotSize:][:slotSize])
		}
		from += n
	}
	return nil
}

// page deals with one copy of page number.
func (l *loader) page(copy int, number int64, p []byte) {
	s := l.store
	if isEmpty(p) {
		return
	}
	var g page
	if wrong := g.decode(p, &s.head.uuid, number, s.layout.chunks); wrong != "" {
		l.unreadable(copy, number, wrong)
		return
	}
	info := &s.states.infos[number]
	switch {
	case g.epoch > s.head.epoch:
		l.report(damaged("copy %d of page %d of the map is of epoch %d, the header of epoch %d", copy, number, g.epoch, s.head.epoch))
	case g.epoch < s.head.epoch:
		// It was true until the file was emptied.
	case info.current >= 0 && g.sequence == info.sequence:
		l.report(damaged("both copies of page %d of the map have the number %d", number, g.sequence))
	case info.current < 0 || g.sequence > info.sequence:
		info.current, info.sequence = int8(copy), g.sequence
		s.states.load(number, &g.states)
	}
}

// unreadable deals with a copy that is not as it was written. One such copy is
// what a loss of power leaves of a write to a file in use, and the other one
// counts then. All else is damage.
func (l *loader) unreadable(copy int, number int64, wrong string) {
	if !l.store.head.inUse || l.broken[number] {
		l.report(damaged("copy %d of page %d of the map %s", copy, number, wrong))
	}
	l.broken[number] = true
	l.torn = append(l.torn, tornPage{copy, number})
}
