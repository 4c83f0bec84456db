package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

// An ordering is a command that orders something about a node or a disk.
type ordering struct {
	env    *Env
	order  node.Order
	then   string // what to say when it is done
	yes    *bool
	asJSON *bool
	dry    bool
}

// onMember completes a command. It tells what will happen before it asks whether it
// should.
func (e *Env) onMember(cmd *cobra.Command, o *ordering, args cobra.PositionalArgs, read func(args []string) error) *cobra.Command {
	o.env = e
	e.onNode(cmd, args, func(ctx context.Context, c *node.Client, args []string) error {
		if err := read(args); err != nil {
			return err
		}
		return o.run(ctx, c)
	})
	o.yes, o.asJSON = yesFlag(cmd), jsonFlag(cmd)
	cmd.Flags().BoolVar(&o.dry, "dry-run", false, "only say what it would do")
	return cmd
}

func (o *ordering) run(ctx context.Context, c *node.Client) error {
	f, err := c.Foresee(ctx, o.order)
	if err != nil {
		return err
	}
	if o.dry && *o.asJSON {
		return writeJSON(o.env.Stdout, f)
	}
	if !*o.asJSON {
		writeForesight(o.env.Stdout, f)
	}
	if o.dry {
		return nil
	}
	if f.Refused != "" && !o.order.Force {
		return fmt.Errorf("%s: nothing was done; --force does it nevertheless", f.Refused)
	}
	if err := o.env.confirm(*o.yes, ""); err != nil {
		return err
	}
	f, err = c.Carry(ctx, o.order)
	switch {
	case err != nil:
		return err
	case *o.asJSON:
		return writeJSON(o.env.Stdout, f)
	}
	if o.order.Do == "weigh" && f.Copies == 0 {
		fmt.Fprintln(o.env.Stdout, "No copy has to be moved for that.")
		return nil
	}
	fmt.Fprintln(o.env.Stdout, o.then)
	return nil
}

func writeForesight(w io.Writer, f *node.Foresight) {
	for _, text := range f.Texts {
		fmt.Fprintln(w, text)
	}
}

const moreThanOne = "A NODE is named by its name, its ID or the beginning of that."

func (e *Env) clusterDrain() *cobra.Command {
	o := &ordering{order: node.Order{Do: "drain"}, then: "It is being drained; 'strata cluster status --watch' shows how far that is, and when the node can be stopped."}
	return e.onMember(&cobra.Command{
		Use:   "drain NODE",
		Short: "Move all copies off a node, to stop it for good or for long",
		Long: "Moves all copies that a node has to others, in the background, and gives it none until\n" +
			"undrain. It goes on serving volumes meanwhile. It keeps a copy until another node has\n" +
			"it, so for as long as there is no other node that could. A node that is stopped for a\n" +
			"short time need not be drained: only what was written in that time is copied when it\n" +
			"is back.\n\n" + moreThanOne,
	}, o, arguments(1, 1, "a node"), func(args []string) error {
		o.order.Node = args[0]
		return nil
	})
}

func (e *Env) clusterUndrain() *cobra.Command {
	o := &ordering{order: node.Order{Do: "undrain"}, then: "It gets copies again."}
	return e.onMember(&cobra.Command{
		Use:   "undrain NODE",
		Short: "Let a node have copies again after drain",
		Long:  "Lets a node have copies again after drain.\n\n" + moreThanOne,
	}, o, arguments(1, 1, "a node"), func(args []string) error {
		o.order.Node = args[0]
		return nil
	})
}

func (e *Env) clusterWeight() *cobra.Command {
	o := &ordering{order: node.Order{Do: "weigh"}, then: "Copies are moved in the background."}
	return e.onMember(&cobra.Command{
		Use:   "weight DISK SIZE",
		Short: "Change how much a disk gets, in proportion to others",
		Long: "Lets a disk count as if it had that SIZE, which decides how much it gets in\n" +
			"proportion to others; 0 empties it. A DISK is named by the beginning of its ID,\n" +
			"which status shows.",
	}, o, arguments(2, 2, "a disk and a size"), func(args []string) (err error) {
		o.order.Disk = args[0]
		if o.order.Weight, err = units.ParseBytes(args[1]); err != nil {
			return &usageError{err}
		}
		return nil
	})
}

func (e *Env) clusterForget() *cobra.Command {
	o := &ordering{order: node.Order{Do: "forget"}, then: "It is forgotten, and refused from now on."}
	disk := false
	cmd := e.onMember(&cobra.Command{
		Use:   "forget NODE",
		Short: "End a node, or a disk, for good",
		Long: "Ends a node that does not come back, or a disk (--disk): it is not known any more, and\n" +
			"refused. What it had is copied from others. It is refused if that would lose data,\n" +
			"or copies that are in use, unless --force says that this is meant. Drain a node that\n" +
			"still runs before.\n\n" + moreThanOne,
		Example: "  strata cluster forget web3\n" +
			"  strata cluster forget --disk 9d4f9609",
	}, o, arguments(1, 1, "a node"), func(args []string) error {
		o.order.Node = args[0]
		if disk {
			o.order.Node, o.order.Disk = "", args[0]
		}
		return nil
	})
	cmd.Flags().BoolVar(&disk, "disk", false, "it is the ID of a disk, or the beginning of one")
	cmd.Flags().BoolVar(&o.order.Force, "force", false, "do it although data are lost")
	return cmd
}

func (e *Env) clusterRecover() *cobra.Command {
	s := &noding{env: e}
	var yes *bool
	var cmd *cobra.Command
	cmd = e.onNode(&cobra.Command{
		Use:   "recover-quorum",
		Short: "Let a cluster go on of which most voters are lost for good",
		Long: "A few nodes vote on what the cluster agrees on: one, three or five. When most of them\n" +
			"cannot be reached nothing can be agreed on, and when they are lost for good this lets\n" +
			"what one node knows become what all agree on. What was agreed on last may be lost, so\n" +
			"do it on the node that ran last, once, and only if the others never come back with\n" +
			"what they know.\n\n" +
			"If the node runs it is told; if it cannot be started, its data directory is changed.",
	}, arguments(0, 0, "no arguments"), func(ctx context.Context, c *node.Client, _ []string) error {
		recover := c.RecoverQuorum
		texts, err := recover(ctx, false)
		if isNobody(err) {
			data, _ := cmd.Flags().GetString("data")
			if recover, err = s.offline(cmp.Or(data, filepath.Dir(c.Path()))); err != nil {
				return err
			}
			texts, err = recover(ctx, false)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(e.Stdout, strings.Join(texts, "\n"))
		if !*yes && !e.onTerminal() {
			return errors.New("nothing was done: where nobody can be asked --yes does it")
		}
		if err := e.confirm(*yes, ""); err != nil {
			return err
		}
		if _, err := recover(ctx, true); err != nil {
			return err
		}
		fmt.Fprintln(e.Stdout, "It is done.")
		return nil
	})
	yes = yesFlag(cmd)
	cmd.Flags().StringVar(&s.clusterListen, "cluster-listen", "", "`HOST:PORT` of the node, if it does not run and has another one than by itself")
	return cmd
}
