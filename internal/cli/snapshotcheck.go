package cli

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/snapshot"
)

func (e *Env) snapshotCheck() *cobra.Command {
	return e.onSnapshots(&cobra.Command{
		Use:   "check EXPORT | STORE | ORIGIN STORE",
		Short: "Look for damage in a store",
		Long: "Reads all metadata of a store and prints what is wrong with them: of an EXPORT of\n" +
			"the running server, whose writes wait meanwhile, or of a STORE that no server has\n" +
			"open. With its ORIGIN it also finds out whether that is the origin, and whether\n" +
			"the store can be used. What the loss of power may leave is sound. It changes\n" +
			"nothing. The exit code is 1 if there is a problem.",
		Example: "  strata snapshot check vm\n" +
			"  strata snapshot check disk.snaps\n" +
			"  strata snapshot check disk.img disk.snaps",
	}, arguments(1, 2, "an export, a store, or an origin and a store"), func(ctx context.Context, c *daemon.Client, args []string) error {
		problems, err := e.problems(ctx, c, args)
		if err != nil {
			return err
		}
		what := args[len(args)-1]
		for _, p := range problems {
			fmt.Fprintf(e.Stdout, "%s: %s\n", what, p)
		}
		if len(problems) > 0 {
			return errSilent
		}
		_, err = fmt.Fprintf(e.Stdout, "%s: sound\n", what)
		return err
	})
}

func (e *Env) problems(ctx context.Context, c *daemon.Client, args []string) (problems []string, err error) {
	report := func(p error) { problems = append(problems, p.Error()) }
	if len(args) == 2 {
		err = e.withStore(ctx, args, func(s *snapshot.Set) error {
			// What cannot be loaded is checked as far as possible.
			loading := s.Resume(ctx)
			err := s.Check(ctx, report)
			if loading != nil && len(problems) == 0 {
				report(loading)
			}
			return err
		})
		return problems, err
	}
	isExport, err := e.isExport(ctx, c, args[0])
	switch {
	case err != nil:
		return nil, err
	case isExport:
		k, err := c.CheckSnapshots(ctx, args[0])
		return k.Problems, err
	}
	err = e.withDisks(ctx, args, []access{toRead}, func(d []block.Device) error {
		return named(args[0], snapshot.CheckStore(ctx, d[0], report))
	})
	return problems, err
}

// isExport tells whether arg is an export of the running server, or else a
// device. It is an error if it is neither.
func (e *Env) isExport(ctx context.Context, c *daemon.Client, arg string) (bool, error) {
	st, err := c.Status(ctx)
	if err == nil && slices.ContainsFunc(st.Exports, func(x daemon.ExportStatus) bool { return x.Name == arg }) {
		return true, nil
	}
	if _, missing := os.Stat(arg); missing == nil || isURI(arg) || !e.loader().IsPath(arg) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%q is no file, and as for exports: %w", arg, err)
	}
	return false, fmt.Errorf("%q is neither an export of the server nor a file", arg)
}
