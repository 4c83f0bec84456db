package cluster

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
)

// An image with a file system lies in a volume, of which clones of clones of snapshots
// are made while gateways die. Each is a whole file system with what it had.
func TestImage(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	image, sums := makeImage(t)
	l.nodes[0].order("create", "golden", "64M")
	c := l.open("golden", 0)
	upload(t, image, c)
	must(t, c.Close())
	l.nodes[1].order("snapshot", "golden", "v1")
	until(t, "the snapshot to be known", func() bool { _, err := l.nodes[2].ask("clone", "golden", "v1", "vm1"); return err == nil })
	c = l.open("vm1", 2)

	// The clone is changed by tools that know nothing of volumes, and gets a snapshot.
	copied := filepath.Join(t.TempDir(), "vm1.img")
	download(t, c, copied)
	fsck(t, copied)
	added := filepath.Join(t.TempDir(), "added")
	must(t, os.WriteFile(added, []byte("of the clone"), 0o600))
	run(t, "debugfs", "-w", "-R", "write "+added+" /added", copied)
	l.nodes[0].kill()
	upload(t, copied, c)
	l.nodes[2].order("snapshot", "vm1", "later")
	l.nodes[2].kill()
	l.nodes[2].start()
	l.nodes[0].start()
	l.healthy()
	until(t, "the clone of the clone", func() bool { _, err := l.nodes[1].ask("clone", "vm1", "later", "vm2"); return err == nil })
	must(t, c.Close())
	for name, want := range map[string]bool{"golden": false, "golden@v1": false, "vm1": true, "vm1@later": true, "vm2": true} {
		d := l.open(name, 1)
		path := filepath.Join(t.TempDir(), "back.img")
		download(t, d, path)
		must(t, d.Close())
		fsck(t, path)
		for file, sum := range sums {
			out := filepath.Join(t.TempDir(), "out")
			run(t, "debugfs", "-R", "dump /"+file+" "+out, path)
			text, err := os.ReadFile(out)
			must(t, err)
			if sha256.Sum256(text) != sum {
				t.Errorf("%s: the file %s is not what it was", name, file)
			}
		}
		out := run(t, "debugfs", "-R", "cat /added", path)
		if has := strings.Contains(out, "of the clone"); has != want {
			t.Errorf("%s: the added file is there: %v, expected %v", name, has, want)
		}
	}
	l.finish()
}

// makeImage makes a file system of 64 MiB with some files, and returns what they have.
func makeImage(t testing.TB) (path string, sums map[string][sha256.Size]byte) {
	t.Helper()
	root := t.TempDir()
	sums = map[string][sha256.Size]byte{}
	rnd := rand.New(rand.NewPCG(4, 4))
	for i := range 40 {
		p := make([]byte, rnd.IntN(1<<20))
		for k := range p {
			p[k] = byte(rnd.Uint32())
		}
		name := fmt.Sprint("file", i)
		must(t, os.WriteFile(filepath.Join(root, name), p, 0o600))
		sums[name] = sha256.Sum256(p)
	}
	path = filepath.Join(t.TempDir(), "image")
	run(t, "mkfs.ext4", "-q", "-d", root, path, "64M")
	return path, sums
}

func fsck(t testing.TB, path string) {
	t.Helper()
	run(t, "e2fsck", "-fn", path)
}

const imageStep = 1 << 20

// upload writes a file to a volume, without its holes.
func upload(t testing.TB, path string, dev block.Device) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	p, zeros := make([]byte, imageStep), make([]byte, imageStep)
	for off := int64(0); off < dev.Info().Size; off += imageStep {
		_, err := io.ReadFull(io.NewSectionReader(f, off, imageStep), p)
		must(t, err)
		if string(p) == string(zeros) {
			must(t, dev.Zero(t.Context(), off, imageStep, 0))
		} else {
			must(t, dev.WriteAt(t.Context(), p, off, 0))
		}
	}
	must(t, dev.Flush(t.Context()))
}

// download reads a volume to a file.
func download(t testing.TB, dev block.Device, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	p := make([]byte, imageStep)
	for off := int64(0); off < dev.Info().Size; off += imageStep {
		must(t, dev.ReadAt(t.Context(), p, off, 0))
		_, err := f.WriteAt(p, off)
		must(t, err)
	}
}
