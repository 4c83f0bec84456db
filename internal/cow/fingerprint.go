package cow

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/strata-storage/strata/block"
)

// A Fingerprint tells bases apart. It is made of a sample of the content, so
// that it costs little, and so that most but not all changes of a base are
// noticed: those where file systems and partition tables keep what they change
// whenever they are used.
type Fingerprint [sha256.Size]byte

// String returns the beginning of the fingerprint in hexadecimal digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:8]) }

const (
	// sampleSize is the length of a sample in bytes, samples their number.
	sampleSize = 64 << 10
	samples    = 16
)

// fingerprint takes samples at the beginning, at 1 MiB where the first
// partition mostly is, and at even distances up to the end, and returns the
// SHA-256 sum of the size and of each sample with its offset.
func fingerprint(ctx context.Context, base block.Device) (Fingerprint, error) {
	size := base.Info().Size
	h := sha256.New()
	var number [8]byte
	note := func(n int64) {
		binary.LittleEndian.PutUint64(number[:], uint64(n))
		h.Write(number[:])
	}
	note(size)
	p := make([]byte, sampleSize)
	last := int64(-1)
	for k := range int64(samples) {
		off := (size / (samples - 1) * k) &^ (sampleSize - 1)
		if k == samples-1 {
			off = max(size-1, 0) &^ (sampleSize - 1)
		}
		if k == 1 {
			off = min(off, 1<<20)
		}
		if off <= last {
			continue
		}
		last = off
		q := p[:min(sampleSize, size-off)]
		if err := base.ReadAt(ctx, q, off, 0); err != nil {
			return Fingerprint{}, err
		}
		note(off)
		h.Write(q)
	}
	return Fingerprint(h.Sum(nil)), nil
}
