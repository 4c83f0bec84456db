package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
)

// The Linux kernel's client: a file system is made, filled, checked and found
// again, on devices of one and of several connections. The guest reaches the
// server's Unix socket by a relay; there is no network.
func TestLinuxKernel(t *testing.T) {
	t.Parallel()
	peer.Need(t, "qemu-system-x86_64", "busybox", "nbd-client", "mke2fs", "e2fsck", "debugfs", "cpio", "ldd")
	peer.NeedKernel(t)
	dir := t.TempDir()
	s := serve(t, dir, `disk=file("disk.img", create=True, size="64M")`,
		`scratch=mem("8M")`, `fixed=readonly(mem("8M"))`)

	console := boot(t, peer.Initramfs(t, "testdata/guest.sh", "nbd-client", "mke2fs", "e2fsck"), s.socket)
	if !strings.Contains(console, "GUEST PASSED") {
		t.Fatalf("the guest says:\n%s", console)
	}
	sums := regexp.MustCompile(`(?m)^SUM ([0-9a-f]{64})  (\S+)`).FindAllStringSubmatch(console, -1)
	if len(sums) != 5 {
		t.Fatalf("the guest tells of %d files:\n%s", len(sums), console)
	}

	s.stop()
	disk := filepath.Join(dir, "disk.img")
	run(t, "e2fsck", "-fn", disk)
	for _, sum := range sums {
		file := filepath.Join(dir, "file")
		run(t, "debugfs", "-R", fmt.Sprintf("dump %s %s", sum[2], file), disk)
		want(t, run(t, "sha256sum", file), sum[1])
	}
	// What was discarded takes no storage: five files of at most 1.5 MB and
	// the metadata are left.
	if n := allocated(t, disk); n > 16<<20 {
		t.Errorf("the image takes %d bytes", n)
	}
}

// boot runs a virtual machine until it powers itself off and returns what it
// wrote to its console. Its network has the server's socket, and no more.
func boot(t *testing.T, initrd, socket string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := peer.Machine(t, initrd, "", "-netdev", "user,id=n,restrict=on,ipv6=off,guestfwd=tcp:10.0.2.100:10809-cmd:"+self,
		"-device", "virtio-net-pci,netdev=n,romfile=")
	cmd.Env = append(os.Environ(), relayTo+"="+socket)
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	console, err := cmd.Output()
	if err != nil {
		t.Fatalf("qemu-system-x86_64: %v: %s\n%s", err, stderr.String(), console)
	}
	return strings.ReplaceAll(string(console), "\r\n", "\n")
}
