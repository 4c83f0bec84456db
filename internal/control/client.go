package control

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

// A Client talks to a running process.
type Client struct {
	path, whom string
	http       http.Client
}

// NewClient returns a client of the control socket at path, where somebody is
// expected who is called whom in errors: "server" or "node". It connects with every
// request.
func NewClient(path, whom string) *Client {
	return &Client{path: path, whom: whom, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// Path is that of the socket.
func (c *Client) Path() string { return c.path }

// maxAnswer bounds the length in bytes of an answer.
const maxAnswer = 64 << 20

// Get asks for what is at path, and reads the JSON of the answer.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, nil, into)
}

// Post sends the JSON of what is to be sent, if that is not nil, and reads the JSON of
// the answer.
func (c *Client) Post(ctx context.Context, path string, send, into any) error {
	return c.do(ctx, http.MethodPost, path, send, into)
}

func (c *Client) do(ctx context.Context, method, path string, send, into any) error {
	answer, err := c.Open(ctx, method, path, send)
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

// Open asks and returns the answer, which is a success. The error is a NobodyError if
// nobody is there, and what the process says if it refuses.
func (c *Client) Open(ctx context.Context, method, path string, send any) (io.ReadCloser, error) {
	var body io.Reader
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	return c.Send(ctx, method, path, body)
}

// Send is Open with a body that is sent as it is.
func (c *Client) Send(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://strata"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, &NobodyError{c.whom, c.path}
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
	var p Problem
	if json.Unmarshal(text, &p) != nil || p.Error == "" {
		return nil, fmt.Errorf("control socket %s: %s: %s", c.path, resp.Status, bytes.TrimSpace(text))
	}
	return nil, errors.New(p.Error)
}

// A NobodyError says that no process is there.
type NobodyError struct{ Whom, Path string }

func (e *NobodyError) Error() string {
	return fmt.Sprintf("no %s answers at the control socket %s", e.Whom, e.Path)
}
