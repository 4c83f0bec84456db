package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstSystemdFD is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstSystemdFD = 3

// openSystemd returns the sockets that systemd, or another program that
// speaks its protocol, passed to this process: those named a.Name, or all.
// Each can be taken once.
func openSystemd(a Address) ([]Socket, error) {
	names, err := passedNames(os.Getenv, os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", a, err)
	}
	var open []Socket
	for i, name := range names {
		if a.Name != "" && a.Name != name {
			continue
		}
		l, err := listenerOf(firstSystemdFD + i)
		if err != nil {
			closeAll(open)
			return nil, fmt.Errorf("listen at %s: socket %d (%s): %w", a, i, name, plain(err))
		}
		open = append(open, Socket{l, addressOf(l.Addr(), a)})
	}
	if len(open) == 0 {
		return nil, fmt.Errorf("listen at %s: none of the sockets passed by systemd has that name: they are %s", a, strings.Join(names, ", "))
	}
	return open, nil
}

// passedNames reads the environment of sd_listen_fds_with_names(3): one name
// for each file descriptor from firstSystemdFD on.
func passedNames(getenv func(string) string, pid int) ([]string, error) {
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 1 || n > 1024 || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, errors.New("no socket was passed to this process; start it by a systemd .socket unit or systemd-socket-activate")
	}
	names := make([]string, n)
	given := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	for i := range names {
		if names[i] = "unknown"; len(given) == n && given[i] != "" {
			names[i] = given[i]
		}
	}
	return names, nil
}

func listenerOf(fd int) (net.Listener, error) {
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v == 0 {
		return nil, errors.Join(errors.New("not a listening socket"), err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	if vm, ok := local.(*unix.SockaddrVM); ok {
		if err := syscall.SetNonblock(fd, true); err != nil {
			return nil, err
		}
		return adoptVsock(fd, VsockAddr{vm.CID, vm.Port}), nil
	}
	f := os.NewFile(uintptr(fd), "listen")
	defer f.Close()
	l, err := net.FileListener(f)
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // systemd made the path and keeps it
	}
	return l, err
}

// addressOf is the address that a listener has, or otherwise.
func addressOf(addr net.Addr, otherwise Address) Address {
	switch addr := addr.(type) {
	case *net.TCPAddr:
		return Address{Kind: TCP, Host: addr.IP.String(), Port: uint32(addr.Port)}
	case *net.UnixAddr:
		return Address{Kind: Unix, Path: addr.Name}
	case VsockAddr:
		return Address{Kind: Vsock, CID: addr.CID, Port: addr.Port}
	}
	return otherwise
}
