package nbd

import (
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

func TestClientConformsOverNBDKit(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		return dialTest(t, &Dialer{}, startPeer(t, "nbdkit", "-f", "-U", "SOCKET", "memory", "1M"))
	})
}
