package layer

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// ReadOnlyOptions are the options of ReadOnly. There is none to choose.
type ReadOnlyOptions struct {
	_ struct{} `doc:"Refuses every write, zero and trim."`
}

// ReadOnly returns dev without the means to change it: writes, zeros and trims
// fail with block.ErrReadOnly.
func ReadOnly(dev block.Device, o ReadOnlyOptions) (block.Device, error) {
	r := &readOnly{Pass: block.Pass{Device: dev}, info: dev.Info()}
	r.info.ReadOnly = true
	r.info.Trims, r.info.FastZeros, r.info.NativeFUA = false, false, false
	return r, nil
}

type readOnly struct {
	block.Pass
	latch
	info block.Info
}

func (r *readOnly) Info() block.Info { return r.info }

func (r *readOnly) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return r.refuse(block.ErrReadOnly)
}

func (r *readOnly) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return r.refuse(block.ErrReadOnly)
}

func (r *readOnly) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return r.refuse(block.ErrReadOnly)
}

func (r *readOnly) Close() error {
	r.shut()
	return r.Device.Close()
}
