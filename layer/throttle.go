package layer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/block"
)

// ThrottleOptions are the options of Throttle. Several limits hold at once.
// Rates of 0 are no limit.
type ThrottleOptions struct {
	_ struct{} `doc:"Limits how many bytes and requests pass per second." long:"Bytes are those of reads and writes. Every request counts as one request; zeros, trims and flushes count among the writes, questions for extents among the reads. What was not used is saved up for the time given by burst. A request of any size passes when nothing is owed, and those after it wait until what it took beyond the savings is paid back."`

	Bytes         int64         `name:"bytes" arg:"1" unit:"bytes/s" doc:"Bytes read and written per second; 0 is no limit."`
	ReadBytes     int64         `name:"read_bytes" unit:"bytes/s" doc:"Bytes read per second; 0 is no limit."`
	WriteBytes    int64         `name:"write_bytes" unit:"bytes/s" doc:"Bytes written per second; 0 is no limit."`
	Requests      float64       `name:"requests" unit:"requests/s" doc:"Requests per second; 0 is no limit."`
	ReadRequests  float64       `name:"read_requests" unit:"requests/s" doc:"Reads per second; 0 is no limit."`
	WriteRequests float64       `name:"write_requests" unit:"requests/s" doc:"Writes per second; 0 is no limit."`
	Burst         time.Duration `name:"burst" unit:"duration" default:"1s" doc:"How long a pause may be made up for at full speed."`
}

// A Throttler is what Throttle returns.
type Throttler interface {
	block.Device
	// Set replaces all limits. Requests that wait go by the new ones from
	// now on. It fails, and changes nothing, if they make no sense.
	Set(o ThrottleOptions) error
}

// Throttle returns dev with limits on what passes per second: a [Throttler].
// Requests wait in the order in which they came, reads and writes apart, until
// they may pass, their context ends or the device is closed. With NoWait they
// return block.ErrWouldBlock instead of waiting.
func Throttle(dev block.Device, o ThrottleOptions) (block.Device, error) {
	t := &throttle{
		Pass:    block.Pass{Device: dev},
		start:   time.Now(),
		closing: make(chan struct{}),
		changed: make(chan struct{}),
	}
	if dev.Info().NoWait {
		t.noWait = block.NoWait
	}
	for side := range t.head {
		t.head[side] = make(chan struct{}, 1)
	}
	if err := t.Set(o); err != nil {
		return nil, err
	}
	return t, nil
}

// The two sides of traffic, and what both share.
const (
	reads = iota
	writes
	both
)

type throttle struct {
	block.Pass
	noWait  block.Flags // NoWait if dev honours it
	start   time.Time
	closing chan struct{}
	once    sync.Once

	// limited tells which sides have a limit, to cost the other nothing.
	limited [both]atomic.Bool
	// head holds the one request of its side that waits for its time.
	// Those behind it wait to get in: a channel is a fair queue.
	head [both]chan struct{}

	mu       sync.Mutex
	waiting  [both]int // requests in head or behind it
	bytes    [both + 1]bucket
	requests [both + 1]bucket
	changed  chan struct{} // closed by Set
}

// A bucket is what one limit has to give.
type bucket struct {
	rate  float64 // per nanosecond; 0 is no limit
	room  float64 // what it saves up at most
	level float64 // negative: owed
	at    time.Duration
}

func (b *bucket) set(rate float64, burst, now time.Duration) {
	limited := b.rate > 0
	b.fill(now)
	b.rate, b.room, b.at = rate/1e9, rate*burst.Seconds(), now
	if !limited {
		b.level = b.room
	}
	b.level = min(b.level, b.room)
}

func (b *bucket) fill(now time.Duration) {
	b.level = min(b.room, b.level+b.rate*float64(now-b.at))
	b.at = now
}

// wait is the time until nothing is owed.
func (b *bucket) wait(now time.Duration) time.Duration {
	if b.rate == 0 {
		return 0
	}
	if b.fill(now); b.level >= 0 {
		return 0
	}
	return time.Duration(min(-b.level/b.rate, float64(time.Hour))) + 1
}

func (b *bucket) take(n float64) {
	if b.rate > 0 {
		b.level = min(b.room, b.level-n)
	}
}

