package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
)

func (e *Env) volumeRename() *cobra.Command {
	var asJSON *bool
	cmd := e.onNode(&cobra.Command{
		Use:   "rename VOLUME NAME",
		Short: "Give a volume another name",
		Long: "Gives a volume another name, under which it is served from then on. Who is\n" +
			"connected to it stays connected. Its snapshots come along.",
	}, arguments(2, 2, "the name of a volume and its next name"), func(ctx context.Context, c *node.Client, args []string) error {
		for _, name := range args {
			if _, err := volumeArg(name); err != nil {
				return err
			}
		}
		v, err := c.ChangeVolume(ctx, "rename", node.VolumeChange{Name: args[0], To: args[1]})
		return e.tellVolume(v, err, *asJSON)
	})
	asJSON = jsonFlag(cmd)
	return cmd
}
