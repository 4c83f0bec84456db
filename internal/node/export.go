package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/snapshot/stream"
)

// transferRoutes adds what reads or carries the content of volumes:
//
//	GET  /v1/export?volume=&snapshot=&since=   a stream, see package stream, of a
//	     snapshot, or of what differs from the snapshot since
//	POST /v1/volumes/import?q=   takes a stream, the body; q is an ImportRequest. The
//	     answer is lines of JSON, each a Transfer, while the body is read; the last one
//	     says how it ended
//	POST /v1/volumes/check   does what a CheckRequest says; the answer is lines of JSON,
//	     each a CheckStep
func (n *Node) transferRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/export", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		n.export(w, r, q.Get("volume"), q.Get("snapshot"), q.Get("since"))
	})
	mux.HandleFunc("POST /v1/volumes/import", n.importStream)
	mux.HandleFunc("POST /v1/volumes/check", n.check)
}

func (n *Node) export(w http.ResponseWriter, r *http.Request, volume, snapshot, since string) {
	ctx, done := n.transfer(r)
	defer done()
	h, err := n.exportHeader(ctx, volume, snapshot, since)
	if err != nil {
		reply(w)(nil, err)
		return
	}
	dev, err := n.cluster.OpenSnapshot(ctx, volume, snapshot)
	if err != nil {
		reply(w)(nil, err)
		return
	}
	defer dev.Close()
	changes := block.OneExtent(0, h.Size, cluster.Changed)
	if since != "" {
		changes = dev.Extents(ctx, cluster.ChangedSince+since, 0, h.Size)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	// What goes wrong now is said at the end of the stream.
	if err := stream.Write(ctx, w, h, dev, changes); err != nil {
		n.log.Warn("an export of a volume failed", "volume", volume, "snapshot", snapshot, "since", since, "error", err)
	}
}

// exportHeader is the header of the stream of a snapshot.
func (n *Node) exportHeader(ctx context.Context, volume, snapshot, since string) (stream.Header, error) {
	v := n.cluster.Latest(ctx)
	head, ok := v.Head(volume)
	if !ok {
		return stream.Header{}, fmt.Errorf("the volume %.200q: %w", volume, record.ErrNotFound)
	}
	find := func(name string) (record.Version, error) {
		s, ok := v.Snapshot(head.Line(), name)
		if !ok {
			return s, fmt.Errorf("the snapshot %.200q of the volume %.200q: %w", name, volume, record.ErrNotFound)
		}
		return s, nil
	}
	to, err := find(snapshot)
	if err != nil {
		return stream.Header{}, err
	}
	h := stream.Header{Size: to.Size, To: snapshot, ToID: v.SnapshotID(head.Line().Family, to)}
	if since == "" {
		return h, nil
	}
	from, err := find(since)
	if err != nil {
		return stream.Header{}, err
	}
	h.From, h.FromID = since, v.SnapshotID(head.Line().Family, from)
	return h, nil
}

// Export returns the stream of a snapshot, or of what differs from the snapshot since, if
// that is not empty. Whether it is whole is for the stream to tell.
func (c *Client) Export(ctx context.Context, volume, snapshot, since string) (io.ReadCloser, error) {
	q := url.Values{"volume": {volume}, "snapshot": {snapshot}, "since": {since}}
	return c.Open(ctx, http.MethodGet, "/v1/export?"+q.Encode(), nil)
}
