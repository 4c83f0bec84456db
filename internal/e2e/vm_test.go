package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
)

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
	g := &guest{t: t, cmd: peer.Machine(t, initrd, "", args...)}
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
