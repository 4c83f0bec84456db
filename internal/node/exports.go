package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/exportname"
	"github.com/strata-storage/strata/internal/units"
	"github.com/strata-storage/strata/nbd"
)

// Exports finds the volumes of a cluster for an NBD server: NAME is a volume, and
// NAME@SNAPSHOT a snapshot, which is read-only. All connections to a volume share what
// they write. There is no default export. A client that goes from node to node says who it
// is, see package exportname.
type Exports struct{ Node *cluster.Node }

var _ nbd.Resolver = Exports{}

// Resolve is that of nbd.Resolver. A client that only asks does not attach the volume.
func (e Exports) Resolve(ctx context.Context, r *nbd.ExportRequest) (*nbd.Export, error) {
	dev, err := e.open(ctx, r)
	if errors.Is(err, record.ErrNotFound) {
		return nil, nbd.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	name, _, _, _ := exportname.Parse(r.Name) // counters are those of the volume
	x, _ := exportOf(e.Node.View(), name)
	volume, _, _ := strings.Cut(name, "@")
	return &nbd.Export{
		Name: name, Description: x.Device, Device: dev, Release: func() { _ = dev.Close() },
		HasContext: func(mc string) bool { return e.Node.HasContext(volume, mc) },
	}, nil
}

func (e Exports) open(ctx context.Context, r *nbd.ExportRequest) (block.Device, error) {
	name, client, number, err := exportname.Parse(r.Name)
	if err != nil {
		return nil, err
	}
	// No name has an @ in it.
	volume, snapshot, isSnapshot := strings.Cut(name, "@")
	switch {
	case isSnapshot && snapshot == "":
		return nil, record.ErrNotFound
	case r.Probe:
		return e.Node.Probe(ctx, volume, snapshot)
	case isSnapshot:
		return e.Node.OpenSnapshot(ctx, volume, snapshot)
	}
	end, _ := ctx.Value(endKey{}).(func())
	return e.Node.OpenFor(ctx, name, cluster.Session{Client: client, Number: number}, end)
}

// endKey is of what cuts the connection that a context is of.
type endKey struct{}

// withEnd returns the context of a connection that can be cut.
func withEnd(ctx context.Context, end func()) context.Context {
	return context.WithValue(ctx, endKey{}, end)
}

// List is that of nbd.Resolver.
func (e Exports) List(context.Context, *nbd.Peer) (list []*nbd.Export, _ error) {
	v := e.Node.View()
	for name := range v.Names.All() {
		h, ok := v.Head(name)
		if !ok {
			continue
		}
		list = append(list, &nbd.Export{Name: name, Description: volumeText(h)})
		for snapshot, version := range v.Snapshots(h.Line()) {
			list = append(list, &nbd.Export{Name: name + "@" + snapshot, Description: snapshotText(name, version)})
		}
	}
	return list, nil
}

func volumeText(h record.Head) string {
	return fmt.Sprintf("volume, %s", units.Plural(h.Volume.Record.Copies, "copy"))
}

func snapshotText(volume string, s record.Version) string {
	return fmt.Sprintf("snapshot of %s, %s", volume, s.Created.UTC().Format(time.DateTime+" MST"))
}
