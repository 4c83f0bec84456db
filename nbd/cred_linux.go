package nbd

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerCred asks the kernel which process is at the other end of a Unix socket.
// It returns nil for other connections.
func peerCred(conn net.Conn) *Cred {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *Cred
	raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			cred = &Cred{PID: c.Pid, UID: c.Uid, GID: c.Gid}
		}
	})
	return cred
}
