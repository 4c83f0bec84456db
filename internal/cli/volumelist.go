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

func (e *Env) volumeList() *cobra.Command {
	return onNodeShown(e, &cobra.Command{
		Use:   "ls",
		Short: "List the volumes",
		Long:  "Lists the volumes, with the node that serves each of them now, if one does.",
	}, arguments(0, 0, "no arguments"), func(ctx context.Context, c *node.Client, _ []string) ([]node.Volume, error) {
		return c.Volumes(ctx)
	}, writeVolumes)
}

func writeVolumes(w io.Writer, list []node.Volume, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "There are no volumes; 'strata volume create NAME SIZE' makes one.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSIZE\tCOPIES\tSNAPSHOTS\tAGE\tSERVED BY\tCLONE OF")
	for i := range list {
		v := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", v.Name, units.Bytes(v.Size), v.Copies, v.Snapshots,
			age(now, v.Created), servedBy(v.Attached), orDash(v.CloneOf))
	}
	t.Flush()
}

func servedBy(n *node.NodeName) string {
	if n == nil {
		return "-"
	}
	return n.Label
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
