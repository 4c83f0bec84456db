// Gen writes what is generated from the tree of commands: the reference page,
// the manual pages and the completions for shells.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/strata-storage/strata/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen ROOT")
		os.Exit(2)
	}
	files, err := generate(cli.Tree())
	for path, p := range files {
		if err == nil {
			err = write(filepath.Join(os.Args[1], path), p)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write(path string, p []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, p, 0o644)
}

// generate returns the files by their paths.
func generate(root *cobra.Command) (map[string][]byte, error) {
	files := map[string][]byte{}
	var page bytes.Buffer
	page.WriteString("# Commands\n\nGenerated from the commands themselves; `strata help` shows the same.\n")
	if err := reference(&page, root); err != nil {
		return nil, err
	}
	files["docs/reference/cli.md"] = page.Bytes()
	if err := manuals(files, root); err != nil {
		return nil, err
	}
	return files, completions(files, root)
}

// documented are the commands below cmd that have a page.
func documented(cmd *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "completion" {
			list = append(list, c)
		}
	}
	return list
}

// reference writes the section of cmd and those of the commands below it.
func reference(page *bytes.Buffer, cmd *cobra.Command) error {
	if cmd.HasParent() {
		fmt.Fprintf(page, "\n## %s\n\n", cmd.CommandPath())
		text := cmd.Long
		if text == "" {
			text = cmd.Short + "."
		}
		fmt.Fprintf(page, "%s\n\n```\n%s\n```\n", text, cmd.UseLine())
		if cmd.Example != "" {
			fmt.Fprintf(page, "\nExamples:\n\n```\n%s\n```\n", unindent(cmd.Example))
		}
		if flags := cmd.NonInheritedFlags(); flags.HasAvailableFlags() {
			fmt.Fprintf(page, "\nFlags:\n\n```\n%s```\n", flags.FlagUsagesWrapped(100))
		}
	}
	for _, c := range documented(cmd) {
		if err := reference(page, c); err != nil {
			return err
		}
	}
	return nil
}

func unindent(s string) string {
	return strings.TrimPrefix(strings.ReplaceAll(s, "\n  ", "\n"), "  ")
}

// manuals adds a page of section 1 for cmd and each command below it. The
// date is fixed, so that pages differ only when what they say does.
func manuals(files map[string][]byte, cmd *cobra.Command) error {
	cmd.DisableAutoGenTag = true
	date := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var page bytes.Buffer
	header := &doc.GenManHeader{Section: "1", Source: "Strata", Manual: "Strata", Date: &date}
	if err := doc.GenMan(cmd, header, &page); err != nil {
		return err
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	files["docs/man/"+name] = page.Bytes()
	for _, c := range documented(cmd) {
		if err := manuals(files, c); err != nil {
			return err
		}
	}
	return nil
}

func completions(files map[string][]byte, root *cobra.Command) error {
	for path, write := range map[string]func(*bytes.Buffer) error{
		"dist/completions/strata.bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"dist/completions/_strata":     func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"dist/completions/strata.fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		files[path] = b.Bytes()
	}
	return nil
}
