package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/peer"
)

// kernelCache is where .ci/kernel puts the kernel and its modules.
const kernelCache = "../../.cache/kernel"

// bootTime bounds the life of the virtual machine. It takes seconds, but more
// of them where the processor is emulated and shared.
const bootTime = 4 * time.Minute

// The Linux kernel's client: a file system is made, filled, checked and found
// again, on devices of one and of several connections. The guest reaches the
// server's Unix socket by a relay; there is no network.
func TestLinuxKernel(t *testing.T) {
	t.Parallel()
	peer.Need(t, "qemu-system-x86_64", "busybox", "nbd-client", "mke2fs", "e2fsck", "debugfs", "cpio", "ldd")
	needKernel(t)
	dir := t.TempDir()
	s := serve(t, dir, `disk=file("disk.img", create=True, size="64M")`,
		`scratch=mem("8M")`, `fixed=readonly(mem("8M"))`)

	console := boot(t, initramfs(t), s.socket)
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

func needKernel(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(kernelCache, "vmlinuz")); err == nil {
		return
	}
	peer.Missing(t, "there is no kernel in .cache/kernel; .ci/kernel fetches it")
}

// boot runs a virtual machine until it powers itself off and returns what it
// wrote to its console. The processor is emulated: a machine that is virtual
// itself often has a /dev/kvm on which a kernel does not get far.
func boot(t *testing.T, initrd, socket string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, peer.Need(t, "qemu-system-x86_64"),
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "384",
		"-kernel", filepath.Join(kernelCache, "vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1",
		"-netdev", "user,id=n,restrict=on,ipv6=off,guestfwd=tcp:10.0.2.100:10809-cmd:"+self,
		"-device", "virtio-net-pci,netdev=n,romfile=")
	cmd.Env = append(os.Environ(), relayTo+"="+socket)
	cmd.WaitDelay = 5 * time.Second
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var console strings.Builder
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		console.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		if err == io.EOF {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("qemu-system-x86_64: %v (%v): %s\n%s", err, context.Cause(ctx), stderr.String(), console.String())
	}
	return console.String()
}

// initramfs packs the modules, the programs of the guest and their libraries.
func initramfs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	add := func(from, to string, mode os.FileMode) {
		t.Helper()
		p, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, p, mode); err != nil {
			t.Fatal(err)
		}
	}
	add("testdata/guest.sh", "init", 0o755)
	add(peer.Need(t, "busybox"), "bin/busybox", 0o755)
	library := regexp.MustCompile(`/\S+\.so\S*`)
	for _, name := range []string{"nbd-client", "mke2fs", "e2fsck"} {
		path := peer.Need(t, name)
		add(path, filepath.Join("usr/sbin", name), 0o755)
		for _, lib := range library.FindAllString(run(t, "ldd", path), -1) {
			add(lib, lib, 0o755)
		}
	}
	modules, err := filepath.Glob(filepath.Join(kernelCache, "*.ko"))
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range modules {
		add(module, filepath.Join("modules", filepath.Base(module)), 0o644)
	}
	file := filepath.Join(t.TempDir(), "initrd")
	runIn(t, root, "sh", "-c", "find . | cpio -o -H newc --quiet >"+file)
	return file
}
