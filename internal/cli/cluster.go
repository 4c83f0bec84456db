package cli

import (
	"context"
	"fmt"
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
	cmd.AddCommand(e.clusterStatus(), e.clusterJobs(), e.clusterToken(), e.clusterScrub(), e.clusterSuspend(), e.clusterResume())
	return cmd
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
