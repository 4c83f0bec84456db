package cow

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

// Notes tell of changes of the map between two flushes. They are written
// before a change is acknowledged and are not flushed, so that they are there,
// as the data are, if this process is killed and the system goes on. After a
// loss of power one may be there and the data that it tells of not, which
// nobody can see. That is why each has the era in which it was written: what
// the device names so as long as it has lost nothing. A note of another era
// does not count.
type notes struct {
	// on: changes are noted. It never becomes true again.
	on   atomic.Bool
	era  [16]byte
	uuid [16]byte // of the file
	// generation is the sequence number of the header under which notes
	// count, 0 until the file is in use.
	generation atomic.Uint64
	// unit is how many notes the least write has.
	unit int64

	// mu is held while notes are written.
	mu     sync.Mutex
	buffer []byte
}

// notesAtOnce bounds the notes that one write has.
const notesAtOnce = 32

// init looks whether the device knows its era.
func (n *notes) init(diff block.Device, uuid [16]byte) {
	n.uuid = uuid
	n.unit = max(1, int64(diff.Info().MinBlock)/noteSize)
	if d, ok := diff.(interface{ Era() string }); ok && d.Era() != "" {
		sum := sha256.Sum256([]byte(d.Era()))
		copy(n.era[:], sum[:])
		n.on.Store(true)
	}
}

// noteOf returns the note that tells of chunk k of a page.
func noteOf(page, k int64) int64 { return page*pageNotes + k/(32*noteWords) }

// arrived is the state of chunks whose data have just been written.
func (s *store) arrived() state {
	if s.notes.on.Load() {
		return arriving
	}
	return data
}

// note returns when notes tell of all changes that were made to the chunks
// from first to end. Requests that wait for each other share the work.
func (s *store) note(ctx context.Context, first, end int64) error {
	if !s.notes.on.Load() {
		return nil
	}
	if s.notes.generation.Load() == 0 {
		if err := s.beginNotes(ctx); err != nil {
			return err
		}
	}
	i := noteOf(first/pageChunks, first%pageChunks)
	last := noteOf((end-1)/pageChunks, (end-1)%pageChunks) + 1
	for i < last {
		next, err := s.writeNotes(ctx, i, last)
		if err != nil {
			return err
		}
		i = next
	}
	return nil
}

func (s *store) beginNotes(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.use(ctx)
}

// writeNotes writes notes from the first one of i..last on that does not tell
// of everything, and returns from where on that is still to be done.
func (s *store) writeNotes(ctx context.Context, i, last int64) (next int64, err error) {
	n := &s.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.buffer == nil {
		n.buffer = make([]byte, notesAtOnce*noteSize)
	}
	from, to := s.states.takeNotes(i, last, n.unit, n.buffer)
	if from == to {
		return last, nil
	}
	p := n.buffer[:(to-from)*noteSize]
	for k := from; k < min(to, s.layout.pages*pageNotes); k++ {
		n.seal(p[(k-from)*noteSize:][:noteSize], k)
	}
	err = s.diff.WriteAt(ctx, p, s.layout.notes+from*noteSize, 0)
	s.states.settleNotes(from, to, p, err == nil)
	return to, err
}

// seal completes a note that has its sequence number and its states.
func (n *notes) seal(p []byte, number int64) {
	le := binary.LittleEndian
	copy(p, noteMagic)
	clear(p[4:8])
	le.PutUint64(p[8:], uint64(number))
	le.PutUint64(p[16:], n.generation.Load())
	copy(p[32:48], n.era[:])
	le.PutUint32(p[4:], slotSum(p, &n.uuid))
}

