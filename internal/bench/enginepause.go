package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/snapshot"
)

// paused is what clients see of snapshots that are taken while they write; of
// flushes, for a snapshot has to be durable as well; and of times that are as
// long in which there is neither, since the clients alone use all processors, and
// so they wait for one another.
type paused struct{ create, flush, none pausing }

// A pausing has the p99 over such times, of the longest that a write in flight
// took, and of the longest in which no write ended.
type pausing struct{ write, standstill time.Duration }

// beyond is by how much more a snapshot pauses writes than a flush.
func (p paused) beyond() pausing {
	return pausing{p.create.write - p.flush.write, p.create.standstill - p.flush.standstill}
}

// reason tells how much of it would be there without a snapshot.
func (p paused) reason() string {
	if p.none.write == 0 {
		return ""
	}
	return fmt.Sprintf("the longest write takes %.1f ms while a snapshot is taken, %.1f ms while there is a flush, %.1f ms with neither; none ends for %.1f, %.1f and %.1f ms",
		millis(p.create.write), millis(p.flush.write), millis(p.none.write), millis(p.create.standstill), millis(p.flush.standstill), millis(p.none.standstill))
}

// A span is a time, counted from a moment that others have in common.
type span struct{ start, end time.Duration }

// pauses is how often each is done, with a gap before: pauseTurn times the one,
// then the next. Two threads that do nothing but look at the clock are stopped
// for 5 ms and more now and then where this was written; so often, that such
// stops alone are no p99.
const (
	pauses    = 500
	pauseTurn = 25
	pauseGap  = 3 * time.Millisecond
)

// enginePause takes snapshots while all chunks are being written at random, for
// the first time since the last one, also when there is a flush or nothing.
func (l *snapLab) enginePause(ctx context.Context, e *engineFigures) error {
	r, err := l.newRig(ctx, smallDisk, snapshot.Options{})
	if err != nil {
		return err
	}
	began := time.Now()
	now := func() time.Duration { return time.Since(began) }
	var stop atomic.Bool
	written := make([][]span, inFlight)
	writing := make(chan error, 1)
	go func() {
		writing <- parallel(inFlight, inFlight, func(lane int) error {
			written[lane] = make([]span, 0, 1<<16) // lest it moves meanwhile
			p := make([]byte, chunk)
			for i := lane; !stop.Load(); i += inFlight {
				start := now()
				if err := r.disk.WriteAt(ctx, p, int64(i)*7919%(smallDisk/chunk)*chunk, 0); err != nil {
					return err
				}
				written[lane] = append(written[lane], span{start, now()})
				// Or else it is preempted in the middle of a write, when its
				// turn is over.
				runtime.Gosched()
			}
			return nil
		})
	}()
	var times [3][]span
	for i := 0; i < len(times)*pauses && err == nil; i++ {
		time.Sleep(pauseGap)
		kind, start := i/pauseTurn%len(times), now()
		switch kind {
		case 0:
			err = e.spendOn("pause", func() error { return r.snapshot(ctx) })
		case 1:
			err = r.disk.Flush(ctx)
		default:
			like := times[0][len(times[kind])]
			time.Sleep(like.end - like.start)
		}
		times[kind] = append(times[kind], span{start, now()})
	}
	stop.Store(true)
	err = errors.Join(err, <-writing)
	e.pause = paused{pausesOf(times[0], written), pausesOf(times[1], written), pausesOf(times[2], written)}
	return errors.Join(err, r.close())
}

func pausesOf(times []span, written [][]span) pausing {
	return pausing{quantile(longest(times, written), 0.99), quantile(standstills(times, written), 0.99)}
}

// longest is, for each of times, the longest of all requests that were under way
// then.
func longest(times []span, written [][]span) (all []time.Duration) {
	for _, t := range times {
		var most time.Duration
		for _, lane := range written {
			for _, w := range lane {
				if w.start < t.end && w.end > t.start {
					most = max(most, w.end-w.start)
				}
			}
		}
		all = append(all, most)
	}
	return all
}

// standstills is, for each of times, the longest time that it has a part in and
// in which no request ended.
func standstills(times []span, written [][]span) (all []time.Duration) {
	var ends []time.Duration
	for _, lane := range written {
		for _, w := range lane {
			ends = append(ends, w.end)
		}
	}
	slices.Sort(ends)
	for _, t := range times {
		var most time.Duration
		i, _ := slices.BinarySearchFunc(ends, t.start, func(end, start time.Duration) int { return cmp.Compare(end, start) })
		for i = max(i, 1); i < len(ends) && ends[i-1] < t.end; i++ {
			most = max(most, ends[i]-ends[i-1])
		}
		all = append(all, most)
	}
	return all
}
