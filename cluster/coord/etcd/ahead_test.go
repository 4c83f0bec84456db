package etcd

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/strata-storage/strata/internal/peer"
)

// The database of a member has more room than it needs.
func TestAhead(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	o := quick("one", dir)
	o.ahead = 1 << 20
	start(t, o)
	path := filepath.Join(dir, "etcd", "member", "snap", "db")
	info, err := os.Stat(path)
	ok(t, err)
	if err := allocate(path, 1); errors.Is(err, syscall.EOPNOTSUPP) {
		peer.Cannot(t, "allocate room for files: %v", err)
	}
	if has, want := info.Sys().(*syscall.Stat_t).Blocks*512, info.Size()+o.ahead; has < want {
		t.Errorf("a database of %d bytes has room for %d, expected %d", info.Size(), has, want)
	}
	if err := allocate(filepath.Join(dir, "nothing"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("room for a file that is not there: %v", err)
	}
}

// When etcd ends the process an operator is told why, and what to do.
func TestLastWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "write", Path: "db", Err: syscall.ENOSPC}, "there is no room in the file system; make some, and start it again"},
		{syscall.EIO, `this node ends, as it votes and cannot write what the cluster agrees on"`},
	} {
		var out bytes.Buffer
		code := 0
		log := slog.New(slog.NewTextHandler(&out, nil))
		l := zapLogger(log, slog.LevelInfo, zap.WithFatalHook(&lastWords{log, "/data/etcd", func(c int) { code = c }}))
		l.Fatal("failed to commit tx", zap.Int("n", 1), zap.Error(tt.err))
		for _, want := range []string{tt.want, "directory=/data/etcd", "failed to commit tx: " + tt.err.Error(), "etcd: failed to commit tx"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("nobody says %q: %s", want, out.String())
			}
		}
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
	}
}
