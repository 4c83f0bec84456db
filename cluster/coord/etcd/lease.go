package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/strata-storage/strata/cluster/coord"
)

// Grant is that of coord.Store. etcd counts in seconds, and raises a time to live
// that is too short for its election timeout.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (coord.LeaseID, time.Duration, error) {
	if err := coord.CheckTTL(ttl); err != nil {
		return 0, 0, err
	}
	call, done := c.begin(ctx)
	defer done()
	r, err := c.client.Grant(call, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, 0, c.failed(ctx, err)
	}
	return coord.LeaseID(r.ID), time.Duration(r.TTL) * time.Second, nil
}

// Renew is that of coord.Store. It is one request and one answer, because the
// stream of renewals of etcd's own client does not tell when the request was sent
// that an answer belongs to.
func (c *Client) Renew(ctx context.Context, id coord.LeaseID) (time.Duration, error) {
	call, done := c.begin(ctx)
	defer done()
	r, err := c.renew(call, id)
	if err != nil {
		return 0, c.failed(ctx, err)
	}
	if r.TTL <= 0 {
		return 0, fmt.Errorf("%w: %d", coord.ErrNoLease, id)
	}
	return time.Duration(r.TTL) * time.Second, nil
}

func (c *Client) renew(ctx context.Context, id coord.LeaseID) (*pb.LeaseKeepAliveResponse, error) {
	stream, err := pb.NewLeaseClient(c.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	// An error of Send is always the same; Recv returns the one that tells more.
	_ = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)})
	return stream.Recv()
}

// Revoke is that of coord.Store.
func (c *Client) Revoke(ctx context.Context, id coord.LeaseID) error {
	call, done := c.begin(ctx)
	defer done()
	_, err := c.client.Revoke(call, clientv3.LeaseID(id))
	if err = c.failed(ctx, err); errors.Is(err, coord.ErrNoLease) {
		return nil
	}
	return err
}
