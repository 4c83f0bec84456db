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
	AddSource(r, "volume", source.Volume)
	AddSource(r, "exec", source.Exec, Private)

	AddLayers(r, "concat", layer.Concat)
	AddLayers(r, "stripe", layer.Stripe)
	addMirror(r)
	AddLayer(r, "slice", layer.Slice, OnViews)
	AddLayer(r, "cow", layer.Cow, ReadsBase)
	AddLayer(r, "readonly", layer.ReadOnly, OnViews)
	AddLayer(r, "cache", layer.Cache, OnViews)
	AddLayer(r, "blocksize", layer.BlockSize, OnViews)
	AddLayer(r, "throttle", layer.Throttle, Private, OnViews)
	AddLayer(r, "retry", layer.Retry, OnViews)
	AddLayer(r, "delay", layer.Delay, OnViews)
	AddLayer(r, "fault", layer.Fault, Private, OnViews)
	AddLayer(r, "log", layer.Log, Private, OnViews)
	AddLayer(r, "stats", layer.Stats, Private)
	addHook(r)
	addSnapshots(r)
	AddLayer(r, "view", layer.View)

	return r
}
