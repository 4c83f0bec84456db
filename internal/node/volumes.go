package node

import (
	"context"
	"fmt"
	"net/http"

	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/control"
	"github.com/strata-storage/strata/nbd"
)

// volumeRoutes adds what is about volumes:
//
//	GET  /v1/volumes            all of them, a VolumeList
//	GET  /v1/volumes/{name}     one of them, a VolumeDetail
//	GET  /v1/tree?volume=NAME   which versions descend from which, a Tree; of all
//	                            volumes without a name
//	POST /v1/volumes/create     makes one from a VolumeSpec
//	POST /v1/volumes/resize     makes it as large as a VolumeChange says
//	POST /v1/volumes/rename     calls it what a VolumeChange says
//	POST /v1/volumes/delete     deletes the volume or snapshot of a VolumeChange
//	POST /v1/volumes/snapshot   makes the snapshot of a VolumeChange
//	POST /v1/volumes/clone      makes the volume To of a snapshot
//	POST /v1/volumes/rollback   sets a volume back to a snapshot; what it was until
//	                            then becomes the snapshot To, or is deleted
//
// Changes but delete are answered with the Volume that comes of them.
func (n *Node) volumeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/volumes", func(w http.ResponseWriter, r *http.Request) {
		control.Answer(w, http.StatusOK, n.describeLatest(r).volumes())
	})
	mux.HandleFunc("GET /v1/volumes/{name}", func(w http.ResponseWriter, r *http.Request) {
		reply(w)(n.describeLatest(r).detail(r.PathValue("name")))
	})
	mux.HandleFunc("GET /v1/tree", func(w http.ResponseWriter, r *http.Request) {
		reply(w)(n.describeLatest(r).tree(r.URL.Query().Get("volume")))
	})
	post(mux, "/v1/volumes/create", n.createVolume)
	post(mux, "/v1/volumes/resize", n.resizeVolume)
	post(mux, "/v1/volumes/rename", func(ctx context.Context, q VolumeChange) (Volume, error) {
		return n.changed(q.To, n.cluster.Rename(ctx, q.Name, q.To))
	})
	post(mux, "/v1/volumes/snapshot", func(ctx context.Context, q VolumeChange) (Volume, error) {
		return n.changed(q.Name, n.cluster.Snapshot(ctx, q.Name, q.Snapshot))
	})
	post(mux, "/v1/volumes/clone", func(ctx context.Context, q VolumeChange) (Volume, error) {
		return n.changed(q.To, n.cluster.Clone(ctx, q.Name, q.Snapshot, q.To))
	})
	post(mux, "/v1/volumes/rollback", func(ctx context.Context, q VolumeChange) (Volume, error) {
		return n.changed(q.Name, n.cluster.Rollback(ctx, q.Name, q.Snapshot, q.To))
	})
	post(mux, "/v1/volumes/delete", func(ctx context.Context, q VolumeChange) (done, error) {
		switch {
		case q.Snapshot != "" && q.All:
			return done{}, fmt.Errorf("a snapshot, or all of a volume, not both: %w", errRequest)
		case q.Snapshot != "":
			return done{}, n.cluster.DeleteSnapshot(ctx, q.Name, q.Snapshot)
		case q.All:
			return done{}, n.cluster.DeleteAll(ctx, q.Name)
		}
		return done{}, n.cluster.Delete(ctx, q.Name)
	})
}

func (n *Node) createVolume(ctx context.Context, q VolumeSpec) (Volume, error) {
	if err := q.check(); err != nil {
		return Volume{}, err
	}
	return n.changed(q.Name, n.cluster.Create(ctx, q.Name, q.record()))
}

func (q *VolumeSpec) record() record.Spec {
	return record.Spec{Size: q.Size, ObjectSize: q.ObjectSize, Copies: q.Copies, MinCopies: q.MinCopies, Zones: q.Zones}
}

// check says what is wrong with a spec, in the words of those who ask.
func (q *VolumeSpec) check() error {
	least, most := int64(record.MinObjectSize), int64(record.MaxObjectSize)
	switch {
	case q.Size <= 0:
		return fmt.Errorf("a volume of %d bytes, expected 1 or more: %w", q.Size, errRequest)
	case q.Copies < 0 || q.Copies > record.MaxCopies:
		return fmt.Errorf("%d copies, expected 1 to %d: %w", q.Copies, record.MaxCopies, errRequest)
	case q.Copies > 0 && q.MinCopies > q.Copies || q.MinCopies < 0:
		return fmt.Errorf("%d copies for writes, of %d: %w", q.MinCopies, q.Copies, errRequest)
	case q.Copies > 0 && q.Zones > q.Copies || q.Zones < 0:
		return fmt.Errorf("%d zones for %d copies, expected as many at most: %w", q.Zones, q.Copies, errRequest)
	case q.ObjectSize != 0 && (q.ObjectSize < least || q.ObjectSize > most || q.ObjectSize&(q.ObjectSize-1) != 0):
		return fmt.Errorf("objects of %d bytes, expected a power of two from 64 KiB to 1 GiB: %w", q.ObjectSize, errRequest)
	}
	return nil
}

func (n *Node) resizeVolume(ctx context.Context, q VolumeChange) (Volume, error) {
	if h, ok := n.cluster.Latest(ctx).Head(q.Name); ok && q.Size < h.Name.Record.Size {
		return Volume{}, fmt.Errorf("the volume %s has %d bytes, and does not become smaller: %w", q.Name, h.Name.Record.Size, errRequest)
	}
	return n.changed(q.Name, n.cluster.Grow(ctx, q.Name, q.Size))
}

// changed describes a volume after a change that came to err.
func (n *Node) changed(volume string, err error) (Volume, error) {
	if err != nil {
		return Volume{}, err
	}
	d := n.describe()
	h, ok := d.Head(volume)
	if !ok {
		return Volume{}, fmt.Errorf("the volume %.200q was deleted meanwhile: %w", volume, record.ErrNotFound)
	}
	return d.volume(h), nil
}

// done is the answer when there is nothing to say.
type done struct{}

// A VolumeSpec says how a volume is made. Zeros are defaults.
type VolumeSpec struct {
	Name       string `json:"name"`
	Size       int64  `json:"size"`
	ObjectSize int64  `json:"object_size,omitempty"`
	Copies     int    `json:"copies,omitempty"`
	MinCopies  int    `json:"min_copies,omitempty"`
	Zones      int    `json:"zones,omitempty"`
}

// A VolumeChange asks for a change of a volume.
type VolumeChange struct {
	Name string `json:"name"`
	// Snapshot is the one of it that is meant.
	Snapshot string `json:"snapshot,omitempty"`
	// To is the next name.
	To string `json:"to,omitempty"`
	// Size is in bytes.
	Size int64 `json:"size,omitempty"`
	// All: a volume is deleted with its snapshots.
	All bool `json:"all,omitempty"`
}

// describe is what there is to tell now.
func (n *Node) describe() *describer { return newDescriber(n.cluster.View(), n.uri) }

// describeLatest is describe for somebody who may have changed something at another node.
func (n *Node) describeLatest(r *http.Request) *describer {
	return newDescriber(n.cluster.Latest(r.Context()), n.uri)
}

// uri is that of an export at the first address that has one.
func (n *Node) uri(export string) string {
	for _, a := range n.addresses {
		if uri := a.URI(export, n.o.TLS != nbd.TLSOff); uri != "" {
			return uri
		}
	}
	return ""
}
