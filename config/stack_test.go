package config

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
)

// TestThreeFiles is the promise of the project's first page: three files end
// to end, copy-on-write on the middle one only. What is written in the middle
// changes nothing but the difference file, and is there after a restart.
func TestThreeFiles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	const part = 64 << 10
	for i, name := range []string{"a.img", "b.img", "c.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte{byte(i + 1)}, part), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "strata.star")
	if err := os.WriteFile(conf, []byte(`export("vm", concat("a.img", cow("b.img", "b.cow"), "c.img"))`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := (&Loader{}).Load(ctx, conf)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Fatalf("evaluation has made files: %v, %v", entries, err)
	}
	written := bytes.Repeat([]byte{9}, 8192)
	for _, restart := range []bool{false, true} {
		s := &Set{}
		mustApply(t, s, c)
		dev := s.table().order[0].root.dev
		if !restart {
			if err := dev.WriteAt(ctx, written, part+4096, block.FUA); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, 3*part)
		if err := dev.ReadAt(ctx, got, 0, 0); err != nil {
			t.Fatal(err)
		}
		want := append(append(bytes.Repeat([]byte{1}, part), bytes.Repeat([]byte{2}, part)...), bytes.Repeat([]byte{3}, part)...)
		copy(want[part+4096:], written)
		if !bytes.Equal(got, want) {
			t.Errorf("restart %v: the disk is not what it should be", restart)
		}
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	for i, name := range []string{"a.img", "b.img", "c.img"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, part)) {
			t.Errorf("%s has changed (%v)", name, err)
		}
	}
}

// TestLocks: real files that are locked by the running configuration give the
// error that says what to do, and one base serves many differences.
func TestLocks(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "b.img"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(src string) *Config {
		c, err := (&Loader{}).LoadBytes(ctx, filepath.Join(dir, "s.star"), []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one, two := &Set{}, &Set{}
	mustApply(t, one, load(`export("a", cow("b.img", "1.cow")); export("b", cow("b.img", "2.cow"))`))
	mustApply(t, two, load(`export("c", cow("b.img", "3.cow"))`)) // as another process would
	for _, tt := range []struct{ src, want string }{
		{`export("a", "b.img")`, `b.img is in use by file("`},
		{`export("a", cow("b.img", "1.cow", read_only=True))`, `1.cow is in use by cow(`},
	} {
		_, err := one.Apply(ctx, load(tt.src))
		if block.Errno(err) != syscall.EBUSY || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.src, err, tt.want)
		}
	}
	for _, s := range []*Set{one, two} {
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
