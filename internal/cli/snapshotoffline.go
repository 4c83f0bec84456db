package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/snapshot/stream"
)

// withStore opens an origin and its store for reading. The set has not been
// resumed.
func (e *Env) withStore(ctx context.Context, args []string, f func(*snapshot.Set) error) error {
	return e.withDisks(ctx, args[:2], []access{toRead, toRead}, func(d []block.Device) error {
		kind, err := snapshot.Identify(ctx, d[1])
		switch {
		case err != nil:
			return named(args[1], err)
		case kind == "":
			return named(args[1], snapshot.ErrNoStore)
		}
		s, err := snapshot.New(block.Keep(d[0]), block.Keep(d[1]), snapshot.Options{Kind: kind, ReadOnly: true})
		if err != nil {
			return named(args[1], err)
		}
		return errors.Join(named(args[1], f(s)), s.Close())
	})
}

// fileArg is the third of the arguments, or -.
func fileArg(args []string) string {
	if len(args) < 3 {
		return "-"
	}
	return args[2]
}

func (e *Env) snapshotDump() *cobra.Command {
	return &cobra.Command{
		Use:   "dump ORIGIN STORE [FILE]",
		Short: "Write a disk with all its snapshots to a stream",
		Long: "Writes all that ORIGIN and the snapshots in STORE hold, which no server has open,\n" +
			"to FILE or standard output: what each snapshot differs from the one before it,\n" +
			"their names, times and priorities, with checksums. The stream does not depend on\n" +
			"the kind of store.",
		Example: "  strata snapshot dump disk.img disk.snaps all.dump\n" +
			"  strata snapshot restore other.img other.snaps all.dump --kind bitmap",
		Args: arguments(2, 3, "an origin, a store, and maybe a file"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			return e.withStore(ctx, args, func(s *snapshot.Set) error {
				if err := s.Resume(ctx); err != nil {
					return err
				}
				return e.toFile(fileArg(args), func(w io.Writer) error { return stream.Dump(ctx, w, s) })
			})
		}),
	}
}

func (e *Env) snapshotRestore() *cobra.Command {
	r := &restoring{env: e}
	cmd := &cobra.Command{
		Use:   "restore ORIGIN STORE [FILE]",
		Short: "Make a disk with its snapshots from a stream",
		Long: "Reads what dump wrote from FILE or standard input, writes the disk to ORIGIN and\n" +
			"takes its snapshots again in STORE, which must be new: zeros, or a file that does\n" +
			"not exist. ORIGIN must have the size of the disk. A restore that failed is\n" +
			"repeated with another new store.",
		Args: arguments(2, 3, "an origin, a store, and maybe a file"),
		RunE: e.interruptible(r.run),
	}
	cmd.Flags().StringVar(&r.kind, "kind", "", "`KIND` of the store (default ranged)")
	cmd.Flags().StringVar(&r.chunk, "chunk", "", "`SIZE` of its chunks (default 4K)")
	return cmd
}

// A restoring is one run of snapshot restore.
type restoring struct {
	env         *Env
	kind, chunk string
}

func (r *restoring) run(ctx context.Context, args []string) (err error) {
	expr := fmt.Sprintf("snapshots(%s, %s", r.asExpression(args[0]), r.asExpression(args[1]))
	for _, a := range [][2]string{{"kind", r.kind}, {"chunk", r.chunk}} {
		if a[1] != "" {
			expr += fmt.Sprintf(", %s=%s", a[0], strconv.Quote(a[1]))
		}
	}
	spec, err := r.env.loader().Eval(ctx, expr+")")
	if err != nil {
		return err
	}
	// What the disk and its store held is to be replaced.
	if err := r.env.forget(ctx, args[0]); err != nil && !errors.Is(err, block.ErrNotSupported) {
		return err
	}
	devices, closeAll, err := spec.OpenAll(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	s, err := config.Snapshots(devices)
	if err != nil {
		return err
	}
	return r.env.fromFile(fileArg(args), func(in io.Reader) error { return named(fileArg(args), stream.Restore(ctx, in, s)) })
}

// asExpression is an argument that names a device as a part of an expression.
func (r *restoring) asExpression(arg string) string {
	if isURI(arg) || r.env.loader().IsPath(arg) {
		return strconv.Quote(arg)
	}
	return arg
}

func (e *Env) snapshotForget() *cobra.Command {
	return &cobra.Command{
		Use:   "forget ORIGIN",
		Short: "Let a disk be used with another store",
		Long: "A disk that is a file notes in an extended attribute which store it belongs to, and\n" +
			"is not served with another one, an older copy of it, or none. After forget it is:\n" +
			"with the store that it finds, or a new one. What only the right store has is lost\n" +
			"then: all snapshots, and with the policies staged and redirect the newest data of\n" +
			"the disk. It is the thing to do after disk and store were both restored from the\n" +
			"same backup, or when the store is gone for good.",
		Args: arguments(1, 1, "an origin"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error { return e.forget(ctx, args[0]) }),
	}
}

func (e *Env) forget(ctx context.Context, origin string) error {
	return e.withDisks(ctx, []string{origin}, []access{toWrite}, func(d []block.Device) error {
		return named(origin, snapshot.Forget(d[0]))
	})
}
