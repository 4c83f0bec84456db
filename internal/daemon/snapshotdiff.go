package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/control"
	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/snapshot/stream"
)

// A DiffLine is a line of a difference: an extent that has changed, or the
// end. A difference without an end is not whole.
type DiffLine struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	End    bool   `json:"end,omitempty"`
	Error  string `json:"error,omitempty"`
}

// unlessStopped makes the context of an answer that may take long: it ends
// when the server does, and so does the answer, even if nobody reads it.
func (d *Daemon) unlessStopped(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := make(chan struct{})
	go func() {
		select {
		case <-d.stopped:
			cancel(ErrStopping)
			http.NewResponseController(w).SetWriteDeadline(time.Now()) // an error means that it has gone
		case <-stop:
		}
	}()
	return ctx, func() {
		close(stop)
		cancel(nil)
	}
}

// between returns what a request for a difference is about.
func (d *Daemon) between(w http.ResponseWriter, r *http.Request) (s *snapshot.Set, from, to string, release func(), ok bool) {
	s, release, err := d.snapshotSet(r.FormValue("export"))
	if err != nil {
		control.Fail(w, http.StatusNotFound, err)
		return nil, "", "", nil, false
	}
	if s.Stats().Suspended {
		release()
		control.Fail(w, http.StatusUnprocessableEntity, fmt.Errorf("the snapshots are suspended: %w", snapshot.ErrBusy))
		return nil, "", "", nil, false
	}
	return s, r.FormValue("from"), r.FormValue("to"), release, true
}

func (d *Daemon) diff(w http.ResponseWriter, r *http.Request) {
	s, from, to, release, ok := d.between(w, r)
	if !ok {
		return
	}
	defer release()
	ctx, cancel := d.unlessStopped(w, r)
	defer cancel()
	closeAll, err := openAllOf(ctx, s, from, to)
	if err != nil {
		control.Fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	defer closeAll()
	w.Header().Set("Content-Type", "application/x-ndjson")
	b := bufio.NewWriter(w)
	defer b.Flush()
	lines := json.NewEncoder(b) // errors are those of the client, who has gone
	for e, err := range s.Diff(ctx, from, to) {
		if err != nil {
			lines.Encode(DiffLine{Error: err.Error()})
			return
		}
		if e.Status == snapshot.Changed && lines.Encode(DiffLine{Offset: e.Off, Length: e.Len}) != nil {
			return
		}
	}
	lines.Encode(DiffLine{End: true})
}

// openAllOf opens snapshots so that nobody deletes them; "" is the origin.
func openAllOf(ctx context.Context, s *snapshot.Set, names ...string) (closeAll func(), err error) {
	var devs []block.Device
	closeAll = func() {
		for _, dev := range devs {
			dev.Close()
		}
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		dev, err := s.Open(ctx, name, snapshot.OpenOptions{})
		if err != nil {
			closeAll()
			return nil, err
		}
		devs = append(devs, dev)
	}
	return closeAll, nil
}

func (d *Daemon) stream(w http.ResponseWriter, r *http.Request) {
	s, from, to, release, ok := d.between(w, r)
	if !ok {
		return
	}
	defer release()
	ctx, cancel := d.unlessStopped(w, r)
	defer cancel()
	if from == "" || to == "" {
		control.Fail(w, http.StatusUnprocessableEntity, errors.New("a stream is the difference of two snapshots: the origin changes meanwhile, take a snapshot of it"))
		return
	}
	out := &counted{w: w}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := stream.Send(ctx, out, s, from, to); err != nil {
		d.o.Log.Warn("sending a difference failed", "from", from, "to", to, "error", err)
		if out.n == 0 {
			control.Fail(w, http.StatusUnprocessableEntity, err)
		}
	}
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func diffQuery(export, from, to string) string {
	return "?" + url.Values{"export": {export}, "from": {from}, "to": {to}}.Encode()
}

// Diff tells what differs between two snapshots of an export; "" is the origin.
func (c *Client) Diff(ctx context.Context, export, from, to string) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		body, err := c.Open(ctx, http.MethodGet, "/v1/snapshots/diff"+diffQuery(export, from, to), nil)
		if err != nil {
			yield(block.Extent{}, err)
			return
		}
		defer body.Close()
		for dec := json.NewDecoder(body); ; {
			var l DiffLine
			switch err := dec.Decode(&l); {
			case err != nil:
				yield(block.Extent{}, fmt.Errorf("control socket %s: the difference ends early: %w", c.Path(), err))
				return
			case l.Error != "":
				yield(block.Extent{}, errors.New(l.Error))
				return
			case l.End || !yield(block.Extent{Off: l.Offset, Len: l.Length, Status: snapshot.Changed}, nil):
				return
			}
		}
	}
}

// Stream returns the difference between two snapshots with its data, in the
// format of package stream.
func (c *Client) Stream(ctx context.Context, export, from, to string) (io.ReadCloser, error) {
	return c.Open(ctx, http.MethodGet, "/v1/snapshots/stream"+diffQuery(export, from, to), nil)
}
