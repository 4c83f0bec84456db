package node

import (
	"context"
	"net/http"
	"time"

	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/control"
)

// volumeRoutes adds what is about volumes:
//
//	GET  /v1/volumes          all of them, a VolumeList
//	POST /v1/volumes/create   makes one from a VolumeSpec
//	POST /v1/volumes/delete   deletes what a VolumeName says
func (n *Node) volumeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/volumes", func(w http.ResponseWriter, r *http.Request) {
		control.Answer(w, http.StatusOK, n.volumes())
	})
	post(mux, "/v1/volumes/create", func(ctx context.Context, q VolumeSpec) (done, error) {
		return done{}, n.cluster.Create(ctx, q.Name, record.Spec{
			Size: q.Size, ObjectSize: q.ObjectSize, Copies: q.Copies, MinCopies: q.MinCopies, Zones: q.Zones,
		})
	})
	post(mux, "/v1/volumes/delete", func(ctx context.Context, q VolumeName) (done, error) {
		if q.Snapshot != "" {
			return done{}, n.cluster.DeleteSnapshot(ctx, q.Name, q.Snapshot)
		}
		return done{}, n.cluster.Delete(ctx, q.Name)
	})
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

// A VolumeName is that of a volume, or of a snapshot of it.
type VolumeName struct {
	Name     string `json:"name"`
	Snapshot string `json:"snapshot,omitempty"`
}

// A VolumeList has the volumes of a cluster by name.
type VolumeList struct {
	Volumes []Volume `json:"volumes"`
}

// A Volume describes a volume. Sizes are in bytes.
type Volume struct {
	Name       string    `json:"name"`
	Size       int64     `json:"size"`
	ObjectSize int64     `json:"object_size"`
	Copies     int       `json:"copies"`
	MinCopies  int       `json:"min_copies"`
	Zones      int       `json:"zones,omitempty"`
	Snapshots  int       `json:"snapshots"`
	Created    time.Time `json:"created"`
	// Attached is the node that serves it now, empty if none does.
	Attached string `json:"attached,omitempty"`
}

func (n *Node) volumes() VolumeList {
	v := n.cluster.View()
	l := VolumeList{Volumes: []Volume{}}
	for name := range v.Names.All() {
		if h, ok := v.Head(name); ok {
			l.Volumes = append(l.Volumes, describe(v, h))
		}
	}
	return l
}

func describe(v *record.View, h record.Head) Volume {
	name, family := h.Name.Record, h.Volume.Record
	a, _ := v.Attachment(h.Line())
	return Volume{
		Name: h.Called, Size: name.Size, ObjectSize: family.ObjectSize, Copies: family.Copies, MinCopies: family.MinCopies,
		Zones: family.Zones, Snapshots: name.Snapshots, Created: name.Created, Attached: a.Node,
	}
}
