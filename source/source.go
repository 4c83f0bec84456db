// Package source holds the devices that have no device under them: files and
// block devices, memory, test patterns, remote NBD exports.
//
// Each source is one constructor, a function of a context and a struct of
// options. The context bounds the construction only; a device lives until it
// is closed. The package needs Linux.
package source

import (
	"fmt"

	"github.com/strata-storage/strata/block"
)

// checkSize reports whether size can be the size of the source called name.
func checkSize(name string, size int64) error {
	if size < 0 {
		return fmt.Errorf("%s: size %d is negative: %w", name, size, block.ErrInvalid)
	}
	return nil
}
