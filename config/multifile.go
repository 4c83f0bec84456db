package config

import (
	"context"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/layer"
	"github.com/strata-storage/strata/source"
)

type multifileOptions struct {
	_        struct{} `doc:"Numbered files end to end: path.0, path.1 and so on." long:"The disk of nbd-server's multifile option. A number that is missing while there is a higher one is an error."`
	Path     string   `name:"path" arg:"1" required:"true" unit:"path" doc:"The path without the dot and the number."`
	ReadOnly bool     `name:"read_only" doc:"Open for reading only; several readers may share the files."`
	Direct   bool     `name:"direct" doc:"Bypass the page cache (O_DIRECT); requests must then be whole sectors."`
	Shared   bool     `name:"shared" doc:"Take no locks: something else makes sure that writers do not meet."`
	Sync     bool     `name:"sync" doc:"Make every write durable before it is answered."`
}

// multifile joins layer.Multifile, which finds the files, and source.File,
// which opens them.
func multifile(ctx context.Context, o multifileOptions) (block.Device, error) {
	return layer.Multifile(o.Path, func(path string) (block.Device, error) {
		return source.File(ctx, source.FileOptions{
			Path: path, ReadOnly: o.ReadOnly, Direct: o.Direct, Shared: o.Shared, Sync: o.Sync,
		})
	})
}
