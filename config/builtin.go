package config

import (
	"github.com/strata-storage/strata/layer"
	"github.com/strata-storage/strata/source"
)

// Builtin returns the table of Strata's own constructors. Each call returns a
// new one, to which the caller may add.
func Builtin() *Registry {
	r := &Registry{}

	AddSource(r, "file", source.File)
	AddSource(r, "multifile", multifile)
	AddSource(r, "mem", source.Mem, Private)
	AddSource(r, "null", source.Null)
	AddSource(r, "pattern", source.Pattern)

	AddLayers(r, "concat", layer.Concat)
	AddLayers(r, "stripe", layer.Stripe)
	AddLayer(r, "slice", layer.Slice)
	AddLayer(r, "readonly", layer.ReadOnly)
	addHook(r)

	return r
}
