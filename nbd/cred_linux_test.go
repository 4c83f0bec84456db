package nbd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// peerResolver tells who has asked.
type peerResolver struct {
	Exports
	peers chan *Peer
}

func (r peerResolver) Resolve(ctx context.Context, req *ExportRequest) (*Export, error) {
	if !req.Probe {
		r.peers <- req.Peer
	}
	return r.Exports.Resolve(ctx, req)
}

// A resolver learns which process is at the other end of a Unix socket, from
// the kernel, and nothing of the kind about a client on TCP.
func TestPeerCredentials(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	for network, address := range map[string]string{"unix": socket, "tcp": "127.0.0.1:0"} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		r := peerResolver{memExport(4096), make(chan *Peer, 1)}
		s := &Server{Exports: r}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		uri := "nbd+unix:///vm?socket=" + socket
		if network == "tcp" {
			uri = "nbd://" + l.Addr().String() + "/vm"
		}
		dialTest(t, &Dialer{}, uri)
		switch p := <-r.peers; {
		case network == "tcp":
			if p.Cred != nil || p.Addr.Network() != "tcp" {
				t.Errorf("on TCP: %+v, %v", p.Cred, p.Addr)
			}
		case p.Cred == nil || *p.Cred != Cred{PID: int32(os.Getpid()), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}:
			t.Errorf("on a Unix socket: %+v, expected this process", p.Cred)
		}
	}
}
