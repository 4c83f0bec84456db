package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
)

// An export for some users does not exist for others on the same socket. The
// log of the server says otherwise.
func TestExportForAUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := fmt.Sprintf("export(\"ours\", mem(\"1M\"), allow=[\"uid:%d\"])\nexport(\"theirs\", mem(\"1M\"), allow=[\"uid:65534\"])\n", os.Getuid())
	if err := os.WriteFile(filepath.Join(dir, "strata.star"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(shortDir(t), "s")
	s := serveAt(t, dir, socket+"?mode=0666", "-c", "strata.star")
	s.socket = socket
	for _, export := range []string{"theirs", "nothing"} {
		refuse(t, "No such file or directory for export: "+export, "nbdinfo", s.uri(export))
		refuse(t, fmt.Sprintf(": the server has no export %q\n", export), "strata", "info", s.uri(export))
	}
	run(t, "nbdinfo", "--size", s.uri("ours"))
	if got := run(t, "strata", "list", s.uri("")); got != "export  size  description\nours    1 MiB\n" {
		t.Errorf("the list is %q", got)
	}
	want(t, s.log.String(), `msg="access denied" export=theirs`, "allow=uid:65534")

	if os.Getuid() != 0 {
		peer.Cannot(t, "to be another user takes root")
	}
	if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	for export, ok := range map[string]bool{"ours": false, "theirs": true} {
		cmd := command(t, "nbdinfo", "--size", s.uri(export))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); (err == nil) != ok {
			t.Errorf("nobody at %s: %v: %s", export, err, out)
		}
	}
}
