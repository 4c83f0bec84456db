package disk

import (
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/internal/rangelock"
)

// A view is what one version has in a piece of an object, and what is known of
// what it reads there. The mutex of the object guards it.
type view struct {
	version uint64
	piece   uint16
	// own has places and sums of inherited blocks as well.
	own
	// known are the blocks of which it is known what the version reads, shown
	// those of them that are data, its own or an ancestor's.
	known, shown uint16

	// changed: own is not what the last flush captured, which was base.
	// captured: the batch with what was captured is not part of the metadata
	// yet. Views that are one or the other must be kept.
	changed, captured bool
	base              *own

	// next is the view of an older version in the same piece.
	next *view
}

// pinned reports whether the metadata have something else.
func (v *view) pinned() bool { return v.changed || v.captured }

// forget drops what is known of ancestors.
func (v *view) forget() { v.known, v.shown = v.has, v.data }

// An object in memory. Requests for it, and a flush that has to capture it, hold
// references.
type object struct {
	Object
	// locks keep requests for the same blocks apart, in bytes.
	locks rangelock.Lock
	// weight is the number of views and tallies, and 1.
	weight atomic.Int64

	// The shard's mutex guards these.
	refs        int
	counted     int64
	newer, less *object

	mu     sync.Mutex
	loaded bool
	head   header
	// pieces has for each piece its views, from the youngest version on.
	pieces  map[uint16]*view
	tallies map[uint64]*tallied

	// The dirty mark. marking is closed when a mark under way is durable;
	// writers counts the requests that rely on it. removed: it goes with what
	// the object has.
	dirty   bool
	removed bool
	mark    mark
	marking chan struct{}
	writers int

	// changed and captured are the views in that state. listed: the object is
	// in the list of the next flush.
	changed, captured []*view
	listed            bool
}

// quiet reports whether nobody changes the object and all of it is durable.
func (o *object) quiet() bool { return o.writers == 0 && !o.listed && len(o.captured) == 0 }

// tallied is a tally in memory.
type tallied struct {
	tally
	// changed and captured are as in a view.
	changed, captured bool
	// pieces are those in which the version may have something: bit i is for all whose
	// number is i modulo 64.
	pieces uint64
}

func pieceBit(piece uint16) uint64 { return 1 << (piece % 64) }

const (
	shards = 16
	// viewBytes is about what a view takes.
	viewBytes = 288
	// evictTries bounds how many objects a request looks at to forget some.
	evictTries = 32
)

// A cache has the objects that are in use, and those that were used lately.
type cache struct{ shard [shards]shard }

type shard struct {
	mu      sync.Mutex
	objects map[Object]*object
	// newest and oldest are the ends of the list of objects by last use.
	newest, oldest *object
	weight, limit  int64
}

func (c *cache) init(bytes int64) {
	for i := range c.shard {
		c.shard[i].objects = map[Object]*object{}
		c.shard[i].limit = max(16, bytes/viewBytes/shards)
	}
}

func (c *cache) of(o Object) *shard { return &c.shard[o.Hash()%shards] }

// get returns an object with a reference.
func (c *cache) get(id Object) *object {
	s := c.of(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[id]
	if o == nil {
		o = &object{Object: id, pieces: map[uint16]*view{}, tallies: map[uint64]*tallied{}}
		o.weight.Store(1)
		s.objects[id] = o
	} else {
		s.unlink(o)
	}
	s.push(o)
	o.refs++
	return o
}

// again takes one more reference of an object that has one.
func (c *cache) again(o *object) {
	s := c.of(o.Object)
	s.mu.Lock()
	o.refs++
	s.mu.Unlock()
}

// put gives a reference back.
func (c *cache) put(o *object) {
	s := c.of(o.Object)
	if o.weight.Load() > s.limit/2 {
		o.trim(s.limit / 4)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.refs--
	w := o.weight.Load()
	s.weight += w - o.counted
	o.counted = w
	// Those that must be kept are looked at once in a while, and not by everyone.
	for try := 0; try < evictTries && s.weight > s.limit; try++ {
		old := s.oldest
		s.unlink(old)
		if old.refs > 0 {
			s.push(old)
			continue
		}
		delete(s.objects, old.Object)
		s.weight -= old.counted
	}
}

func (s *shard) push(o *object) {
	o.newer, o.less = nil, s.newest
	if s.newest == nil {
		s.oldest = o
	} else {
		s.newest.newer = o
	}
	s.newest = o
}

func (s *shard) unlink(o *object) {
	if o.newer == nil {
		s.newest = o.less
	} else {
		o.newer.less = o.less
	}
	if o.less == nil {
		s.oldest = o.newer
	} else {
		o.less.newer = o.newer
	}
}

// trim forgets views, whichever, until there are few but for those that must be
// kept.
func (o *object) trim(few int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	few += int64(len(o.changed) + len(o.captured))
	for piece := range o.pieces {
		if o.weight.Load() <= few {
			return
		}
		o.drop(piece, 0)
	}
	for version, t := range o.tallies {
		if o.weight.Load() <= few {
			return
		}
		if !t.changed && !t.captured {
			delete(o.tallies, version)
			o.weight.Add(-1)
		}
	}
}

// drop forgets what is known of a piece, but for versions up to keep, whose
// ancestors are as they were, and for what is pinned.
func (o *object) drop(piece uint16, keep uint64) {
	first := o.pieces[piece]
	link := &first
	for v := first; v != nil && v.version > keep; v = v.next {
		if v.pinned() {
			v.forget()
			link = &v.next
			continue
		}
		o.weight.Add(-1)
		*link = v.next
	}
	if first == nil {
		delete(o.pieces, piece)
	} else {
		o.pieces[piece] = first
	}
}

// cached returns the youngest view of a piece whose version is at most limit.
func (o *object) cached(piece uint16, limit uint64) *view {
	v := o.pieces[piece]
	for v != nil && v.version > limit {
		v = v.next
	}
	return v
}

// insert adds a view.
func (o *object) insert(v *view) {
	o.weight.Add(1)
	first := o.pieces[v.piece]
	if first == nil || first.version < v.version {
		v.next = first
		o.pieces[v.piece] = v
		return
	}
	at := first
	for at.next != nil && at.next.version > v.version {
		at = at.next
	}
	v.next, at.next = at.next, v
}
