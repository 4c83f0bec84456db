package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
)

func (e *Env) volumeSnapshot() *cobra.Command {
	var asJSON *bool
	cmd := e.onNode(&cobra.Command{
		Use:   "snapshot VOLUME NAME",
		Short: "Take a snapshot of a volume",
		Long: "Takes a snapshot of a volume as it is now: of all writes that were answered. It\n" +
			"takes the same short time however large the volume is, also while clients write,\n" +
			"and no space before they do. A file system on it finds it as after a loss of power;\n" +
			"freeze it before (fsfreeze) if that is not enough.",
		Example: "  strata volume snapshot vm1 monday\n" +
			"  strata copy nbd://localhost/vm1@monday backup.img",
	}, arguments(2, 2, "a volume and the name of the snapshot"), func(ctx context.Context, c *node.Client, args []string) error {
		name, err := volumeArg(args[0])
		if err != nil {
			return err
		}
		v, err := c.ChangeVolume(ctx, "snapshot", node.VolumeChange{Name: name, Snapshot: args[1]})
		switch {
		case err != nil:
			return err
		case *asJSON:
			return writeJSON(e.Stdout, v)
		}
		fmt.Fprintf(e.Stdout, "%s@%s\n", v.Name, args[1])
		return nil
	})
	asJSON = jsonFlag(cmd)
	return cmd
}
