package node

import (
	"context"
	"time"

	"github.com/strata-storage/strata/internal/control"
)

// A Client talks to a running node through its control socket.
type Client struct{ *control.Client }

// NewClient returns a client of the control socket at path.
func NewClient(path string) *Client { return &Client{control.NewClient(path, "node")} }

// Stop ends the node. It returns when nothing is served any more.
func (c *Client) Stop(ctx context.Context) error {
	return c.Post(ctx, "/v1/stop", nil, new(done))
}

// Token makes a token by which nodes can join for that long.
func (c *Client) Token(ctx context.Context, valid time.Duration) (*Token, error) {
	t := new(Token)
	return t, c.Post(ctx, "/v1/cluster/token", TokenRequest{int64(valid / time.Second)}, t)
}

// Volumes lists the volumes of the cluster.
func (c *Client) Volumes(ctx context.Context) ([]Volume, error) {
	var l VolumeList
	err := c.Get(ctx, "/v1/volumes", &l)
	return l.Volumes, err
}

// Create makes a volume.
func (c *Client) Create(ctx context.Context, spec VolumeSpec) error {
	return c.Post(ctx, "/v1/volumes/create", spec, new(done))
}

// Delete deletes a volume or a snapshot.
func (c *Client) Delete(ctx context.Context, name VolumeName) error {
	return c.Post(ctx, "/v1/volumes/delete", name, new(done))
}
