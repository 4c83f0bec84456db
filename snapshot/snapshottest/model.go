package snapshottest

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// sectorSize is the unit that a loss of power leaves whole.
const sectorSize = 512

// zeroSector is the content of a hole.
var zeroSector = string(make([]byte, sectorSize))

// A sector knows what it may hold, and what it may hold after a loss of power.
type sector struct{ now, durable []string }

// add returns set with s. Sets are not changed in place, as views share them.
func add(set []string, s string) []string {
	if slices.Contains(set, s) {
		return set
	}
	return append(slices.Clip(set), s)
}

// A disk is the model of a view.
type disk []sector

func newDisk(size int64) disk {
	d := make(disk, (size+sectorSize-1)/sectorSize)
	for i := range d {
		d[i] = sector{now: []string{zeroSector}, durable: []string{zeroSector}}
	}
	return d
}

// snapshot returns a durable copy.
func (d disk) snapshot() disk {
	c := slices.Clone(d)
	for i := range c {
		c[i].durable = c[i].now
	}
	return c
}

// merge makes d what it may be or x may be.
func (d disk) merge(x disk) {
	for i := range d {
		for _, s := range x[i].now {
			d[i].now = add(d[i].now, s)
			d[i].durable = add(d[i].durable, s)
		}
	}
}

// flush: what is, stays.
func (d disk) flush() {
	for i := range d {
		d[i].durable = d[i].now
	}
}

func (d disk) powerCut() {
	for i := range d {
		d[i].now = d[i].durable
	}
}

// change notes the effect of an operation. failed says that it may not have
// taken place.
func (d disk) change(op blocktest.Op, failed bool) {
	p := make([]byte, op.Len)
	if op.Kind == blocktest.Write {
		blocktest.Fill(p, op.Off, op.Seed)
	}
	maybe := failed || op.Kind == blocktest.Trim
	for i := range op.Len / sectorSize {
		s := &d[op.Off/sectorSize+i]
		now := string(p[i*sectorSize:][:sectorSize])
		switch {
		case maybe:
			s.now, s.durable = add(s.now, now), add(s.durable, now)
		case op.Flags&block.FUA != 0:
			s.now = []string{now}
			s.durable = s.now
		default:
			s.now, s.durable = []string{now}, add(s.durable, now)
		}
	}
}

// verify reads the view and compares.
func (d disk) verify(ctx context.Context, name string, dev block.Device) error {
	p := make([]byte, dev.Info().Size)
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	for i := range d {
		got := string(p[i*sectorSize:][:sectorSize])
		if !slices.Contains(d[i].now, got) {
			return fmt.Errorf("%s: sector %d: %w: it has %s, expected one of %s", name, i, blocktest.ErrBroken, describe(got), describeAll(d[i].now))
		}
	}
	return nil
}

// settle makes d what dev has, which verify has found to be possible.
func (d disk) settle(ctx context.Context, dev block.Device) error {
	p := make([]byte, dev.Info().Size)
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil {
		return err
	}
	for i := range d {
		if !slices.Contains(d[i].now, zeroSector) {
			d[i].now = []string{string(p[i*sectorSize:][:sectorSize])}
			d[i].durable = d[i].now
		}
	}
	return nil
}

func describe(s string) string {
	if s == zeroSector {
		return "zeros"
	}
	return fmt.Sprintf("%x", s[:6])
}

func describeAll(set []string) (all []string) {
	for _, s := range set {
		all = append(all, describe(s))
	}
	return all
}
