package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
)

func (e *Env) volumeRollback() *cobra.Command {
	var yes, asJSON *bool
	var keep string
	cmd := e.onNode(&cobra.Command{
		Use:   "rollback VOLUME SNAPSHOT",
		Short: "Set a volume back to a snapshot",
		Long: "Sets a volume that nobody has open back to a snapshot of it, in the same short time\n" +
			"however large it is. The snapshot and all others stay. What the volume is now\n" +
			"becomes the snapshot that --keep names, or is deleted.",
		Example: "  strata volume rollback vm1 monday --keep before-rollback",
	}, arguments(2, 2, "a volume and the name of a snapshot"), func(ctx context.Context, c *node.Client, args []string) error {
		name, err := volumeArg(args[0])
		if err != nil {
			return err
		}
		snapshot := strings.TrimPrefix(args[1], name+"@")
		if keep == "" {
			err = e.confirm(*yes, fmt.Sprintf("This deletes what was written to %s after the snapshot %s; --keep NAME keeps it.", name, snapshot))
		}
		if err != nil {
			return err
		}
		v, err := c.ChangeVolume(ctx, "rollback", node.VolumeChange{Name: name, Snapshot: snapshot, To: keep})
		return e.tellVolume(v, err, *asJSON)
	})
	yes, asJSON = yesFlag(cmd), jsonFlag(cmd)
	cmd.Flags().StringVar(&keep, "keep", "", "`NAME` of the snapshot that it is now")
	return cmd
}
