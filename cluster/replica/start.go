package replica

import (
	"context"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/internal/rangelock"
)

// A flight is what a fan has for which nobody waits.
type flight struct {
	fan   *fan
	ender block.Ender
	// lock is that of the blocks.
	lock *rangelock.Range
	// left counts what has not ended: attempts, and those who begin some.
	left atomic.Int32
	// burst is that of who begins it, and here what he does for disks of this node at
	// its end.
	burst *block.Burst
	here  func()
}

var _ block.Starter = (*Volume)(nil)

// StartWrite is that of block.Starter: of whole blocks of one object, if nothing is
// unusual.
func (v *Volume) StartWrite(_ context.Context, p []byte, off int64, flags block.Flags, b *block.Burst, e block.Ender) bool {
	n, at := int64(len(p)), off&(v.c.ObjectSize-1)
	if flags != 0 || n == 0 || (off|n)%disk.BlockSize != 0 || n > v.c.ObjectSize-at || v.info.Load().CheckWrite(off, len(p)) != nil {
		return false
	}
	if v.gate.Enter() != nil {
		return false
	}
	if v.Err() != nil || v.c.Lease.Err() != nil {
		v.gate.Leave()
		return false
	}
	lock := v.locks.TryLock(off, n)
	if lock == nil {
		v.gate.Leave()
		return false
	}
	f := v.newFan(uint64(off/v.c.ObjectSize), p, n, at)
	rec, epoch, err := v.record(f.group)
	if err != nil || v.some.Load() != 0 || v.scarce(f.group, rec) != nil {
		f.free()
		lock.Unlock()
		v.gate.Leave()
		return false
	}
	f.begin(rec, epoch)
	f.flight.ender, f.flight.lock = e, lock
	f.depart(b)
	return true
}

// depart begins an attempt for each disk.
func (f *fan) depart(b *block.Burst) {
	x := &f.flight
	x.left.Store(1)
	x.burst = b
	here := false
	for i := range f.legs {
		l := &f.legs[i]
		x.left.Add(1)
		switch {
		case l.start(b):
			l.fly(b)
		case l.ready() && l.way.prompt != nil:
			l.here, here = true, true
		default:
			go l.sendAlone()
		}
	}
	if here {
		// Behind what is sent to other nodes: they work meanwhile.
		x.left.Add(1)
		b.Later(x.here)
	}
	f.landed(b)
}

// fly waits for the end of what was started without a goroutine.
func (l *leg) fly(b *block.Burst) {
	p := l.pending
	l.pending = nil
	p.Then(l, b)
	l.way.depart(l, p)
}

// Ended is that of block.Ender.
func (l *leg) Ended(err error, b *block.Burst) {
	l.way.arrive(l)
	l.end(l.writer, err)
	l.f.landed(b)
}

// depart has an attempt cancelled when the way ends, unless it has ended before.
func (w *way) depart(l *leg, p Pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.ended {
		return
	}
	if l.flies, l.behind = p, w.flying; l.behind != nil {
		l.behind.before = l
	}
	w.flying = l
	if w.ctx.Err() != nil { // clear may have been too early
		p.Cancel(context.Cause(w.ctx))
	}
}

// arrive is called when an attempt has ended.
func (w *way) arrive(l *leg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.ended = true
	if l.flies == nil {
		return
	}
	if l.behind != nil {
		l.behind.before = l.before
	}
	if l.before != nil {
		l.before.behind = l.behind
	} else {
		w.flying = l.behind
	}
	l.flies, l.before, l.behind = nil, nil, nil
}

// clear lets no attempt wait for the disk any more.
func (w *way) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := w.flying; l != nil; l = l.behind {
		l.flies.Cancel(context.Cause(w.ctx))
	}
}

// writeHere writes to disks of this node.
func (f *fan) writeHere() {
	b := f.flight.burst
	for i := range f.legs {
		l := &f.legs[i]
		if !l.here {
			continue
		}
		l.here = false
		done, err := l.way.prompt.WriteNow(&l.r, f.p)
		if !done {
			go l.sendAlone()
			continue
		}
		l.end(l.writer, err)
		f.landed(b)
	}
	f.landed(b)
}

// sendAlone is an attempt in a goroutine of its own.
func (l *leg) sendAlone() {
	l.send(false)
	var b block.Burst
	l.f.landed(&b)
	b.End()
}

// landed is called when one has ended of those that left counts.
func (f *fan) landed(b *block.Burst) {
	if f.flight.left.Add(-1) > 0 {
		return
	}
	if f.worst() == nil {
		f.conclude(nil, b)
		return
	}
	go func() {
		var b block.Burst
		err, over := f.judge()
		if !over {
			err = f.run()
		}
		f.conclude(err, &b)
		b.End()
	}()
}

// conclude tells what a flight has come to.
func (f *fan) conclude(err error, b *block.Burst) {
	v, e, lock := f.v, f.flight.ender, f.flight.lock
	f.over(err)
	lock.Unlock()
	v.gate.Leave()
	e.Ended(err, b)
}
