package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/strata-storage/strata/cluster/coord"
)

// A watch is one loop over changes. It has a stream of its own and reads from it
// only when the loop wants more, so that a slow loop is felt by the server, which
// then reads changes from its disk later. The watches of etcd's own client share
// a stream and buffer without limit.
type watch struct {
	*Client
	from, end string
	next      int64 // first revision that was not seen
	yield     func(coord.Change, error) bool
	pending   coord.Change // the last revision of a response that goes on
}

// errLeft ends a watch because the loop was left.
var errLeft = errors.New("the loop was left")

// Watch is that of coord.Store.
func (c *Client) Watch(ctx context.Context, prefix string, after coord.Revision) iter.Seq2[coord.Change, error] {
	return func(yield func(coord.Change, error) bool) {
		if err := coord.CheckWatch(prefix, after); err != nil {
			yield(coord.Change{}, err)
			return
		}
		w := &watch{Client: c, next: int64(after) + 1, yield: yield}
		w.from, w.end = keyRange(c.o.Prefix + prefix)
		for retry := retryMin; ; retry = min(2*retry, retryMax) {
			seen := w.next
			err := w.follow(ctx)
			if errors.Is(err, errLeft) {
				return
			}
			if err = c.failed(ctx, err); !errors.Is(err, coord.ErrUnavailable) {
				yield(coord.Change{}, err)
				return
			}
			if w.next != seen {
				retry = retryMin
			}
			c.o.Logger.Debug("a watch of etcd is begun again", "prefix", prefix, "revision", w.next, "after", retry, "because", err)
			w.sleep(ctx, retry)
		}
	}
}

func (w *watch) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-w.closed.Done():
	}
}

// follow reads from one stream until it fails, and always returns an error.
func (w *watch) follow(ctx context.Context) error {
	ctx, done := w.within(clientv3.WithRequireLeader(ctx))
	defer done()
	stream, err := pb.NewWatchClient(w.client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return err
	}
	// An error of Send is always the same; Recv returns the one that tells more.
	_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key:            []byte(w.from),
		RangeEnd:       []byte(w.end),
		StartRevision:  w.next,
		ProgressNotify: true,
		Fragment:       true,
	}}})
	w.pending = coord.Change{}
	for {
		r, err := stream.Recv()
		if err == nil {
			err = w.take(r)
		}
		if err != nil {
			return noEOF(err)
		}
	}
}

// noEOF names the end of a stream that a server has ended in good order.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the server ended the watch")
	}
	return err
}

// take yields what is in a response, by revisions.
func (w *watch) take(r *pb.WatchResponse) error {
	switch {
	case r.CompactRevision != 0:
		return fmt.Errorf("%w: they are from revision %d on", coord.ErrCompacted, r.CompactRevision)
	case r.Canceled:
		return fmt.Errorf("the server ended the watch: %s", r.CancelReason)
	case r.Created:
		return nil
	case len(r.Events) == 0:
		// Nothing happened under the prefix until then. To begin again from
		// there works though what was before is compacted.
		w.next = max(w.next, r.Header.GetRevision()+1)
		return nil
	}
	for _, e := range r.Events {
		if err := w.add(e); err != nil {
			return err
		}
	}
	if r.Fragment {
		return nil // the last revision may go on in the next response
	}
	return w.emit()
}

func (w *watch) add(e *mvccpb.Event) error {
	if e.Kv == nil {
		return errors.New("the server sent an event without a key")
	}
	revision := coord.Revision(e.Kv.ModRevision)
	if revision != w.pending.Revision {
		if err := w.emit(); err != nil {
			return err
		}
		w.pending.Revision = revision
	}
	event := coord.Event{Entry: w.entry(e.Kv)}
	if e.Type == mvccpb.Event_DELETE {
		event = coord.Event{Entry: coord.Entry{Key: event.Key, Revision: revision}, Deleted: true}
	}
	w.pending.Events = append(w.pending.Events, event)
	return nil
}

// emit yields what is pending.
func (w *watch) emit() error {
	change := w.pending
	w.pending = coord.Change{}
	if len(change.Events) == 0 {
		return nil
	}
	if int64(change.Revision) < w.next {
		return fmt.Errorf("the server sent revision %d, expected %d or later", change.Revision, w.next)
	}
	w.next = int64(change.Revision) + 1
	slices.SortFunc(change.Events, func(a, b coord.Event) int { return strings.Compare(a.Key, b.Key) })
	if !w.yield(change, nil) {
		return errLeft
	}
	return nil
}
