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
	"sync"
	"sync/atomic"
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

	said   atomic.Uint64 // counts what came
	waits  atomic.Bool   // somebody waits for more
	missed int           // pings without an answer
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
		for retry := retryMin; ; retry = max(retryMin, min(2*retry, retryMax)) {
			seen := w.next
			err := w.follow(ctx)
			if errors.Is(err, errLeft) {
				return
			}
			if errors.Is(err, errMoved) && ctx.Err() == nil {
				retry = 0
				continue // nothing is wrong
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

// pingWatch is how often a server has to say that it still is there: another one may be
// asked, so that there is no sense in waiting as long as it takes to see that a
// connection is dead, which gRPC does not do in less than 13 s.
const pingWatch = 2 * time.Second

// errSilent ends a stream of a server that says nothing at all.
var errSilent = fmt.Errorf("the server has said nothing for %v", 2*pingWatch)

// errMoved ends a stream when there are other endpoints: its server may be one that was
// removed, which keeps the connection and has nothing to say any more.
var errMoved = errors.New("the endpoints are others now")

// ping asks the server now and then to say something, and ends the stream if it does
// not, until ctx ends.
func (w *watch) ping(ctx context.Context, moved <-chan struct{}, stream pb.Watch_WatchClient, cancel context.CancelCauseFunc) {
	ticks := time.NewTicker(pingWatch)
	defer ticks.Stop()
	for said := w.said.Load(); ; {
		select {
		case <-ticks.C:
		case <-moved:
			cancel(errMoved)
			return
		case <-ctx.Done():
			return
		}
		now := w.said.Load()
		if w.waits.Load() && now == said {
			if w.missed++; w.missed == 2 {
				cancel(errSilent)
				return
			}
		} else {
			w.missed = 0
		}
		said = now
		_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
	}
}

// receive is Recv, for which ping knows whether somebody waits.
func (w *watch) receive(ctx context.Context, stream pb.Watch_WatchClient) (*pb.WatchResponse, error) {
	w.waits.Store(true)
	r, err := stream.Recv()
	w.waits.Store(false)
	w.said.Add(1)
	if why := context.Cause(ctx); err != nil && (errors.Is(why, errSilent) || errors.Is(why, errMoved)) {
		err = why
	}
	return r, err
}

// follow reads from one stream until it fails, and always returns an error.
func (w *watch) follow(ctx context.Context) error {
	ctx, done := w.within(clientv3.WithRequireLeader(ctx))
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	moved := w.moves.await()
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
	w.pending, w.missed = coord.Change{}, 0
	var pinging sync.WaitGroup
	defer pinging.Wait()
	defer cancel(nil)
	pinging.Go(func() { w.ping(ctx, moved, stream, cancel) })
	for {
		r, err := w.receive(ctx, stream)
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
