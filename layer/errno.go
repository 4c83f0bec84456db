package layer

import (
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ParseErrno returns the error number with a name, such as ENOSPC: any that
// the system knows. NBD carries EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW,
// ENOTSUP and ESHUTDOWN to its clients; others arrive as the nearest of them.
func ParseErrno(name string) (syscall.Errno, error) {
	if errno, ok := errnoByName()[name]; ok {
		return errno, nil
	}
	return 0, fmt.Errorf("%q is not the name of an error number: write EIO, ENOSPC, EPERM, ENOMEM, EINVAL, ETIMEDOUT or another of the system's", name)
}

var errnoByName = sync.OnceValue(func() map[string]syscall.Errno {
	names := map[string]syscall.Errno{
		"EDEADLOCK":   unix.EDEADLK,
		"ENOTSUP":     unix.ENOTSUP,
		"EOPNOTSUPP":  unix.EOPNOTSUPP,
		"EWOULDBLOCK": unix.EWOULDBLOCK,
	}
	for errno := syscall.Errno(1); errno < 256; errno++ {
		if name := unix.ErrnoName(errno); name != "" {
			names[name] = errno
		}
	}
	return names
})
