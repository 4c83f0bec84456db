package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/config"
)

func (e *Env) layers() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "layers [NAME]",
		Short:   "Show the sources and layers that disks are made of",
		Long:    "Lists every source and layer, or tells all about one of them.",
		GroupID: groupHelp,
		Args:    arguments(0, 1, "at most one name"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, c := range config.Builtin().All() {
				names = append(names, c.Name+"\t"+c.Doc)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r := config.Builtin()
			list := r.All()
			if len(args) > 0 {
				c, err := r.Lookup(args[0])
				if err != nil {
					return err
				}
				list = []*config.Constructor{c}
			}
			switch {
			case asJSON:
				return writeJSON(e.Stdout, describeAll(list))
			case len(args) > 0:
				writeConstructor(e.Stdout, list[0])
			default:
				writeConstructors(e.Stdout, list)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// writeConstructors prints one line for each, under its kind.
func writeConstructors(w io.Writer, list []*config.Constructor) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	heading := ""
	for _, c := range list {
		title := "Layers"
		if c.Kind == config.Source {
			title = "Sources"
		}
		if title != heading {
			if heading != "" {
				fmt.Fprintln(t)
			}
			fmt.Fprintf(t, "%s:\n", title)
			heading = title
		}
		fmt.Fprintf(t, "  %s\t%s\n", c.Name, c.Doc)
	}
}

// writeConstructor prints the page of one.
func writeConstructor(w io.Writer, c *config.Constructor) {
	fmt.Fprintf(w, "%s\n\n%s\n", c.Usage(), c.Doc)
	if c.Long != "" {
		fmt.Fprintf(w, "\n%s\n", wrapText(c.Long, 78))
	}
	if len(c.Params) == 0 {
		return
	}
	fmt.Fprintln(w, "\nArguments:")
	for i := range c.Params {
		p := &c.Params[i]
		fmt.Fprintf(w, "  %s\n", paramFacts(p))
		fmt.Fprintf(w, "      %s\n", strings.ReplaceAll(wrapText(p.Doc, 72), "\n", "\n      "))
	}
}

// paramFacts is the name of an argument and what it takes.
func paramFacts(p *config.Param) string {
	facts := []string{cmp.Or(p.Unit, string(p.Type))}
	if len(p.Enum) > 0 {
		facts = []string{strings.Join(p.Enum, " or ")}
	}
	if p.Required {
		facts = append(facts, "required")
	}
	if p.Default != "" {
		facts = append(facts, "default "+p.Default)
	}
	return p.Name + " (" + strings.Join(facts, ", ") + ")"
}

// wrapText breaks lines at the given number of characters.
func wrapText(s string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(s) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

type constructorJSON struct {
	Name   string      `json:"name"`
	Kind   config.Kind `json:"kind"`
	Usage  string      `json:"usage"`
	Doc    string      `json:"doc"`
	Long   string      `json:"long,omitempty"`
	Params []paramJSON `json:"params"`
}

type paramJSON struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Unit     string   `json:"unit,omitempty"`
	Default  string   `json:"default,omitempty"`
	Enum     []string `json:"enum,omitempty"`
	Required bool     `json:"required"`
	Doc      string   `json:"doc"`
}

func describeAll(list []*config.Constructor) []constructorJSON {
	all := make([]constructorJSON, len(list))
	for i, c := range list {
		all[i] = constructorJSON{Name: c.Name, Kind: c.Kind, Usage: c.Usage(), Doc: c.Doc, Long: c.Long, Params: []paramJSON{}}
		for _, p := range c.Params {
			all[i].Params = append(all[i].Params, paramJSON{
				Name: p.Name, Type: string(p.Type), Unit: p.Unit, Default: p.Default,
				Enum: p.Enum, Required: p.Required, Doc: p.Doc,
			})
		}
	}
	return all
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
