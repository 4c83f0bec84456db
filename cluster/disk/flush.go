package disk

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Flush returns when every change that had returned before is durable. All who
// call it while one is under way share the next one.
func (d *Disk) Flush(ctx context.Context) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	return d.flusher.flush(ctx)
}

// throttle keeps the number of changes in memory bounded.
func (d *Disk) throttle(ctx context.Context) error {
	switch n := d.unflushed.Load(); {
	case n > int64(d.cfg.MaxUnflushed):
		return d.flusher.flush(ctx)
	case n > int64(d.cfg.MaxUnflushed/2):
		d.flusher.join(false)
	}
	return nil
}

// A flusher runs one round of flushing after the other, as long as somebody
// waits for one.
type flusher struct {
	disk          *Disk
	mu            sync.Mutex
	running, next *round
	trims         sync.WaitGroup
}

// A round is one flush of the disk.
type round struct {
	// done is closed when err is there, over when the next round may begin.
	done, over chan struct{}
	err        error
}

// flush is Flush for those who are inside.
func (f *flusher) flush(ctx context.Context) error {
	d := f.disk
	if d.changes.Load() == d.flushed.Load() {
		return d.failed()
	}
	r := f.join(true)
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// join returns a round that begins after the call. If it is not urgent, one that
// runs will do.
func (f *flusher) join(urgent bool) *round {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running != nil && !urgent {
		return f.running
	}
	if f.next == nil {
		f.next = &round{done: make(chan struct{}), over: make(chan struct{})}
	}
	r := f.next
	if f.running == nil {
		f.start()
	}
	return r
}

func (f *flusher) start() {
	r := f.next
	f.running, f.next = r, nil
	go func() {
		var empty []int
		empty, r.err = f.disk.round()
		if len(empty) > 0 {
			f.trims.Go(func() { f.disk.trim(empty) })
		}
		close(r.done)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running = nil
		if f.next != nil {
			f.start()
		}
		close(r.over)
	}()
}

// wait returns when nothing runs; nobody may join any more.
func (f *flusher) wait() {
	for {
		f.mu.Lock()
		r := f.running
		f.mu.Unlock()
		if r == nil {
			break
		}
		<-r.over
	}
	f.trims.Wait()
}

// A batch is what has been captured and is not part of the metadata yet.
type batch struct {
	b     *pebble.Batch
	frees []uint64
	// names: there are new places in it.
	names bool
	// objects are those of which something was captured; listMu guards it.
	objects []*object
	// Room for what is needed in between.
	key, value   []byte
	freed, taken []uint64
	spare        []*object
}

// put adds a value, or that there is none.
func (b *batch) put(there bool, encode func([]byte) []byte) error {
	if !there {
		return b.b.Delete(b.key, nil)
	}
	b.value = encode(b.value[:0])
	return b.b.Set(b.key, b.value, nil)
}

// round makes everything durable that has been changed so far.
func (d *Disk) round() (empty []int, err error) {
	if err := d.failed(); err != nil {
		return nil, err
	}
	upto := d.changes.Load()
	if err := d.capture(); err != nil {
		d.fail(err)
		return nil, d.failed()
	}
	size := int64(d.batch.b.Len())
	if err := d.harden(); err != nil {
		return nil, err
	}
	empty = d.settleBatch()
	d.flushed.Store(upto)
	d.stats.flushes.Add(1)
	d.lookForRoom(size)
	return empty, nil
}

// harden makes the slab durable, which has all that was captured, and then the batch. A
// batch that names no new places does not wait for the slab: what it says is about blocks
// that were overwritten, of which nobody knows after a crash whether the slab has them,
// whichever comes first. They are unfinished writes then, whose content is what was there
// before or what was written. At a new place it could be anything.
func (d *Disk) harden() error {
	n := d.slabChanges.Load()
	if n == d.slabFlushed {
		return d.commit()
	}
	flushSlab := func() error {
		if err := d.slab.Flush(context.Background()); err != nil {
			return fmt.Errorf("flushing the slab: %w", err)
		}
		return nil
	}
	if d.batch.names {
		if err := flushSlab(); err != nil {
			return err
		}
		d.slabFlushed = n
		return d.commit()
	}
	flushed := make(chan error, 1)
	go func() { flushed <- flushSlab() }()
	err := d.commit()
	slabErr := <-flushed
	if slabErr == nil {
		d.slabFlushed = n
	} else if err == nil {
		// What has been committed is not settled, and part of the next batch so far.
		_ = d.batch.b.Close()
		d.batch.b = d.meta.db.NewBatch()
	}
	return errors.Join(slabErr, err)
}

// commit makes the batch durable.
func (d *Disk) commit() error {
	if err := errors.Join(d.batch.b.Commit(pebble.Sync), d.failed()); err != nil {
		d.fail(err)
		return d.failed()
	}
	return nil
}

// capture adds to the batch what has changed.
func (d *Disk) capture() error {
	if d.batch.b == nil {
		d.batch.b = d.meta.db.NewBatch()
	}
	first := len(d.batch.objects)
	d.listMu.Lock()
	if first == 0 {
		d.batch.objects, d.batch.spare = d.batch.spare, nil
	}
	// They are part of the batch, whatever happens.
	d.batch.objects = append(d.batch.objects, d.list...)
	clear(d.list)
	d.list = reuse(d.list)
	d.listMu.Unlock()
	for _, o := range d.batch.objects[first:] {
		if err := d.captureObject(o); err != nil {
			return err
		}
	}
	var err error
	w := &d.batch
	d.space.eachTouched(func(seg, size int, durable *bitset) {
		w.key = segmentKey(w.key[:0], uint32(seg))
		var there bool
		if w.value, there = durable.encode(w.value[:0], size); there {
			err = errors.Join(err, w.b.Set(w.key, w.value, nil))
		} else {
			err = errors.Join(err, w.b.Delete(w.key, nil))
		}
	})
	return err
}

func (d *Disk) captureObject(o *object) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := &d.batch
	w.freed, w.taken = w.freed[:0], w.taken[:0]
	for _, v := range o.changed {
		w.freed, w.taken = v.compare(w.freed, w.taken)
		if v.captured {
			d.unflushed.Add(-1)
		} else {
			v.captured = true
			o.captured = append(o.captured, v)
		}
		bases.Put(v.base)
		v.changed, v.base = false, nil
	}
	var err error
	for _, v := range o.changed {
		w.key = pieceKey(w.key[:0], o.Object, v.piece, v.version)
		err = errors.Join(err, w.put(v.has != 0, v.encode))
	}
	w.key = objectKey(w.key[:0], tableObject, o.Object)
	err = errors.Join(err, w.put(o.head.data+o.head.holes != 0, o.head.encode))
	for version, t := range o.tallies {
		if t.changed {
			t.changed, t.captured = false, true
			w.key = tallyKey(w.key[:0], o.Object, version)
			err = errors.Join(err, w.put(t.data+t.holes != 0, t.encode))
		}
	}
	clear(o.changed)
	o.changed, o.listed = o.changed[:0], false
	w.frees = append(w.frees, w.freed...)
	w.names = w.names || len(w.taken) > 0
	return errors.Join(err, d.space.commit(w.freed, w.taken))
}

