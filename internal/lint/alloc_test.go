package lint

import (
	"go/ast"
	"strings"
	"testing"
)

// Allocations cannot be counted under the race detector. `make test` runs the tests that do
// it a second time without, and knows them by their names.
func TestAllocationsAreCountedByName(t *testing.T) {
	t.Parallel()
	_, all := files(t)
	// Functions of tests that count, by directory and name, and what each of them calls.
	counts, calls := map[[2]string]bool{}, map[[2]string][]string{}
	for _, f := range all {
		if !f.test {
			continue
		}
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			key := [2]string{f.dir, fn.Name.Name}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				switch x := n.(type) {
				case *ast.SelectorExpr:
					counts[key] = counts[key] || x.Sel.Name == "AllocsPerRun"
				case *ast.CallExpr:
					if name, ok := x.Fun.(*ast.Ident); ok {
						calls[key] = append(calls[key], name.Name)
					}
				}
				return true
			})
		}
	}
	for again := true; again; {
		again = false
		for key, names := range calls {
			for _, name := range names {
				if !counts[key] && counts[[2]string{key[0], name}] {
					counts[key], again = true, true
				}
			}
		}
	}
	found := 0
	for key, is := range counts {
		if !is || !strings.HasPrefix(key[1], "Test") {
			continue
		}
		if found++; !strings.Contains(key[1], "Alloc") {
			t.Errorf("%s: %s counts allocations, expected Alloc in its name, by which make test finds it", key[0], key[1])
		}
	}
	if found < 10 {
		t.Errorf("%d tests count allocations, there should be more", found)
	}
}
