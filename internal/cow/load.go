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
		page := func(number int64, p []byte) { l.page(copy, number, p) }
		if err := l.read(ctx, s.layout.maps[copy], s.layout.pages, slotSize, page); err != nil {
			return err
		}
	}
	if !s.head.inUse || !s.notes.on.Load() {
		return nil
	}
	return l.read(ctx, s.layout.notes, s.layout.pages*pageNotes, noteSize, l.note)
}

// read reads n slots of size bytes that begin at off, but for holes, and calls
// f for each.
func (l *loader) read(ctx context.Context, off, n, size int64, f func(number int64, p []byte)) error {
	// Ranges must fit the blocks of the device; nothing else lies behind the
	// slots up to the next multiple of the largest blocks.
	end := off + roundUp(n*size, slotSize)
	diff := l.store.diff
	if !diff.Info().CheapExtents {
		return l.readPart(ctx, off, off, end, size, f)
	}
	next := off // what has not been read yet
	for e, err := range diff.Extents(ctx, block.Allocation, off, end-off) {
		if err != nil {
			return err
		}
		if e.Status&block.Zero != 0 {
			continue
		}
		from, to := max(next, e.Off&^(slotSize-1)), roundUp(e.End(), slotSize)
		if err := l.readPart(ctx, off, from, to, size, f); err != nil {
			return err
		}
		next = max(next, to)
	}
	return nil
}

// readPart is read for the bytes from..to, multiples of slotSize.
func (l *loader) readPart(ctx context.Context, off, from, to, size int64, f func(number int64, p []byte)) error {
	for from < to {
		p := l.buffer[:min(to-from, int64(len(l.buffer)))]
		if err := l.store.diff.ReadAt(ctx, p, from, 0); err != nil {
			return err
		}
		for at := int64(0); at < int64(len(p)); at += size {
			f((from+at-off)/size, p[at:][:size])
		}
		from += int64(len(p))
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
