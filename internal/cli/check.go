package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/cow"
)

func (e *Env) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check DIFF",
		Short: "Look for damage in a difference file",
		Long: "Reads all of a difference file but its data, which have no checksums, and prints\n" +
			"what is wrong with it. What the loss of power may leave is sound. It changes\n" +
			"nothing. The exit code is 1 if there is a problem.",
		GroupID: groupUse,
		Args:    arguments(1, 1, "one difference file"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			return e.withDisks(ctx, args, []access{toRead}, func(d []block.Device) error {
				problems, err := cow.Check(ctx, d[0])
				if err != nil {
					return named(args[0], err)
				}
				for _, p := range problems {
					fmt.Fprintf(e.Stdout, "%s: %v\n", args[0], p)
				}
				if len(problems) > 0 {
					return errSilent
				}
				_, err = fmt.Fprintf(e.Stdout, "%s: sound\n", args[0])
				return err
			})
		}),
	}
}
