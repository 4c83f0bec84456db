package config_test

import (
	"context"
	"fmt"
	"os"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/nbd"
)

// CapOptions are the options of a layer of one's own.
type CapOptions struct {
	_    struct{} `doc:"Hides what lies behind the first bytes of a device."`
	Size int64    `name:"size" arg:"1" required:"true" unit:"bytes" doc:"How many bytes can be seen."`
}

// Cap is the layer.
func Cap(dev block.Device, o CapOptions) (block.Device, error) {
	if have := dev.Info().Size; o.Size > have {
		return nil, fmt.Errorf("%d bytes asked for, the device has %d", o.Size, have)
	}
	return block.FromReaderAt(readerAt{dev}, o.Size), nil
}

type readerAt struct{ dev block.Device }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	return len(p), r.dev.ReadAt(context.Background(), p, off, 0)
}

// A program adds a layer of its own to those of Strata.
func ExampleAddLayer() {
	registry := config.Builtin()
	config.AddLayer(registry, "cap", Cap)
	loader := config.Loader{Registry: registry}

	spec, err := loader.Eval(context.Background(), `cap(mem("1M"), "64K")`)
	if err != nil {
		fmt.Println(err)
		return
	}
	dev, err := spec.Open(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dev.Close()
	fmt.Println(spec, "has", dev.Info().Size, "bytes")

	_, err = loader.Eval(context.Background(), `cap(mem("1M"), sise="64K")`)
	fmt.Println(err)
	// Output:
	// cap(mem("1M"), "64K") has 65536 bytes
	// column 16 of 'cap(mem("1M"), sise="64K")': cap: unknown argument "sise"; did you mean "size"?
}

// A server serves what a configuration file says.
func ExampleSet() {
	ctx := context.Background()
	path := os.TempDir() + "/strata-example.star"
	if err := os.WriteFile(path, []byte(`export("disk", mem("1G"), max_connections = 4)`), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	defer os.Remove(path)

	var loader config.Loader
	cfg, err := loader.Load(ctx, path)
	if err != nil {
		fmt.Println(err)
		return
	}
	var set config.Set
	if _, err := set.Apply(ctx, cfg); err != nil {
		fmt.Println(err)
		return
	}
	server := nbd.Server{Exports: &set, Limits: cfg.Limits.Server()}
	// server.Serve(listener) in a goroutine; set.Apply again to reload.
	fmt.Print(cfg.Summary())
	fmt.Println(server.Shutdown(ctx), set.Close(ctx))
	// Output:
	// export   "disk" = mem("1G")
	//          at most 4 connections
	// <nil> <nil>
}
