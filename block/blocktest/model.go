package blocktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/strata-storage/strata/block"
)

// ErrBroken is wrapped by the errors of this package that say that a device
// broke a promise of block.Device, as opposed to the errors that a device
// reported about a request.
var ErrBroken = errors.New("device breaks its contract")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBroken, fmt.Errorf(format, args...))
}

// A Model knows what a device may answer: it carries out requests on the
// device and compares the answers with what block.Device promises. A sector
// that was trimmed may hold its old bytes or zeros; one whose write failed may
// hold the old bytes or the new ones; a sector that the model has not seen may
// hold anything.
//
// A model must know of every change of the sectors it knows. It may be used by
// one goroutine at a time. Several models may share a device whose sectors
// they divide among them.
type Model struct {
	info    block.Info
	sectors map[int64]*sector
	// large are the changes that were too large to be noted at each sector.
	// They apply to the sectors that are not in the map.
	large []change
	// lossy: changes may have no effect.
	lossy bool
}

// change is the effect of a write, zero or trim.
type change struct {
	off, n int64
	// data are the bytes stored at off, nil for zeros.
	data []byte
	// sure: the change has taken place; otherwise each sector may hold what
	// it held before.
	sure bool
	// durable: the change has reached stable storage.
	durable bool
}

// largeChange is the length in bytes from which changes are kept in
// Model.large.
const largeChange = 4 << 20

// NewModel returns a model of a device with this Info of which nothing is
// known yet.
func NewModel(info block.Info) *Model {
	return &Model{info: info, sectors: make(map[int64]*sector)}
}

// Learn reads the sectors that overlap the n bytes at off and takes them for
// the content of dev, durable, unless they are known. Call it before the
// sectors are changed.
func (m *Model) Learn(ctx context.Context, dev block.Device, off, n int64) error {
	unit := max(sectorSize, int64(m.info.MinBlock))
	end := min(off+n, m.info.Size)
	for at := off &^ (unit - 1); at < end; {
		to := at
		for to < end && to-at < 64<<10 && m.sectors[to/sectorSize] == nil && !m.changed(to, unit) {
			to += unit
		}
		if to == at {
			at += unit
			continue
		}
		p := make([]byte, min(to, m.info.Size)-at)
		if err := readAll(ctx, dev, p, at); err != nil {
			return fmt.Errorf("learning the content: %w", err)
		}
		m.learned(p, at)
		at = to
	}
	return nil
}

// learned notes that p, read at off, is the content.
func (m *Model) learned(p []byte, off int64) {
	for i := int64(0); i < int64(len(p)); i += sectorSize {
		known := choice{images: [][]byte{p[i:min(i+sectorSize, int64(len(p)))]}}
		m.sectors[(off+i)/sectorSize] = &sector{now: known, lasting: known}
	}
}

// changed reports whether a large change touched the range.
func (m *Model) changed(off, n int64) bool {
	return slices.ContainsFunc(m.large, func(c change) bool {
		return c.off < off+n && off < c.off+c.n
	})
}

// note records a change.
func (m *Model) note(c change) {
	if m.lossy {
		c.sure, c.durable = false, false
	}
	if c.n < largeChange {
		for i := c.off / sectorSize; i*sectorSize < c.off+c.n; i++ {
			m.apply(m.at(i), i, c)
		}
		return
	}
	for i, s := range m.sectors {
		if i*sectorSize < c.off+c.n && c.off < (i+1)*sectorSize {
			m.apply(s, i, c)
		}
	}
	m.large = append(m.large, c)
}

// at returns the sector with this number.
func (m *Model) at(i int64) *sector {
	s := m.sectors[i]
	if s == nil {
		s = &sector{now: choice{any: true}, lasting: choice{any: true}}
		for _, c := range m.large {
			if i*sectorSize < c.off+c.n && c.off < (i+1)*sectorSize {
				m.apply(s, i, c)
			}
		}
		m.sectors[i] = s
	}
	return s
}

// apply makes c happen to s, which has the number i.
func (m *Model) apply(s *sector, i int64, c change) {
	start := i * sectorSize
	size := int(min(sectorSize, m.info.Size-start))
	from := max(c.off, start)
	to := min(c.off+c.n, start+int64(size))
	p := zeroSector[:to-from]
	if c.data != nil {
		p = c.data[from-c.off : to-c.off]
	}
	at := int(from - start)
	switch {
	case !c.sure:
		s.now.may(p, at, size)
		s.lasting.join(&s.now)
	case c.durable:
		s.now.put(p, at, size)
		s.lasting.put(p, at, size)
	default:
		s.now.put(p, at, size)
		s.lasting.join(&s.now)
	}
}

var zeroSector [sectorSize]byte

// PowerCut says that the power of everything under the device was cut: each
// sector holds now what it held at the last flush or what was written to it
// since.
func (m *Model) PowerCut() {
	for _, s := range m.sectors {
		s.now = s.lasting
	}
	for i := range m.large {
		m.large[i].sure = m.large[i].sure && m.large[i].durable
	}
}

// flushed says that a flush has returned nil.
func (m *Model) flushed() {
	for _, s := range m.sectors {
		s.lasting = s.now
	}
	for i := range m.large {
		m.large[i].durable = true
	}
}

// check compares what a read of the bytes at off returned with what it may
// return.
func (m *Model) check(p []byte, off int64) error {
	for len(p) > 0 {
		i := off / sectorSize
		from := int(off - i*sectorSize)
		k := min(sectorSize-from, len(p))
		if s := m.at(i); !s.now.allows(p[:k], from) {
			return wrongBytes(p[:k], off, &s.now, from)
		}
		p, off = p[k:], off+int64(k)
	}
	return nil
}

// Verify reads every sector that the model knows and compares.
func (m *Model) Verify(ctx context.Context, dev block.Device) error {
	known := slices.Sorted(maps.Keys(m.sectors))
	unit := max(1, int64(m.info.MinBlock)/sectorSize)
	for k := 0; k < len(known); {
		first := known[k] &^ (unit - 1)
		last := first
		for ; k < len(known) && known[k] < last+unit && last-first < 128; k++ {
			last = max(last, known[k]+1)
		}
		off := first * sectorSize
		end := min((last+unit-1)&^(unit-1)*sectorSize, m.info.Size)
		p := make([]byte, end-off)
		if err := readAll(ctx, dev, p, off); err != nil {
			return err
		}
		if err := m.check(p, off); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads ranges longer than MaxBlock too.
func readAll(ctx context.Context, dev block.Device, p []byte, off int64) error {
	for len(p) > 0 {
		k := len(p)
		if limit := dev.Info().MaxBlock; limit > 0 {
			k = min(k, limit)
		}
		if err := dev.ReadAt(ctx, p[:k], off, 0); err != nil {
			return fmt.Errorf("read %d %d: %w", off, k, err)
		}
		p, off = p[k:], off+int64(k)
	}
	return nil
}
