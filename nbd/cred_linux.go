package nbd

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerCred asks the kernel which process is at the other end of a Unix socket.
// It returns nil for other connections.
func peerCred(conn net.Conn) *Cred {
	raw := rawConn(conn)
	if raw == nil || !isUnix(conn) {
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
