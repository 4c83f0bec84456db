package lint

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the documents of the module by their paths from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	walk(t, ".md", func(rel string, text []byte) error {
		all[rel] = string(text)
		return nil
	})
	if len(all) < 10 {
		t.Fatalf("found %d documents only", len(all))
	}
	return all
}

// measured are written by "make bench", which takes too long for a test.
var measured = []string{"docs/benchmarks.md", "docs/benchmarks.svg", "docs/benchmarks-snapshots.md", "docs/benchmarks-snapshots.svg",
	"docs/benchmarks-cluster.md", "docs/benchmarks-cluster.svg", "docs/scaling.md"}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```[ \t]*$")
	inline  = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	punct   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names by which the headings of a document can be linked to.
func anchors(text string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := punct.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// Every link to a place in the module leads to a file, and to a heading of it.
func TestLinks(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for page, text := range all {
		text = inline.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil && !slices.Contains(measured, target) {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			}
			if other, ok := all[target]; ok && anchor != "" && !slices.Contains(anchors(other), anchor) {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

var (
	section   = regexp.MustCompile(`(?m)^## strata (.*)$`)
	flagName  = regexp.MustCompile(`(?m)^ {2,}(?:(-[a-z]), )?(--[a-z-]+)`)
	invoked   = regexp.MustCompile(`(?:^|[\s(])strata ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?([^|;&#)]*)`)
	usedFlag  = regexp.MustCompile(`(?:^|\s)(--?[a-z][a-z-]*)`)
	quoted    = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	lineBreak = regexp.MustCompile(`\\\n\s*`)
)

// commands are the flags of each command, from the page that the program
// writes about itself.
func commands(t *testing.T, reference string) map[string][]string {
	t.Helper()
	all := map[string][]string{"help": nil, "completion": nil}
	parts := section.FindAllStringSubmatchIndex(reference, -1)
	for i, p := range parts {
		end := len(reference)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		flags := []string{"-h", "--help"}
		for _, m := range flagName.FindAllStringSubmatch(reference[p[1]:end], -1) {
			flags = append(flags, m[1], m[2])
		}
		all[reference[p[2]:p[3]]] = flags
	}
	if len(all) < 10 {
		t.Fatalf("found %d commands only", len(all))
	}
	return all
}

// Every command line in a document uses commands and flags that there are.
func TestCommandLines(t *testing.T) {
	t.Parallel()
	all := pages(t)
	known := commands(t, all["docs/reference/cli.md"])
	for page, text := range all {
		code := fence.FindAllString(text, -1)
		for _, c := range inline.FindAllString(fence.ReplaceAllString(text, ""), -1) {
			code = append(code, strings.Trim(c, "`"))
		}
		for _, c := range code {
			for line := range strings.Lines(lineBreak.ReplaceAllString(c, " ")) {
				for _, complaint := range misused(known, line) {
					t.Errorf("%s: %s", page, complaint)
				}
			}
		}
	}
}

// misused tells what is wrong with the calls of strata in a line.
func misused(known map[string][]string, line string) (complaints []string) {
	for _, m := range invoked.FindAllStringSubmatch(quoted.ReplaceAllString(line, "''"), -1) {
		name := m[1]
		if _, ok := known[name+" "+m[2]]; ok {
			name += " " + m[2]
		}
		flags, ok := known[name]
		if !ok {
			complaints = append(complaints, "there is no command strata "+name+" in: "+strings.TrimSpace(line))
		}
		for _, f := range usedFlag.FindAllStringSubmatch(m[3], -1) {
			if ok && !slices.Contains(flags, f[1]) {
				complaints = append(complaints, "strata "+name+" has no flag "+f[1]+" in: "+strings.TrimSpace(line))
			}
		}
	}
	return complaints
}

func TestMisused(t *testing.T) {
	t.Parallel()
	known := map[string][]string{"serve": {"-c", "--listen"}, "cow": nil, "cow info": {"--json"}}
	for line, want := range map[string]int{
		"strata serve --listen x -c y disk.img":    0,
		"$ strata serve --lisen x":                 1,
		"strata sevre disk.img":                    1,
		"strata serve 'exec(\"nbdkit\", \"--x\")'": 0,
		"strata cow info --json f":                 0,
		"strata cow info --jason f":                1,
		"strata serve x | head --bytes 3":          0,
		"/usr/bin/strata strata serve --listen x":  0,
		"strata: serve is not a call":              0,
	} {
		if got := misused(known, line); len(got) != want {
			t.Errorf("%s: %q, want %d complaints", line, got, want)
		}
	}
}

var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")

// Tests that documents name are there.
func TestNamedTests(t *testing.T) {
	t.Parallel()
	_, all := files(t)
	there := map[string]bool{}
	for _, f := range all {
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
				there[fn.Name.Name] = true
			}
		}
	}
	for page, text := range pages(t) {
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which no file has", page, m[1])
			}
		}
	}
}
