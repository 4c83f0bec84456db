package replica

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// A flusher runs one flush after the other, as long as somebody waits for one. Each
// costs the disks about the same, however many wait for it: so it lets those come
// along who are about to want one, too.
type flusher struct {
	clock    coord.Clock
	flushAll func() error
	mu       sync.Mutex
	running  bool
	next     *flushing
	// crowd is how many waited at the same time during the last flush, for it or for the
	// next one, and took how long it took.
	crowd int
	took  time.Duration
}

// maxGather bounds how long a flush waits for those who may want one, too.
const maxGather = 5 * time.Millisecond

// flushing is one flush.
type flushing struct {
	done    chan struct{}
	err     error
	callers int
	// enough is closed when as many have come as are expected.
	enough   chan struct{}
	expected int
}

// flush makes durable what was acknowledged before the call.
func (f *flusher) flush(ctx context.Context) error {
	f.mu.Lock()
	if f.next == nil {
		f.next = &flushing{done: make(chan struct{}), enough: make(chan struct{})}
	}
	r := f.next
	r.callers++
	if r.callers == r.expected {
		close(r.enough)
	}
	if !f.running {
		f.running = true
		go f.run()
	}
	f.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run flushes as long as somebody waits.
func (f *flusher) run() {
	f.mu.Lock()
	for f.next != nil {
		f.gather()
		r := f.next
		f.next = nil
		f.mu.Unlock()
		begin := f.clock.Now()
		r.err = f.flushAll()
		close(r.done)
		f.mu.Lock()
		f.took, f.crowd = f.clock.Now()-begin, r.callers
		if f.next != nil {
			f.crowd += f.next.callers
		}
	}
	f.running = false
	f.mu.Unlock()
}

// gather waits until as many want the next flush as there were during the last one, and
// no longer than a part of what that took. mu is held, but not meanwhile.
func (f *flusher) gather() {
	r := f.next
	if r.callers >= f.crowd {
		return
	}
	r.expected = f.crowd
	late := make(chan struct{})
	stop := f.clock.AfterFunc(min(f.took/2, maxGather), func() { close(late) })
	f.mu.Unlock()
	select {
	case <-r.enough:
	case <-late:
	}
	stop()
	f.mu.Lock()
}

// wrote notes that something was written in a group, before it is acknowledged.
func (v *Volume) wrote(group int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.parts[group].unflushed = true
}

// flushAll flushes all disks of the groups that were written.
func (v *Volume) flushAll() error {
	var groups []int
	v.mu.Lock()
	for g, s := range v.parts {
		if s.unflushed {
			s.unflushed, s.flushing = false, true
			groups = append(groups, g)
		}
	}
	v.mu.Unlock()
	slices.Sort(groups)
	err := v.flushGroups(groups)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, g := range groups {
		s := v.parts[g]
		s.flushing = false
		s.unflushed = s.unflushed || err != nil
	}
	return err
}

// flushGroups flushes until all disks of the records of some groups have done it.
func (v *Volume) flushGroups(groups []int) error {
	flushed := map[linkKey]bool{}
	var t trial
	for {
		todo := map[linkKey]*fault{}
		var few error
		for _, g := range groups {
			rec, _, err := v.record(g)
			if err != nil {
				return err
			}
			few = cmp.Or(few, v.scarce(g, rec))
			for _, m := range slices.Concat(rec.Members, rec.Joining) {
				if key := (linkKey{m.Disk, m.Incarnation}); !flushed[key] {
					todo[key] = &fault{group: g, member: m}
				}
			}
		}
		if len(todo) == 0 && few == nil {
			return v.Err()
		}
		var wg sync.WaitGroup
		for _, f := range todo {
			wg.Go(func() { f.err = v.flushDisk(f.group, f.member) })
		}
		wg.Wait()
		for _, key := range slices.SortedFunc(maps.Keys(todo), linkKey.compare) {
			f := todo[key]
			if f.err == nil {
				flushed[key] = true
				continue
			}
			if err := v.mend(&t, f); err != nil {
				return err
			}
		}
		if few != nil {
			if err := v.later(&t, few); err != nil {
				return err
			}
		}
	}
}

// flushDisk flushes a disk, as long as it has a part in that group; if it has one in others
// it is asked again.
func (v *Volume) flushDisk(group int, m record.Member) error {
	return v.way(group, m).call(func(ctx context.Context, p Peer, w *Writer) error {
		return p.Flush(ctx, &Request{To: To{Disk: m.Disk, Incarnation: m.Incarnation}, Writer: *w})
	})
}
