package replica

import (
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
)

// A readyDisk has everything in memory.
type readyDisk struct{ nullDisk }

func (readyDisk) ReadNow(disk.At, []byte, int64) bool                  { return true }
func (readyDisk) WriteNow(disk.At, []byte, int64) (done bool, _ error) { return true, nil }

// Who must not wait is given short reads; long ones are left to several processors.
func TestReadNowIsShort(t *testing.T) {
	t.Parallel()
	v, _ := smallCluster(t, 1, func(disk.Trees) Disk { return readyDisk{} })
	v.c.ObjectSize = 4 * maxReadNow // of which the disk knows nothing
	if err := v.ReadAt(t.Context(), make([]byte, disk.BlockSize), 0, 0); err != nil {
		t.Fatal(err) // there is a session from now on
	}
	for _, tt := range []struct {
		size int
		want error
	}{{disk.BlockSize, nil}, {maxReadNow, nil}, {maxReadNow + disk.BlockSize, block.ErrWouldBlock}, {2 * maxReadNow, block.ErrWouldBlock}} {
		if err := v.ReadAt(t.Context(), make([]byte, tt.size), 0, block.NoWait); !errors.Is(err, tt.want) {
			t.Errorf("%d bytes: %v, expected %v", tt.size, err, tt.want)
		}
		if err := v.ReadAt(t.Context(), make([]byte, tt.size), 0, 0); err != nil {
			t.Errorf("%d bytes, waiting: %v", tt.size, err)
		}
	}
}
