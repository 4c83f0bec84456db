package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/snapshot/stream"
)

// An ImportRequest says what becomes of a stream.
type ImportRequest struct {
	// VolumeSpec is that of the volume that is made of a whole disk; its size is that of
	// the stream. Of a difference only the name counts.
	VolumeSpec
	// Snapshot is what the snapshot at the end is called, as in the stream if it is empty.
	Snapshot string `json:"snapshot,omitempty"`
}

// A Transfer says how far an import has come.
type Transfer struct {
	// Done of Size bytes of the disk have been written.
	Done int64 `json:"done"`
	Size int64 `json:"size"`
	// Volume is what has been made, at the end. Error is why not.
	Volume *Volume `json:"volume,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// transferEvery is how often it is told how far an import has come.
const transferEvery = 200 * time.Millisecond

// importStream answers while it reads, so that a client that sends a long stream hears
// of an error.
func (n *Node) importStream(w http.ResponseWriter, r *http.Request) {
	ctx, done := n.transfer(r)
	defer done()
	var q ImportRequest
	d := json.NewDecoder(strings.NewReader(r.URL.Query().Get("q")))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		reply(w)(nil, fmt.Errorf("the request is not understood: %w: %w", err, errRequest))
		return
	}
	c := http.NewResponseController(w)
	if err := c.EnableFullDuplex(); err != nil {
		reply(w)(nil, err)
		return
	}
	// A client that sends nothing must not keep the node from its end.
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })()
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	tell := func(t Transfer) {
		_ = lines.Encode(t) // whether anybody listens is seen when the body is read
		_ = c.Flush()
	}
	i := &importing{n: n, q: q, tell: tell}
	tell(i.state)
	if err := i.run(ctx, r.Body); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it was interrupted and has to be given again: %w", errors.Join(context.Cause(ctx), err))
		}
		n.log.Warn("an import of a volume failed", "volume", q.Name, "error", err)
		i.state.Error = err.Error()
	}
	tell(i.state)
	// The client hangs up when it has read that, and cannot while it sends.
	_, _ = io.Copy(io.Discard, r.Body)
}

// An importing is one import: all is made in a volume with a name of its own, so that
// nobody sees half of it, which is deleted if it fails.
type importing struct {
	n     *Node
	q     ImportRequest
	tell  func(Transfer)
	state Transfer
	last  time.Time
}

func (i *importing) run(ctx context.Context, body io.Reader) error {
	r, err := stream.NewReader(body)
	if err != nil {
		return err
	}
	h := r.Header()
	i.state.Size = h.Size
	if i.q.Snapshot != "" {
		h.To = i.q.Snapshot
	}
	if h.Content == stream.Difference {
		if err := record.CheckName(h.To); err != nil {
			return fmt.Errorf("the snapshot at the end: %w", err)
		}
	}
	if err := record.CheckName(i.q.Name); err != nil {
		return err
	}
	if h.From != "" || h.FromID != "" {
		err = i.difference(ctx, r, h)
	} else {
		err = i.whole(ctx, r, h)
	}
	if err != nil {
		return err
	}
	volume, err := i.n.changed(i.q.Name, nil)
	i.state.Done, i.state.Volume = i.state.Size, &volume
	return err
}

// whole makes a volume of a whole disk, with its snapshots if it has any.
func (i *importing) whole(ctx context.Context, r *stream.Reader, h stream.Header) error {
	c := i.n.cluster
	if _, ok := c.Latest(ctx).Head(i.q.Name); ok {
		return fmt.Errorf("the volume %s: %w", i.q.Name, record.ErrExists)
	}
	spec := i.q.VolumeSpec
	spec.Size = h.Size
	if err := spec.check(); err != nil {
		return err
	}
	part := partName()
	if err := c.Create(ctx, part, spec.record()); err != nil {
		return err
	}
	err := i.fill(ctx, r, h, part, stream.Options{
		Blank: true,
		Take:  func(m stream.Mark) error { return c.Snapshot(ctx, part, m.Name) },
	})
	if err == nil {
		err = c.Rename(ctx, part, i.q.Name)
	}
	return i.discard(ctx, part, err)
}

// difference makes the next snapshot of a volume that has the one before it.
func (i *importing) difference(ctx context.Context, r *stream.Reader, h stream.Header) error {
	c := i.n.cluster
	base, err := i.base(ctx, h)
	if err != nil {
		return err
	}
	// Better now than after all has been sent.
	if err := c.Unwritten(ctx, i.q.Name, base.Name); err != nil {
		return err
	}
	part := partName()
	if err := c.Clone(ctx, i.q.Name, base.Name, part); err != nil {
		return err
	}
	if h.Size > base.Size {
		err = c.Grow(ctx, part, h.Size)
	}
	if err == nil {
		err = i.fill(ctx, r, h, part, stream.Options{})
	}
	if err == nil {
		err = c.Adopt(ctx, i.q.Name, base.Name, part, h.To)
	}
	// What is left of the clone is not needed in any case.
	return errors.Join(err, i.discard(ctx, part, errDiscard))
}

// base finds the snapshot that a difference is from, which must be the last one.
func (i *importing) base(ctx context.Context, h stream.Header) (last record.Version, err error) {
	v := i.n.cluster.Latest(ctx)
	head, ok := v.Head(i.q.Name)
	if !ok {
		return last, fmt.Errorf("the stream has what differs from the snapshot %s of a volume, which has to be imported before: the volume %s: %w", h.From, i.q.Name, record.ErrNotFound)
	}
	for _, s := range v.Snapshots(head.Line()) {
		if s.ID > last.ID {
			last = s
		}
	}
	_, there := v.Snapshot(head.Line(), h.To)
	switch id := v.SnapshotID(head.Line().Family, last); {
	case there:
		return last, fmt.Errorf("the snapshot %s@%s: %w", i.q.Name, h.To, record.ErrExists)
	case last.ID == 0:
		return last, fmt.Errorf("the stream has what differs from the snapshot %s, and the volume %s has no snapshots: %w", h.From, i.q.Name, block.ErrInvalid)
	case h.FromID != "" && h.FromID != id:
		return last, fmt.Errorf("the stream has what differs from the snapshot %s (%s), and the last one of the volume %s is %s (%s): %w", h.From, h.FromID, i.q.Name, last.Name, id, block.ErrInvalid)
	case h.FromID == "" && h.From != last.Name:
		return last, fmt.Errorf("the stream has what differs from the snapshot %s, and the last one of the volume %s is %s: %w", h.From, i.q.Name, last.Name, block.ErrInvalid)
	case h.Size < last.Size:
		return last, fmt.Errorf("the stream makes the volume smaller, %d bytes of %d, which volumes do not become: %w", h.Size, last.Size, block.ErrNotSupported)
	}
	return last, nil
}

// fill writes the stream to a volume, and makes the snapshot at the end.
func (i *importing) fill(ctx context.Context, r *stream.Reader, h stream.Header, part string, o stream.Options) (err error) {
	c := i.n.cluster
	dev, err := c.Open(ctx, part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	o.Progress = func(end int64) {
		i.state.Done = max(i.state.Done, end)
		if now := time.Now(); now.Sub(i.last) >= transferEvery {
			i.last = now
			i.tell(i.state)
		}
	}
	if err := r.Apply(ctx, dev, o); err != nil {
		return err
	}
	if h.Content != stream.Difference {
		return nil
	}
	return c.SnapshotOf(ctx, part, h.To, h.ToID)
}

// errDiscard is why something is deleted that was of use.
var errDiscard = errors.New("not needed any more")

// discard deletes what an import has made, with its snapshots, if err is not nil. It says
// what is left if it cannot.
func (i *importing) discard(ctx context.Context, part string, err error) error {
	if err == nil {
		return nil
	}
	c := i.n.cluster
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.n.o.Grace)
	defer cancel()
	var left error
	if _, ok := c.View().Head(part); ok {
		left = c.DeleteAll(ctx, part)
	}
	if left != nil {
		left = fmt.Errorf("what was made until then is left as the volume %s, delete it: %w", part, left)
	}
	if errors.Is(err, errDiscard) {
		return left
	}
	return errors.Join(err, left)
}

// partName is what a volume is called while it is imported.
func partName() string {
	var b [6]byte
	rand.Read(b[:])
	return fmt.Sprintf("import-%x", b)
}

// Import makes a volume, or the next snapshot of one, of a stream. progress is told how
// far it is.
func (c *Client) Import(ctx context.Context, q ImportRequest, body io.Reader, progress func(Transfer)) (*Volume, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := c.Send(ctx, http.MethodPost, "/v1/volumes/import?"+url.Values{"q": {string(text)}}.Encode(), io.NopCloser(body))
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	for lines := json.NewDecoder(answer); ; {
		var t Transfer
		if err := lines.Decode(&t); err != nil {
			return nil, fmt.Errorf("the node has not said how the import ended, give it again if the volume is not as it should be, and delete the volume import-... if one is left: %w", early(err))
		}
		switch {
		case t.Error != "":
			return nil, errors.New(t.Error)
		case t.Volume != nil:
			return t.Volume, nil
		}
		progress(t)
	}
}

// early is the error of an answer that does not go on.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
