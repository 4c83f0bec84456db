package layer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/strata-storage/strata/block"
)

// FaultOptions are the options of Fault. Ops, Offset, Length and File choose
// requests. Of those, Nth, Every and Probability choose the ones that fail:
// any of the three suffices, and all fail if none is given.
type FaultOptions struct {
	_           struct{} `doc:"Makes chosen requests fail, to test what is above." long:"A request that fails never reaches the device, and changes nothing."`
	Ops         []string `name:"ops" arg:"*" doc:"The operations that fail: read, write, zero, trim, flush, extents; all if none is named."`
	Error       string   `name:"error" default:"EIO" doc:"The name of the error number that they fail with."`
	Nth         int64    `name:"nth" doc:"Fails the request of this number, counted from 1."`
	Every       int64    `name:"every" doc:"Fails each request whose number is a multiple of this."`
	Probability float64  `name:"probability" doc:"Fails each request with this probability, from 0 to 1."`
	Seed        int64    `name:"seed" doc:"Makes the choice by probability repeatable; 0 makes it different each time."`
	Offset      int64    `name:"offset" unit:"bytes" doc:"Fails only requests that touch the range from here; a flush touches every range."`
	Length      int64    `name:"length" unit:"bytes" doc:"Length of the range; 0 is up to the end of the device."`
	File        string   `name:"file" unit:"path" doc:"Counts and fails requests only while this file exists."`
}

// Fault returns dev with requests that fail. It clears Info().NoWait if reads
// or writes may fail, so that it counts each request once.
func Fault(dev block.Device, o FaultOptions) (block.Device, error) {
	f := &fault{FaultOptions: o, end: math.MaxInt64}
	if err := f.init(); err != nil {
		return nil, fmt.Errorf("fault: %w", err)
	}
	ops, err := parseOps(o.Ops)
	if err != nil {
		return nil, fmt.Errorf("fault: %w", err)
	}
	return Hook(dev, Hooks{Ops: ops, Before: f.before})
}

type fault struct {
	FaultOptions
	errno syscall.Errno
	end   int64 // of the range
	count atomic.Int64

	mu  sync.Mutex
	rng *rand.Rand
}

func (f *fault) init() (err error) {
	if f.Error == "" {
		f.Error = "EIO"
	}
	if f.errno, err = ParseErrno(f.Error); err != nil {
		return err
	}
	switch {
	case f.errno == syscall.EAGAIN:
		return errors.New("error EAGAIN means that a request would block; choose another")
	case f.Nth < 0 || f.Every < 0:
		return fmt.Errorf("nth is %d and every is %d, must not be negative", f.Nth, f.Every)
	case !(f.Probability >= 0 && f.Probability <= 1):
		return fmt.Errorf("probability is %v, must be from 0 to 1", f.Probability)
	case f.Offset < 0 || f.Length < 0:
		return fmt.Errorf("offset is %d and length is %d, must not be negative", f.Offset, f.Length)
	}
	if f.Length > 0 && f.Length < math.MaxInt64-f.Offset {
		f.end = f.Offset + f.Length
	}
	if f.Nth == 0 && f.Every == 0 && f.Probability == 0 {
		f.Every = 1
	}
	seed := uint64(f.Seed)
	if seed == 0 {
		seed = rand.Uint64()
	}
	f.rng = rand.New(rand.NewPCG(seed, 0))
	return nil
}

func (f *fault) before(_ context.Context, r *Request) error {
	if !f.matches(r) || !f.fires() {
		return nil
	}
	if r.Op == OpFlush {
		return fmt.Errorf("injected into a flush: %w", f.errno)
	}
	return fmt.Errorf("injected into a %v of %d bytes at %d: %w", r.Op, r.Len, r.Off, f.errno)
}

func (f *fault) matches(r *Request) bool {
	if r.Op != OpFlush && (r.Off >= f.end || r.Off+r.Len <= f.Offset && f.Offset > 0) {
		return false
	}
	if f.File != "" {
		_, err := os.Stat(f.File)
		return err == nil
	}
	return true
}

// fires counts a request that matches and reports whether it is to fail.
func (f *fault) fires() bool {
	n := f.count.Add(1)
	if n == f.Nth || f.Every > 0 && n%f.Every == 0 {
		return true
	}
	if f.Probability == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.Float64() < f.Probability
}
