package blocktest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// A history is a script that runs on any device.
func ExampleHistory() {
	h, err := blocktest.Parse(`
		write 4096 1024 seed=7 fua
		zero  4608 512
		flush
		read  4096 1024
	`)
	if err != nil {
		fmt.Println(err)
		return
	}
	dev := block.FromBytes(make([]byte, 1<<20))
	fmt.Println(h.Run(context.Background(), dev))
	fmt.Print(h)
	// Output:
	// <nil>
	// write 4096 1024 seed=7 fua
	// zero 4608 512
	// flush
	// read 4096 1024
}

// Cutting the power at every write of a store, here one that has a counter in
// its first sector. What was flushed must be there after the restart.
func ExampleEveryCut() {
	test := func(t *testing.T) {
		ctx := t.Context()
		blocktest.EveryCut(t, func(m *blocktest.Machine) (work, check func() error) {
			disk := m.Disk(block.Info{Size: 1 << 20})
			flushed := byte(0)
			work = func() error {
				store := disk.Open()
				for i := byte(1); i <= 10; i++ {
					if err := store.WriteAt(ctx, []byte{i}, 0, 0); err != nil {
						return err
					}
					if err := store.Flush(ctx); err != nil {
						return err
					}
					flushed = i
				}
				return store.Close()
			}
			check = func() error {
				var got [1]byte
				if err := disk.Open().ReadAt(ctx, got[:], 0, 0); err != nil {
					return err
				}
				if got[0] < flushed {
					return fmt.Errorf("the counter is %d, but %d was flushed", got[0], flushed)
				}
				return nil
			}
			return work, check
		})
	}
	_ = test // A test function in a file of yours.
}
