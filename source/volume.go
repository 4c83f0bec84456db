package source

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/exportname"
	"github.com/strata-storage/strata/nbd"
)

// VolumeOptions configures Volume.
type VolumeOptions struct {
	_             struct{}      `doc:"A volume of a cluster, or a snapshot of one." long:"It is served by the nodes of the cluster, which are all the same: one of those named is used, and another one when that dies or stops to answer. Requests that had no answer are repeated there, and the cluster sees to it that what is left of them at the first one is not carried out later. One address is enough to begin, but then there is nobody to go on with."`
	Name          string        `name:"name" arg:"1" required:"true" doc:"Name of the volume."`
	Cluster       string        `name:"cluster" required:"true" doc:"Where nodes serve their volumes: HOST or HOST:PORT, several with commas between them."`
	Snapshot      string        `name:"snapshot" doc:"Name of a snapshot, which is read-only, in place of the volume itself."`
	ReconnectTime time.Duration `name:"reconnect_time" unit:"duration" default:"60s" doc:"How long requests wait, when no node answers, before they fail."`
	TLS           bool          `name:"tls" doc:"Demand TLS."`
	TLSCA         string        `name:"tls_ca" unit:"path" doc:"PEM file with the authorities that may have signed the certificates of the nodes; those of the system if empty."`
	TLSCert       string        `name:"tls_cert" unit:"path" doc:"PEM file with our certificate, for nodes that ask who we are."`
	TLSKey        string        `name:"tls_key" unit:"path" doc:"PEM file with the key of tls_cert."`
	TLSHostname   string        `name:"tls_hostname" doc:"Name that the certificates of the nodes must be for, if it is not the host of the first address."`
}

// silentNode is after how long a node that answers nothing at all is left. A node ends each
// request in less time, with an error if need be.
const silentNode = 45 * time.Second

// Volume returns a volume of a cluster. Closing it disconnects. Nodes that are left and
// found are reported to slog.Default.
func Volume(ctx context.Context, o VolumeOptions) (block.Device, error) {
	d, uri, err := o.dialer()
	if err != nil {
		return nil, err
	}
	c, err := d.Dial(ctx, uri)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (o *VolumeOptions) dialer() (*nbd.Dialer, string, error) {
	if strings.ContainsAny(o.Name+o.Snapshot, "@?/") {
		return nil, "", fmt.Errorf("volume %q with snapshot %q: these are no names of volumes or snapshots, such as volume(\"vm1\", snapshot = \"monday\"): %w", o.Name, o.Snapshot, block.ErrInvalid)
	}
	d := &nbd.Dialer{
		Addresses: o.addresses(),
		Silence:   silentNode,
		Grows:     true,
		Reconnect: nbd.Reconnect{Limit: o.ReconnectTime},
		// A node may have to wait until another one's right to the volume is over.
		HandshakeTimeout: 40 * time.Second,
		Log:              slog.Default(),
	}
	name := o.Name
	if o.Snapshot != "" {
		name += "@" + o.Snapshot
	} else {
		client, number := rand.Uint64()|1, uint64(0)
		d.ExportName = func() string {
			number++
			return exportname.Make(o.Name, client, number)
		}
	}
	u := url.URL{Scheme: "nbd", Host: "cluster", Path: "/" + name}
	if !o.TLS {
		if o.TLSCA != "" || o.TLSCert != "" || o.TLSKey != "" || o.TLSHostname != "" {
			return nil, "", fmt.Errorf("volume %q: TLS files or names are given without tls = True: %w", o.Name, block.ErrInvalid)
		}
		return d, u.String(), nil
	}
	u.Scheme = "nbds"
	var err error
	d.TLSConfig, err = o.tls()
	return d, u.String(), err
}

func (o *VolumeOptions) addresses() []string {
	list := strings.Split(o.Cluster, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

func (o *VolumeOptions) tls() (*tls.Config, error) {
	host := o.TLSHostname
	if host == "" {
		u := url.URL{Host: o.addresses()[0]}
		host = u.Hostname()
	}
	files := nbd.TLSClientFiles{CA: o.TLSCA, Cert: o.TLSCert, Key: o.TLSKey, ServerName: host}
	return files.ClientConfig()
}
