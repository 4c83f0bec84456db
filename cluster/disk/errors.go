package disk

import (
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// The errors of disks, beside those of package block.
var (
	// ErrRot: the slab does not return what was written there.
	ErrRot error = &meaning{"rot: the content does not have its checksum", block.ErrIO}
	// ErrUnfinished: the block was being overwritten when the power failed or
	// the slab returned an error. Each sector has its old or its new content.
	ErrUnfinished error = &meaning{"unfinished write: the content does not have its checksum", block.ErrIO}
	// ErrVersion: the version does not exist, or cannot be written because it
	// is doomed or has children.
	ErrVersion error = &meaning{"wrong version", block.ErrInvalid}
	// ErrFailed: the metadata of the disk could not be stored or read. Nothing
	// works any more; the disk has to be opened again.
	ErrFailed error = &meaning{"the disk has failed", block.ErrIO}
	// ErrForeign: slab and metadata do not belong together, or are no disk.
	ErrForeign = errors.New("not a disk of a cluster")
	// ErrDamaged: the metadata contradict themselves.
	ErrDamaged error = &meaning{"damaged metadata", block.ErrIO}
)

// meaning is an error with a text of its own and the meaning of another.
type meaning struct {
	text string
	is   error
}

func (e *meaning) Error() string { return e.text }
func (e *meaning) Unwrap() error { return e.is }

// A BlockError says what is wrong with one block.
type BlockError struct {
	Object Object
	// Version is the one that the block belongs to: the one that was read, or
	// an ancestor.
	Version uint64
	// Block counts from the beginning of the object.
	Block uint32
	// Sum is the checksum that the block should have.
	Sum uint32
	// Err is ErrRot, ErrUnfinished, or the error of the slab.
	Err error
}

// Error names the block.
func (e *BlockError) Error() string {
	return fmt.Sprintf("block %d of version %d of object %v: %v", e.Block, e.Version, e.Object, e.Err)
}

// Unwrap returns Err.
func (e *BlockError) Unwrap() error { return e.Err }

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}
