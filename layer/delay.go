package layer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/strata-storage/strata/block"
)

// DelayOptions are the options of Delay. A request waits for All, for the
// time of its own kind and for a random part of Jitter, taken together. No
// time may be negative and at least one must be given.
type DelayOptions struct {
	_       struct{}      `doc:"Makes requests wait before they are passed on, as a slow disk or a far network would." long:"Any number of requests wait at the same time. A request that is cancelled stops waiting."`
	All     time.Duration `name:"all" arg:"1" unit:"duration" doc:"Delay of every request."`
	Read    time.Duration `name:"read" unit:"duration" doc:"Further delay of reads."`
	Write   time.Duration `name:"write" unit:"duration" doc:"Further delay of writes."`
	Zero    time.Duration `name:"zero" unit:"duration" doc:"Further delay of zeros."`
	Trim    time.Duration `name:"trim" unit:"duration" doc:"Further delay of trims."`
	Flush   time.Duration `name:"flush" unit:"duration" doc:"Further delay of flushes."`
	Extents time.Duration `name:"extents" unit:"duration" doc:"Further delay of requests for extents."`
	Jitter  time.Duration `name:"jitter" unit:"duration" doc:"Further delay of at most this, at random, of every request that is delayed."`
}

// Delay returns dev with slower requests. It clears Info().NoWait if it
// delays reads or writes.
func Delay(dev block.Device, o DelayOptions) (block.Device, error) {
	times := [numOps]time.Duration{o.Read, o.Write, o.Zero, o.Trim, o.Flush, o.Extents}
	var ops []Op
	for op := range Op(numOps) {
		if times[op] < 0 || o.All < 0 || o.Jitter < 0 {
			return nil, errors.New("delay: a time is negative")
		}
		if times[op] += o.All; times[op] > 0 || o.Jitter > 0 {
			ops = append(ops, op)
		}
	}
	if ops == nil {
		return nil, errors.New("delay: no time given: set all, read, write, zero, trim, flush, extents or jitter")
	}
	return Hook(dev, Hooks{Ops: ops, Before: func(ctx context.Context, r *Request) error {
		d := times[r.Op]
		if o.Jitter > 0 {
			d += rand.N(o.Jitter)
		}
		if err := sleep(ctx, d, nil); err != nil {
			return fmt.Errorf("while delayed: %w", err)
		}
		return nil
	}})
}

// sleep waits for d. It returns context.Cause if ctx ends first and ErrClosed
// if closing is closed first.
func sleep(ctx context.Context, d time.Duration, closing <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-closing:
		return block.ErrClosed
	}
}
