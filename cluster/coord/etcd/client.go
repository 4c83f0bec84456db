// Package etcd is the agreed state of a cluster in etcd: [Dial] makes a
// [coord.Store] of servers that can be reached under some addresses, [Start] runs
// such a server in this process.
//
// It is the only package that knows etcd, and heavy: whoever only uses the state
// imports package coord.
package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/internal/clock"
)

// Options are the options of Dial. Endpoints are needed.
type Options struct {
	// Endpoints are the URLs of servers, such as https://host:2379 or
	// unix:///path. More of them are used in turns; one that does not answer is
	// left out until it does. All are https, or none; with a ServerName in TLS
	// sockets may be among them.
	Endpoints []string
	// TLS is how to speak TLS with https endpoints. Nil is what Go does without
	// being told. With a ServerName that is the name in the certificates of all of
	// them, whatever their hosts, and sockets are spoken to without TLS.
	TLS *tls.Config
	// Prefix is put before all keys, so that others can use the same servers. It
	// is at most coord.MaxKey bytes.
	Prefix string
	// Timeout is after which time one request is given up. A transaction that was
	// under way to a leader that died waits as long in vain. 0 is 5 s.
	Timeout time.Duration
	// Logger is told of trouble. Nil is nobody.
	Logger *slog.Logger
	// Clock is that of this side. Nil is one that goes on while the machine
	// sleeps.
	Clock coord.Clock
}

// A Client is the access of one client to etcd.
type Client struct {
	moves  moves
	o      Options
	secure bool // endpoints are https
	client *clientv3.Client
	once   atomic.Bool     // Close was called
	closed context.Context // and ends calls
	close  context.CancelFunc
}

var _ coord.Store = (*Client)(nil)

// Times of a connection.
const (
	pingAfter   = 6 * time.Second // of silence; servers do not like it below 5 s
	pingTimeout = 3 * time.Second
	retryMin    = 100 * time.Millisecond
	retryMax    = 2 * time.Second
)

// Dial returns the access to servers, and does not wait for them.
func Dial(o Options) (*Client, error) {
	if err := coord.CheckPrefix(o.Prefix); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	secure, err := o.secure()
	if err != nil {
		return nil, err
	}
	if !secure && !o.named() {
		o.TLS = nil // etcd's client would speak it to sockets
	}
	o.Endpoints = slices.Clone(o.Endpoints)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.Boot{}
	}
	dialing := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: retryMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: retryMax},
		MinConnectTimeout: pingTimeout,
	})}
	if o.named() {
		dialing = append(dialing, grpc.WithTransportCredentials(named{credentials.NewTLS(o.TLS), o.TLS.ServerName}))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            o.Endpoints,
		TLS:                  o.TLS,
		DialKeepAliveTime:    pingAfter,
		DialKeepAliveTimeout: pingTimeout,
		Logger:               zapLogger(o.Logger, slog.LevelWarn),
		DialOptions:          dialing,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: %s: %w", strings.Join(o.Endpoints, ", "), err)
	}
	c := &Client{o: o, secure: secure, client: client}
	c.closed, c.close = context.WithCancel(context.Background())
	return c, nil
}

// named expects the same name from all servers. Etcd's client would expect that of
// their host, whatever the configuration says. Who can reach a socket has the data
// behind it: there is no need of TLS.
type named struct {
	credentials.TransportCredentials
	name string
}

func (n named) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if _, ok := conn.(*net.UnixConn); ok {
		return insecure.NewCredentials().ClientHandshake(ctx, authority, conn)
	}
	return n.TransportCredentials.ClientHandshake(ctx, n.name, conn)
}

func (n named) Clone() credentials.TransportCredentials {
	return named{n.TransportCredentials.Clone(), n.name}
}

// named tells whether servers have a name of their own.
func (o Options) named() bool { return o.TLS != nil && o.TLS.ServerName != "" }

// secure tells whether endpoints are spoken to with TLS.
func (o Options) secure() (bool, error) {
	secure, sockets := 0, 0
	for _, endpoint := range o.Endpoints {
		switch {
		case strings.HasPrefix(endpoint, "https://"):
			secure++
		case o.named() && strings.HasPrefix(endpoint, "unix://"):
			sockets++
		}
	}
	switch {
	case len(o.Endpoints) == 0:
		return false, errors.New("etcd: no endpoints are given")
	case secure != 0 && secure+sockets != len(o.Endpoints):
		return false, fmt.Errorf("etcd: of the endpoints %s some are https and some are not", strings.Join(o.Endpoints, ", "))
	}
	return secure > 0, nil
}

// Clock is that of coord.Store.
func (c *Client) Clock() coord.Clock { return c.o.Clock }

