package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A snapLab is a server of the export vm, a disk with snapshots in a directory.
type snapLab struct {
	*server
	t       testing.TB
	dir     string
	control string
	args    []string
}

// serveSnapshots serves dir/disk.img with snapshots in dir/disk.snaps.
func serveSnapshots(t testing.TB, dir, args string) *snapLab {
	t.Helper()
	l := &snapLab{t: t, dir: dir, control: filepath.Join(shortDir(t), "c")}
	l.args = []string{"--control", l.control, `vm=snapshots("disk.img", "disk.snaps"` + args + `)`}
	l.server = serve(t, dir, l.args...)
	return l
}

// again starts the server again after it has ended.
func (l *snapLab) again() {
	l.t.Helper()
	l.server = serve(l.t, l.dir, l.args...)
}

// snapshot runs strata snapshot.
func (l *snapLab) snapshot(verb string, args ...string) string {
	l.t.Helper()
	return runIn(l.t, l.dir, "strata", append([]string{"snapshot", verb, "--control", l.control}, args...)...)
}

// path is that of a file in the directory.
func (l *snapLab) path(name string) string { return filepath.Join(l.dir, name) }

// ext4 makes an image with a file system that holds a file /day with a text.
func ext4(t testing.TB, path, size, text string) {
	t.Helper()
	day := filepath.Join(t.TempDir(), "day")
	if err := os.WriteFile(day, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "truncate", "-s", size, path)
	run(t, "mkfs.ext4", "-q", "-F", path)
	run(t, "debugfs", "-w", "-R", "write "+day+" day", path)
}

// A file system is whole in a snapshot that was taken while fio wrote to the
// rest of the disk, also after the disk got another file system, kill -9, and
// a rollback.
func TestSnapshotsOfAFileSystem(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"", `, kind="bitmap"`} {
		t.Run("kind"+strings.Trim(kind, ", "), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ext4(t, dir+"/disk.img", "16M", "monday")
			ext4(t, dir+"/next.img", "16M", "tuesday")
			run(t, "truncate", "-s", "32M", dir+"/disk.img")
			l := serveSnapshots(t, dir, kind)
			fio := command(t, "fio", "--ioengine=nbd", "--uri="+l.uri("vm"), "--thread", "--name=v", "--output-format=terse",
				"--rw=randwrite", "--bs=4k", "--offset=16M", "--size=16M", "--io_size=24M", "--iodepth=16", "--fsync=64", "--randseed=7",
				"--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0")
			if err := fio.Start(); err != nil {
				t.Fatal(err)
			}
			l.snapshot("create", "vm", "monday")
			run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", dir+"/next.img", l.uri("vm"))
			l.snapshot("create", "vm", "tuesday")
			if err := fio.Wait(); err != nil {
				t.Fatalf("fio: %v", err)
			}
			run(t, "qemu-io", "-f", "raw", "-c", "write -P 0 0 16M", "-c", "flush", l.uri("vm"))
			day := func(export, want string) {
				t.Helper()
				copied := filepath.Join(t.TempDir(), "copy.img")
				run(t, "nbdcopy", l.uri(export), copied)
				run(t, "truncate", "-s", "16M", copied)
				run(t, "e2fsck", "-fn", copied)
				if got := run(t, "debugfs", "-R", "cat day", copied); got != want {
					t.Errorf("%s has the day %q, expected %q", export, got, want)
				}
			}
			day("vm@monday", "monday")
			day("vm@tuesday", "tuesday")
			l.kill()
			run(t, "strata", "snapshot", "check", l.path("disk.img"), l.path("disk.snaps"))
			l.again()
			day("vm@monday", "monday")
			l.snapshot("rollback", "vm", "tuesday")
			day("vm", "tuesday")
			want(t, l.snapshot("check", "vm"), "vm: sound")
		})
	}
}

