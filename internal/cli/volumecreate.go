package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) volumeCreate() *cobra.Command {
	var spec node.VolumeSpec
	var check func() error
	var asJSON *bool
	cmd := e.onNode(&cobra.Command{
		Use:   "create NAME SIZE",
		Short: "Make a volume",
		Long: "Makes a volume, which is full of zeros and takes no space before it is written.\n" +
			"Copies, object size and zones stay as they are then. There may be more copies than\n" +
			"nodes: those that have no place are made when more nodes join.",
		Example: "  strata volume create vm1 20G\n" +
			"  strata volume create scratch 1T --copies 1",
	}, arguments(2, 2, "a name and a size"), func(ctx context.Context, c *node.Client, args []string) (err error) {
		if spec.Name, err = volumeArg(args[0]); err != nil {
			return err
		}
		if spec.Size, err = units.ParseBytes(args[1]); err != nil {
			return &usageError{err}
		}
		if err := check(); err != nil {
			return err
		}
		v, err := c.CreateVolume(ctx, spec)
		return e.tellVolume(v, err, *asJSON)
	})
	asJSON = jsonFlag(cmd)
	check = volumeFlags(cmd, &spec)
	return cmd
}

// volumeFlags adds the flags that say how a volume is made. The function that it returns
// finds out what they are.
func volumeFlags(cmd *cobra.Command, spec *node.VolumeSpec) func() error {
	f := cmd.Flags()
	f.IntVar(&spec.Copies, "copies", 0, "`NUMBER` of nodes that have it (default as many as there are, but not more than 3)")
	f.IntVar(&spec.MinCopies, "min-copies", 0, "`NUMBER` of them that must be there for writes (default more than half)")
	f.IntVar(&spec.Zones, "zones", 0, "`NUMBER` of zones that the copies must be in at least")
	object := f.String("object-size", "", "`SIZE` of the pieces that it is spread in, a power of two from 64K to 1G (default 4M)")
	return func() (err error) {
		if *object == "" {
			return nil
		}
		if spec.ObjectSize, err = units.ParseBytes(*object); err != nil {
			return usagef("--object-size: %w", err)
		}
		return nil
	}
}

// tellVolume prints what has come of a change.
func (e *Env) tellVolume(v *node.Volume, err error, asJSON bool) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return writeJSON(e.Stdout, v)
	}
	writeVolumeLine(e.Stdout, v)
	if v.Possible != nil {
		fmt.Fprintf(e.Stderr, "There is place for %d of its %s now, as each is on another node; the others are made when there are more nodes.\n",
			*v.Possible, units.Plural(v.Copies, "copy"))
	}
	return nil
}

// writeVolumeLine describes a volume in one line.
func writeVolumeLine(w io.Writer, v *node.Volume) {
	fmt.Fprintf(w, "%s, %s, %s", v.Name, units.Bytes(v.Size), units.Plural(v.Copies, "copy"))
	if v.CloneOf != "" {
		fmt.Fprintf(w, ", a clone of %s", v.CloneOf)
	}
	if v.URI != "" {
		fmt.Fprintf(w, ": %s", v.URI)
	}
	fmt.Fprintln(w)
}
