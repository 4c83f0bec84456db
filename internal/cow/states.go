package cow

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// A state says where the content of a chunk is. The numbers are those of the
// map in the file.
type state uint64

const (
	absent state = 0 // on the base
	data   state = 1 // in the difference file
	zero   state = 2 // nowhere: zeros

	// arriving is data of which no note tells yet. It is in memory only.
	arriving state = 3
)

// inFile reports whether the content is in the difference file.
func (s state) inFile() bool { return s&1 != 0 }

// evenBits repeats a state in all places of a word when multiplied with it.
const evenBits = 0x5555_5555_5555_5555

func (s state) word() uint64 { return uint64(s) * evenBits }

// settled returns a word as it is in the file, where nothing is arriving.
func settled(w uint64) uint64 { return w &^ (w & (w >> 1) & evenBits << 1) }

// words are the states of the chunks of a page. Readers of a map load them
// one by one, atomically.
type words [pageWords]uint64

// same are words of one state only, shared by all maps and never changed.
var same = func() (w [4]words) {
	for s := range w {
		for j := range w[s] {
			w[s][j] = state(s).word()
		}
	}
	return w
}()

// states are the states of all chunks. Looking at them takes no lock.
type states struct {
	// pages point to the words of a page. nil is a page of absent chunks.
	pages []atomic.Pointer[words]

	// mu is held by those who change states, and guards what follows.
	mu    sync.Mutex
	infos []pageInfo
	// dirty are the pages of which listed is set.
	dirty []int64
	// fresh has a bit for each note: there are changes that it does not tell
	// of and nobody has begun to write.
	fresh []uint64
}

// pageInfo is what is to be known about a page in the file.
type pageInfo struct {
	// sequence is that of the last copy written. current is the copy that
	// counts and is durable, -1 if there is none.
	sequence uint64
	current  int8
	// listed: the page has changes that nobody has begun to write. writing:
	// somebody has begun.
	listed, writing bool
}

// init makes room for n pages, of which the file has none.
func (m *states) init(n int64) {
	m.pages = make([]atomic.Pointer[words], n)
	m.infos = make([]pageInfo, n)
	m.fresh = make([]uint64, (n*pageNotes+63)/64)
	for i := range m.infos {
		m.infos[i].current = -1
	}
}

// load puts words that come from the file in place.
func (m *states) load(page int64, w *words) {
	for s := range same {
		if *w == same[s] {
			w = &same[s]
			break
		}
	}
	m.pages[page].Store(w)
}

// at returns the state of chunk i.
func (m *states) at(i int64) state {
	page, k := uint64(i)/pageChunks, uint64(i)%pageChunks
	w := m.pages[page].Load()
	if w == nil {
		return absent
	}
	return state(atomic.LoadUint64(&w[k/32]) >> (k % 32 * 2) & 3)
}

// run returns the state of chunk i and how many chunks from there on, before
// end, have it too.
func (m *states) run(i, end int64) (s state, n int64) {
	s = m.at(i)
	if i+1 == end {
		return s, 1
	}
	for i+n < end {
		page, from := (i+n)/pageChunks, (i+n)%pageChunks
		to := min(pageChunks, from+end-i-n)
		k := m.pages[page].Load().count(from, to, s)
		n += k
		if k < to-from {
			break
		}
	}
	return s, n
}

// count returns how many of the chunks from..to of a page, in order, have
// state s.
func (w *words) count(from, to int64, s state) int64 {
	if w == nil {
		w = &same[absent]
	}
	if w == &same[s] {
		return to - from
	}
	for i := from; i < to; i += 32 - i%32 {
		other := (atomic.LoadUint64(&w[i/32]) ^ s.word()) >> (i % 32 * 2)
		if other != 0 {
			return min(i+int64(bits.TrailingZeros64(other))/2, to) - from
		}
	}
	return to - from
}

