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
	AddSource(r, "nbd", source.NBD)
	AddSource(r, "exec", source.Exec, Private)

	AddLayers(r, "concat", layer.Concat)
	AddLayers(r, "stripe", layer.Stripe)
	addMirror(r)
	AddLayer(r, "slice", layer.Slice)
	AddLayer(r, "cow", layer.Cow, ReadsBase)
	AddLayer(r, "readonly", layer.ReadOnly)
	AddLayer(r, "cache", layer.Cache)
	AddLayer(r, "blocksize", layer.BlockSize)
	AddLayer(r, "throttle", layer.Throttle, Private)
	AddLayer(r, "retry", layer.Retry)
	AddLayer(r, "delay", layer.Delay)
	AddLayer(r, "fault", layer.Fault, Private)
	AddLayer(r, "log", layer.Log, Private)
	AddLayer(r, "stats", layer.Stats, Private)
	addHook(r)

	return r
}
