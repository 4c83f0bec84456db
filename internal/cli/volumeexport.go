package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/copy"
	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/snapshot/stream"
)

func (e *Env) volumeExport() *cobra.Command {
	var since, progress string
	cmd := e.onNode(&cobra.Command{
		Use:   "export VOLUME@SNAPSHOT FILE",
		Short: "Write a snapshot, or what differs between two, to a file",
		Long: "Writes all that a snapshot holds to FILE, or with --since what differs from\n" +
			"another snapshot of the volume, as a stream with checksums that 'volume import'\n" +
			"and 'snapshot diff --import' read. FILE is there when all of it is; '-' is\n" +
			"standard output. Holes take no space. Neither snapshot may be deleted meanwhile;\n" +
			"the volume may be written.",
		Example: "  strata volume export vm1@sunday full.strata\n" +
			"  strata volume export vm1@monday --since sunday monday.strata\n" +
			"  strata volume export vm1@monday - | ssh backup strata volume import - vm1",
	}, arguments(2, 2, "VOLUME@SNAPSHOT and a file"), func(ctx context.Context, c *node.Client, args []string) error {
		volume, snapshot, err := snapshotArg(args[0])
		if err != nil {
			return err
		}
		body, err := c.Export(ctx, volume, snapshot, strings.TrimPrefix(since, volume+"@"))
		if err != nil {
			return err
		}
		defer body.Close()
		p := new(copy.Progress)
		report, err := e.report(progress, "export", 0, p)
		if err != nil {
			return err
		}
		err = e.toFile(args[1], func(w io.Writer) error {
			err := stream.Follow(io.TeeReader(body, w), func(h stream.Header) { report.total.Store(h.Size) }, p.Done.Store)
			if err != nil {
				return fmt.Errorf("exporting %s: %w", args[0], err)
			}
			p.Done.Store(report.total.Load())
			return nil
		})
		report.end(err)
		return err
	})
	cmd.Flags().StringVar(&since, "since", "", "`SNAPSHOT` that whoever imports the stream has already")
	progressFlag(cmd, &progress)
	return cmd
}

func (e *Env) volumeImport() *cobra.Command {
	var q node.ImportRequest
	var progress string
	var asJSON *bool
	var spec func() error
	cmd := e.onNode(&cobra.Command{
		Use:   "import FILE VOLUME",
		Short: "Make a volume, or its next snapshot, of what was exported",
		Long: "Reads what 'volume export' wrote from FILE; '-' is standard input. All of a disk\n" +
			"becomes a new volume, and what differs from another snapshot the next one of a\n" +
			"volume whose last snapshot is a copy of that, that has not been written since, and\n" +
			"that nobody has open. At the end there is the snapshot again, by the name it had,\n" +
			"and the volume goes on from there. What 'snapshot dump' wrote becomes a new volume\n" +
			"with all its snapshots.\n\n" +
			"The volume is there, or has changed, when all of it has come, and is as it was if\n" +
			"not. Until then what has come is in a volume called import- and 12 digits. It is\n" +
			"deleted after an error; only if the node itself dies meanwhile it is left, and can\n" +
			"be deleted. An import that was interrupted is given again from the beginning of FILE.",
		Example: "  strata volume import full.strata vm3\n" +
			"  strata volume import monday.strata vm3",
	}, arguments(2, 2, "a file and the name of a volume"), func(ctx context.Context, c *node.Client, args []string) (err error) {
		if q.Name, err = volumeArg(args[1]); err != nil {
			return err
		}
		if err := spec(); err != nil {
			return err
		}
		p := new(copy.Progress)
		report, err := e.report(progress, "import", 0, p)
		if err != nil {
			return err
		}
		var v *node.Volume
		err = e.fromFile(args[0], func(r io.Reader) error {
			v, err = c.Import(ctx, q, r, func(t node.Transfer) {
				report.total.Store(t.Size)
				p.Done.Store(t.Done)
			})
			return named(args[0], err)
		})
		if err == nil {
			p.Done.Store(report.total.Load())
		}
		report.end(err)
		return e.tellVolume(v, err, *asJSON)
	})
	spec = volumeFlags(cmd, &q.VolumeSpec)
	cmd.Flags().StringVar(&q.Snapshot, "snapshot", "", "`NAME` of the snapshot at the end (default what it was called)")
	progressFlag(cmd, &progress)
	asJSON = jsonFlag(cmd)
	return cmd
}
