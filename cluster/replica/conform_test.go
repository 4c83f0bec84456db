package replica

import (
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/disk"
)

// A volume of three copies is a device.
func TestConformance(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		r := newChance(1)
		v, _ := smallCluster(t, 3, func(trees disk.Trees) Disk {
			p := newPlatter(r)
			p.still = true
			return p.open(nil, trees)
		})
		return v
	})
}
