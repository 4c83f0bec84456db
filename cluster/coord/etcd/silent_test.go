package etcd

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// All connections between members end when one is silent, and the kernel asks those that
// have nothing to say.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	members := map[string][]string{"a": {freeURL(t, "http")}, "b": {freeURL(t, "http")}}
	servers := startAll(t, members)
	ports := servers["a"].peerPorts()
	if len(ports) != 2 {
		t.Fatalf("the ports are %v, of %v", ports, members)
	}
	for range time.Tick(lookTime / 10) {
		all, bounded := 0, 0
		eachSocket(ports, func(fd int) {
			all++
			timeout, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
			asks, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			idle, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			if timeout == 2000 && asks == 1 && idle == 1 {
				bounded++
			}
		})
		// Two streams each way, which both ends of are here.
		if bounded == all && all >= 8 {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("%d of %d connections", bounded, all)
		}
	}
}
