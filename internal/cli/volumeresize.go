package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) volumeResize() *cobra.Command {
	var asJSON *bool
	cmd := e.onNode(&cobra.Command{
		Use:   "resize VOLUME SIZE",
		Short: "Make a volume larger",
		Long: "Makes a volume larger. What is new is zeros. Clients see the size when they connect\n" +
			"anew; then the partitions and the file system on it can grow. A volume does not\n" +
			"become smaller.",
		Example: "  strata volume resize vm1 40G",
	}, arguments(2, 2, "the name of a volume and its next size"), func(ctx context.Context, c *node.Client, args []string) error {
		name, err := volumeArg(args[0])
		if err != nil {
			return err
		}
		size, err := units.ParseBytes(args[1])
		if err != nil {
			return &usageError{err}
		}
		v, err := c.ChangeVolume(ctx, "resize", node.VolumeChange{Name: name, Size: size})
		return e.tellVolume(v, err, *asJSON)
	})
	asJSON = jsonFlag(cmd)
	return cmd
}