// set makes s the state of the chunks from i to end and reports whether the
// content of one of them was in the file. Chunks in state data stay that when
// s is arriving.
func (m *states) set(i, end int64, s state) (hadData bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i < end {
		page, from := i/pageChunks, i%pageChunks
		to := min(pageChunks, from+end-i)
		hadData = m.setInPage(page, from, to, s) || hadData
		i += to - from
	}
	return hadData
}

// setInPage is set for the chunks from..to of a page.
func (m *states) setInPage(page, from, to int64, s state) (hadData bool) {
	w := m.pages[page].Load()
	if w.count(from, to, s) == to-from || s == arriving && w.count(from, to, data) == to-from {
		return s.inFile()
	}
	m.changed(page, from, to)
	if from == 0 && to == pageChunks && s != arriving {
		m.pages[page].Store(&same[s])
		return w.hasData()
	}
	if w == nil {
		w = &same[absent]
	}
	private := w
	if w.shared() {
		private = new(words)
		*private = *w
	}
	for i := from; i < to; {
		next := min((i/32+1)*32, to)
		mask := ^uint64(0) >> (64 - 2*(next-i)) << (i % 32 * 2)
		old := private[i/32]
		hadData = hadData || old&mask&evenBits != 0
		if s == arriving {
			mask &^= old & evenBits * 3
		}
		atomic.StoreUint64(&private[i/32], old&^mask|s.word()&mask)
		i = next
	}
	m.pages[page].Store(private)
	return hadData
}

// changed says that the chunks from..to of a page are going to change.
func (m *states) changed(page, from, to int64) {
	if !m.infos[page].listed {
		m.infos[page].listed = true
		m.dirty = append(m.dirty, page)
	}
	for n, last := noteOf(page, from), noteOf(page, to-1); n <= last; n++ {
		m.fresh[n/64] |= 1 << (n % 64)
	}
}

// shared reports whether w may not be changed.
func (w *words) shared() bool {
	return w == &same[absent] || w == &same[data] || w == &same[zero]
}

// hasData reports whether the content of some chunk is in the file.
func (w *words) hasData() bool {
	if w == nil {
		return false
	}
	for _, x := range w {
		if x&evenBits != 0 {
			return true
		}
	}
	return false
}

// durable reports whether the file has the states of all chunks from i to end,
// on stable storage.
func (m *states) durable(i, end int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for page := i / pageChunks; page <= (end-1)/pageChunks; page++ {
		if info := &m.infos[page]; info.listed || info.writing {
			return false
		}
	}
	return true
}

// takeDirty returns the pages with changes, in order, for the caller to write.
// Each of them must be given to snapshot and then to settle, or to putBack.
func (m *states) takeDirty() []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.dirty
	m.dirty = nil
	slices.Sort(list)
	return list
}

// putBack gives pages back that were taken and not written.
func (m *states) putBack(pages []int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirty = append(m.dirty, pages...)
}

// snapshot copies a page as it is now for writing, and returns which copy is to
// be written and its sequence number.
func (m *states) snapshot(page int64, to *words) (target int, sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*to = same[absent]
	if w := m.pages[page].Load(); w != nil {
		for j, x := range w {
			to[j] = settled(x)
		}
	}
	info := &m.infos[page]
	info.listed, info.writing = false, true
	info.sequence++
	// Never the one that counts: it must survive a torn write.
	if info.current == 0 {
		target = 1
	}
	return target, info.sequence
}

// settle ends what snapshot began. durable says that the copy is on stable
// storage.
func (m *states) settle(page int64, target int, durable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := &m.infos[page]
	info.writing = false
	if durable {
		info.current = int8(target)
	} else if !info.listed {
		info.listed = true
		m.dirty = append(m.dirty, page)
	}
}

// count returns how many chunks are in states data and zero. None may be
// arriving.
func (m *states) count() (inData, inZero int64) {
	for i := range m.pages {
		w := m.pages[i].Load()
		if w == nil {
			continue
		}
		for j := range w {
			x := atomic.LoadUint64(&w[j])
			inData += int64(bits.OnesCount64(x & evenBits))
			inZero += int64(bits.OnesCount64(x >> 1 & evenBits))
		}
	}
	return inData, inZero
}
