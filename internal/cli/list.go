package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
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
	return writeList(e.Stdout, list)
}

func writeList(w io.Writer, list []listedExport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	row("export", "size", "description")
	for _, x := range list {
		size := "-"
		if x.Size != nil {
			size = units.Bytes(*x.Size)
		}
		row(shown(x.Name), size, x.Description)
	}
	return t.Flush()
}
