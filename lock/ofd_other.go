//go:build !linux

package lock

import (
	"errors"
	"os"
)

func lockBytes(*os.File, int64, int64) (bool, error)   { return false, errors.ErrUnsupported }
func unlockBytes(*os.File, int64, int64) error         { return errors.ErrUnsupported }
func lockedBytes(*os.File, int64, int64) (bool, error) { return false, errors.ErrUnsupported }
