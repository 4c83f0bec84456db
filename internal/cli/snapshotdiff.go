package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/snapshot/stream"
)

// A diffing is one run of snapshot diff.
type diffing struct {
	env     *Env
	asJSON  bool
	out, in string
}

func (e *Env) snapshotDiff() *cobra.Command {
	d := &diffing{env: e}
	cmd := &cobra.Command{
		Use:   "diff EXPORT FROM [TO]",
		Short: "Show or carry away what differs between two snapshots",
		Long: "Prints offset and length, in bytes, of what differs between the snapshots FROM and\n" +
			"TO of EXPORT; without TO, between FROM and the disk now. What was written twice\n" +
			"counts as different.\n\n" +
			"With --export it writes the difference with its data to FILE, as a stream with\n" +
			"checksums, and with --import it applies one to DEVICE: a file, an NBD URI or an\n" +
			"expression that holds what FROM held then holds what TO held. An import that was\n" +
			"interrupted can be repeated. '-' is standard output or input.\n\n" +
			"Programs that make incremental backups find the same in the metadata contexts\n" +
			"strata:changed-since:NAME of EXPORT and of EXPORT@NAME.",
		Example: "  strata snapshot diff vm monday tuesday\n" +
			"  strata snapshot diff vm monday tuesday --export tuesday.diff\n" +
			"  strata snapshot diff --import tuesday.diff copy-of-monday.img",
	}
	cmd = e.onSnapshots(cmd, d.args, func(ctx context.Context, c *daemon.Client, args []string) error {
		switch {
		case d.in != "":
			return d.apply(ctx, args[0])
		case d.out != "":
			return d.send(ctx, c, args)
		}
		return d.print(ctx, c, args)
	})
	f := cmd.Flags()
	f.BoolVar(&d.asJSON, "json", false, "print JSON")
	f.StringVar(&d.out, "export", "", "write the difference with its data to `FILE`")
	f.StringVar(&d.in, "import", "", "apply the difference in `FILE` to the device that is the argument")
	return cmd
}

// args checks arguments and flags together.
func (d *diffing) args(cmd *cobra.Command, args []string) error {
	switch {
	case d.in != "" && (d.out != "" || d.asJSON):
		return usagef("--import cannot be combined with --export or --json")
	case d.out != "" && d.asJSON:
		return usagef("--export cannot be combined with --json")
	case d.in != "":
		return arguments(1, 1, "a device with --import")(cmd, args)
	case d.out != "":
		return arguments(3, 3, "an export and two snapshots with --export")(cmd, args)
	}
	return arguments(2, 3, "an export and one or two snapshots")(cmd, args)
}

func (d *diffing) print(ctx context.Context, c *daemon.Client, args []string) error {
	to := ""
	if len(args) == 3 {
		to = args[2]
	}
	type extent struct {
		Offset int64 `json:"offset"`
		Length int64 `json:"length"`
	}
	all := []extent{}
	for x, err := range c.Diff(ctx, args[0], args[1], to) {
		switch {
		case err != nil:
			return err
		case d.asJSON:
			all = append(all, extent{x.Off, x.Len})
			continue
		}
		if _, err := fmt.Fprintln(d.env.Stdout, x.Off, x.Len); err != nil {
			return err
		}
	}
	if d.asJSON {
		return writeJSON(d.env.Stdout, all)
	}
	return nil
}

func (d *diffing) send(ctx context.Context, c *daemon.Client, args []string) error {
	body, err := c.Stream(ctx, args[0], args[1], args[2])
	if err != nil {
		return err
	}
	defer body.Close()
	return d.env.toFile(d.out, func(w io.Writer) error {
		if err := stream.Verify(io.TeeReader(body, w)); err != nil {
			return fmt.Errorf("receiving the difference: %w", err)
		}
		return nil
	})
}

// toFile has f write to the file of that name, which is there if all went well,
// and as it was if not; - is standard output.
func (e *Env) toFile(name string, f func(io.Writer) error) (err error) {
	if name == "-" {
		return f(e.Stdout)
	}
	t, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		var at *os.PathError
		if errors.As(err, &at) {
			err = at.Err // the path is that of a file in the making
		}
		return fmt.Errorf("making %s: %w", name, err)
	}
	defer os.Remove(t.Name())
	if err = errors.Join(f(t), t.Sync()); err != nil {
		return errors.Join(err, t.Close())
	}
	return errors.Join(t.Close(), os.Rename(t.Name(), name))
}

// fromFile has f read the file of that name; - is standard input.
func (e *Env) fromFile(name string, f func(io.Reader) error) error {
	if name == "-" {
		return f(e.Stdin)
	}
	t, err := os.Open(name)
	if err != nil {
		return err
	}
	defer t.Close()
	return f(t)
}

func (d *diffing) apply(ctx context.Context, device string) error {
	return d.env.withDisks(ctx, []string{device}, []access{toWrite}, func(devs []block.Device) error {
		return d.env.fromFile(d.in, func(r io.Reader) error {
			_, err := stream.Apply(ctx, r, devs[0])
			return named(d.in, err)
		})
	})
}
