package block

import "fmt"

// CheckRange reports whether a request for n bytes at off may be issued to a
// device with this Info: nil, or an error that wraps ErrRange or ErrInvalid
// and says what was wrong. It does not look at MaxBlock or ReadOnly.
func (i *Info) CheckRange(off, n int64) error {
	if off < 0 || n < 0 || off > i.Size || n > i.Size-off {
		return fmt.Errorf("%d bytes at offset %d, device has %d: %w", n, off, i.Size, ErrRange)
	}
	if m := int64(i.MinBlock); m > 1 && (off|n)&(m-1) != 0 {
		return fmt.Errorf("%d bytes at offset %d, must be multiples of %d: %w", n, off, m, ErrInvalid)
	}
	return nil
}

// CheckRead reports whether ReadAt with n bytes at off is allowed.
func (i *Info) CheckRead(off int64, n int) error {
	if i.MaxBlock > 0 && n > i.MaxBlock {
		return fmt.Errorf("%d bytes in one request, at most %d are allowed: %w", n, i.MaxBlock, ErrInvalid)
	}
	return i.CheckRange(off, int64(n))
}

// CheckWrite reports whether WriteAt with n bytes at off is allowed.
func (i *Info) CheckWrite(off int64, n int) error {
	if i.ReadOnly {
		return ErrReadOnly
	}
	return i.CheckRead(off, n)
}

// CheckChange reports whether Zero or Trim of n bytes at off is allowed.
func (i *Info) CheckChange(off, n int64) error {
	if i.ReadOnly {
		return ErrReadOnly
	}
	return i.CheckRange(off, n)
}
