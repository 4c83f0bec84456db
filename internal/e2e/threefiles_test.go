package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A file system in three files, end to end, and copy-on-write on the middle
// one only: it is whole, what is written to a file of it is there, also after
// a restart, and none of the three files has changed.
func TestThreeFiles(t *testing.T) {
	t.Parallel()
	const part = 12 << 20
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 20<<20)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range big {
		big[i] = byte(r.Uint32())
	}
	if err := os.WriteFile(filepath.Join(tree, "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(dir, "whole.img")
	run(t, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", tree, whole, strconv.Itoa(3*part>>10)+"k")
	names := []string{"a.img", "b.img", "c.img"}
	before := map[string][32]byte{}
	image := readFile(t, whole)
	for i, name := range names {
		p := image[i*part : (i+1)*part]
		if err := os.WriteFile(filepath.Join(dir, name), p, 0o644); err != nil {
			t.Fatal(err)
		}
		before[name] = sha256.Sum256(p)
	}

	// A place in the file that lies in the middle part.
	const logical = 2560
	block, err := strconv.ParseInt(strings.TrimSpace(run(t, "debugfs", "-R", fmt.Sprintf("bmap /big %d", logical), whole)), 10, 64)
	if err != nil || block*4096 < part || block*4096+65536 > 2*part {
		t.Fatalf("block %d of the file is block %d, %v, which is not in the middle", logical, block, err)
	}

	const stack = `vm=concat("a.img", cow("b.img", "b.cow"), "c.img")`
	s := serve(t, dir, stack)
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", s.uri("vm"), whole)
	run(t, "qemu-io", "-f", "raw", s.uri("vm"), "-c", fmt.Sprintf("write -P 0x5a %d 64k", block*4096), "-c", "flush")
	s.stop()

	s = serve(t, dir, stack)
	again := filepath.Join(dir, "again.img")
	run(t, "nbdcopy", s.uri("vm"), again)
	s.stop()
	run(t, "e2fsck", "-fn", again)
	run(t, "debugfs", "-R", "dump /big "+filepath.Join(dir, "big"), again)
	copy(big[logical*4096:], bytes.Repeat([]byte{0x5a}, 65536))
	if !bytes.Equal(readFile(t, filepath.Join(dir, "big")), big) {
		t.Error("the file in the file system is not what was written")
	}
	for _, name := range names {
		if sha256.Sum256(readFile(t, filepath.Join(dir, name))) != before[name] {
			t.Errorf("%s has changed", name)
		}
	}
	want(t, runIn(t, dir, "strata", "cow", "info", "b.cow"), "64 KiB of data")
	want(t, runIn(t, dir, "strata", "check", "b.cow"), "b.cow: sound")
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
