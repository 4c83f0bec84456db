package block

import "context"

// WriteZeros zeroes a range of dev by writing zeros: the way out for a device
// that has no better one. It passes FUA on and answers FastZero with
// ErrNotSupported.
func WriteZeros(ctx context.Context, dev Device, off, n int64, flags Flags) error {
	info := dev.Info()
	if err := info.CheckChange(off, n); err != nil {
		return err
	}
	if flags&FastZero != 0 {
		return ErrNotSupported
	}
	step := int64(len(zeros))
	if info.MaxBlock > 0 && step > int64(info.MaxBlock) {
		step = int64(info.MaxBlock)
	}
	for n > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		k := min(n, step)
		if err := dev.WriteAt(ctx, zeros[:k], off, flags&FUA); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// zeros is shared by every caller; WriteAt never modifies its buffer.
var zeros [256 << 10]byte

// IsZero reports whether p holds nothing but zeros.
func IsZero(p []byte) bool {
	for len(p) > len(zeros) {
		if string(p[:len(zeros)]) != string(zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return string(p) == string(zeros[:len(p)])
}
