package layer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"syscall"
	"time"

	"github.com/strata-storage/strata/block"
)

// RetryOptions are the options of Retry.
type RetryOptions struct {
	_        struct{}      `doc:"Repeats requests that failed for a reason that may pass." long:"What may pass is trouble of disks and networks: EIO, EBUSY, ENOMEM, EINTR, ETIMEDOUT, ESHUTDOWN, EPIPE and the errors of connections, hosts and networks. A request that is wrong, forbidden or finds no room fails at once."`
	Retries  int           `name:"retries" arg:"1" default:"5" doc:"How often a request is repeated before it fails."`
	Delay    time.Duration `name:"delay" unit:"duration" default:"100ms" doc:"Pause before the first repetition; it doubles each time."`
	MaxDelay time.Duration `name:"max_delay" unit:"duration" default:"10s" doc:"The longest pause."`
	Flush    bool          `name:"flush" doc:"Repeats flushes too: only safe if the device never reports success of a flush for data that an earlier one lost."`
}

// Retry returns dev with requests that are repeated when they fail for a
// reason that may pass: reads, writes, zeros and trims, which come to the same
// whether done once or twice, and questions for extents, which go on where
// they were interrupted.
//
// A flush is repeated only if asked for. Every block.Device keeps the promise
// that a flush after a failed one does not lie, but what stands behind it may
// not: some servers answer a second fsync(2) with success although the kernel
// threw the data away after the first.
//
// A read or write with NoWait that would have to be repeated returns
// block.ErrWouldBlock. Close ends the pauses.
func Retry(dev block.Device, o RetryOptions) (block.Device, error) {
	if o.Retries < 0 || o.Delay < 0 || o.MaxDelay < 0 {
		return nil, fmt.Errorf("retry: retries is %d, delay is %v and max_delay is %v, must not be negative", o.Retries, o.Delay, o.MaxDelay)
	}
	if o.Retries == 0 {
		o.Retries = 5
	}
	if o.Delay == 0 {
		o.Delay = 100 * time.Millisecond
	}
	if o.MaxDelay == 0 {
		o.MaxDelay = max(10*time.Second, o.Delay)
	}
	if o.MaxDelay < o.Delay {
		return nil, fmt.Errorf("retry: max_delay is %v, must not be less than delay, which is %v", o.MaxDelay, o.Delay)
	}
	return &retry{Pass: block.Pass{Device: dev}, RetryOptions: o, closing: make(chan struct{})}, nil
}

type retry struct {
	block.Pass
	RetryOptions
	closing chan struct{}
	once    sync.Once
}

func (r *retry) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := r.Device.ReadAt(ctx, p, off, flags)
	if err == nil {
		return nil
	}
	return r.again(ctx, flags, err, func() error { return r.Device.ReadAt(ctx, p, off, flags) })
}

func (r *retry) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := r.Device.WriteAt(ctx, p, off, flags)
	if err == nil {
		return nil
	}
	return r.again(ctx, flags, err, func() error { return r.Device.WriteAt(ctx, p, off, flags) })
}

func (r *retry) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	err := r.Device.Zero(ctx, off, n, flags)
	if err == nil {
		return nil
	}
	return r.again(ctx, 0, err, func() error { return r.Device.Zero(ctx, off, n, flags) })
}

func (r *retry) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	err := r.Device.Trim(ctx, off, n, flags)
	if err == nil {
		return nil
	}
	return r.again(ctx, 0, err, func() error { return r.Device.Trim(ctx, off, n, flags) })
}

func (r *retry) Flush(ctx context.Context) error {
	err := r.Device.Flush(ctx)
	if err == nil || !r.RetryOptions.Flush {
		return err
	}
	return r.again(ctx, 0, err, func() error { return r.Device.Flush(ctx) })
}

func (r *retry) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		end := off + n
		// rest yields what has not been yielded yet.
		rest := func() error {
			for e, err := range r.Device.Extents(ctx, mc, off, end-off) {
				if err != nil {
					return err
				}
				off = e.End()
				if !yield(e, nil) {
					return nil
				}
			}
			return nil
		}
		err := rest()
		if err != nil {
			err = r.again(ctx, 0, err, rest)
		}
		if err != nil {
			yield(block.Extent{}, err)
		}
	}
}

func (r *retry) Close() error {
	r.once.Do(func() { close(r.closing) })
	return r.Device.Close()
}

// again repeats a request that has failed with err.
func (r *retry) again(ctx context.Context, flags block.Flags, err error, request func() error) error {
	delay := r.Delay
	for n := 0; ; n++ {
		switch {
		case err == nil:
			return nil
		case !mayPass(err):
			return err
		case flags&block.NoWait != 0 && r.Info().NoWait:
			return block.ErrWouldBlock
		case n == r.Retries:
			return fmt.Errorf("repeated %d times: %w", n, err)
		}
		stop := context.Cause(ctx)
		if stop == nil {
			stop = sleep(ctx, delay, r.closing)
		}
		if stop != nil {
			return fmt.Errorf("%w before a request that failed was repeated: %v", stop, err)
		}
		delay = min(2*delay, r.MaxDelay)
		err = request()
	}
}

// passing are the meanings of errors that may be gone when a request is
// repeated.
var passing = map[syscall.Errno]bool{
	syscall.EIO:          true, // also every error without a better name
	syscall.EREMOTEIO:    true,
	syscall.EBUSY:        true,
	syscall.ENOMEM:       true,
	syscall.EINTR:        true,
	syscall.ETIMEDOUT:    true,
	syscall.ESHUTDOWN:    true, // of the other side; ours is ErrClosed
	syscall.EPIPE:        true,
	syscall.ECONNABORTED: true,
	syscall.ECONNREFUSED: true,
	syscall.ECONNRESET:   true,
	syscall.ENOTCONN:     true,
	syscall.ENOLINK:      true,
	syscall.EHOSTDOWN:    true,
	syscall.EHOSTUNREACH: true,
	syscall.ENETDOWN:     true,
	syscall.ENETRESET:    true,
	syscall.ENETUNREACH:  true,
}

func mayPass(err error) bool {
	return !errors.Is(err, block.ErrClosed) && passing[block.Errno(err)]
}
