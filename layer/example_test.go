package layer_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/layer"
)

// upper is a layer of one's own: it embeds block.Pass and replaces one method.
// It never waits, so it leaves Info().NoWait as it is.
type upper struct{ block.Pass }

func (u upper) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := u.Device.ReadAt(ctx, p, off, flags); err != nil {
		return err
	}
	copy(p, bytes.ToUpper(p))
	return nil
}

// A layer of one's own is a small type that embeds block.Pass.
func Example_layerOfOnesOwn() {
	dev := upper{block.Pass{Device: block.FromBytes([]byte("hello, world"))}}
	defer dev.Close()

	p := make([]byte, dev.Info().Size)
	if err := dev.ReadAt(context.Background(), p, 0, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", p)
	// Output: HELLO, WORLD
}

// A function before writes keeps clients away from the first sector.
func ExampleHook_before() {
	dev, err := layer.Hook(block.FromBytes(make([]byte, 4096)), layer.Hooks{
		Ops: []layer.Op{layer.OpWrite, layer.OpZero, layer.OpTrim},
		Before: func(ctx context.Context, r *layer.Request) error {
			if r.Off < 512 && r.Len > 0 {
				return fmt.Errorf("%s may not %v the boot sector: %w", block.CallerOf(ctx).Peer, r.Op, block.ErrPermission)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	ctx := block.WithCaller(context.Background(), &block.Caller{Export: "vm", Peer: "10.0.0.7"})
	fmt.Println(dev.WriteAt(ctx, make([]byte, 512), 512, 0))
	fmt.Println(dev.Zero(ctx, 0, 4096, 0))
	// Output:
	// <nil>
	// 10.0.0.7 may not zero the boot sector: operation not permitted
}

// A function after requests sees how they ended, here to tell people.
func ExampleHook_after() {
	full, err := layer.Fault(block.FromBytes(make([]byte, 4096)), layer.FaultOptions{Ops: []string{"write"}, Error: "ENOSPC"})
	if err != nil {
		log.Fatal(err)
	}
	dev, err := layer.Hook(full, layer.Hooks{
		After: func(_ context.Context, r *layer.Request, err error) error {
			fmt.Printf("%v of %d bytes: %v\n", r.Op, r.Len, err)
			return err
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	_ = dev.ReadAt(context.Background(), make([]byte, 512), 0, 0)
	_ = dev.WriteAt(context.Background(), make([]byte, 512), 0, 0)
	// Output:
	// read of 512 bytes: <nil>
	// write of 512 bytes: injected into a write of 512 bytes at 0: no space left on device
}

// A function in place of writes turns blocks of zeros into holes.
func ExampleHook_replace() {
	disk := block.FromBytes(make([]byte, 8192))
	dev, err := layer.Hook(disk, layer.Hooks{
		Ops: []layer.Op{layer.OpWrite},
		Replace: func(ctx context.Context, r *layer.Request, next func(context.Context) error) error {
			if block.IsZero(r.Data) {
				fmt.Println("zero", r.Off, r.Len)
				return disk.Zero(ctx, r.Off, r.Len, r.Flags)
			}
			fmt.Println("write", r.Off, r.Len)
			return next(ctx)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	ctx := context.Background()
	_ = dev.WriteAt(ctx, make([]byte, 4096), 0, 0)
	_ = dev.WriteAt(ctx, []byte("data"), 4096, 0)
	// Output:
	// zero 0 4096
	// write 4096 4
}

// Writes beyond a border go to a second disk. A flush reaches both.
func ExampleHook_redirect() {
	first, second := make([]byte, 4096), make([]byte, 4096)
	beyond := block.FromBytes(second)
	dev, err := layer.Hook(block.FromBytes(first), layer.Hooks{
		Devices: []block.Device{beyond},
		Before: func(_ context.Context, r *layer.Request) error {
			if r.Op != layer.OpFlush && r.Off >= 2048 {
				r.Device = beyond
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	ctx := context.Background()
	_ = dev.WriteAt(ctx, []byte("low"), 0, 0)
	_ = dev.WriteAt(ctx, []byte("high"), 2048, 0)
	fmt.Printf("%q %q\n", first[:3], second[2048:2052])
	// Output: "low" "high"
}

// Layers are functions from devices to devices, and stack.
func Example_stack() {
	dev := block.FromBytes(make([]byte, 1<<20))
	dev, err := layer.Fault(dev, layer.FaultOptions{Ops: []string{"read"}, Every: 2})
	if err != nil {
		log.Fatal(err)
	}
	if dev, err = layer.Retry(dev, layer.RetryOptions{Delay: 1}); err != nil {
		log.Fatal(err)
	}
	if dev, err = layer.Stats(dev, layer.StatsOptions{}); err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	for range 3 {
		fmt.Println(dev.ReadAt(context.Background(), make([]byte, 512), 0, 0))
	}
	s := dev.(layer.Meter).Statistics().Ops[layer.OpRead]
	fmt.Println(s.Requests, "requests,", s.Errors, "errors,", s.Bytes, "bytes")
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// 3 requests, 0 errors, 1536 bytes
}
