package config

import (
	"context"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/layer"
)

// addMirror adds the layer mirror, which goes on without a side that fails.
// Nobody would know before the other one fails too, so it is an error in the
// log.
func addMirror(r *Registry) {
	AddLayers(r, "mirror", layer.Mirror, func(c *Constructor) { c.open = openMirror })
}

func openMirror(_ context.Context, o *opening) (block.Device, error) {
	failed := func(i int, err error) {
		o.log.Error("a side of a mirror has failed and is not used any more; make the sides equal with strata copy before the next start, which would use it again",
			"mirror", o.spec.String(), "side", o.spec.devs[i].String(), "number", i+1, "error", err)
	}
	return layer.Mirror(o.devs, layer.MirrorOptions{Failed: failed})
}
