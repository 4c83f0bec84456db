package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestMakeReadOnly: everything in the tree that can be opened for reading only
// is, and nothing else changes.
func TestMakeReadOnly(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		`file("a")`:                           `file("a", read_only=True)`,
		`file("a", read_only=False)`:          `file("a")`,
		`file("a", read_only=True)`:           `file("a", read_only=True)`,
		`mem("1M")`:                           `mem("1M")`,
		`concat("a", multifile("b"))`:         `concat(file("a", read_only=True), multifile("b", read_only=True))`,
		`delay(cow("a", "b"), read="1s")`:     `delay(cow(file("a", read_only=True), "b", read_only=True), read="1s")`,
		`mirror("a", throttle("b", bytes=9))`: `mirror(file("a", read_only=True), throttle(file("b", read_only=True), 9))`,
	} {
		c, err := (&Loader{}).Args(context.Background(), []string{"x=" + expr})
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		before := c.Exports[0].Device
		text := before.String()
		c.MakeReadOnly()
		if got := c.Exports[0].Device.String(); got != want || !c.Exports[0].ReadOnly {
			t.Errorf("%s: %s, want %s", expr, got, want)
		}
		if before.String() != text {
			t.Errorf("%s: the Spec has changed to %s", expr, before)
		}
	}
}

// TestMakeReadOnlyShared: a device that is mentioned often stays one device,
// also where the tree written out would have no end.
func TestMakeReadOnlyShared(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, &Loader{Registry: specRegistry()}, `
def double(d, n):
    for i in range(n):
        d = concat(d, d)
    return d
d = mem(512)
export("a", double(d, 90))
export("b", d)
`)
	c.MakeReadOnly()
	s := c.Exports[0].Device
	for len(s.devs) > 0 {
		if s.devs[0] != s.devs[1] {
			t.Fatal("one device has become two")
		}
		s = s.devs[0]
	}
	if s != c.Exports[1].Device {
		t.Error("two exports of one device have become exports of two")
	}
}

// TestMakeReadOnlyTwice: files in a stack can be served read-only twice.
func TestMakeReadOnlyTwice(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m1.img")
	if err := os.WriteFile(path, make([]byte, 4096), 0o400); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := (&Loader{}).Args(t.Context(), []string{`x=concat("` + path + `")`})
		if err != nil {
			t.Fatal(err)
		}
		c.MakeReadOnly()
		s := new(Set)
		t.Cleanup(func() { s.Close(context.Background()) })
		if _, err := s.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}
