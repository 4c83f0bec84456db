package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
)

func (e *Env) clusterToken() *cobra.Command {
	var valid time.Duration
	var once bool
	var asJSON *bool
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
		t, err := c.Token(ctx, valid, once)
		switch {
		case err != nil:
			return err
		case *asJSON:
			return writeJSON(e.Stdout, t)
		}
		fmt.Fprintf(e.Stdout, "%s\n", t.Token)
		fmt.Fprintf(e.Stderr, "It is valid until %s. On the machine that joins:\n  strata node --join %s --token %s\n",
			t.Expires.Local().Format(time.DateTime), t.Join, t.Token)
		return nil
	})
	asJSON = jsonFlag(cmd)
	cmd.Flags().DurationVar(&valid, "valid", time.Hour, "how long it can be used")
	cmd.Flags().BoolVar(&once, "once", false, "let one node join by it")
	return cmd
}

func (e *Env) clusterTokens() *cobra.Command {
	return onNodeShown(e, &cobra.Command{
		Use:   "tokens",
		Short: "List the tokens by which nodes can join",
		Long:  "Lists the tokens by which nodes can join, by their digests: nobody is told a token again.",
	}, arguments(0, 0, "no arguments"), func(ctx context.Context, c *node.Client, _ []string) ([]node.TokenStatus, error) {
		return c.Tokens(ctx)
	}, writeTokens)
}

func writeTokens(w io.Writer, list []node.TokenStatus, _ time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "Nobody can join: there is no token. 'strata cluster token' makes one.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DIGEST\tMADE\tEXPIRES\tFOR")
	for _, x := range list {
		whom := "any number of nodes"
		if x.Once {
			whom = "one node"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", x.Digest[:min(len(x.Digest), 12)], x.Created.Local().Format(time.DateTime), x.Expires.Local().Format(time.DateTime), whom)
	}
	t.Flush()
}

func (e *Env) clusterWithdraw() *cobra.Command {
	return e.onNode(&cobra.Command{
		Use:   "withdraw DIGEST",
		Short: "Let nobody join by a token any more",
		Long: "Ends a token, of which tokens lists the digest. Nodes that have joined by it stay\n" +
			"what they are; forget ends those.",
	}, arguments(1, 1, "the digest of a token, or its beginning"), func(ctx context.Context, c *node.Client, args []string) error {
		return c.Withdraw(ctx, args[0])
	})
}
