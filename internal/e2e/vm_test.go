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

// bootTime bounds the life of a virtual machine. It takes seconds, but more
// of them where the processor is emulated and shared.
const bootTime = 6 * time.Minute

func needKernel(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(kernelCache, "vmlinuz")); err == nil {
		return
	}
	peer.Missing(t, "there is no kernel in .cache/kernel; .ci/kernel fetches it")
}

// machine prepares a virtual machine whose console is standard input and
// output. The processor is emulated: a machine that is virtual itself often has
// a /dev/kvm on which a kernel does not get far.
func machine(t *testing.T, initrd string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, peer.Need(t, "qemu-system-x86_64"), append([]string{
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "384",
		"-kernel", filepath.Join(kernelCache, "vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1",
	}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// initramfs packs a script of testdata as the first process, the modules, and
// programs with their libraries.
func initramfs(t *testing.T, script string, programs ...string) string {
	t.Helper()
	peer.Need(t, "busybox", "cpio", "ldd")
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
	add(filepath.Join("testdata", script), "init", 0o755)
	add(peer.Need(t, "busybox"), "bin/busybox", 0o755)
	library := regexp.MustCompile(`/\S+\.so\S*`)
	for _, name := range programs {
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

// A guest is a virtual machine that does what it is told, by testdata/shell.sh.
type guest struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr lockedBuffer
}

// startGuest boots a machine whose disks are these files. They are shared with
// the test: each may use them while the other has closed them.
func startGuest(t *testing.T, initrd string, disks ...string) *guest {
	t.Helper()
	var args []string
	for i, path := range disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,file.locking=off,file=%s", i, path),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=d%d", i))
	}
	g := &guest{t: t, cmd: machine(t, initrd, args...)}
	g.cmd.Stderr = &g.stderr
	var err error
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.out = bufio.NewReader(out)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.in.Close()
		g.cmd.Cancel()
		g.cmd.Wait()
	})
	if console, status := g.answer(); status != "READY" {
		t.Fatalf("the guest says:\n%s", console)
	}
	return g
}

// do has the guest carry out a line of shell, which must succeed, and returns
// its output.
func (g *guest) do(format string, args ...any) string {
	g.t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(g.in, line+"\n"); err != nil {
		g.t.Fatalf("the guest is gone: %v: %s", err, g.stderr.String())
	}
	out, status := g.answer()
	if status != "0" {
		g.t.Fatalf("in the guest %q ends with %s:\n%s", line, status, out)
	}
	return out
}

// answer reads what the guest says up to the line with a status.
func (g *guest) answer() (out, status string) {
	g.t.Helper()
	var said strings.Builder
	for {
		line, err := g.out.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if status, ok := strings.CutPrefix(line, "STATUS "); ok {
			return strings.TrimSpace(said.String()), status
		}
		said.WriteString(line + "\n")
		if err != nil {
			g.t.Fatalf("the guest is gone: %v: %s\n%s", err, g.stderr.String(), said.String())
		}
	}
}
