package replica

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/strata-storage/strata/cluster/record"
)

// A flusher runs one flush after the other, as long as somebody waits for one.
type flusher struct {
	volume        *Volume
	mu            sync.Mutex
	running, next *flushing
}

// flushing is one flush.
type flushing struct {
	done chan struct{}
	err  error
}

// flush makes durable what was acknowledged before the call.
func (f *flusher) flush(ctx context.Context) error {
	f.mu.Lock()
	if f.next == nil {
		f.next = &flushing{done: make(chan struct{})}
	}
	r := f.next
	if f.running == nil {
		f.start()
	}
	f.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start begins the next flush. mu is held.
func (f *flusher) start() {
	r := f.next
	f.running, f.next = r, nil
	go func() {
		r.err = f.volume.flushAll()
		close(r.done)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running = nil
		if f.next != nil {
			f.start()
		}
	}()
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
