package source_test

import (
	"errors"
	"os"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/source"
)

// A disk in memory keeps notes as long as its content.
func TestMemNote(t *testing.T) {
	t.Parallel()
	d, err := source.Mem(t.Context(), source.MemOptions{Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	n := block.NoterOf(d)
	for _, text := range []string{"", "one", "another", ""} {
		if err := n.SetNote("store", text); err != nil {
			t.Fatal(err)
		}
		if got, err := n.Note("store"); err != nil || got != text {
			t.Errorf("the note is %q, %v, expected %q", got, err, text)
		}
	}
}

// A note stays with a file, whatever its name, until it is removed.
func TestFileNote(t *testing.T) {
	t.Parallel()
	path := makeFile(t, 4096)
	d := mustOpen(t, source.FileOptions{Path: path})
	n := block.NoterOf(block.Keep(d))
	if n == nil {
		t.Fatal("a file keeps no notes")
	}
	is := func(n block.Noter, want string) {
		t.Helper()
		if text, err := n.Note("store"); err != nil || text != want {
			t.Errorf("the note is %q, %v, expected %q", text, err, want)
		}
	}
	if _, err := n.Note("store"); errors.Is(err, block.ErrNotSupported) {
		peer.Cannot(t, "the file system has no extended attributes")
	}
	is(n, "")
	for _, text := range []string{"one", "another", "", "", "last"} {
		if err := n.SetNote("store", text); err != nil {
			t.Fatal(err)
		}
		is(n, text)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	n = block.NoterOf(mustOpen(t, source.FileOptions{Path: path + ".2", ReadOnly: true}))
	is(n, "last")
	if err := n.SetNote("store", "x"); !errors.Is(err, block.ErrReadOnly) {
		t.Errorf("a note on a file that is only read: %v", err)
	}
}
