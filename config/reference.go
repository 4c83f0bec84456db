package config

import (
	"fmt"
	"strings"

	"github.com/strata-storage/strata/snapshot"
)

// LayersPage is the reference page of the constructors in r, in Markdown.
func LayersPage(r *Registry) string {
	var b strings.Builder
	b.WriteString(generated + `# Sources and layers

A device is made by calling one of these functions, in a
[configuration file](../configuration.md) or in an expression on the command
line. Where a device is expected, a string stands for the file of that path,
or for a remote disk if it is an NBD URI. ` + "`strata layers`" + ` shows the same list.

`)
	for _, kind := range []struct {
		title string
		is    func(*Constructor) bool
	}{
		{"Sources", func(c *Constructor) bool { return c.Kind == Source }},
		{"Layers", func(c *Constructor) bool { return c.Kind != Source }},
	} {
		fmt.Fprintf(&b, "## %s\n\n", kind.title)
		for _, c := range r.All() {
			if !kind.is(c) {
				continue
			}
			section(&b, "###", c.Name, c.Usage(), c.Doc, c.Long, c.Params)
			if c.Private {
				b.WriteString("Every mention in a configuration is a device of its own.\n\n")
			}
			if c.OnViews {
				b.WriteString("Snapshots of the device under it are exported through it.\n\n")
			}
		}
	}
	kindsSection(&b)
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// kindsSection describes the kinds of snapshot stores.
func kindsSection(b *strings.Builder) {
	b.WriteString(`## Kinds of snapshot stores

[Snapshots](../snapshots.md) says how to choose. An argument is given as
` + "`snapshots(..., kind=\"KIND\", args={\"NAME\": VALUE})`" + `.

`)
	for _, k := range snapshot.Kinds() {
		fmt.Fprintf(b, "### Store %s\n\n%s\n\n", k.Name, k.Doc)
		if len(k.Args) > 0 {
			b.WriteString("| argument | default | |\n|---|---|---|\n")
		}
		for _, a := range k.Args {
			fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", a.Name, a.Default, cell(a.Doc))
		}
		if len(k.Args) > 0 {
			b.WriteString("\n")
		}
		b.WriteString("| | |\n|---|---|\n")
		most := "any number"
		if k.Caps.MaxSnapshots > 0 {
			most = fmt.Sprint(k.Caps.MaxSnapshots)
		}
		fmt.Fprintf(b, "| snapshots | %s |\n", most)
		for _, f := range []struct {
			what string
			can  bool
		}{
			{"outlive the server", k.Caps.Persistent},
			{"snapshots can be written", k.Caps.Writable},
			{"snapshots of snapshots", k.Caps.Clones},
			{"names of one's own, renaming", k.Caps.Values},
			{"rollback", k.Caps.Home && k.Caps.Values},
			{"policies staged and redirect (else copyout)", k.Caps.Redirect},
			{"several servers under a lock", k.Caps.Cluster},
		} {
			fmt.Fprintf(b, "| %s | %s |\n", f.what, map[bool]string{true: "yes", false: "no"}[f.can])
		}
		b.WriteString("\n")
	}
}

// StatementsPage is the reference page of the statements of configuration
// files, in Markdown.
func StatementsPage() string {
	var b strings.Builder
	b.WriteString(generated + `# Statements of configuration files

What these functions say is about the server; [sources and layers](layers.md)
make the devices. See [the guide](../configuration.md) for how they go
together.

`)
	for _, s := range Statements() {
		section(&b, "##", s.Name, s.Usage, s.Doc, s.Long, s.Params)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

const generated = "<!-- Generated from the tables in package config: go test ./config -update -->\n\n"

// section describes one function.
func section(b *strings.Builder, level, name, usage, doc, long string, params []Param) {
	fmt.Fprintf(b, "%s %s\n\n```python\n%s\n```\n\n%s\n\n", level, name, usage, doc)
	if long != "" {
		b.WriteString(long + "\n\n")
	}
	if len(params) == 0 {
		return
	}
	b.WriteString("| argument | value | default | |\n|---|---|---|---|\n")
	for i := range params {
		p := &params[i]
		def := ""
		switch {
		case p.Required:
			def = "required"
		case p.Default != "":
			def = "`" + p.defaultText() + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", p.Name, cell(p.Expects()), def, cell(p.Doc))
	}
	b.WriteString("\n")
}

// cell keeps text from ending a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// A Statement describes a statement of configuration files.
type Statement struct {
	Name, Usage, Doc, Long string
	Params                 []Param
}

// Statements describes the statements of configuration files.
func Statements() []Statement {
	var list []Statement
	for _, s := range statements {
		table, err := readOptions(s.options)
		if err != nil {
			panic(err)
		}
		list = append(list, Statement{s.name, usage(s.name, nil, table.params), table.doc, table.long, table.params})
	}
	return list
}
