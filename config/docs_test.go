package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReferencePages keeps the generated pages up to date; -update writes
// them.
func TestReferencePages(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"layers.md":     LayersPage(Builtin()),
		"statements.md": StatementsPage(),
	} {
		path := filepath.Join("../docs/reference", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is out of date: run go test ./config -update", path)
		}
	}
}

// TestExampleFile loads the example of the guide, and checks that the guide
// shows it as it is.
func TestExampleFile(t *testing.T) {
	t.Parallel()
	const path = "../docs/examples/strata.star"
	c, err := (&Loader{}).Load(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Exports) != 6 || c.TLS == nil || len(c.Listeners) != 2 {
		t.Errorf("the example has become\n%s", c.Summary())
	}
	example, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(guide), "```python\n"+string(example)+"```\n") {
		t.Errorf("docs/configuration.md does not show %s as it is", path)
	}
}

// TestBuiltinIsComplete: every constructor has a sentence that ends, and the
// defaults it shows can be written in a configuration.
func TestBuiltinIsComplete(t *testing.T) {
	t.Parallel()
	for _, c := range Builtin().All() {
		if !strings.HasSuffix(c.Doc, ".") {
			t.Errorf("%s: %q is not a sentence", c.Name, c.Doc)
		}
		for _, p := range c.Params {
			if !strings.HasSuffix(p.Doc, ".") {
				t.Errorf("%s, %s: %q is not a sentence", c.Name, p.Name, p.Doc)
			}
		}
	}
}