// compare adds the places that the view does not have any more since it was last
// captured, and those that are new.
func (v *view) compare(frees, takes []uint64) ([]uint64, []uint64) {
	for left := v.base.data | v.data; left != 0; left &= left - 1 {
		i := bits.TrailingZeros16(left)
		bit := uint16(1) << i
		if v.base.data&v.data&bit != 0 && v.base.places[i] == v.places[i] {
			continue
		}
		if v.base.data&bit != 0 {
			frees = append(frees, v.base.places[i])
		}
		if v.data&bit != 0 {
			takes = append(takes, v.places[i])
		}
	}
	return frees, takes
}

// settleBatch ends what the batch has begun, after it has become durable.
func (d *Disk) settleBatch() (empty []int) {
	objects := d.batch.objects
	d.listMu.Lock()
	d.batch.objects = nil
	d.listMu.Unlock()
	for _, o := range objects {
		o.mu.Lock()
		for _, v := range o.captured {
			v.captured = false
		}
		d.unflushed.Add(-int64(len(o.captured)))
		for _, t := range o.tallies {
			t.captured = false
		}
		clear(o.captured)
		o.captured = o.captured[:0]
		d.forgetMark(o)
		o.mu.Unlock()
		d.cache.put(o)
	}
	empty = d.space.settle(d.batch.frees)
	// An error here would be about the memory of the batch.
	_ = d.batch.b.Close()
	d.batch.b, d.batch.names, d.batch.frees = nil, false, reuse(d.batch.frees)
	clear(objects)
	d.batch.spare = reuse(objects)
	return empty
}

// reuse empties a list, and forgets one that has become long.
func reuse[T any](list []T) []T {
	if cap(list) > 4096 {
		return nil
	}
	return list[:0]
}

// trim gives segments that have become empty back to the slab.
func (d *Disk) trim(segments []int) {
	for _, seg := range segments {
		if d.slab.Info().Trims {
			off, n := d.segmentRange(seg)
			// It is no more than an offer.
			_ = d.slab.Trim(context.Background(), off, n, 0)
		}
		d.space.trimmed(seg)
	}
}

// segmentRange is where a segment is on the slab.
func (d *Disk) segmentRange(seg int) (off, n int64) {
	return slabBase + int64(seg)*segmentSize, int64(d.space.sizeOf(seg)) * BlockSize
}

// offset is where a place is on the slab.
func offset(place uint64) int64 { return slabBase + int64(place)*BlockSize }

// lookForRoom finds out whether the file system of the metadata has room, now and
// then: written is what has been written to it.
func (d *Disk) lookForRoom(written int64) {
	s := d.space
	s.mu.Lock()
	s.unseen += written
	// The slab may be a file in the same file system.
	look := written == 0 || s.unseen+s.taken*BlockSize > d.cfg.MetaReserve/8
	if look {
		s.unseen, s.taken = 0, 0
	}
	s.mu.Unlock()
	if !look {
		return
	}
	if free, ok := room(&d.cfg); ok {
		s.mu.Lock()
		starved := free < d.cfg.MetaReserve || s.starved && free < d.cfg.MetaReserve/8*9
		s.full = s.full && starved == s.starved
		s.starved = starved
		s.mu.Unlock()
	}
}
