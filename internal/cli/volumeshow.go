package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) volumeShow() *cobra.Command {
	return onNodeShown(e, &cobra.Command{
		Use:   "show VOLUME",
		Short: "Describe a volume, with its snapshots and clones",
	}, arguments(1, 1, "the name of a volume"), func(ctx context.Context, c *node.Client, args []string) (*node.VolumeDetail, error) {
		name, err := volumeArg(args[0])
		if err != nil {
			return nil, err
		}
		return c.Volume(ctx, name)
	}, writeVolume)
}

func writeVolume(w io.Writer, v *node.VolumeDetail, now time.Time) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, text string) { fmt.Fprintf(t, "%s\t%s\n", what, text) }
	row("name", v.Name)
	row("size", fmt.Sprintf("%s (%d bytes)", units.Bytes(v.Size), v.Size))
	copies := fmt.Sprintf("%d, of which writes need %d", v.Copies, v.MinCopies)
	if v.Possible != nil {
		copies += fmt.Sprintf("; there is place for %d now", *v.Possible)
	}
	row("copies", copies)
	if v.Zones > 0 {
		row("zones", fmt.Sprintf("%d at least", v.Zones))
	}
	row("objects", units.Bytes(v.ObjectSize))
	row("created", fmt.Sprintf("%s (%s ago)", v.Created.Local().Format(time.DateTime), age(now, v.Created)))
	if v.CloneOf != "" {
		row("clone of", v.CloneOf)
	}
	row("served by", servedBy(v.Attached))
	if v.URI != "" {
		row("here", v.URI)
	}
	if len(v.Clones) > 0 {
		row("clones", strings.Join(v.Clones, ", "))
	}
	t.Flush()
	if len(v.SnapshotList) == 0 {
		return
	}
	fmt.Fprintln(t, "\nSNAPSHOT\tSIZE\tCREATED\tAGE")
	for _, s := range v.SnapshotList {
		fmt.Fprintf(t, "%s@%s\t%s\t%s\t%s\n", v.Name, s.Name, units.Bytes(s.Size), s.Created.Local().Format(time.DateTime), age(now, s.Created))
	}
	t.Flush()
}
