package home

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var example = Record{
	Cluster: "00112233445566778899aabbccddeeff",
	Node:    "0123456789abcdef",
	Disks: []Disk{
		{ID: "d1c7b0a2-0000-4000-8000-000000000001"}, {ID: "d1c7b0a2-0000-4000-8000-000000000002", Number: 1},
	},
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made makes a directory with a node in it.
func made(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	h, err := Open(dir)
	must(t, err)
	must(t, h.Begin())
	must(t, h.MakeDisk(0))
	must(t, os.WriteFile(h.Slab(0), []byte("slab"), 0o600))
	must(t, h.Finish(example))
	must(t, h.Close())
	return dir
}

func TestMakeAndOpen(t *testing.T) {
	t.Parallel()
	dir := made(t)
	h, err := Open(dir)
	must(t, err)
	defer h.Close()
	r, ok := h.Made()
	if !ok || r.Node != example.Node || !slices.Equal(r.Disks, example.Disks) {
		t.Errorf("it is %+v, %v", r, ok)
	}
	if b, err := os.ReadFile(h.Slab(0)); err != nil || string(b) != "slab" {
		t.Errorf("the slab has %q, %v", b, err)
	}
	if err := h.Begin(); err == nil || !strings.Contains(err.Error(), example.Node) {
		t.Errorf("it can be made again: %v", err)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := made(t)
	h, err := Open(dir)
	must(t, err)
	if _, err := Open(dir); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("opened twice: %v", err)
	}
	must(t, h.Close())
	h, err = Open(dir)
	must(t, err)
	must(t, h.Close())
}

// A start that was killed at any step is repeated from the beginning, and what was
// finished stays.
func TestCutShort(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	steps := []func(h *Home) error{
		func(*Home) error { return nil },
		func(h *Home) error { return h.Begin() },
		func(h *Home) error { return h.MakeDisk(0) },
		func(h *Home) error { return os.MkdirAll(h.Keys(), 0o700) },
		func(h *Home) error { return os.WriteFile(h.path(newName), []byte("strata no"), 0o600) },
	}
	for n := range steps {
		h, err := Open(dir)
		must(t, err)
		if _, ok := h.Made(); ok {
			t.Fatalf("made after %d steps", n)
		}
		if _, err := os.Stat(h.disk(0)); err == nil {
			t.Errorf("after %d steps a disk was left", n-1)
		}
		for _, step := range steps[:n+1] {
			must(t, step(h))
		}
		must(t, h.Close())
	}
	h, err := Open(dir)
	must(t, err)
	must(t, h.Begin())
	must(t, h.MakeDisk(0))
	must(t, h.write(example)) // killed right behind it
	must(t, h.Close())
	h, err = Open(dir)
	must(t, err)
	defer h.Close()
	if _, err := os.Stat(h.disk(0)); err != nil {
		t.Error(err)
	}
	if _, ok := h.Made(); !ok {
		t.Error("what was finished is not there")
	}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "photo.jpg"), nil, 0o600))
	if _, err := Open(dir); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "photo.jpg") {
		t.Errorf("a directory of something else: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("something was left behind: %v", entries)
	}
}

func TestHalf(t *testing.T) {
	t.Parallel()
	dir := made(t)
	must(t, os.Remove(filepath.Join(dir, nodeName)))
	if _, err := Open(dir); !errors.Is(err, ErrHalf) || !strings.Contains(err.Error(), "disks") {
		t.Errorf("a directory without its record: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, disksName, "0", "slab")); err != nil {
		t.Errorf("the disk is gone: %v", err)
	}
}

func TestOther(t *testing.T) {
	t.Parallel()
	h, err := Open(made(t))
	must(t, err)
	defer h.Close()
	must(t, h.Expect("", ""))
	must(t, h.Expect(example.Cluster, example.Node))
	for _, err := range []error{
		h.Expect(strings.Repeat("0", 32), ""),
		h.Expect(example.Cluster, strings.Repeat("0", 16)),
	} {
		if !errors.Is(err, ErrOther) || !strings.Contains(err.Error(), "expected 0000") {
			t.Errorf("another one is taken: %v", err)
		}
	}
}

// The format must not change.
func TestGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/node")
	must(t, err)
	text, err := example.encode()
	if err != nil || string(text) != string(want) {
		t.Errorf("got %s, %v", text, err)
	}
	if r, err := parse(want); err != nil || r.Cluster != example.Cluster {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	good, err := example.encode()
	must(t, err)
	for _, x := range []struct {
		text string
		want error
		says string
	}{
		{"", ErrDamaged, "first line"},
		{"strata node 1\n", ErrDamaged, "first line"},
		{strings.Replace(string(good), "node 1", "node 2", 1), ErrNewer, "version 2"},
		{strings.Replace(string(good), "node 1", "node 0", 1), ErrDamaged, "number from 1"},
		{strings.Replace(string(good), "0123456789abcdef", "0123456789abcdee", 1), ErrDamaged, "checksum"},
		{string(good[:len(good)-2]), ErrDamaged, "checksum"},
		{sealed(`{"cluster":"x"}`), ErrDamaged, "32 hexadecimal"},
		{sealed(`{"cluster":"` + example.Cluster + `","node":"` + example.Node + `","more":1}`), ErrDamaged, "more"},
		{sealed(`{"cluster":"` + example.Cluster + `","node":"` + example.Node + `","agreed":[""]}`), ErrDamaged, "URL of 0 bytes"},
		{sealed(`{"cluster":"` + example.Cluster + `","node":"` + example.Node + `"}{}`), ErrDamaged, "behind"},
		{sealed(`{"cluster":"` + example.Cluster + `","node":"` + example.Node + `","disks":[{"id":"a"},{"id":"a","number":1}]}`), ErrDamaged, "of its own"},
	} {
		if _, err := parse([]byte(x.text)); !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%q: %v, expected %q", x.text, err, x.says)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, _ := example.encode()
	f.Add(good)
	f.Add([]byte(sealed(`{}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		again, err := r.encode()
		must(t, err)
		if r2, err := parse(again); err != nil || r2.Node != r.Node || !slices.Equal(r.Disks, r2.Disks) {
			t.Errorf("%+v became %+v, %v", r, r2, err)
		}
	})
}

// sealed puts the first line before an object.
func sealed(text string) string {
	return fmt.Sprintf("%s%d %08x\n%s", magic, Format, crc32.Checksum([]byte(text), castagnoli), text)
}

// A file that has what it is to have is left alone, and another one is replaced as a whole.
func TestReplace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	var last os.FileInfo
	for i, text := range []string{"one", "one", "two"} {
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("%q, %v, expected %q", got, err, text)
		}
		is, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if same := last != nil && os.SameFile(last, is); same != (i == 1) {
			t.Errorf("step %d: it is the same file: %v", i, same)
		}
		last = is
	}
}
