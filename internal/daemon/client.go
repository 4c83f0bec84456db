package daemon

import (
	"context"

	"github.com/strata-storage/strata/internal/control"
)

// A Client talks to a running server through its control socket.
type Client struct{ *control.Client }

// NewClient returns a client of the control socket at path.
func NewClient(path string) *Client { return &Client{control.NewClient(path, "server")} }

// Status returns the status of the server.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	st := new(Status)
	return st, c.Get(ctx, "/v1/status", st)
}

// Reload makes the server read its configuration again and returns what
// changed.
func (c *Client) Reload(ctx context.Context) (*Change, error) {
	change := new(Change)
	return change, c.Post(ctx, "/v1/reload", nil, change)
}

// Stop ends the server. It returns when every request has been answered.
func (c *Client) Stop(ctx context.Context) error {
	return c.Post(ctx, "/v1/stop", nil, new(struct{}))
}
