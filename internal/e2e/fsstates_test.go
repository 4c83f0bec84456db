package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/strata-storage/strata/block"
)

// fsStates are states of one ext4 file system, each whole and each unlike the
// others in its metadata. Two files in it, stamps and load, have their blocks
// in one piece, where anything may be written at any time.
type fsStates struct {
	images       [][]byte
	stamps, load area
}

// An area of a disk, in bytes.
type area struct{ off, n int64 }

func (a area) has(off int64) bool { return off >= a.off && off < a.off+a.n }

const (
	fsSize     = 8 << 20
	fsAreaSize = 512 << 10
)

// newFSStates makes n states.
func newFSStates(t testing.TB, n int) *fsStates {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "fs.img")
	for name, size := range map[string]int{"filler": 1 << 18, "area": fsAreaSize, "text": 9000} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte{7}, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "truncate", "-s", strconv.Itoa(fsSize), image)
	run(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", image)
	script := filepath.Join(dir, "script")
	debugfs := func(lines string) {
		t.Helper()
		if err := os.WriteFile(script, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		runIn(t, dir, "debugfs", "-w", "-f", script, image)
	}
	debugfs("write filler filler\nwrite area stamps\nwrite area load\n")
	s := &fsStates{stamps: blocksOf(t, image, "stamps"), load: blocksOf(t, image, "load")}
	for i := range n {
		debugfs(fmt.Sprintf("mkdir dir%d\nwrite text dir%d/text\nwrite text text%d\nrm text%d\n", i, i, i, i-2))
		p := readFile(t, image)
		clear(p[s.stamps.off:][:s.stamps.n])
		clear(p[s.load.off:][:s.load.n])
		s.images = append(s.images, p)
	}
	return s
}

// blocksOf returns where the only piece of a file lies.
func blocksOf(t testing.TB, image, name string) area {
	t.Helper()
	out := run(t, "debugfs", "-R", "stat "+name, image)
	all := regexp.MustCompile(`\(0-(\d+)\):(\d+)-\d+`).FindStringSubmatch(out)
	if all == nil || all[1] != strconv.Itoa(fsAreaSize/4096-1) {
		t.Fatalf("the file %s is not in one piece: %s", name, out)
	}
	first, err := strconv.ParseInt(all[2], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return area{first * 4096, fsAreaSize}
}

// differs reports whether the block at off must be another one in another
// state.
func (s *fsStates) differs(from, to int, off int64) bool {
	return !bytes.Equal(s.images[from][off:off+4096], s.images[to][off:off+4096])
}

// advance makes one state of the disk the other.
func (s *fsStates) advance(ctx context.Context, dev block.Device, from, to int) error {
	for off := int64(0); off < fsSize; off += 4096 {
		if !s.differs(from, to, off) {
			continue
		}
		if err := dev.WriteAt(ctx, s.images[to][off:off+4096], off, 0); err != nil {
			return err
		}
	}
	return nil
}

// verify compares what a disk has outside of the areas with a state.
func (s *fsStates) verify(state int, disk []byte) error {
	for off := int64(0); off < fsSize; off += 4096 {
		if !s.stamps.has(off) && !s.load.has(off) && !bytes.Equal(disk[off:off+4096], s.images[state][off:off+4096]) {
			return fmt.Errorf("the block at %d is not that of state %d of the file system", off, state)
		}
	}
	return nil
}

// fsck checks a copy of the disk.
func fsck(t testing.TB, disk []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.img")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-fn", path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
