package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/internal/cli"
)

// What is committed is what the commands say now.
func TestCurrent(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..")
	files, err := generate(cli.Tree())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current (%v): run make docs", path, err)
		}
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "man", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if files["docs/man/"+filepath.Base(page)] == nil {
			t.Errorf("%s is about a command that is gone", page)
		}
	}
}
