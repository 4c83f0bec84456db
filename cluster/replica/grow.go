package replica

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// everything is a range with all blocks of a volume, whatever its size becomes.
const everything = 1 << 62

// Grow makes the volume larger, which is agreed already, while it is used. All groups of its
// objects must have records. It is no error if the volume is as large or larger.
func (v *Volume) Grow(ctx context.Context, size int64) error {
	if size < 0 || size > everything {
		return fmt.Errorf("a volume of %d bytes: %w", size, block.ErrInvalid)
	}
	if err := v.serve(ctx); err != nil {
		return err
	}
	defer v.gate.Leave()
	v.growing.Lock()
	defer v.growing.Unlock()
	was := v.info.Load()
	if was.Size >= size {
		return nil
	}
	if err := v.prepareObjects(v.objects(was.Size), v.objects(size)); err != nil {
		return fmt.Errorf("growing from %d to %d bytes: %w", was.Size, size, err)
	}
	is := *was
	is.Size = size
	v.info.Store(&is)
	return nil
}
