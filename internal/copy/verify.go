package copy

import (
	"bytes"
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// A Difference is where two devices that should be equal are not.
type Difference struct {
	// Off is the offset of the first byte that differs in one request, not
	// necessarily the first of all.
	Off int64
}

func (d *Difference) Error() string {
	return fmt.Sprintf("the copy differs from the source at offset %d", d.Off)
}

// Verify reads both devices and returns a *Difference if the beginning of dst
// is not equal to src. What src reports as zero is compared with zeros.
func Verify(ctx context.Context, dst, src block.Device, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	to, from := dst.Info(), src.Info()
	if to.Size < from.Size {
		return fmt.Errorf("%w: it has %d bytes, the source %d", ErrTooSmall, to.Size, from.Size)
	}
	v := &verifier{dst: dst, src: src, from: from, to: to, o: o, limits: limitsOf(from, to, o.Request)}
	return v.limits.run(ctx, src, o.InFlight, 2*v.limits.request, v.piece)
}

type verifier struct {
	dst, src block.Device
	from, to block.Info
	o        Options
	limits   limits
}

// piece compares one piece; buf has room for both sides of a request.
func (v *verifier) piece(ctx context.Context, p piece, buf []byte) error {
	for end := p.off + p.n; p.off < end; p.off += p.n {
		p.n = min(v.limits.request, end-p.off)
		if err := v.request(ctx, p, buf[:p.n], buf[v.limits.request:][:p.n]); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) request(ctx context.Context, p piece, want, got []byte) error {
	if p.zero {
		clear(want)
	} else if err := v.limits.read(ctx, v.src, v.from, want, p.off); err != nil {
		return fmt.Errorf("read %d bytes at offset %d of the source: %w", p.n, p.off, err)
	}
	if err := v.limits.read(ctx, v.dst, v.to, got, p.off); err != nil {
		return fmt.Errorf("read %d bytes at offset %d of the destination: %w", p.n, p.off, err)
	}
	n := min(p.n, v.from.Size-p.off) // without the padding
	want, got = want[:n], got[:n]
	if !bytes.Equal(want, got) {
		i := 0
		for want[i] == got[i] {
			i++
		}
		return &Difference{p.off + int64(i)}
	}
	v.o.Progress.Done.Add(n)
	return nil
}
