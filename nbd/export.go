package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/strata-storage/strata/block"
)

// An Export is a device under a name on a server.
type Export struct {
	// Name as clients ask for it: at most 4096 bytes of UTF-8 without NUL.
	// The export named "" is the default.
	Name string
	// Description is for people. Optional.
	Description string
	// Device is what is served. The server does not close it.
	Device block.Device
	// ReadOnly serves a writable device read-only.
	ReadOnly bool
	// Exclusive says that other connections to this name get a device that
	// does not share its writes with this one, so that clients must not
	// spread requests over several connections.
	Exclusive bool
	// HasContext, if not nil, reports whether Device answers in a metadata context that
	// its Info does not name. There may be any number of those: they are not listed, but
	// a client that asks for one by its whole name has it.
	HasContext func(name string) bool
	// RequireTLS hides the export from clients that do not use TLS.
	RequireTLS bool
	// Release, if not nil, is called once when the connection that resolved
	// the export has ended and no request of it is in flight.
	Release func()
}

// A Peer is the other end of a connection to a server.
type Peer struct {
	// Addr is the address of the client as the listener told it.
	Addr net.Addr
	// TLS is nil in clear text. VerifiedChains or PeerCertificates have
	// been verified if the server's configuration asks for certificates.
	TLS *tls.ConnectionState
	// Cred are the credentials of a process at the other end of a Unix
	// socket, otherwise nil.
	Cred *Cred
}

// Cred identifies a process on this machine.
type Cred struct {
	PID      int32
	UID, GID uint32
}

// An ExportRequest is what a client asks for.
type ExportRequest struct {
	Name string
	Peer *Peer
	// Probe is set when the client only wants to know about the export. No
	// data will be read or written through the answer.
	Probe bool
}

// A Resolver finds exports. Its methods are called from many goroutines.
type Resolver interface {
	// Resolve returns the export that a connection asks for. ErrNotFound,
	// ErrDenied and ErrTLSRequired tell the client just that; any other error is logged
	// and tells it that the export cannot be had at the moment.
	Resolve(ctx context.Context, req *ExportRequest) (*Export, error)
	// List returns the exports that peer may know of, in the order in which
	// they are to be shown. Of each, Name, Description and RequireTLS
	// matter.
	List(ctx context.Context, peer *Peer) ([]*Export, error)
}

// Errors of a Resolver.
var (
	ErrNotFound    = errors.New("nbd: no such export")
	ErrDenied      = errors.New("nbd: access denied")
	ErrTLSRequired = errors.New("nbd: export needs TLS")
)

// Exports is a Resolver over a fixed list.
type Exports []*Export

// Resolve returns the first export of that name. A request for the default
// export gets the only one of the list if there is none named "".
func (e Exports) Resolve(ctx context.Context, req *ExportRequest) (*Export, error) {
	for _, x := range e {
		if x.Name == req.Name {
			return x, nil
		}
	}
	if req.Name == "" && len(e) == 1 {
		return e[0], nil
	}
	return nil, ErrNotFound
}

// List returns e.
func (e Exports) List(ctx context.Context, peer *Peer) ([]*Export, error) { return e, nil }
