package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/copy"
	"github.com/strata-storage/strata/internal/cow"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) cow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cow",
		Short: "Work on the difference files of copy-on-write",
		Long: "Works on difference files, which hold what was written to cow(BASE, DIFF). No\n" +
			"server may use the files at the same time.",
		GroupID: groupUse,
	}
	onlyCommands(cmd)
	cmd.AddCommand(e.cowCommit(), e.cowRebase(), e.cowInfo())
	return cmd
}

func (e *Env) cowCommit() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use:   "commit BASE DIFF",
		Short: "Write the changes of a difference file to its base",
		Long: "Writes the changes in DIFF to BASE and empties DIFF, which then is the difference\n" +
			"file of BASE without any difference. Other difference files of BASE are of no use\n" +
			"any more. When it is interrupted nothing is lost: run it again.",
		Args: arguments(2, 2, "a base and a difference file"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			return e.withDisks(ctx, args, []access{toWrite, toWrite}, func(d []block.Device) error {
				return named(args[1], e.reported(form, "commit", func(p cow.Progress) error { return cow.Commit(ctx, d[0], d[1], p) }))
			})
		}),
	}
	progressFlag(cmd, &form)
	return cmd
}

func (e *Env) cowRebase() *cobra.Command {
	var form string
	var unchecked bool
	cmd := &cobra.Command{
		Use:   "rebase BASE DIFF NEXT",
		Short: "Make a difference file one of another base",
		Long: "Makes DIFF, the difference file of BASE, one of NEXT, so that NEXT with DIFF reads\n" +
			"as BASE with DIFF did: what differs between the two is copied to DIFF. With\n" +
			"--unchecked, where NEXT has the content of the base already because it is the\n" +
			"same one moved or copied, the base is not needed. When it is interrupted DIFF\n" +
			"still belongs to BASE: run it again.",
		Example: "  strata cow rebase old.img vm.cow new.img\n" +
			"  strata cow rebase --unchecked vm.cow /elsewhere/old.img",
		Args: func(cmd *cobra.Command, args []string) error {
			if unchecked {
				return arguments(2, 2, "a difference file and its next base with --unchecked")(cmd, args)
			}
			return arguments(3, 3, "a base, a difference file and its next base")(cmd, args)
		},
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			if unchecked {
				return e.withDisks(ctx, args, []access{toWrite, toRead}, func(d []block.Device) error {
					return named(args[0], cow.RebaseUnchecked(ctx, d[0], d[1]))
				})
			}
			return e.withDisks(ctx, args, []access{toRead, toWrite, toRead}, func(d []block.Device) error {
				return named(args[1], e.reported(form, "rebase", func(p cow.Progress) error { return cow.Rebase(ctx, d[0], d[1], d[2], p) }))
			})
		}),
	}
	cmd.Flags().BoolVar(&unchecked, "unchecked", false, "do not look at the base that it had")
	progressFlag(cmd, &form)
	return cmd
}

func (e *Env) cowInfo() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info DIFF",
		Short: "Tell about a difference file",
		Args:  arguments(1, 1, "one difference file"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			return e.withDisks(ctx, args, []access{toRead}, func(d []block.Device) error {
				s, err := cow.Stat(ctx, d[0])
				switch {
				case err != nil:
					return named(args[0], err)
				case asJSON:
					return writeJSON(e.Stdout, s)
				}
				writeStats(e.Stdout, s)
				return nil
			})
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// named is an error about a difference file, or nil.
func named(file string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", file, err)
}

func writeStats(w io.Writer, s cow.Stats) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("format version", "%d", s.Version)
	row("uuid", "%s", s.UUID)
	row("base", "%s, %s", units.Bytes(s.Size), s.Base)
	row("chunk", "%s", units.Bytes(s.Chunk))
	row("changed", "%s of data, %s of zeros", units.Bytes(s.Data), units.Bytes(s.Zero))
	row("commits", "%d", s.Commits)
	row("in use", "%s", yesNo(s.InUse))
	row("unfinished commit", "%s", yesNo(s.Merging))
}

// withDisks opens the disks that args name, each for its use, and closes them
// when f has returned.
func (e *Env) withDisks(ctx context.Context, args []string, to []access, f func([]block.Device) error) (err error) {
	var devs []block.Device
	for i, arg := range args {
		dev, err := e.openDevice(ctx, arg, 1, to[i])
		if err != nil {
			for _, d := range devs {
				d.Close()
			}
			return err
		}
		devs = append(devs, dev)
	}
	for i, dev := range devs {
		defer closing(dev, args[i], &err)
	}
	return f(devs)
}

// reported runs f and shows its progress.
func (e *Env) reported(form, what string, f func(cow.Progress) error) error {
	p := new(copy.Progress)
	r, err := e.report(form, what, 0, p)
	if err != nil {
		return err
	}
	err = f(func(done, total int64) {
		r.total.Store(total)
		p.Done.Store(done)
		p.Data.Store(done)
	})
	r.end(err)
	return err
}
