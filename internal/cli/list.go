package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/units"
)

// listedExport is an export in the answer of list.
type listedExport struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Size        *int64   `json:"size,omitempty"`
	Flags       []string `json:"flags"`
	Contexts    []string `json:"contexts"`
}

func (e *Env) list() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list URI",
		Short:   "List the exports of an NBD server",
		Example: "  strata list nbd://localhost\n  strata list 'nbd+unix:///?socket=/run/s.sock'",
		GroupID: groupUse,
		Args:    arguments(1, 1, "one NBD URI"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			return e.listExports(ctx, args[0], asJSON)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (e *Env) listExports(ctx context.Context, uri string, asJSON bool) error {
	exports, err := e.dialer(1).List(ctx, uri)
	if err != nil {
		return err
	}
	list := []listedExport{}
	for _, x := range exports {
		l := listedExport{Name: x.Name, Description: x.Description, Flags: append([]string{}, x.Flags...), Contexts: append([]string{}, x.Contexts...)}
		if x.Size >= 0 {
			l.Size = &x.Size
		}
		list = append(list, l)
	}
	if asJSON {
		return writeJSON(e.Stdout, list)
	}
	t := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	for _, x := range list {
		size := "-"
		if x.Size != nil {
			size = units.Bytes(*x.Size)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", shown(x.Name), size, x.Description)
	}
	return t.Flush()
}
