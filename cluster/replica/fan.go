package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// A fan is one change on its way to all disks of a group.
type fan struct {
	v     *Volume
	r     Request // without To and Session
	group int
	// p is what is written; nil zeroes n bytes.
	p     []byte
	n     int64
	epoch coord.Revision
	legs  []leg
	wg    sync.WaitGroup
	trial trial

	index  uint64
	flight flight
}

// A leg is the part of a fan for one disk.
type leg struct {
	f      *fan
	member record.Member
	way    *way
	r      Request
	joins  bool
	done   bool
	err    error
	// writer and pending are those of an attempt that was started.
	writer  *Writer
	pending Pending
	// Of a flight: what is under way and can be cancelled, and its neighbours among what is
	// on that way; whether it has ended, and whether the disk is one of this node, and is
	// still to be written.
	flies          Pending
	before, behind *leg
	ended, here    bool
}

var (
	fans     = sync.Pool{New: func() any { return new(fan) }}
	requests = sync.Pool{New: func() any { return new(Request) }}
)

// write writes blocks of one object. Their range is locked.
func (v *Volume) write(index uint64, p []byte, at int64) error {
	return v.spread(index, p, int64(len(p)), at)
}

// clear zeroes blocks of one object. Their range is locked.
func (v *Volume) clear(index uint64, at, n int64) error { return v.spread(index, nil, n, at) }

// spread carries out a change on all disks of the record of one epoch.
func (v *Volume) spread(index uint64, p []byte, n, at int64) error {
	f := v.newFan(index, p, n, at)
	err := f.run()
	f.over(err)
	return err
}

func (v *Volume) newFan(index uint64, p []byte, n, at int64) *fan {
	f := fans.Get().(*fan)
	if f.flight.fan == nil {
		f.flight.fan, f.flight.here = f, f.writeHere
	}
	h := v.head.Load()
	f.v, f.index, f.p, f.n = v, index, p, n
	f.r = Request{Writer: Writer{Head: h.Head}, Index: index, Tree: h.tree, Off: at}
	f.group = v.groupOf(index)
	return f
}

// over notes what a change has come to, whose blocks are still locked, and frees f.
func (f *fan) over(err error) {
	if err != nil && f.epoch != 0 {
		// Some disks may have it.
		f.v.doubt(f.index, doubt{source: f.refused()})
	}
	f.v.wrote(f.group)
	f.free()
}

func (f *fan) free() {
	legs := f.legs
	clear(legs)
	*f = fan{legs: legs[:0], flight: flight{fan: f, here: f.flight.here}}
	fans.Put(f)
}

// run tries until all disks of a record have it.
func (f *fan) run() error {
	for {
		rec, epoch, err := f.v.record(f.group)
		if err != nil {
			return err
		}
		if why := f.v.scarce(f.group, rec); why != nil {
			if err := f.v.later(&f.trial, why); err != nil {
				return err
			}
			continue
		}
		if epoch != f.epoch {
			f.begin(rec, epoch)
		}
		f.round()
		if err, over := f.judge(); over {
			return err
		}
	}
}

// judge reports whether the change is over, and with which error, after attempts for all
// disks have ended.
func (f *fan) judge() (err error, over bool) {
	bad := f.worst()
	if bad == nil {
		return nil, true
	}
	err = f.v.mend(&f.trial, &fault{group: f.group, member: bad.member, err: bad.err, joins: bad.joins, spare: f.enough()})
	return err, err != nil
}

// begin makes the legs for a record. What was done by an earlier one does not count:
// disks may have been away in between.
func (f *fan) begin(rec record.Group, epoch coord.Revision) {
	f.epoch = epoch
	f.legs = slices.Grow(f.legs[:0], len(rec.Members)+len(rec.Joining))
	for i, list := range [2][]record.Member{rec.Members, rec.Joining} {
		for _, m := range list {
			f.legs = append(f.legs, leg{f: f, member: m, way: f.v.way(f.group, m), joins: i == 1})
		}
	}
}

// round sends what is not done. What can be started is; of the rest the last one is
// sent in the caller's goroutine.
func (f *fan) round() {
	var b block.Burst
	for i := range f.legs {
		if l := &f.legs[i]; !l.done {
			l.start(&b)
		}
	}
	b.End()
	last := -1
	for i := range f.legs {
		if l := &f.legs[i]; l.done || l.pending != nil {
			continue
		}
		if last >= 0 {
			f.wg.Add(1)
			go f.legs[last].send(true)
		}
		last = i
	}
	if last >= 0 {
		f.legs[last].send(false)
	}
	for i := range f.legs {
		if l := &f.legs[i]; l.pending != nil {
			l.end(l.writer, l.pending.Wait(l.way.ctx))
			l.pending = nil
		}
	}
	f.wg.Wait()
}

// start begins an attempt, if that can be done without waiting.
func (l *leg) start(b *block.Burst) bool {
	f := l.f
	if f.p == nil || l.way.starter == nil || l.way.end == nil || !l.ready() {
		return false
	}
	l.pending = l.way.starter.StartWrite(l.way.ctx, &l.r, f.p, b)
	return l.pending != nil
}

