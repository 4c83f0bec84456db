package peer

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// bootTime bounds the life of a virtual machine. It takes seconds, but more
// of them where the processor is emulated and shared.
const bootTime = 6 * time.Minute

// NeedKernel ends the test, as Need does, unless there is a kernel for virtual machines.
func NeedKernel(t testing.TB) {
	t.Helper()
	kernel(t)
}

// kernel is where .ci/kernel puts the kernel and its modules.
func kernel(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	dir = filepath.Join(dir, ".cache", "kernel")
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err != nil {
		Missing(t, "there is no kernel in .cache/kernel; .ci/kernel fetches it")
	}
	return dir
}

// Machine prepares a virtual machine whose console is standard input and
// output. words are for its kernel, args for QEMU. The processor is emulated: a
// machine that is virtual itself often has a /dev/kvm on which a kernel does not get far.
func Machine(t testing.TB, initrd, words string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, Need(t, "qemu-system-x86_64"), append([]string{
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "384",
		"-kernel", filepath.Join(kernel(t), "vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 " + words,
	}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Initramfs packs a script as the first process, the modules, and programs with their
// libraries, and returns the path of that.
func Initramfs(t testing.TB, script string, programs ...string) string {
	t.Helper()
	Need(t, "busybox", "cpio", "ldd")
	root := t.TempDir()
	put(t, script, filepath.Join(root, "init"), 0o755)
	put(t, Need(t, "busybox"), filepath.Join(root, "bin/busybox"), 0o755)
	library := regexp.MustCompile(`/\S+\.so\S*`)
	for _, name := range programs {
		path := Need(t, name)
		put(t, path, filepath.Join(root, "usr/sbin", name), 0o755)
		libs, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", path, err)
		}
		for _, lib := range library.FindAllString(string(libs), -1) {
			put(t, lib, filepath.Join(root, lib), 0o755)
		}
	}
	modules, err := filepath.Glob(filepath.Join(kernel(t), "*.ko"))
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range modules {
		put(t, module, filepath.Join(root, "modules", filepath.Base(module)), 0o644)
	}
	file := filepath.Join(t.TempDir(), "initrd")
	cmd := exec.Command("sh", "-c", "find . | cpio -o -H newc --quiet >"+file)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	return file
}

// put copies a file.
func put(t testing.TB, from, to string, mode fs.FileMode) {
	t.Helper()
	p, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, p, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}
