package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) volume() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Make, list and delete the volumes of a cluster",
		Long: "Works on the volumes of a cluster, through a node of it that runs on this machine.\n" +
			"Every node serves the volume NAME as the NBD export NAME, and its snapshots as\n" +
			"NAME@SNAPSHOT.",
		Example: "  strata volume create vm1 20G\n" +
			"  strata info nbd://localhost/vm1",
		GroupID: groupCluster,
	}
	onlyCommands(cmd)
	cmd.AddCommand(e.volumeCreate(), e.volumeList(), e.volumeRemove())
	return cmd
}

func (e *Env) volumeCreate() *cobra.Command {
	var spec node.VolumeSpec
	var object string
	cmd := e.onNode(&cobra.Command{
		Use:   "create NAME SIZE",
		Short: "Make a volume",
		Long: "Makes a volume, which is full of zeros and takes no space before it is written.\n" +
			"A NAME has up to 255 letters, digits and the characters . _ and -.",
		Example: "  strata volume create vm1 20G",
	}, arguments(2, 2, "a name and a size"), func(ctx context.Context, c *node.Client, args []string) (err error) {
		spec.Name = args[0]
		if spec.Size, err = units.ParseBytes(args[1]); err != nil {
			return &usageError{err}
		}
		if object != "" {
			if spec.ObjectSize, err = units.ParseBytes(object); err != nil {
				return usagef("--object-size: %w", err)
			}
		}
		return c.Create(ctx, spec)
	})
	f := cmd.Flags()
	f.IntVar(&spec.Copies, "copies", 0, "`NUMBER` of nodes that have it (default as many as there are, but not more than 3)")
	f.IntVar(&spec.MinCopies, "min-copies", 0, "`NUMBER` of them that must be there for writes (default more than half)")
	f.IntVar(&spec.Zones, "zones", 0, "`NUMBER` of zones that the copies must be in at least")
	f.StringVar(&object, "object-size", "", "`SIZE` of the pieces that it is spread in, a power of two (default 4M)")
	return cmd
}

func (e *Env) volumeList() *cobra.Command {
	var asJSON bool
	cmd := e.onNode(&cobra.Command{
		Use:   "ls",
		Short: "List the volumes",
	}, arguments(0, 0, "no arguments"), func(ctx context.Context, c *node.Client, _ []string) error {
		list, err := c.Volumes(ctx)
		switch {
		case err != nil:
			return err
		case asJSON:
			return writeJSON(e.Stdout, list)
		}
		t := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tSIZE\tCOPIES\tSNAPSHOTS\tCREATED\tATTACHED BY")
		for _, v := range list {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\n", v.Name, units.Bytes(v.Size), v.Copies, v.Snapshots, v.Created.Local().Format(time.DateTime), v.Attached)
		}
		return t.Flush()
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (e *Env) volumeRemove() *cobra.Command {
	return e.onNode(&cobra.Command{
		Use:   "rm NAME...",
		Short: "Delete volumes or snapshots",
		Long: "Deletes volumes, which nobody may have open and which may have no snapshots, or\n" +
			"snapshots, named VOLUME@SNAPSHOT. Other snapshots and clones keep what they have\n" +
			"in common with it.",
	}, arguments(1, -1, "names of volumes or snapshots"), func(ctx context.Context, c *node.Client, args []string) error {
		for _, name := range args {
			var q node.VolumeName
			q.Name, q.Snapshot, _ = strings.Cut(name, "@")
			if err := c.Delete(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}
