package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
)

func (e *Env) cluster() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Short:   "Look after the nodes of a cluster",
		Long:    "Looks after a cluster, through a node of it that runs on this machine.",
		GroupID: groupCluster,
	}
	onlyCommands(cmd)
	cmd.AddCommand(e.clusterToken())
	return cmd
}

// onNode is a command that asks the node on this machine.
func (e *Env) onNode(cmd *cobra.Command, args cobra.PositionalArgs, run func(context.Context, *node.Client, []string) error) *cobra.Command {
	data := cmd.Flags().String("data", "", "`DIR` of the node on this machine that is asked (default $STRATA_DATA, or /var/lib/strata)")
	path := cmd.Flags().String("control", "", "`PATH` of its control socket (default control.sock in the data directory)")
	cmd.Args = args
	cmd.RunE = e.interruptible(func(ctx context.Context, args []string) error {
		return run(ctx, e.nodeClient(*data, *path), args)
	})
	return cmd
}

// nodeClient talks to the node with that data directory or control socket.
func (e *Env) nodeClient(data, path string) *node.Client {
	switch {
	case path != "":
	case data != "":
		path = filepath.Join(data, controlName)
	default:
		path = filepath.Join(e.dataDir(), controlName)
	}
	return node.NewClient(path)
}

func (e *Env) clusterToken() *cobra.Command {
	var valid time.Duration
	var asJSON bool
	cmd := e.onNode(&cobra.Command{
		Use:   "token",
		Short: "Make a token by which nodes can join",
		Long: "Makes a token by which nodes can join the cluster until it expires, and prints\n" +
			"the command that does so. Whoever has the token can become a node, and read and\n" +
			"write everything.",
	}, arguments(0, 0, "no arguments"), func(ctx context.Context, c *node.Client, _ []string) error {
		if valid < time.Second {
			return usagef("--valid %v: want a second at least", valid)
		}
		t, err := c.Token(ctx, valid)
		switch {
		case err != nil:
			return err
		case asJSON:
			return writeJSON(e.Stdout, t)
		}
		fmt.Fprintf(e.Stdout, "%s\n", t.Token)
		fmt.Fprintf(e.Stderr, "It is valid until %s. On the machine that joins:\n  strata node --join %s --token %s\n",
			t.Expires.Local().Format(time.DateTime), t.Join, t.Token)
		return nil
	})
	cmd.Flags().DurationVar(&valid, "valid", time.Hour, "how long it can be used")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
