package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/strata-storage/strata/nbd"
)

// maxOutput is how much of a command's output is kept for the log, in bytes.
const maxOutput = 4096

// runCommand runs the prerun or postrun command of an export for a client. It
// returns nil if there is none or it exited with 0 in time; other errors wrap
// nbd.ErrDenied. The command has nothing to read, and this environment in
// addition to the server's:
//
//	STRATA_EVENT      prerun or postrun
//	STRATA_EXPORT     the name of the export
//	STRATA_PEER       the client's address
//	STRATA_IDENTITY   the subject of its verified certificate, or empty
//	STRATA_UID        the user id of a client on a Unix socket, or empty
func (x *Export) runCommand(ctx context.Context, event string, argv []string, peer *nbd.Peer) error {
	if len(argv) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, x.RunTimeout)
	defer cancel()
	var out tail
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "STRATA_EVENT="+event, "STRATA_EXPORT="+x.Name, "STRATA_PEER="+peerText(peer),
		"STRATA_IDENTITY="+identity(peer), "STRATA_UID="+uid(peer))
	// In a group of its own, so that its children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("killed after %v", x.RunTimeout)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(out.kept), "?"))
	if text != "" {
		text = ": " + text
	}
	return fmt.Errorf("%s %q: %w%s (%w)", event, argv[0], err, text, nbd.ErrDenied)
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-maxOutput):]...)
	if over := len(t.kept) - maxOutput; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// peerText is the address of a client for people.
func peerText(p *nbd.Peer) string {
	if p.Addr == nil {
		return "unknown"
	}
	text := p.Addr.String()
	if (text == "" || text == "@") && p.Cred != nil {
		return fmt.Sprintf("%s pid %d uid %d", p.Addr.Network(), p.Cred.PID, p.Cred.UID)
	}
	if text == "" {
		return p.Addr.Network()
	}
	return text
}

func identity(p *nbd.Peer) string {
	if c := verified(p); c != nil {
		return strings.ReplaceAll(c.Subject.String(), "\x00", "")
	}
	return ""
}

func uid(p *nbd.Peer) string {
	if p.Cred == nil {
		return ""
	}
	return strconv.FormatUint(uint64(p.Cred.UID), 10)
}
