package block

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// The errors of devices. Those that an operating system reports too are the
// system's own error numbers, so that errors.Is recognises them in an error
// that came out of package os as well.
var (
	// ErrIO: the storage failed, for a reason that has no better name.
	ErrIO error = syscall.EIO
	// ErrInvalid: the request is malformed, misaligned or not known.
	ErrInvalid error = syscall.EINVAL
	// ErrNoSpace: there is no room to store what was to be written.
	ErrNoSpace error = syscall.ENOSPC
	// ErrReadOnly: the device cannot be written.
	ErrReadOnly error = syscall.EROFS
	// ErrPermission: the request is forbidden by a rule.
	ErrPermission error = syscall.EPERM
	// ErrNoMemory: a limit on memory does not allow the request now.
	ErrNoMemory error = syscall.ENOMEM
	// ErrNotSupported: Zero with FastZero would be slow.
	ErrNotSupported error = syscall.ENOTSUP
	// ErrWouldBlock: a request with NoWait cannot be answered at once.
	ErrWouldBlock error = syscall.EAGAIN

	// ErrRange: the request does not lie inside the device.
	ErrRange error = &meaning{"out of range of the device", syscall.EINVAL}
	// ErrNoView: a Viewer has no view of that name.
	ErrNoView error = &meaning{"no such view", syscall.EINVAL}
	// ErrClosed: the device has been closed, or is being closed.
	ErrClosed error = &meaning{"device is closed", syscall.ESHUTDOWN}
)

// meaning is an error with a text of its own and the meaning of an errno.
type meaning struct {
	text  string
	errno syscall.Errno
}

func (e *meaning) Error() string { return e.text }
func (e *meaning) Unwrap() error { return e.errno }

// Errno returns the meaning of err as an error number: 0 for nil, that of the
// first syscall.Errno that err wraps, ESHUTDOWN for a cancelled context,
// ETIMEDOUT for an expired one and EIO for everything else.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno) && errno != 0:
		return errno
	case errors.Is(err, context.Canceled):
		return syscall.ESHUTDOWN
	case errors.Is(err, context.DeadlineExceeded):
		return syscall.ETIMEDOUT
	}
	return syscall.EIO
}

func unknownContext(mc string) error {
	return fmt.Errorf("metadata context %q is not known here: %w", mc, ErrInvalid)
}
