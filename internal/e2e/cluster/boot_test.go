package cluster

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/peer"
)

// A virtual machine runs from a volume, and writes. A snapshot of that, taken while it
// runs, becomes a clone, a snapshot of which becomes another one, from which a second
// machine boots: it finds a sound file system with all that was durable.
func TestCloneBoots(t *testing.T) {
	t.Parallel()
	l, initrd := newGuests(t)

	began := time.Now()
	first := l.boot(initrd, "vm1", 1, "")
	first.says("GUEST WROTE 0")
	t.Logf("the first machine writes %v after its start", time.Since(began).Round(time.Millisecond))
	first.says("GUEST WROTE 2")
	l.nodes[2].order("snapshot", "vm1", "s1")
	l.nodes[2].order("clone", "vm1", "s1", "vm2")
	l.nodes[0].order("snapshot", "vm2", "s2")
	l.nodes[0].order("clone", "vm2", "s2", "vm3")
	first.says("GUEST WROTE 4") // it goes on, and nobody sees that

	began = time.Now()
	second := l.boot(initrd, "vm3", 2, "check=3")
	second.says("GUEST SOUND")
	second.says("GUEST PASSED")
	t.Logf("the second machine has checked what it has %v after its start", time.Since(began).Round(time.Millisecond))
	first.end()
	second.end()
	for name, born := range map[string]bool{"vm1": false, "vm2": false, "vm3": true} {
		d := l.open(name, 0)
		path := filepath.Join(t.TempDir(), "back")
		download(t, d, path)
		must(t, d.Close())
		if out := run(t, "debugfs", "-R", "cat /born", path); strings.Contains(out, "of the clone") != born {
			t.Errorf("%s: the file of the last clone is there: %v, expected %v", name, !born, born)
		}
	}
	l.finish()
}

// A virtual machine writes files while its gateway, and nodes with copies, are killed,
// frozen and cut off. It goes on each time; and when it has lost its power another one finds
// a sound file system, with all that was durable.
func TestGuestInTrouble(t *testing.T) {
	t.Parallel()
	l, initrd := newGuests(t)
	first := l.boot(initrd, "vm1", 1, "")
	wrote := first.goesOn()
	for _, fault := range []struct {
		name       string
		begin, end func()
	}{
		{"a node with a copy is killed", l.nodes[2].kill, l.nodes[2].start},
		{"the gateway is killed", l.nodes[1].kill, l.nodes[1].start},
		{"a node with a copy is frozen", l.nodes[0].freeze, l.nodes[0].thaw},
		{"the gateway is frozen", l.nodes[1].freeze, l.nodes[1].thaw},
		{"a node with a copy is cut off", func() { l.net.unplug(2) }, l.net.heal},
		{"the gateway is cut off", func() { l.net.unplug(1) }, l.net.heal},
	} {
		fault.begin()
		wait(t, lease+2*time.Second)
		fault.end()
		wrote = first.goesOn()
		t.Logf("%s: it has written %d files", fault.name, wrote+1)
		l.healthy()
	}
	first.end()
	second := l.boot(initrd, "vm1", 2, fmt.Sprintf("check=%d", wrote+1))
	second.says("GUEST SOUND")
	second.says("GUEST PASSED")
	second.end()
	l.finish()
}

// newGuests starts three nodes that have a volume vm1 from which a machine can start, with an
// initrd.
func newGuests(t testing.TB) (l *lab, initrd string) {
	t.Helper()
	peer.NeedKernel(t)
	peer.Need(t, "qemu-system-x86_64", "mke2fs", "e2fsck", "debugfs")
	image := bootable(t)
	l = newLab(t, 3)
	l.nodes[0].order("create", "vm1", "64M")
	d := l.open("vm1", 0)
	upload(t, image, d)
	must(t, d.Close())
	return l, peer.Initramfs(t, "testdata/boot.sh", "e2fsck")
}

// bootable makes a file system from which a machine starts.
func bootable(t testing.TB) (path string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "sbin", "dev", "proc", "log"} {
		must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	for from, to := range map[string]string{"testdata/init.sh": "sbin/init", peer.Need(t, "busybox"): "bin/busybox"} {
		p, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(root, to), p, 0o755))
	}
	for _, name := range []string{"sh", "mount", "sed", "head", "sha256sum", "sync", "sleep", "poweroff"} {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	path = filepath.Join(t.TempDir(), "image")
	run(t, "mke2fs", "-q", "-t", "ext4", "-d", root, path, "64M")
	return path
}

// A guest is a virtual machine whose disk is a volume.
type guest struct {
	t     testing.TB
	lines chan string
	said  logBuffer
	end   func()
}

// boot starts a machine whose disk is a volume, at a node.
func (l *lab) boot(initrd, volume string, node int, words string) *guest {
	t := l.t
	t.Helper()
	// A connection that is over is opened again, or the machine would see errors.
	disk := fmt.Sprintf("if=none,id=d,format=raw,file.driver=nbd,file.reconnect-delay=60,file.server.type=unix,file.server.path=%s,file.export=%s",
		filepath.Join(l.nodes[node].sockets, "nbd"), volume)
	cmd := peer.Machine(t, initrd, words, "-drive", disk, "-device", "virtio-blk-pci,drive=d")
	out, err := cmd.StdoutPipe()
	must(t, err)
	g := &guest{t: t, lines: make(chan string, 1000)}
	cmd.Stderr = &g.said
	must(t, cmd.Start())
	ended := make(chan struct{})
	g.end = func() {
		_ = cmd.Cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		defer close(g.lines)
		for s := bufio.NewScanner(io.TeeReader(out, &g.said)); s.Scan(); {
			g.lines <- s.Text()
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(g.end)
	return g
}

// goesOn waits until the machine has written two more files, and returns the number of the
// last one.
func (g *guest) goesOn() (last int) {
	g.t.Helper()
	for range len(g.lines) {
		<-g.lines
	}
	g.says("GUEST WROTE")
	_, number, _ := strings.Cut(g.says("GUEST WROTE"), "WROTE ")
	last, err := strconv.Atoi(strings.TrimSpace(number))
	must(g.t, err)
	return last
}

// says waits until the machine says something, and returns the line.
func (g *guest) says(what string) string {
	g.t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-g.lines:
			if strings.Contains(line, "GUEST FAILED") || !ok {
				g.t.Fatalf("the machine, which is to say %s:\n%s", what, g.said.String())
			}
			if strings.Contains(line, what) {
				return line
			}
		case <-late:
			g.t.Fatalf("the machine does not say %s:\n%s", what, g.said.String())
		}
	}
}
