package etcd

import (
	"context"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// silentTime is how long another member may be silent until a connection to it is
	// over, and probeTime after which silence it is asked whether it is there.
	silentTime = 2 * time.Second
	probeTime  = time.Second
	// lookTime is between two looks for connections.
	lookTime = time.Second
)

// cutSilent is the goroutine that lets the kernel end connections to members that do not
// answer. Etcd would do it itself, but its transport for messages between members is given
// a dialer with timeouts beside one without, which wins (client/pkg/v3/transport of 3.5 to
// 3.7: NewTimeoutTransport sets Dial, NewTransport has set DialContext). So after a
// partition it would wait until TCP sends again what was lost, which it does less and less
// often, up to every two minutes: all that time a member that leads, or wants to know
// something of the one that does, is not heard. There is no way to give it another dialer.
func (s *Server) cutSilent(ctx context.Context) {
	tick := time.NewTicker(lookTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if ports := s.peerPorts(); ports != nil {
			eachSocket(ports, endWhenSilent)
		}
	}
}

// peerPorts are those at which members listen to each other, nil if there is only one.
func (s *Server) peerPorts() map[int]bool {
	ports := map[int]bool{}
	members := s.etcd.Server.Cluster().Members()
	for _, m := range members {
		for _, text := range m.PeerURLs {
			if u, err := url.Parse(text); err == nil {
				if port, err := strconv.Atoi(u.Port()); err == nil {
					ports[port] = true
				}
			}
		}
	}
	if len(members) < 2 {
		return nil
	}
	return ports
}

// eachSocket calls f with all TCP sockets of this process that have one of the ports at
// either end.
func eachSocket(ports map[int]bool, f func(fd int)) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		here, err := unix.Getsockname(fd)
		if err != nil {
			continue // no socket
		}
		there, err := unix.Getpeername(fd)
		if err == nil && (ports[portOf(here)] || ports[portOf(there)]) {
			f(fd)
		}
	}
}

// portOf is the port of an address, 0 if it has none.
func portOf(a unix.Sockaddr) int {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return a.Port
	case *unix.SockaddrInet6:
		return a.Port
	}
	return 0
}

// endWhenSilent lets a connection end when what was sent, or a question whether the other
// end is there, has no answer for some time.
func endWhenSilent(fd int) {
	want := int(silentTime / time.Millisecond)
	if is, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || is == want {
		return
	}
	probe := int(probeTime / time.Second)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, want)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, probe)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, probe)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}
