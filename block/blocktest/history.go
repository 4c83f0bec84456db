package blocktest

import (
	"context"
	"fmt"
	"strings"

	"github.com/strata-storage/strata/block"
)

// A History is a sequence of requests to one device. Its String is a script
// that Parse reads, with one operation a line:
//
//	write 4096 512 seed=7 fua
//	trim 0 65536
//	flush
//	read 4096 512
//	zero 1024 8192 nohole fastzero
//	extents 0 1048576
//
// Offsets and lengths are in bytes. Empty lines and what follows a # are
// ignored.
type History []Op

// String returns the history as a script.
func (h History) String() string {
	var b strings.Builder
	for _, op := range h {
		b.WriteString(op.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Parse reads a script. Its error names the line and what is wrong with it.
func Parse(script string) (History, error) {
	var h History
	n := 0
	for line := range strings.Lines(script) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		op, err := parseOp(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		h = append(h, op)
	}
	return h, nil
}

// Run carries out the history on dev, whose content at the beginning may be
// anything, and compares every answer, and at last the content, with what
// block.Device promises. It returns the first error: one that wraps ErrBroken
// if dev broke a promise, else one that dev reported.
func (h History) Run(ctx context.Context, dev block.Device) error {
	m := NewModel(dev.Info())
	if err := m.LearnHistory(ctx, dev, h); err != nil {
		return err
	}
	return m.Play(ctx, dev, h)
}

// LearnHistory learns what the operations of h will touch, and a little on
// both sides of it. Of very long ranges it learns the ends.
func (m *Model) LearnHistory(ctx context.Context, dev block.Device, h History) error {
	const margin, end = 4 << 10, 64 << 10
	for _, op := range h {
		if m.info.CheckRange(op.Off, op.Len) != nil {
			continue
		}
		from, to := max(0, op.Off-margin), min(op.Off+op.Len+margin, m.info.Size)
		if to-from < largeChange {
			if err := m.Learn(ctx, dev, from, to-from); err != nil {
				return err
			}
			continue
		}
		for _, at := range []int64{from, to - end} {
			if err := m.Learn(ctx, dev, at, end); err != nil {
				return err
			}
		}
	}
	return nil
}

// Play does the operations of h one after the other until one fails, then
// verifies.
func (m *Model) Play(ctx context.Context, dev block.Device, h History) error {
	for i, op := range h {
		if err := m.Do(ctx, dev, op); err != nil {
			return fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	return m.Verify(ctx, dev)
}

// playPart is LearnHistory and Play for a history that stays within the n
// bytes at base, of which nothing else is touched.
func (m *Model) playPart(ctx context.Context, dev block.Device, h History, base, n int64) error {
	for _, op := range h {
		from, to := max(base, op.Off-sectorSize), min(op.Off+op.Len+sectorSize, base+n)
		if op.Kind == Flush || to-from >= largeChange {
			continue
		}
		if err := m.Learn(ctx, dev, from, to-from); err != nil {
			return err
		}
	}
	return m.Play(ctx, dev, h)
}
