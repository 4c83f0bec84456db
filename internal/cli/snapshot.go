package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/daemon"
)

func (e *Env) snapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Take, list, compare and delete snapshots of a disk in use",
		Long: "Works on the snapshots of an EXPORT of the running server whose device is made\n" +
			"by snapshots(ORIGIN, STORE). The snapshot NAME of it is the export EXPORT@NAME.\n" +
			"All but dump, restore and forget, and check of a store, ask the server through its\n" +
			"control socket; clients go on meanwhile.",
		Example: "  strata serve 'vm=snapshots(\"disk.img\", \"disk.snaps\")'\n" +
			"  strata snapshot create vm monday\n" +
			"  strata copy nbd://localhost/vm@monday backup.img",
		GroupID: groupUse,
	}
	onlyCommands(cmd)
	cmd.AddCommand(e.snapshotCreate(), e.snapshotList(), e.snapshotDiff(), e.snapshotRemove(), e.snapshotRename(),
		e.snapshotRollback(), e.snapshotSuspend(), e.snapshotResume(), e.snapshotCheck(), e.snapshotDump(), e.snapshotRestore(), e.snapshotForget())
	return cmd
}

// onSnapshots is a command that asks the server about snapshots.
func (e *Env) onSnapshots(cmd *cobra.Command, args cobra.PositionalArgs, run func(context.Context, *daemon.Client, []string) error) *cobra.Command {
	path := controlFlag(cmd)
	cmd.Args = args
	cmd.RunE = e.interruptible(func(ctx context.Context, args []string) error {
		return run(ctx, e.controlClient(*path), args)
	})
	return cmd
}

// changes is the simple form of onSnapshots: what verb says, of the export that
// comes first, for the names behind it.
func (e *Env) changes(verb string, cmd *cobra.Command, args cobra.PositionalArgs) *cobra.Command {
	return e.onSnapshots(cmd, args, func(ctx context.Context, c *daemon.Client, args []string) error {
		return c.ChangeSnapshots(ctx, verb, daemon.SnapshotRequest{Export: args[0], Names: args[1:]})
	})
}

func (e *Env) snapshotCreate() *cobra.Command {
	var q daemon.SnapshotRequest
	cmd := e.onSnapshots(&cobra.Command{
		Use:   "create EXPORT NAME",
		Short: "Take a snapshot",
		Long: "Takes a snapshot of EXPORT as it is now: of all writes that were answered. It\n" +
			"takes the same short time however large the disk is. A file system on the disk\n" +
			"finds it as after a loss of power; freeze it before (fsfreeze) if that is not\n" +
			"enough. A NAME has up to 255 bytes of text without @ and /.",
	}, arguments(2, 2, "an export and the name of the snapshot"), func(ctx context.Context, c *daemon.Client, args []string) error {
		q.Export, q.Names = args[0], args[1:]
		return c.ChangeSnapshots(ctx, "create", q)
	})
	cmd.Flags().StringVar(&q.Of, "of", "", "take it of the snapshot `NAME`, if the kind of store can")
	cmd.Flags().IntVar(&q.Priority, "priority", 0, "`NUMBER` that decides, with when_full=\"drop\", which snapshot a full store gives up first: the lowest")
	return cmd
}

func (e *Env) snapshotRemove() *cobra.Command {
	return e.changes("delete", &cobra.Command{
		Use:   "rm EXPORT NAME...",
		Short: "Delete snapshots",
		Long: "Deletes snapshots, all or none of those named, and returns when that is durable.\n" +
			"Their space comes back in the background, in one pass for all of them; ls shows\n" +
			"how far that is. A snapshot that a client is connected to, that is being compared\n" +
			"or that the disk is being set back to is not deleted.",
	}, arguments(2, -1, "an export and the names of snapshots"))
}

func (e *Env) snapshotRename() *cobra.Command {
	return e.onSnapshots(&cobra.Command{
		Use:   "rename EXPORT OLD NEW",
		Short: "Give a snapshot another name",
		Long:  "Gives a snapshot another name. Who is connected to it stays connected.",
	}, arguments(3, 3, "an export, the name of a snapshot and its next name"), func(ctx context.Context, c *daemon.Client, args []string) error {
		return c.ChangeSnapshots(ctx, "rename", daemon.SnapshotRequest{Export: args[0], Names: args[1:2], To: args[2]})
	})
}

func (e *Env) snapshotRollback() *cobra.Command {
	return e.changes("rollback", &cobra.Command{
		Use:   "rollback EXPORT NAME",
		Short: "Set the disk back to a snapshot",
		Long: "Sets the disk back to a snapshot, which stays. Whoever reads sees it at once; the\n" +
			"data move in the background, which goes on after a restart, and ls shows how far\n" +
			"that is. What is on the disk now is lost unless it has a snapshot, so take one\n" +
			"before. Unmount the disk on the client first: a mounted file system does not\n" +
			"expect to be changed. Until the data have moved no snapshot can be taken.",
	}, arguments(2, 2, "an export and the name of a snapshot"))
}

func (e *Env) snapshotSuspend() *cobra.Command {
	return e.changes("suspend", &cobra.Command{
		Use:   "suspend EXPORT",
		Short: "Hold all requests to the disk and its snapshots",
		Long: "Makes everything durable, stops background work and holds all requests to the\n" +
			"disk and its snapshots until resume, or until the server is stopped. Origin and\n" +
			"store can then be copied.",
	}, arguments(1, 1, "an export"))
}

func (e *Env) snapshotResume() *cobra.Command {
	return e.changes("resume", &cobra.Command{
		Use:   "resume EXPORT",
		Short: "Let requests and background work go on after suspend",
	}, arguments(1, 1, "an export"))
}
