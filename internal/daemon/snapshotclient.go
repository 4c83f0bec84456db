package daemon

import (
	"context"
	"net/url"
)

// Snapshots lists the snapshots of an export.
func (c *Client) Snapshots(ctx context.Context, export string) (*SnapshotList, error) {
	l := new(SnapshotList)
	return l, c.Get(ctx, "/v1/snapshots?"+url.Values{"export": {export}}.Encode(), l)
}

// ChangeSnapshots does what verb says: create, delete, rename, rollback,
// suspend or resume.
func (c *Client) ChangeSnapshots(ctx context.Context, verb string, q SnapshotRequest) error {
	return c.Post(ctx, "/v1/snapshots/"+verb, q, new(struct{}))
}

// CheckSnapshots looks for damage in the store of an export.
func (c *Client) CheckSnapshots(ctx context.Context, export string) (*SnapshotCheck, error) {
	k := new(SnapshotCheck)
	return k, c.Post(ctx, "/v1/snapshots/check", SnapshotRequest{Export: export}, k)
}
