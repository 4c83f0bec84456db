package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/copy"
	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) volumeCheck() *cobra.Command {
	var q node.CheckRequest
	var progress string
	cmd := e.onNode(&cobra.Command{
		Use:   "check VOLUME",
		Short: "Look for damage in all copies of a volume",
		Long: "Compares what all disks have of a volume, its snapshots and its clones, and reads\n" +
			"all of it to see whether it is what was written. The volume may be in use: what is\n" +
			"being written is left out. What is wrong is printed in words, and with --repair\n" +
			"mended from a copy that is right. Disks do all this by themselves from time to\n" +
			"time. The exit code is 1 if something was wrong that has not been mended.",
		Example: "  strata volume check vm1\n" +
			"  strata volume check vm1 --repair",
	}, arguments(1, 1, "the name of a volume"), func(ctx context.Context, c *node.Client, args []string) (err error) {
		if q.Name, err = volumeArg(args[0]); err != nil {
			return err
		}
		p := new(copy.Progress)
		report, err := e.report(progress, "check", 0, p)
		if err != nil {
			return err
		}
		report.counts("groups")
		var problems []string
		end, err := c.Check(ctx, q, func(s node.CheckStep) {
			problems = append(problems, s.Problems...)
			report.total.Store(int64(s.Total))
			p.Done.Store(int64(s.Done))
		})
		report.end(err)
		for _, text := range problems {
			fmt.Fprintf(e.Stdout, "%s: %s\n", q.Name, text)
		}
		if err != nil {
			return err
		}
		return e.tellCheck(q, end)
	})
	f := cmd.Flags()
	f.BoolVar(&q.Repair, "repair", false, "mend what is wrong from a copy that is right")
	f.BoolVar(&q.Digests, "digests", false, "compare checksums only, and do not read the data")
	progressFlag(cmd, &progress)
	return cmd
}

// tellCheck says what a check came to.
func (e *Env) tellCheck(q node.CheckRequest, end *node.CheckEnd) error {
	seen := fmt.Sprintf("%d objects compared", end.Objects)
	if !q.Digests {
		seen = fmt.Sprintf("%s in %d objects of all copies read", units.Bytes(end.Bytes), end.Objects)
	}
	switch left := end.Bad - end.Mended; {
	case end.Bad == 0:
		fmt.Fprintf(e.Stdout, "%s: sound, %s\n", q.Name, seen)
	case left <= 0:
		fmt.Fprintf(e.Stdout, "%s: %d were wrong and are mended, %s\n", q.Name, end.Bad, seen)
	case q.Repair:
		fmt.Fprintf(e.Stdout, "%s: %d were wrong, %d could not be mended, %s\n", q.Name, end.Bad, left, seen)
		return errSilent
	default:
		fmt.Fprintf(e.Stdout, "%s: %d are wrong, %s; --repair mends what another copy has\n", q.Name, end.Bad, seen)
		return errSilent
	}
	return nil
}
