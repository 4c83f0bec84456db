package listen

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/internal/peer"
)

func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func openVsock(t *testing.T) *vsockListener {
	t.Helper()
	l, err := listenVsock(AnyCID, AnyCID) // the port that stands for any
	if err != nil {
		peer.Cannot(t, "no vsock: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestVsockClose(t *testing.T) {
	t.Parallel()
	l := openVsock(t)
	done := make(chan error)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, want net.ErrClosed", err)
	}
}

func TestVsockLoopback(t *testing.T) {
	t.Parallel()
	l := openVsock(t)
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fd), "client")
	defer client.Close()
	timeout := unix.Timeval{Usec: 200_000}
	if err := unix.SetsockoptTimeval(fd, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: l.addr.Port}); err != nil {
		peer.Cannot(t, "no vsock loopback: %v", err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, ok := c.RemoteAddr().(VsockAddr); !ok || got.CID != unix.VMADDR_CID_LOCAL {
		t.Errorf("the client is %v, want context 1", c.RemoteAddr())
	}
	go client.Write([]byte("word"))
	var b [4]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "word" {
		t.Errorf("got %q, %v", b, err)
	}
}
