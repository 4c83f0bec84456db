package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

// kindsOfJobs says what kinds there are, for the help of commands.
const kindsOfJobs = "  join      a disk gets what it needs to have a copy of a placement group\n" +
	"  delete    what only deleted volumes and snapshots had is freed\n" +
	"  clean     what a disk should not have is removed from it\n" +
	"  digests   what the copies of groups have is compared\n" +
	"  data      what is on disks is read and verified, and mended\n" +
	"  tidy      marks of what was written are taken back where all copies are the same"

func (e *Env) clusterJobs() *cobra.Command {
	return onNodeShown(e, &cobra.Command{
		Use:   "jobs",
		Short: "List what the nodes do in the background, and the last scrubs",
		Long: "Lists the background jobs of all nodes, how far each has come, and when each disk\n" +
			"was scrubbed last. All of them leave the disks to clients where there are some.\n" +
			"Kinds of jobs are:\n\n" + kindsOfJobs,
	}, arguments(0, 0, "no arguments"), func(ctx context.Context, c *node.Client, _ []string) (*node.JobList, error) {
		return c.Jobs(ctx)
	}, writeJobs)
}

func writeJobs(w io.Writer, l *node.JobList, now time.Time) {
	if l.Problem != "" {
		fmt.Fprintf(w, "! Not all nodes have answered: %s\n", l.Problem)
	}
	for _, kind := range l.Suspended {
		fmt.Fprintf(w, "! Jobs of the kind %s are suspended; 'strata cluster resume %s' lets them go on.\n", kind, kind)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(l.Jobs) == 0 {
		fmt.Fprintln(w, "Nothing is being done in the background.")
	} else {
		fmt.Fprintln(t, "JOB\tNODE\tDISK\tOF\tSTATE\tDONE\tMOVED\tLEFT\tFOR\tWHY")
	}
	for i := range l.Jobs {
		j := &l.Jobs[i]
		of := "-"
		switch {
		case j.Group != 0:
			of = fmt.Sprintf("group %#x", j.Group)
		case j.Family != 0:
			of = fmt.Sprintf("family %d", j.Family)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.Kind, j.Node.Label, orDash(shortID(j.Disk)), of, j.State,
			doneOf(j), units.Bytes(j.Moved), left(j.SecondsLeft), age(now, j.Since), orDash(j.Error))
	}
	if l.More > 0 {
		fmt.Fprintf(t, "and %d more\n", l.More)
	}
	t.Flush()
	fmt.Fprintln(t, "\nSCRUB\tNODE\tDISK\tLAST\tOBJECTS\tREAD\tBAD\tMENDED")
	for i := range l.Scrubs {
		s := &l.Scrubs[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\n", s.Kind, s.Node.Label, shortID(s.Disk), when(s, now), s.Objects,
			units.Bytes(s.Bytes), s.Bad, s.Mended)
	}
	t.Flush()
}

// shortID is what people see of the ID of a node or disk.
func shortID(id string) string { return id[:min(len(id), 8)] }

func doneOf(j *node.JobStatus) string {
	unit := ""
	if j.Unit != "" && j.Unit != "bytes" {
		unit = " " + j.Unit
	}
	switch {
	case j.Unit == "permille": // of each of one or several jobs
		return fmt.Sprintf("%d %%", j.Done*100/max(j.Total, 1))
	case j.Total > 0 && j.Unit == "bytes":
		return fmt.Sprintf("%s of %s", units.Bytes(j.Done), units.Bytes(j.Total))
	case j.Total > 0:
		return fmt.Sprintf("%d of %d%s", j.Done, j.Total, unit)
	case j.Unit == "bytes":
		return units.Bytes(j.Done)
	}
	return fmt.Sprintf("%d%s", j.Done, unit)
}

func left(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return units.Clock(time.Duration(*seconds * float64(time.Second)))
}

// when says when a scrub was.
func when(s *node.Scrub, now time.Time) string {
	switch {
	case s.Ended != nil:
		return age(now, *s.Ended) + " ago"
	case s.Begun != nil:
		return "now, for " + age(now, *s.Begun)
	}
	return "never"
}

func (e *Env) clusterSuspend() *cobra.Command {
	return e.onNode(&cobra.Command{
		Use:   "suspend KIND",
		Short: "Let background jobs of a kind wait",
		Long: "Lets background jobs of a kind wait on all nodes that run now, until resume. A node\n" +
			"that is started anew does not know of it. While join is suspended, copies that are\n" +
			"missing are not made, and what has one copy left is lost with it. Kinds are:\n\n" + kindsOfJobs,
	}, arguments(1, 1, "a kind of jobs"), func(ctx context.Context, c *node.Client, args []string) error {
		return c.SuspendJobs(ctx, args[0], true)
	})
}

func (e *Env) clusterResume() *cobra.Command {
	return e.onNode(&cobra.Command{
		Use:   "resume KIND",
		Short: "Let background jobs go on after suspend",
	}, arguments(1, 1, "a kind of jobs"), func(ctx context.Context, c *node.Client, args []string) error {
		return c.SuspendJobs(ctx, args[0], false)
	})
}

func (e *Env) clusterScrub() *cobra.Command {
	var q node.ScrubRequest
	cmd := e.onNode(&cobra.Command{
		Use:   "scrub [DISK...]",
		Short: "Compare, or read, all that is on disks now",
		Long: "Begins a scrub of DISKs, or of all disks, in the background: what the copies of\n" +
			"each placement group have is compared, and with --read all of it is read and its\n" +
			"checksums are verified. What is bad is mended from other copies. Both happen by\n" +
			"themselves from time to time. 'strata cluster jobs' shows how far they are. A DISK is\n" +
			"named by the beginning of its ID.",
	}, arguments(0, -1, "IDs of disks or nothing"), func(ctx context.Context, c *node.Client, args []string) error {
		q.Disks = args
		return c.Scrub(ctx, q)
	})
	cmd.Flags().BoolVar(&q.Data, "read", false, "read everything and verify it")
	return cmd
}