// takeNotes copies notes to p for the caller to write: from the first one of
// i..last on that does not tell of all changes, as many as there are in a row
// and fit, in whole units. The caller passes them to settleNotes then.
func (m *states) takeNotes(i, last, unit int64, p []byte) (from, to int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i = m.nextFresh(i, last)
	if i == last {
		return i, i
	}
	from = i &^ (unit - 1)
	to = from
	for to < last && (to-from)*noteSize < int64(len(p)) && m.nextFresh(to, to+unit) < to+unit {
		for range unit {
			m.copyNote(to, p[(to-from)*noteSize:][:noteSize])
			to++
		}
	}
	return from, to
}

// nextFresh returns the first note of i..last that does not tell of all
// changes, last if there is none.
func (m *states) nextFresh(i, last int64) int64 {
	for ; i < last && i/64 < int64(len(m.fresh)); i++ {
		if m.fresh[i/64] == 0 {
			i |= 63
		} else if m.fresh[i/64]>>(i%64)&1 != 0 {
			return i
		}
	}
	return last
}

// copyNote fills p with what is special about a note, zeros if there is no such
// note.
func (m *states) copyNote(i int64, p []byte) {
	clear(p)
	page := i / pageNotes
	if page >= int64(len(m.pages)) {
		return
	}
	m.fresh[i/64] &^= 1 << (i % 64)
	binary.LittleEndian.PutUint64(p[24:], m.infos[page].sequence)
	w := m.pages[page].Load()
	if w == nil {
		return
	}
	first := i % pageNotes * noteWords
	for j, x := range w[first:min(first+noteWords, pageWords)] {
		binary.LittleEndian.PutUint64(p[noteHead+8*j:], settled(x))
	}
}

// settleNotes ends what takeNotes began. written says that the file has the
// notes: data that they tell of have arrived.
func (m *states) settleNotes(from, to int64, p []byte, written bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := from; i < min(to, int64(len(m.pages))*pageNotes); i++ {
		if !written {
			m.fresh[i/64] |= 1 << (i % 64)
			continue
		}
		w := m.pages[i/pageNotes].Load()
		if w == nil || w.shared() {
			continue
		}
		note := p[(i-from)*noteSize:][:noteSize]
		first := i % pageNotes * noteWords
		for j := first; j < min(first+noteWords, pageWords); j++ {
			// A chunk may have become arriving only after the note.
			noted := binary.LittleEndian.Uint64(note[noteHead+8*(j-first):]) & evenBits
			if done := w[j] & (w[j] >> 1) & noted; done != 0 {
				atomic.StoreUint64(&w[j], w[j]&^(done<<1))
			}
		}
	}
}

// note deals with note number of a file in use.
func (l *loader) note(number int64, p []byte) {
	s := l.store
	le := binary.LittleEndian
	page := number / pageNotes
	switch {
	case page >= s.layout.pages, string(p[:4]) != noteMagic, le.Uint32(p[4:]) != slotSum(p, &s.head.uuid):
		return // there is none
	case le.Uint64(p[8:]) != uint64(number), le.Uint64(p[16:]) != s.head.sequence, [16]byte(p[32:48]) != s.notes.era:
		return // it does not count
	case le.Uint64(p[24:]) < s.states.infos[page].sequence:
		return // the page is newer
	}
	s.states.adopt(page, number%pageNotes*noteWords, p[noteHead:], s.layout.chunks)
}

// adopt replaces the words of a page from first on by those of a note, unless
// they are impossible.
func (m *states) adopt(page, first int64, note []byte, chunks int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	private := new(words)
	if w := m.pages[page].Load(); w != nil {
		*private = *w
	}
	end := min(first+noteWords, pageWords)
	same := true
	for j := first; j < end; j++ {
		x := binary.LittleEndian.Uint64(note[8*(j-first):])
		if x != settled(x) {
			return
		}
		same = same && x == private[j]
		private[j] = x
	}
	if used := max(0, chunks-page*pageChunks); same || used < pageChunks && private.count(used, pageChunks, absent) < pageChunks-used {
		return
	}
	m.pages[page].Store(private)
	m.changed(page, first*32, end*32)
}
