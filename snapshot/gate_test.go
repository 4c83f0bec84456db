package snapshot_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/snapshot"
)

// The engine names no kind of store and parses no argument of one (R1, R2): the
// store "image" is in files of tests only, and what follows would fail if the
// engine knew any other.
func TestEngineKnowsNoKind(t *testing.T) {
	t.Parallel()
	kinds := []string{"ranged", "bitmap", "legacy", "transient", "image"}
	for _, k := range snapshot.Kinds() {
		kinds = append(kinds, k.Name)
	}
	if entries, err := os.ReadDir("."); err == nil {
		for _, e := range entries {
			if e.IsDir() {
				kinds = append(kinds, e.Name())
			}
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	lines := 0
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		lines += set.File(tree.Pos()).LineCount()
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				for _, kind := range kinds {
					if n.Kind == token.STRING && (strings.Trim(n.Value, "`\"") == kind || strings.Contains(n.Value, "/snapshot/"+kind)) {
						t.Errorf("%v: the engine names the kind %q", set.Position(n.Pos()), kind)
					}
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "Args" {
					if p := set.Position(n.Pos()); filepath.Base(p.Filename) != "set.go" {
						t.Errorf("%v: the engine looks at arguments of a store", p)
					}
				}
			}
			return true
		})
	}
	// A driver of everything would be as big as everything (R34).
	if limit := 4200; lines > limit {
		t.Errorf("the engine has %d lines, at most %d are allowed", lines, limit)
	}
	t.Logf("the engine has %d lines", lines)
}