// ready makes the request for the disk if there is a session.
func (l *leg) ready() bool {
	if l.writer = l.way.current(l.f.v.head.Load()); l.writer == nil {
		return false
	}
	l.address(l.writer)
	return true
}

// address makes the request for the disk.
func (l *leg) address(w *Writer) {
	f := l.f
	l.r = f.r
	l.r.To = To{l.member.Disk, l.member.Incarnation, f.group, f.epoch}
	l.r.Writer = *w
}

// send is one attempt.
func (l *leg) send(counted bool) {
	f := l.f
	w, err := l.way.session(l.way.ctx)
	if err == nil {
		l.address(w)
		if f.p != nil {
			err = l.way.peer.Write(l.way.ctx, &l.r, f.p)
		} else {
			err = l.way.peer.Zero(l.way.ctx, &l.r, f.n)
		}
	}
	l.end(w, err)
	if counted {
		f.wg.Done()
	}
}

// end notes what an attempt has come to.
func (l *leg) end(w *Writer, err error) {
	l.err = l.way.outcome(w, err)
	l.done = l.err == nil
}

// worst returns the leg to be dealt with first, nil if all have succeeded.
func (f *fan) worst() (bad *leg) {
	for i := range f.legs {
		l := &f.legs[i]
		switch {
		case l.err == nil || l.done:
		case bad == nil || l.rank() < bad.rank():
			bad = l
		}
	}
	return bad
}

func (l *leg) rank() int {
	if l.joins && final(l.err) && !full(l.err) {
		return 3
	}
	return rank(l.err)
}

// enough reports whether the disks that have done it can do without the others: those can
// all be removed, and the rest are as many as writes need.
func (f *fan) enough() bool {
	members, all, missed := 0, 0, false
	for i := range f.legs {
		switch l := &f.legs[i]; {
		case !l.done:
			missed = missed || !l.joins
		case l.joins:
			all++
		default:
			members++
			all++
		}
	}
	if needed := max(1, f.v.c.Agreed.Needed(f.v.c.Copies)); missed {
		return members >= needed
	} else {
		return all >= needed
	}
}

// rank orders errors: a gateway that is fenced, or has an old record, must not
// remove anybody; and whoever is to be removed is so before the request fails.
func rank(err error) int {
	switch {
	case errors.Is(err, ErrFenced):
		return 0
	case errors.Is(err, ErrEpoch) || errors.Is(err, errParted):
		return 1
	case errors.Is(err, ErrSession):
		return 2
	case final(err):
		return 4
	}
	return 3
}

// refused returns a disk that has refused the change for itself, if one has.
func (f *fan) refused() (m record.Member) {
	for i := range f.legs {
		if l := &f.legs[i]; l.err != nil && !l.joins && final(l.err) {
			return l.member
		}
	}
	return m
}

// read reads blocks of one object. Their range is locked.
func (v *Volume) read(index uint64, p []byte, at int64) error {
	return v.consult(index, at, func(ctx context.Context, peer Peer, r *Request) error { return peer.Read(ctx, r, p) })
}

// consult asks one member about blocks of one object. Their range is locked.
func (v *Volume) consult(index uint64, at int64, ask func(context.Context, Peer, *Request) error) error {
	h := v.head.Load()
	r := Request{Writer: Writer{Head: h.Head}, Index: index, Tree: h.tree, Off: at}
	group := v.groupOf(index)
	var t trial
	var avoid []record.Member
	for {
		rec, epoch, err := v.record(group)
		if err != nil {
			return err
		}
		m := v.choose(rec, avoid)
		if m == (record.Member{}) {
			avoid = nil
			if err := v.later(&t, fmt.Errorf("group %d: %w", group, ErrTooFew)); err != nil {
				return err
			}
			continue
		}
		if err = v.consultOne(m, r, group, epoch, ask); err == nil {
			return nil
		}
		f := &fault{group: group, member: m, err: err}
		var bad *disk.BlockError
		if errors.As(err, &bad) && !errors.Is(err, disk.ErrFailed) {
			if bad.Version == h.Version {
				v.doubt(index, doubt{verify: true})
			}
			if err := t.over(v, f); err != nil || len(avoid)+1 >= len(rec.Members) {
				return f
			}
			avoid = append(avoid, m)
			continue
		}
		if err := v.mend(&t, f); err != nil {
			return err
		}
		if rank(err) == 3 {
			avoid = append(avoid, m)
		}
	}
}

// choose returns the member to read from, none if all are to be avoided.
func (v *Volume) choose(rec record.Group, avoid []record.Member) (best record.Member) {
	for _, m := range rec.Members {
		if slices.Contains(avoid, m) {
			continue
		}
		if v.c.Near != nil && v.c.Near(m) {
			return m
		}
		if best == (record.Member{}) {
			best = m
		}
	}
	return best
}

func (v *Volume) consultOne(m record.Member, r Request, group int, epoch coord.Revision, ask func(context.Context, Peer, *Request) error) error {
	return v.way(group, m).call(func(ctx context.Context, p Peer, w *Writer) error {
		r.To, r.Writer = To{m.Disk, m.Incarnation, group, epoch}, *w
		return ask(ctx, p, &r)
	})
}
