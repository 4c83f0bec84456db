package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
)

func (e *Env) volumeClone() *cobra.Command {
	var asJSON *bool
	cmd := e.onNode(&cobra.Command{
		Use:   "clone VOLUME@SNAPSHOT NAME",
		Short: "Make a volume that begins as a snapshot",
		Long: "Makes a volume that begins as a snapshot, in the same short time however large\n" +
			"that is. The two share what they have in common, and neither needs the other: the\n" +
			"snapshot can be deleted.",
		Example: "  strata volume clone vm1@monday vm2",
	}, arguments(2, 2, "VOLUME@SNAPSHOT and the name of the clone"), func(ctx context.Context, c *node.Client, args []string) error {
		volume, snapshot, err := snapshotArg(args[0])
		if err == nil {
			_, err = volumeArg(args[1])
		}
		if err != nil {
			return err
		}
		v, err := c.ChangeVolume(ctx, "clone", node.VolumeChange{Name: volume, Snapshot: snapshot, To: args[1]})
		return e.tellVolume(v, err, *asJSON)
	})
	asJSON = jsonFlag(cmd)
	return cmd
}
