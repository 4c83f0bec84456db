package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// A Client talks to a running server through its control socket.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client of the control socket at path. It connects with
// every request.
func NewClient(path string) *Client {
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// Status returns the status of the server.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	st := new(Status)
	return st, c.do(ctx, http.MethodGet, "/v1/status", nil, st)
}

// Reload makes the server read its configuration again and returns what
// changed.
func (c *Client) Reload(ctx context.Context) (*Change, error) {
	change := new(Change)
	return change, c.do(ctx, http.MethodPost, "/v1/reload", nil, change)
}

// Stop ends the server. It returns when every request has been answered.
func (c *Client) Stop(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/stop", nil, new(struct{}))
}

// maxAnswer bounds the length in bytes of an answer.
const maxAnswer = 64 << 20

// do asks, with the JSON of what is to be sent if that is not nil, and reads
// the JSON of the answer.
func (c *Client) do(ctx context.Context, method, path string, send, into any) error {
	answer, err := c.open(ctx, method, path, send)
	if err != nil {
		return err
	}
	defer answer.Close()
	body, err := io.ReadAll(io.LimitReader(answer, maxAnswer))
	if err != nil {
		return fmt.Errorf("control socket %s: %w", c.path, err)
	}
	return json.Unmarshal(body, into)
}

// open asks and returns the answer, which is a success.
func (c *Client) open(ctx context.Context, method, path string, send any) (io.ReadCloser, error) {
	var body io.Reader
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://strata"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no server answers at the control socket %s", c.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the control socket %s belongs to another user", c.path)
	case err != nil:
		return nil, fmt.Errorf("control socket %s: %w", c.path, err)
	case resp.StatusCode == http.StatusOK:
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", c.path, err)
	}
	var p problem
	if json.Unmarshal(text, &p) != nil || p.Error == "" {
		return nil, fmt.Errorf("control socket %s: %s: %s", c.path, resp.Status, bytes.TrimSpace(text))
	}
	return nil, errors.New(p.Error)
}
