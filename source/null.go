package source

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// NullOptions configures Null.
type NullOptions struct {
	_    struct{} `doc:"A disk that reads as zeros and forgets what is written." long:"For measuring everything but the storage, and as a filler in concat."`
	Size int64    `name:"size" arg:"1" required:"true" unit:"bytes" doc:"Size of the disk."`
}

// Null returns a disk that reads as zeros and discards what is written to it.
// It is the one device that does not keep the contract of WriteAt.
func Null(ctx context.Context, o NullOptions) (block.Device, error) {
	if err := checkSize("null", o.Size); err != nil {
		return nil, err
	}
	return &null{plain{
		status: block.Hole | block.Zero,
		info: block.Info{
			Size:         o.Size,
			Trims:        true,
			FastZeros:    true,
			NativeFUA:    true,
			CheapExtents: true,
			NoWait:       true,
		},
	}}, nil
}

type null struct{ plain }

func (d *null) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.pass(d.info.CheckRead(off, len(p))); err != nil {
		return err
	}
	clear(p)
	return nil
}
