package layer

import (
	"strings"
	"syscall"
	"testing"
)

func TestParseErrno(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]syscall.Errno{
		"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC, "EPERM": syscall.EPERM, "ESHUTDOWN": syscall.ESHUTDOWN,
		"ENOTSUP": syscall.ENOTSUP, "EOPNOTSUPP": syscall.EOPNOTSUPP, "EWOULDBLOCK": syscall.EAGAIN,
		"EAGAIN": syscall.EAGAIN, "EOVERFLOW": syscall.EOVERFLOW, "ETIMEDOUT": syscall.ETIMEDOUT,
	} {
		if got, err := ParseErrno(name); err != nil || got != want {
			t.Errorf("ParseErrno(%q) = %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "eio", "EOI", "5"} {
		if _, err := ParseErrno(name); err == nil || !strings.Contains(err.Error(), "is not the name of an error number: write EIO, ENOSPC") {
			t.Errorf("ParseErrno(%q): error is %v", name, err)
		}
	}
}
