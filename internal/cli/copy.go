package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/copy"
	"github.com/strata-storage/strata/internal/units"
	"github.com/strata-storage/strata/nbd"
)

// A copying is one run of the command copy.
type copying struct {
	env      *Env
	src, dst string
	o        copy.Options
	request  string
	sparse   string
	conns    int
	verify   bool
	progress string

	created bool // dst is a file that this run has made
}

func (e *Env) copy() *cobra.Command {
	c := &copying{env: e}
	cmd := &cobra.Command{
		Use:   "copy SRC DST [flags]",
		Short: "Copy one disk to another",
		Long: "Copies a disk. SRC and DST are files, NBD URIs or expressions. A file that does\n" +
			"not exist is made in the size of the source; a copy that fails leaves no such\n" +
			"file behind. Any other destination must be large enough, and what lies behind\n" +
			"the copy is left alone. Holes are not read and zeros are not written. The copy is\n" +
			"on stable storage when the command ends with success. If the server of DST goes\n" +
			"away and comes back meanwhile, the copy is compared with SRC, and made again if\n" +
			"something is missing.",
		Example: "  strata copy nbd://localhost/vm vm.img\n" +
			"  strata copy vm.img 'nbds://backup/vm?tls-certificates=pki'\n" +
			"  strata copy 'concat(\"a.img\", \"b.img\")' whole.img",
		GroupID: groupUse,
		Args:    arguments(2, 2, "a source and a destination"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			c.src, c.dst = args[0], args[1]
			return c.run(ctx)
		}),
	}
	f := cmd.Flags()
	f.IntVar(&c.o.InFlight, "requests", copy.DefaultInFlight, "requests in flight")
	f.StringVar(&c.request, "request-size", units.Bytes(copy.DefaultRequest), "bytes in one request")
	f.StringVar(&c.sparse, "sparse", units.Bytes(copy.DefaultSparse), "shortest run of zeros that is not written, or off")
	f.IntVar(&c.conns, "connections", min(4, runtime.NumCPU()), "connections to each remote disk that allows several")
	f.Lookup("connections").DefValue = "one for each processor, up to 4" // the same text everywhere
	f.BoolVar(&c.o.Unflushed, "no-flush", false, "do not wait for stable storage")
	f.BoolVar(&c.verify, "verify", false, "read both and compare them afterwards")
	progressFlag(cmd, &c.progress)
	return cmd
}

func (c *copying) run(ctx context.Context) (err error) {
	if err := c.parse(); err != nil {
		return err
	}
	defer func() {
		if err != nil && c.created {
			os.Remove(c.dst)
		}
	}()
	src, err := c.env.openDevice(ctx, c.src, c.conns, toRead)
	if err != nil {
		return err
	}
	defer closing(src, "the source", &err)
	size := src.Info().Size
	if err := c.create(size); err != nil {
		return err
	}
	dst, err := c.env.openDevice(ctx, c.dst, c.conns, toWrite)
	if err != nil {
		return err
	}
	defer closing(dst, "the destination", &err)
	return c.transfer(ctx, dst, src)
}

// maxCopies bounds how often a copy is made for want of a server that stays.
const maxCopies = 5

// transfer copies. If the server of the destination went away meanwhile it
// looks whether all has arrived, and copies again if not: what a server has
// acknowledged and not yet made durable may go with it.
func (c *copying) transfer(ctx context.Context, dst, src block.Device) error {
	for try := 1; ; try++ {
		before := losses(dst)
		err := c.shown("copy", src, func() error { return c.move(ctx, dst, src) })
		lost := losses(dst) > before
		if err != nil || !lost && !c.verify {
			return err
		}
		err = c.shown("verify", src, func() error { return copy.Verify(ctx, dst, src, c.o) })
		var differs *copy.Difference
		if !lost || try == maxCopies || !errors.As(err, &differs) {
			return err
		}
	}
}

// losses is how many connections to a remote disk were lost so far.
func losses(dev block.Device) int64 {
	if c, ok := dev.(*nbd.Client); ok {
		return c.Losses()
	}
	return 0
}

// shown runs f, whose progress is shown.
func (c *copying) shown(what string, src block.Device, f func() error) error {
	c.o.Progress = new(copy.Progress)
	report, err := c.env.report(c.progress, what, src.Info().Size, c.o.Progress)
	if err != nil {
		return err
	}
	err = f()
	report.end(err)
	return err
}

func (c *copying) parse() error {
	switch {
	case c.o.InFlight < 1 || c.o.InFlight > copy.MaxInFlight:
		return usagef("--requests %d: want 1 to %d", c.o.InFlight, copy.MaxInFlight)
	case c.conns < 1 || c.conns > maxConns:
		return usagef("--connections %d: want 1 to %d", c.conns, maxConns)
	}
	n, err := units.ParseBytes(c.request)
	if err != nil || n > copy.MaxRequest {
		return usagef("--request-size %q: want a size up to %s", c.request, units.Bytes(copy.MaxRequest))
	}
	c.o.Request = int(n)
	if c.o.Sparse = -1; c.sparse != "off" {
		n, err := units.ParseBytes(c.sparse)
		if err != nil || n < 1 || n > copy.MaxRequest {
			return usagef("--sparse %q: want a size up to %s, or off", c.sparse, units.Bytes(copy.MaxRequest))
		}
		c.o.Sparse = int(n)
	}
	return nil
}

// create makes the destination if it is the path of a file that is missing.
func (c *copying) create(size int64) error {
	if isURI(c.dst) || !c.env.loader().IsPath(c.dst) {
		return nil
	}
	f, err := os.OpenFile(c.dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	c.created = true
	return errors.Join(f.Truncate(size), f.Close())
}

// move copies by the fastest way.
func (c *copying) move(ctx context.Context, dst, src block.Device) error {
	if c.bothFiles() {
		return c.moveFiles(ctx)
	}
	var err error
	if c.o.Zeroed, err = isZeroed(ctx, dst); err != nil {
		return fmt.Errorf("find the holes of the destination: %w", err)
	}
	return copy.Devices(ctx, dst, src, c.o)
}

// bothFiles reports whether the kernel can do it alone.
func (c *copying) bothFiles() bool {
	for _, arg := range []string{c.src, c.dst} {
		if isURI(arg) || !c.env.loader().IsPath(arg) {
			return false
		}
		if info, err := os.Stat(arg); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// moveFiles copies between files that are open and locked as devices.
func (c *copying) moveFiles(ctx context.Context) error {
	src, err := os.Open(c.src)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(c.dst, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dst.Close()
	c.o.Zeroed = c.created
	return copy.Files(ctx, dst, src, c.o)
}

// isZeroed reports whether dev knows that all of it reads as zeros.
func isZeroed(ctx context.Context, dev block.Device) (bool, error) {
	info := dev.Info()
	if !info.CheapExtents {
		return false, nil
	}
	for e, err := range dev.Extents(ctx, block.Allocation, 0, info.Size) {
		if err != nil || e.Status&block.Zero == 0 {
			return false, err
		}
	}
	return true, nil
}
