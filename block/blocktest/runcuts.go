package blocktest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
)

// RunCuts tests whether a device on the disks of a machine keeps the promises
// of Flush and FUA. It plays random histories and cuts the power at each of
// their writes, as EveryCut does, compares what is left with what may be left,
// and goes on using the device.
//
// create makes the disks and what must be on them, and returns the function
// that opens the device: the first time, and after each power cut. The tests
// close the device, or leave it behind without power.
func RunCuts(t *testing.T, create func(m *Machine) (open func() (block.Device, error))) {
	t.Helper()
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	for seed := range Times(seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			EveryCut(t, cutHistory(t.Context(), uint64(seed), create))
		})
	}
}

// cutHistory returns the setup of EveryCut for one random history.
func cutHistory(ctx context.Context, seed uint64, create func(m *Machine) (open func() (block.Device, error))) func(*Machine) (work, check func() error) {
	const length, after = 30, 5
	return func(m *Machine) (work, check func() error) {
		open := create(m)
		var model *Model
		var h History
		err := using(open, func(dev block.Device) error {
			model = NewModel(dev.Info())
			h = Generate(seed, dev.Info(), length+after)
			return errors.Join(model.LearnHistory(ctx, dev, h), dev.Flush(ctx))
		})
		work = func() error {
			if err != nil {
				return err
			}
			return using(open, func(dev block.Device) error { return model.Play(ctx, dev, h[:length]) })
		}
		check = func() error {
			err := using(open, func(dev block.Device) error {
				model.PowerCut()
				if err := model.Verify(ctx, dev); err != nil {
					return err
				}
				return model.Play(ctx, dev, h[length:])
			})
			if err != nil {
				return fmt.Errorf("%w\nThe power went during this history, or after it:\n%v", err, h[:length])
			}
			return nil
		}
		return work, check
	}
}

// using calls f with an open device.
func using(open func() (block.Device, error), f func(block.Device) error) error {
	dev, err := open()
	if err != nil {
		return err
	}
	return errors.Join(f(dev), dev.Close())
}
