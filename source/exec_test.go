package source_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/source"
)

// mustExec returns the device that a command serves.
func mustExec(t testing.TB, o source.ExecOptions) block.Device {
	t.Helper()
	d, err := source.Exec(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestExecConformance(t *testing.T) {
	t.Parallel()
	nbdkit := peer.Need(t, "nbdkit")
	for name, o := range map[string]source.ExecOptions{
		"connected": {Command: []string{nbdkit, "-s", "memory", "1M"}},
		"activated": {Command: []string{nbdkit, "-f", "memory", "1M"}, Activation: true, Conns: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocktest.Run(t, func(t testing.TB) block.Device {
				d, err := source.Exec(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}, blocktest.Seeds(1))
		})
	}
}

// A program that wants to be activated brings its formats in.
func TestExecQCOW2(t *testing.T) {
	t.Parallel()
	qemu := peer.Need(t, "qemu-nbd", "qemu-img")
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-f", "qcow2", path, "64M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o := source.ExecOptions{Command: []string{qemu, "-f", "qcow2", "-x", "vm", path}, Export: "vm", Activation: true}
	d, err := source.Exec(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte("qcow"), 1024)
	if err := errors.Join(d.WriteAt(ctx, p, 5*mib, 0), d.Flush(ctx), d.Close()); err != nil {
		t.Fatal(err)
	}
	d = mustExec(t, o)
	q := make([]byte, len(p))
	if err := d.ReadAt(ctx, q, 5*mib, 0); err != nil || !bytes.Equal(p, q) {
		t.Error("read back:", err)
	}
	if n := d.Info().Size; n != 64*mib {
		t.Error("size", n)
	}
}

// What a person sees when there is no server at the other end.
func TestExecRefused(t *testing.T) {
	t.Parallel()
	script := func(text string) []string { return []string{"/bin/sh", "-c", text} }
	for _, c := range []struct {
		name string
		o    source.ExecOptions
		want []string
	}{
		{"nothing", source.ExecOptions{}, []string{"exec: no command is given: invalid argument"}},
		{"no such program", source.ExecOptions{Command: []string{"no-such-program"}},
			[]string{`exec: no-such-program: executable file not found in $PATH`}},
		{"no such program to activate", source.ExecOptions{Command: []string{"no-such-program"}, Activation: true},
			[]string{`exec: no-such-program: executable file not found in $PATH`}},
		{"connections", source.ExecOptions{Command: script(":"), Conns: 2},
			[]string{"exec: a server without activation has one connection, not 2"}},
		{"fails", source.ExecOptions{Command: script("echo bad plugin >&2; exit 3")},
			[]string{"exec: sh has ended (exit status 3)", `it said "bad plugin"`}},
		{"fails when activated", source.ExecOptions{Command: script("echo bad image >&2; exit 4"), Activation: true},
			[]string{"exec: sh has ended (exit status 4)", `it said "bad image"`}},
		{"ends at once", source.ExecOptions{Command: script("exit 0")}, []string{"exec: sh has ended (exit status 0)"}},
		{"no server", source.ExecOptions{Command: script("echo Welcome to my shell!; sleep 100")}, []string{"exec: sh: server broke the protocol: "}},
	} {
		d, err := source.Exec(t.Context(), c.o)
		if err == nil {
			d.Close()
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := source.Exec(ctx, source.ExecOptions{Command: script("trap '' TERM; sleep 100")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent child: %v", err)
	}
}

// When the child dies requests fail with its last words, and so does Close.
func TestExecChildDies(t *testing.T) {
	t.Parallel()
	nbdkit := peer.Need(t, "nbdkit")
	ctx := t.Context()
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	d := mustExec(t, source.ExecOptions{Command: []string{"/bin/sh", "-c",
		`echo $$ > "$1"; echo good morning >&2; exec "$0" -s memory 1M`, nbdkit, pidFile}})
	p := make([]byte, 512)
	if err := d.ReadAt(ctx, p, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(readPid(t, pidFile), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := d.WriteAt(ctx, p, 0, 0)
	const want = `exec: sh has ended (signal: killed); it said "good morning"`
	if !errors.Is(err, block.ErrIO) || !strings.Contains(err.Error(), want) {
		t.Errorf("write: %v", err)
	}
	if err := d.Flush(ctx); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("flush: %v", err)
	}
	for _, err := range d.Extents(ctx, block.Allocation, 0, mib) {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("extents: %v", err)
		}
	}
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("close: %v", err)
	}
	if err := d.Close(); !errors.Is(err, block.ErrClosed) {
		t.Error(err)
	}
}

// The child does not survive this process, even if it looks at nothing and we
// are killed.
func TestExecDiesWithUs(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	cmd, lines := start(t, "exec", pidFile)
	if !lines.Scan() || lines.Text() != "starting" {
		t.Fatal(lines.Text())
	}
	until(t, "the child to start", func() bool {
		p, err := os.ReadFile(pidFile)
		return err == nil && bytes.HasSuffix(p, []byte("\n"))
	})
	child := readPid(t, pidFile)
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	until(t, "the child to die", func() bool { return !alive(child) })
}

// alive reports whether a process runs: one that nobody has waited for yet
// does not.
func alive(pid int) bool {
	p, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(p, []byte(") Z "))
}

func readPid(t *testing.T, path string) int {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(p)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// until waits for what another process does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("waited in vain for ", what)
		}
	}
}
