package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) volumeRemove() *cobra.Command {
	var yes *bool
	var all bool
	cmd := e.onNode(&cobra.Command{
		Use:   "rm NAME...",
		Short: "Delete volumes or snapshots",
		Long: "Deletes volumes, which nobody may have open, or snapshots, named VOLUME@SNAPSHOT.\n" +
			"Other snapshots and clones keep what they have in common with them. The space\n" +
			"comes back in the background.",
		Example: "  strata volume rm vm1@monday vm1@tuesday\n" +
			"  strata volume rm --snapshots vm1",
	}, arguments(1, -1, "names of volumes or snapshots"), func(ctx context.Context, c *node.Client, args []string) error {
		names, err := removed(ctx, c, args, all)
		if err != nil {
			return err
		}
		if err := e.confirm(*yes, "This deletes for good what is in "+some(names)+"."); err != nil {
			return err
		}
		for _, name := range args {
			volume, snapshot, isSnapshot := strings.Cut(name, "@")
			if err := c.DeleteVolume(ctx, volume, snapshot, all && !isSnapshot); err != nil {
				return err
			}
		}
		return nil
	})
	yes = yesFlag(cmd)
	cmd.Flags().BoolVar(&all, "snapshots", false, "with a volume, delete its snapshots too")
	return cmd
}

// removed are the names of all that is to be deleted.
// None is deleted if there is one that is not there.
func removed(ctx context.Context, c *node.Client, args []string, all bool) (names []string, err error) {
	for _, name := range args {
		volume, snapshot, isSnapshot := strings.Cut(name, "@")
		v, err := c.Volume(ctx, volume)
		if err != nil {
			return nil, err
		}
		if n := len(v.SnapshotList); n > 0 && !isSnapshot && !all {
			return nil, fmt.Errorf("the volume %s has %s: --snapshots deletes them too", volume, units.Plural(n, "snapshot"))
		}
		found := !isSnapshot
		for _, s := range v.SnapshotList {
			found = found || s.Name == snapshot
			if all && !isSnapshot {
				names = append(names, volume+"@"+s.Name)
			}
		}
		if !found {
			return nil, fmt.Errorf("the volume %s has no snapshot %.200q", volume, snapshot)
		}
		names = append(names, name)
	}
	return names, nil
}

// some names a few things, and says how many more there are.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
