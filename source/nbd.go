package source

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

// NBDOptions configures NBD.
type NBDOptions struct {
	_             struct{}      `doc:"An export of an NBD server." long:"A lost connection is made again and the requests that had no answer are repeated, so that a restart of the server is only a pause. See the documentation of nbd.Client for what the server must keep for that to be safe; no_reconnect is for servers that do not."`
	URI           string        `name:"uri" arg:"1" required:"true" doc:"Where it is: nbd://host:port/export, nbd+unix:///export?socket=path, nbd+vsock://cid:port/export, or nbds in place of nbd to demand TLS."`
	Conns         int           `name:"conns" default:"1" doc:"Number of connections, up to 64, if the server allows more than one."`
	ReconnectTime time.Duration `name:"reconnect_time" unit:"duration" default:"60s" doc:"How long requests wait for a server that is away before they fail."`
	NoReconnect   bool          `name:"no_reconnect" doc:"Let a lost connection be final."`
	TLSCA         string        `name:"tls_ca" unit:"path" doc:"PEM file with the authorities that may have signed the server's certificate; those of the system if empty."`
	TLSCert       string        `name:"tls_cert" unit:"path" doc:"PEM file with our certificate, for servers that ask who we are."`
	TLSKey        string        `name:"tls_key" unit:"path" doc:"PEM file with the key of tls_cert."`
	TLSHostname   string        `name:"tls_hostname" doc:"Name that the server's certificate must be for, if it is not the host of the URI."`
}

// NBD returns the export that o.URI names, see nbd.Client for what holds when
// connections are lost. Closing it disconnects. Lost and new connections are
// reported to slog.Default.
func NBD(ctx context.Context, o NBDOptions) (block.Device, error) {
	d, err := o.dialer()
	if err != nil {
		return nil, err
	}
	c, err := d.Dial(ctx, o.URI)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (o *NBDOptions) dialer() (*nbd.Dialer, error) {
	d := &nbd.Dialer{
		Conns:     o.Conns,
		Reconnect: nbd.Reconnect{Off: o.NoReconnect, Limit: o.ReconnectTime},
		Log:       slog.Default(),
	}
	if o.TLSCA == "" && o.TLSCert == "" && o.TLSKey == "" && o.TLSHostname == "" {
		return d, nil
	}
	u, err := nbd.ParseURI(o.URI)
	switch {
	case err != nil:
		return nil, err
	case !u.TLS:
		return nil, fmt.Errorf("nbd: TLS files are given for %s, which does not use TLS (nbds does): %w", o.URI, block.ErrInvalid)
	case u.TLSCertificates != "":
		return nil, fmt.Errorf("nbd: TLS files are given for %s, which names its own directory of them: %w", o.URI, block.ErrInvalid)
	case u.TLSHostname != "" && o.TLSHostname != "" && u.TLSHostname != o.TLSHostname:
		return nil, fmt.Errorf("nbd: tls_hostname is %s, but %s says otherwise: %w", o.TLSHostname, o.URI, block.ErrInvalid)
	}
	files := nbd.TLSClientFiles{
		CA: o.TLSCA, Cert: o.TLSCert, Key: o.TLSKey,
		ServerName: o.TLSHostname, SkipVerify: u.TLSSkipVerify,
	}
	d.TLSConfig, err = files.ClientConfig()
	return d, err
}
