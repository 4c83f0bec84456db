package layer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/strata-storage/strata/block"
)

// A group is several devices that make one: what the layers over many devices
// have in common.
type group struct {
	// gate is entered by requests that go to more than one device, so that
	// Close does not come between their parts. Those that go to one device
	// are safe with its own promise.
	gate block.Gate
	info block.Info
	devs []block.Device
}

// init takes the devices and merges what they say of themselves; the size is
// left to the layer.
func (g *group) init(devs []block.Device) error {
	if len(devs) == 0 {
		return fmt.Errorf("no devices were given, at least one is needed: %w", block.ErrInvalid)
	}
	g.devs = slices.Clone(devs)
	infos := make([]block.Info, len(devs))
	for i, dev := range devs {
		infos[i] = dev.Info()
	}
	var err error
	g.info, err = mergeInfo(infos)
	return err
}

// mergeInfo says what several devices have in common, but for the size.
func mergeInfo(infos []block.Info) (block.Info, error) {
	m := infos[0]
	m.Size = 0
	m.Contexts = slices.Clone(m.Contexts)
	preferred := preferredBlock(&m)
	for _, i := range infos[1:] {
		m.MinBlock = max(m.MinBlock, i.MinBlock)
		preferred = max(preferred, preferredBlock(&i))
		if m.MaxBlock == 0 || i.MaxBlock > 0 && i.MaxBlock < m.MaxBlock {
			m.MaxBlock = i.MaxBlock
		}
		m.ReadOnly = m.ReadOnly || i.ReadOnly
		m.Rotational = m.Rotational || i.Rotational
		m.Trims = m.Trims || i.Trims
		m.FastZeros = m.FastZeros && i.FastZeros
		m.NativeFUA = m.NativeFUA && i.NativeFUA
		m.CheapExtents = m.CheapExtents && i.CheapExtents
		m.NoWait = m.NoWait && i.NoWait
		m.Contexts = slices.DeleteFunc(m.Contexts, func(mc string) bool {
			return !slices.Contains(i.Contexts, mc)
		})
	}
	m.PreferredBlock = max(preferred, m.MinBlock)
	if m.MaxBlock > 0 && m.MinBlock > 1 {
		if m.MaxBlock < m.MinBlock {
			return m, fmt.Errorf("one device takes at most %d bytes in a request and another one at least %d; "+
				"put a blocksize layer over one of them: %w", m.MaxBlock, m.MinBlock, block.ErrInvalid)
		}
		m.MaxBlock -= m.MaxBlock % m.MinBlock
	}
	return m, nil
}

func preferredBlock(i *block.Info) int {
	if i.PreferredBlock == 0 {
		return max(4096, i.MinBlock)
	}
	return i.PreferredBlock
}

// smallest is the size of the smallest device of the group.
func (g *group) smallest() int64 {
	size := g.devs[0].Info().Size
	for _, dev := range g.devs[1:] {
		size = min(size, dev.Info().Size)
	}
	return size
}

func (g *group) Info() block.Info { return g.info }

// Flush flushes every device.
func (g *group) Flush(ctx context.Context) error {
	if err := g.gate.Enter(); err != nil {
		return err
	}
	defer g.gate.Leave()
	s := newScatter(ctx, OpFlush, nil, 0)
	defer s.free()
	s.all = true
	for i, dev := range g.devs {
		s.parts = append(s.parts, part{dev: dev, member: i})
	}
	i, err := s.run()
	return g.memberError(i, err)
}

func (g *group) Close() error {
	if err := g.gate.Close(); err != nil {
		return err
	}
	var errs []error
	for i, dev := range g.devs {
		errs = append(errs, g.memberError(i, dev.Close()))
	}
	return errors.Join(errs...)
}

// refuse returns err, the reason against a request, unless the group is
// closed, which is a better one.
func (g *group) refuse(err error) error {
	if closed := g.gate.Enter(); closed != nil {
		return closed
	}
	g.gate.Leave()
	return err
}

// checkExtents is Info.CheckExtents that knows the contexts of the group.
func (g *group) checkExtents(mc string, off, n int64) error {
	if slices.Contains(g.info.Contexts, mc) {
		mc = block.Allocation
	}
	if err := g.info.CheckExtents(mc, off, n); err != nil {
		return g.refuse(err)
	}
	return g.refuse(nil)
}

// memberError says which device failed. What is no fault stays as it is.
func (g *group) memberError(i int, err error) error {
	if err == nil || err == block.ErrWouldBlock || err == block.ErrNotSupported {
		return err
	}
	return fmt.Errorf("device %d of %d: %w", i+1, len(g.devs), err)
}

// memberExtents is the extents of a range of device i, moved by delta.
func (g *group) memberExtents(ctx context.Context, mc string, i int, off, n, delta int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		for e, err := range g.devs[i].Extents(ctx, mc, off, n) {
			e.Off += delta
			if !yield(e, g.memberError(i, err)) || err != nil {
				return
			}
		}
	}
}
