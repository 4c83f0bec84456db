package layer

import (
	"context"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/cow"
)

// A reopener puts a layer over the disks of a machine: it makes what the layer
// needs, and returns the function that opens the layer, now and after each
// power cut.
type reopener func(t *testing.T, m *blocktest.Machine) (open func() (block.Device, error))

// survivors are the layers that need more after a power cut than to be opened
// again, and those that wait before they give up.
var survivors = map[string]reopener{
	"cow":    reopenCow,
	"mirror": reopenMirror,
	"retry":  reopen(over(Retry, RetryOptions{Retries: 1, Delay: 1})),
}

// TestPowerCuts: what was flushed through a layer, or written with FUA, is on
// the disks under it when the power goes, at every moment.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	for name, m := range makers {
		again := survivors[name]
		if again == nil {
			again = reopen(m)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocktest.RunCuts(t, func(m *blocktest.Machine) func() (block.Device, error) { return again(t, m) })
		})
	}
}

// volatile is a disk that loses what was not flushed.
func volatile(m *blocktest.Machine) *blocktest.Disk {
	return m.Disk(block.Info{Size: 64 << 10, MinBlock: 512, NoWait: true})
}

// reopen makes a reopener of a layer that keeps nothing of its own.
func reopen(layer maker) reopener {
	return func(t *testing.T, m *blocktest.Machine) func() (block.Device, error) {
		var shelf []*blocktest.Disk
		return func() (block.Device, error) {
			i := 0
			return layer(t, func() block.Device {
				if i == len(shelf) {
					shelf = append(shelf, volatile(m))
				}
				i++
				return shelf[i-1].Open()
			}), nil
		}
	}
}

// reopenCow has the difference file on a disk of its own.
func reopenCow(t *testing.T, m *blocktest.Machine) func() (block.Device, error) {
	ctx := t.Context()
	base := volatile(m)
	size, err := cow.FileSize(64<<10, 4096)
	if err != nil {
		t.Fatal(err)
	}
	diff := m.Disk(block.Info{Size: size})
	if err := cow.Format(ctx, base.Open(), diff.Open(), 4096); err != nil {
		t.Fatal(err)
	}
	return func() (block.Device, error) {
		return openDiff(ctx, base.Open(), diff.Open(), CowOptions{Chunk: 4096})
	}
}

// reopenMirror makes the sides equal first, as the documentation of Mirror
// says: from a side that has not failed.
func reopenMirror(t *testing.T, m *blocktest.Machine) func() (block.Device, error) {
	shelf := []*blocktest.Disk{volatile(m), volatile(m)}
	var last block.Device
	return func() (block.Device, error) {
		if last != nil {
			good := 0
			for i, s := range MirrorSides(last) {
				if s.Err == nil {
					good = i
				}
			}
			if err := resync(t.Context(), shelf[1-good].Open(), shelf[good].Open()); err != nil {
				return nil, err
			}
		}
		dev, err := Mirror([]block.Device{shelf[0].Open(), shelf[1].Open()}, MirrorOptions{})
		last = dev
		return dev, err
	}
}

// resync copies all of from.
func resync(ctx context.Context, to, from block.Device) error {
	p := make([]byte, from.Info().Size)
	return errors.Join(from.ReadAt(ctx, p, 0, 0), to.WriteAt(ctx, p, 0, block.FUA))
}