// Close is that of coord.Store.
func (c *Client) Close() error {
	if c.once.Swap(true) {
		return coord.ErrClosed
	}
	c.close()
	if err := c.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcd: closing the connection: %w", err)
	}
	return nil
}

// Get is that of coord.Store.
func (c *Client) Get(ctx context.Context, key string) (coord.Entry, coord.Revision, error) {
	if err := coord.CheckKey(key); err != nil {
		return coord.Entry{}, 0, err
	}
	call, done := c.begin(ctx)
	defer done()
	r, err := c.client.Get(call, c.o.Prefix+key)
	if err != nil {
		return coord.Entry{}, 0, c.failed(ctx, err)
	}
	return c.found(key, r.Kvs), coord.Revision(r.Header.Revision), nil
}

// pageSize is how many entries are asked for at a time.
const pageSize = 500

// List is that of coord.Store.
func (c *Client) List(ctx context.Context, prefix string) ([]coord.Entry, coord.Revision, error) {
	if err := coord.CheckPrefix(prefix); err != nil {
		return nil, 0, err
	}
	for {
		es, r, err := c.list(ctx, prefix)
		// The revision of the first page was compacted before the last one
		// came, which takes minutes: there is another one to be read.
		if !errors.Is(err, coord.ErrCompacted) {
			return es, r, err
		}
	}
}

func (c *Client) list(ctx context.Context, prefix string) (es []coord.Entry, revision coord.Revision, err error) {
	from, end := keyRange(c.o.Prefix + prefix)
	for {
		r, err := c.page(ctx, from, end, revision)
		if err != nil {
			return nil, 0, err
		}
		revision = cmp.Or(revision, coord.Revision(r.Header.Revision))
		for _, kv := range r.Kvs {
			es = append(es, c.entry(kv))
		}
		if !r.More || len(r.Kvs) == 0 {
			return es, revision, nil
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

func (c *Client) page(ctx context.Context, from, end string, at coord.Revision) (*clientv3.GetResponse, error) {
	call, done := c.begin(ctx)
	defer done()
	r, err := c.client.Get(call, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(int64(at)))
	return r, c.failed(ctx, err)
}

// keyRange is the first key with a prefix and the first one after all of them.
func keyRange(prefix string) (from, end string) {
	if prefix == "" {
		return "\x00", "\x00" // which means all
	}
	return prefix, clientv3.GetPrefixRangeEnd(prefix)
}

// Txn is that of coord.Store.
func (c *Client) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	if err := t.Check(); err != nil {
		return coord.Result{}, err
	}
	var ifs []clientv3.Cmp
	var then, otherwise []clientv3.Op
	for _, cmp := range t.If {
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(c.o.Prefix+cmp.Key), "=", int64(cmp.Revision)))
		otherwise = append(otherwise, clientv3.OpGet(c.o.Prefix+cmp.Key))
	}
	for _, op := range t.Then {
		if op.Delete {
			then = append(then, clientv3.OpDelete(c.o.Prefix+op.Key))
		} else {
			then = append(then, clientv3.OpPut(c.o.Prefix+op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
		}
	}
	call, done := c.begin(ctx)
	defer done()
	r, err := commit(call, c.client.Txn(call).If(ifs...).Then(then...).Else(otherwise...))
	if err != nil {
		return coord.Result{}, c.failed(ctx, err)
	}
	result := coord.Result{Done: r.Succeeded, Revision: coord.Revision(r.Header.Revision)}
	if r.Succeeded {
		return result, nil
	}
	if len(r.Responses) != len(t.If) {
		return coord.Result{}, fmt.Errorf("etcd: a transaction with %d comparisons was answered with %d entries", len(t.If), len(r.Responses))
	}
	for i, cmp := range t.If {
		result.Found = append(result.Found, c.found(cmp.Key, r.Responses[i].GetResponseRange().GetKvs()))
	}
	return result, nil
}

// commit repeats a transaction while servers refuse it because they know no leader:
// then it was not begun, and another server may know one. Etcd's client does so for
// all other requests.
func commit(ctx context.Context, t clientv3.Txn) (*clientv3.TxnResponse, error) {
	for {
		r, err := t.Commit()
		if !errors.Is(err, rpctypes.ErrNoLeader) {
			return r, err
		}
		select {
		case <-time.After(retryMin):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// found is the entry of key among what was read, which is one or none.
func (c *Client) found(key string, kvs []*mvccpb.KeyValue) coord.Entry {
	if len(kvs) == 0 {
		return coord.Entry{Key: key}
	}
	return c.entry(kvs[0])
}

func (c *Client) entry(kv *mvccpb.KeyValue) coord.Entry {
	return coord.Entry{
		Key:      strings.TrimPrefix(string(kv.Key), c.o.Prefix),
		Value:    kv.Value,
		Revision: coord.Revision(kv.ModRevision),
		Lease:    coord.LeaseID(kv.Lease),
	}
}