func (t *throttle) Set(o ThrottleOptions) error {
	if min(o.Bytes, o.ReadBytes, o.WriteBytes, int64(o.Burst)) < 0 || !(min(o.Requests, o.ReadRequests, o.WriteRequests) >= 0) {
		return errors.New("throttle: a limit is negative; 0 is no limit")
	}
	if o.Burst == 0 {
		o.Burst = time.Second
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Since(t.start)
	for i, rate := range [...]int64{reads: o.ReadBytes, writes: o.WriteBytes, both: o.Bytes} {
		t.bytes[i].set(float64(rate), o.Burst, now)
	}
	for i, rate := range [...]float64{reads: o.ReadRequests, writes: o.WriteRequests, both: o.Requests} {
		t.requests[i].set(rate, o.Burst, now)
	}
	for side := range t.limited {
		t.limited[side].Store(t.bytes[side].rate+t.requests[side].rate+t.bytes[both].rate+t.requests[both].rate > 0)
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

// take lets a request of n bytes pass and returns 0, or returns how long it
// has to wait at least. One that comes first must not overtake.
func (t *throttle) take(side, n int, first bool) (time.Duration, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if first && t.waiting[side] > 0 {
		return 1, nil
	}
	now := time.Since(t.start)
	wait := max(t.bytes[side].wait(now), t.bytes[both].wait(now), t.requests[side].wait(now), t.requests[both].wait(now))
	if wait == 0 {
		t.charge(side, n, 1)
	}
	return wait, t.changed
}

// charge takes from every bucket of a side what requests use.
func (t *throttle) charge(side, n, requests int) {
	t.bytes[side].take(float64(n))
	t.bytes[both].take(float64(n))
	t.requests[side].take(float64(requests))
	t.requests[both].take(float64(requests))
}

// pass returns when a request of n bytes may pass.
func (t *throttle) pass(ctx context.Context, side, n int, flags block.Flags) error {
	if !t.limited[side].Load() {
		return nil
	}
	if wait, _ := t.take(side, n, true); wait == 0 {
		return nil
	}
	if flags&t.noWait != 0 {
		return block.ErrWouldBlock
	}
	if err := t.queue(ctx, side, n); err != nil {
		return fmt.Errorf("while throttled: %w", err)
	}
	return nil
}

func (t *throttle) queue(ctx context.Context, side, n int) error {
	t.count(side, 1)
	defer t.count(side, -1)
	select {
	case t.head[side] <- struct{}{}:
		defer func() { <-t.head[side] }()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.closing:
		return block.ErrClosed
	}
	for {
		wait, changed := t.take(side, n, false)
		if wait == 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-t.closing:
			timer.Stop()
			return block.ErrClosed
		}
	}
}

func (t *throttle) count(side, n int) {
	t.mu.Lock()
	t.waiting[side] += n
	t.mu.Unlock()
}

// refund takes back what a request used that comes again without NoWait.
func (t *throttle) refund(side, n int, flags block.Flags, err error) error {
	if flags&t.noWait != 0 && t.limited[side].Load() && errors.Is(err, block.ErrWouldBlock) {
		t.mu.Lock()
		t.charge(side, -n, -1)
		t.mu.Unlock()
	}
	return err
}

func (t *throttle) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := t.pass(ctx, reads, len(p), flags); err != nil {
		return err
	}
	return t.refund(reads, len(p), flags, t.Device.ReadAt(ctx, p, off, flags))
}

func (t *throttle) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := t.pass(ctx, writes, len(p), flags); err != nil {
		return err
	}
	return t.refund(writes, len(p), flags, t.Device.WriteAt(ctx, p, off, flags))
}

func (t *throttle) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := t.pass(ctx, writes, 0, 0); err != nil {
		return err
	}
	return t.Device.Zero(ctx, off, n, flags)
}

func (t *throttle) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := t.pass(ctx, writes, 0, 0); err != nil {
		return err
	}
	return t.Device.Trim(ctx, off, n, flags)
}

func (t *throttle) Flush(ctx context.Context) error {
	if err := t.pass(ctx, writes, 0, 0); err != nil {
		return err
	}
	return t.Device.Flush(ctx)
}

func (t *throttle) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		if err := t.pass(ctx, reads, 0, 0); err != nil {
			yield(block.Extent{}, err)
			return
		}
		t.Device.Extents(ctx, mc, off, n)(yield)
	}
}

func (t *throttle) Close() error {
	t.once.Do(func() { close(t.closing) })
	return t.Device.Close()
}
