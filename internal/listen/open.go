package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket is an open listener and the address that clients may use.
type Socket struct {
	net.Listener
	// Address has the port that the system chose.
	Address Address
}

// Open listens at a. An address may need several sockets: the result has one
// for each, all of them open or none. Stdio cannot be opened.
func Open(ctx context.Context, a Address) ([]Socket, error) {
	switch a.Kind {
	case TCP:
		return openTCP(ctx, a)
	case Unix:
		return openUnix(ctx, a)
	case Vsock:
		l, err := listenVsock(a.CID, a.Port)
		if err != nil {
			return nil, fmt.Errorf("listen at %s: %w", a, plain(err))
		}
		return []Socket{{l, Address{Kind: Vsock, CID: a.CID, Port: l.addr.Port}}}, nil
	case Systemd:
		return openSystemd(a)
	}
	return nil, fmt.Errorf("%s is a connection, not a place to listen at", a)
}

// openTCP listens on both loopbacks for localhost and on every address of
// another name. A machine without IPv6 is content with IPv4, and the reverse.
func openTCP(ctx context.Context, a Address) ([]Socket, error) {
	hosts := []string{a.Host}
	switch {
	case a.Host == "localhost":
		hosts = []string{"127.0.0.1", "::1"}
	case a.Host != "" && net.ParseIP(a.Host) == nil:
		found, err := net.DefaultResolver.LookupHost(ctx, a.Host)
		if err != nil {
			return nil, fmt.Errorf("listen at %s: %w", a, plain(err))
		}
		hosts = found
	}
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	var open []Socket
	var absent error
	port := a.Port
	for _, host := range hosts {
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		switch {
		case noSuchFamily(err) && len(hosts) > 1:
			absent = err
			continue
		case err != nil:
			closeAll(open)
			return nil, fmt.Errorf("listen at %s: %w", a, plain(err))
		}
		port = uint32(l.Addr().(*net.TCPAddr).Port)
		shown := a
		shown.Port = port
		open = append(open, Socket{l, shown})
	}
	if len(open) == 0 {
		return nil, fmt.Errorf("listen at %s: %w", a, plain(absent))
	}
	return open, nil
}

func noSuchFamily(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// openUnix listens on a Unix socket in the place of one that nobody serves
// any more. The socket has its mode from the moment it exists.
func openUnix(ctx context.Context, a Address) ([]Socket, error) {
	if err := removeStale(a.Path); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", a, err)
	}
	var config net.ListenConfig
	if a.Mode != 0 {
		config.Control = func(network, address string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(a.Mode)) }); e != nil {
				return e
			}
			return err
		}
	}
	l, err := config.Listen(ctx, "unix", a.Path)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", a, plain(err))
	}
	if a.Mode != 0 { // what the umask took away
		if err := os.Chmod(a.Path, a.Mode); err != nil {
			l.Close()
			return nil, fmt.Errorf("listen at %s: %w", a, plain(err))
		}
	}
	return []Socket{{l, a}}, nil
}

// removeStale removes the socket at path if it refuses connections, which a
// socket does only when no process has it open.
func removeStale(path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return plain(err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("a file that is not a socket is in the way")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("another server listens there")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return plain(err)
	}
	return os.Remove(path)
}

func closeAll(sockets []Socket) {
	for _, s := range sockets {
		s.Close()
	}
}

// plain takes from err what package net repeats of the address.
func plain(err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &dns):
		return errors.New(dns.Err)
	}
	return err
}
