package source

import (
	"context"
	"encoding/binary"

	"github.com/strata-storage/strata/block"
)

// PatternOptions configures Pattern.
type PatternOptions struct {
	_    struct{} `doc:"A read-only disk of which each 8 bytes hold their own offset." long:"The offset is a big-endian number, as in nbdkit's pattern plugin. A block that turns up in the wrong place shows where it came from."`
	Size int64    `name:"size" arg:"1" required:"true" unit:"bytes" doc:"Size of the disk."`
}

// Pattern returns a read-only disk on which the 8 bytes at each offset that is
// a multiple of 8 are that offset as a big-endian number. A last group that
// does not fit is cut off.
func Pattern(ctx context.Context, o PatternOptions) (block.Device, error) {
	if err := checkSize("pattern", o.Size); err != nil {
		return nil, err
	}
	return &pattern{plain{info: block.Info{
		Size:         o.Size,
		ReadOnly:     true,
		CheapExtents: true,
		NoWait:       true,
	}}}, nil
}

type pattern struct{ plain }

func (d *pattern) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.pass(d.info.CheckRead(off, len(p))); err != nil {
		return err
	}
	if skip := off % 8; skip != 0 {
		var group [8]byte
		binary.BigEndian.PutUint64(group[:], uint64(off-skip))
		n := copy(p, group[skip:])
		p, off = p[n:], off+int64(n)
	}
	for ; len(p) >= 8; p, off = p[8:], off+8 {
		binary.BigEndian.PutUint64(p, uint64(off))
	}
	if len(p) > 0 {
		var group [8]byte
		binary.BigEndian.PutUint64(group[:], uint64(off))
		copy(p, group[:])
	}
	return nil
}
