package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
)

func TestMultifile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Names that look alike are not parts of the disk.
	for _, name := range []string{"disk", "disk.01", "disk.x", "disk.-1", "disk.+3", "other.0", "disk2.12", "disk.12.0"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("wrong"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "disk")
	var want strings.Builder
	for n := range 12 {
		text := fmt.Sprintf("part %d,", n)
		want.WriteString(text)
		if err := os.WriteFile(fmt.Sprintf("%s.%d", path, n), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dev, err := Multifile(path, openFile)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if got := string(content(t, dev)); got != want.String() {
		t.Errorf("got %q, want %q", got, want.String())
	}
}

func openFile(path string) (block.Device, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return block.FromFile(f)
}

func TestMultifileErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "disk")
	_, err := Multifile(path, openFile)
	wantErr(t, err, fs.ErrNotExist, "multifile: "+path+".0: file does not exist")
	if _, err := Multifile(filepath.Join(dir, "nowhere", "disk"), openFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	for _, n := range []string{"0", "1", "3"} {
		if err := os.WriteFile(path+"."+n, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Multifile(path, openFile)
	wantErr(t, err, fs.ErrNotExist, "multifile: "+path+".2 does not exist, but there are files with higher numbers: file does not exist")

	// What was opened is closed again if the rest cannot be.
	if err := os.WriteFile(path+".2", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var opened []*shaped
	for _, bad := range []string{"open", "size"} {
		_, err = Multifile(path, func(p string) (block.Device, error) {
			if bad == "open" && strings.HasSuffix(p, ".3") {
				return nil, block.ErrPermission
			}
			dev := newShaped(512+len(opened), block.Info{MinBlock: 512})
			opened = append(opened, dev)
			return dev, nil
		})
		if err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	for i, dev := range opened {
		if !dev.closed.Load() {
			t.Errorf("device %d was left open", i)
		}
	}
}
