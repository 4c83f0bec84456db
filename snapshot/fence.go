package snapshot

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// fenced returns dev for a Set that shares a lock: who has lost the lock changes
// nothing, not even with a request that was admitted before. What remains is
// the moment between the look and the write, for which a lease ends earlier
// here than for the others.
func (s *Set) fenced(dev block.Device) block.Device {
	if s.o.Lock == nil {
		return dev
	}
	return &fence{block.Pass{Device: dev}, &s.party}
}

type fence struct {
	block.Pass
	party *party
}

func (f *fence) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if _, err := f.party.token(); err != nil {
		return err
	}
	return f.Device.WriteAt(ctx, p, off, flags)
}

func (f *fence) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if _, err := f.party.token(); err != nil {
		return err
	}
	return f.Device.Zero(ctx, off, n, flags)
}

func (f *fence) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if _, err := f.party.token(); err != nil {
		return err
	}
	return f.Device.Trim(ctx, off, n, flags)
}
