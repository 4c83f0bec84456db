package source

import (
	"sync"
	"unsafe"
)

// bounceSize is the size in bytes of the buffers that take the place of those
// that direct I/O does not accept, a multiple of every alignment.
const bounceSize = 256 << 10

// An aligner serves direct I/O from and to buffers that are not aligned in
// memory, through buffers that are.
type aligner struct {
	align uintptr // of memory, a power of two
	pool  sync.Pool
}

func newAligner(align int) *aligner {
	a := &aligner{align: uintptr(align)}
	a.pool.New = func() any {
		raw := make([]byte, bounceSize+align)
		skip := -uintptr(unsafe.Pointer(&raw[0])) & (a.align - 1)
		p := (*[bounceSize]byte)(raw[skip:])
		return p
	}
	return a
}

// fits reports whether p can be used as it is.
func (a *aligner) fits(p []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))&(a.align-1) == 0
}

func (a *aligner) read(p []byte, off int64, get func([]byte, int64) error) error {
	buf := a.pool.Get().(*[bounceSize]byte)
	defer a.pool.Put(buf)
	for len(p) > 0 {
		n := min(len(p), bounceSize)
		if err := get(buf[:n], off); err != nil {
			return err
		}
		copy(p, buf[:n])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (a *aligner) write(p []byte, off int64, put func([]byte, int64) error) error {
	buf := a.pool.Get().(*[bounceSize]byte)
	defer a.pool.Put(buf)
	for len(p) > 0 {
		n := copy(buf[:], p)
		if err := put(buf[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