// Foreign programs list, read and compare snapshots, and may not write them.
func TestSnapshotsAndPeers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, "truncate", "-s", "8M", dir+"/disk.img")
	l := serveSnapshots(t, dir, "")
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x11 0 1M", l.uri("vm"))
	l.snapshot("create", "vm", "monday")
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x22 512k 64k", l.uri("vm"))
	l.snapshot("create", "vm", "tuesday")
	want(t, run(t, "nbdinfo", "--list", l.uri("")), `export="vm":`, `export="vm@monday":`, `export="vm@tuesday":`, "strata:changed-since:monday")
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 1M", l.uri("vm@monday"))
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x22 512k 64k", l.uri("vm@tuesday"))
	want(t, run(t, "nbdinfo", "--map=strata:changed-since:monday", l.uri("vm@tuesday")), "524288       65536    1")
	want(t, run(t, "qemu-img", "map", "--output=json", "--image-opts",
		"driver=nbd,server.type=unix,server.path="+l.socket+",export=vm@tuesday,x-dirty-bitmap=strata:changed-since:monday"),
		`{ "start": 524288, "length": 65536, `, `"data": false},`) // data: false is what has changed
	want(t, run(t, "nbdinfo", "--is", "read-only", l.uri("vm@monday")), "")
	refuse(t, "", "qemu-io", "-f", "raw", "-c", "write -P 0x33 0 4k", l.uri("vm@monday"))
	refuse(t, "", "nbdinfo", "--size", l.uri("vm@sunday"))
	// An incremental backup: monday and the difference are tuesday.
	run(t, "nbdcopy", l.uri("vm@monday"), l.path("copy.img"))
	run(t, "nbdcopy", l.uri("vm@tuesday"), l.path("tuesday.img"))
	l.snapshot("diff", "vm", "monday", "tuesday", "--export", "diff")
	l.snapshot("diff", "--import", "diff", "copy.img")
	run(t, "cmp", l.path("copy.img"), l.path("tuesday.img"))
}

// A snapshot that may be written is a disk of its own.
func TestWritableSnapshots(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, "truncate", "-s", "8M", dir+"/disk.img")
	l := serveSnapshots(t, dir, ", writable=True")
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x11 0 1M", l.uri("vm"))
	l.snapshot("create", "vm", "monday")
	l.snapshot("create", "vm", "tuesday")
	run(t, "fio", "--ioengine=nbd", "--uri="+l.uri("vm@monday"), "--thread", "--name=v", "--output-format=terse",
		"--rw=randwrite", "--bsrange=512-64k", "--blockalign=512", "--size=8M", "--io_size=8M", "--iodepth=16",
		"--fsync=64", "--randseed=7", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--verify_backlog=256")
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 1M", l.uri("vm"))
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 1M", l.uri("vm@tuesday"))
	want(t, l.snapshot("check", "vm"), "vm: sound")
}

// Two servers share a disk under a lock: what one takes the other has, and
// what one writes the other reads.
func TestSnapshotsOfTwoServers(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) { t.Parallel(); shareDisk(t, "file:disk.lock") })
	t.Run("tcp", func(t *testing.T) { t.Parallel(); shareDisk(t, lockServer(t)+"disk") })
}

// lockServer starts a server of locks and returns their address up to the name.
func lockServer(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"lock-server", "--listen", "127.0.0.1:0", "--state", filepath.Join(t.TempDir(), "locks")}, args...)
	cmd := command(t, "strata", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	address, _, ok := strings.Cut(strings.TrimPrefix(line, "locks at "), "NAME")
	if err != nil || !ok {
		t.Fatalf("the lock server said %q, %v", line, err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the lock server ended with %v", err)
		}
	})
	return address
}

func shareDisk(t *testing.T, lock string) {
	dir := t.TempDir()
	run(t, "truncate", "-s", "8M", dir+"/disk.img")
	a := serveSnapshots(t, dir, `, lock="`+lock+`"`)
	b := serveSnapshots(t, dir, `, lock="`+lock+`"`)
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x11 0 64k", a.uri("vm"))
	a.snapshot("create", "vm", "monday")
	run(t, "qemu-io", "-f", "raw", "-c", "read -P 0x11 0 64k", "-c", "write -P 0x22 0 64k", b.uri("vm"))
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 64k", b.uri("vm@monday"))
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 64k", a.uri("vm@monday"))
	run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x22 0 64k", a.uri("vm"))
	b.snapshot("rm", "vm", "monday")
	if got := a.snapshot("ls", "vm"); strings.Contains(got, "monday") {
		t.Errorf("the other server still has it: %s", got)
	}
}
