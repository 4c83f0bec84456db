package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

func (e *Env) volume() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Make, list, snapshot, clone and delete the volumes of a cluster",
		Long: "Works on the volumes of a cluster, through a node of it that runs on this machine.\n" +
			"Every node serves the volume NAME as the NBD export NAME, and its snapshots,\n" +
			"read-only, as NAME@SNAPSHOT. A name has up to 128 letters, digits and _, and\n" +
			"behind the first one also - . : +.",
		Example: "  strata volume create vm1 20G\n" +
			"  strata volume snapshot vm1 monday\n" +
			"  strata volume clone vm1@monday vm2\n" +
			"  strata info nbd://localhost/vm1",
		GroupID: groupCluster,
	}
	onlyCommands(cmd)
	cmd.AddCommand(
		e.volumeCreate(), e.volumeList(), e.volumeShow(), e.volumeTree(),
		e.volumeSnapshot(), e.volumeClone(), e.volumeRollback(),
		e.volumeResize(), e.volumeRename(), e.volumeRemove(),
		e.volumeExport(), e.volumeImport(), e.volumeCheck(),
	)
	return cmd
}

// snapshotArg takes VOLUME@SNAPSHOT apart.
func snapshotArg(arg string) (volume, snapshot string, err error) {
	volume, snapshot, ok := strings.Cut(arg, "@")
	if !ok || volume == "" || snapshot == "" {
		return "", "", usagef("%q is no snapshot: want VOLUME@SNAPSHOT, as in vm1@monday", arg)
	}
	return volume, snapshot, nil
}

// volumeArg refuses the name of a snapshot where a volume is meant.
func volumeArg(arg string) (string, error) {
	if volume, _, ok := strings.Cut(arg, "@"); ok {
		return "", usagef("%q is a snapshot: want a volume, as in %s", arg, volume)
	}
	return arg, nil
}
