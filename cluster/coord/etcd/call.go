package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-storage/strata/cluster/coord"
)

// within returns ctx that also ends when the client is closed. The end of the
// connection does not do: etcd's client tries again for a while.
func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.closed, cancel)
	return ctx, func() { stop(); cancel() }
}

// begin returns the context of one request. A server that knows no leader refuses it
// at once: one that is cut off from the others would keep it until its time is over.
func (c *Client) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, done := c.within(clientv3.WithRequireLeader(ctx))
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	return ctx, func() { cancel(); done() }
}

// known are the errors of etcd that package coord has words for.
var known = map[error]error{
	rpctypes.ErrCompacted:       coord.ErrCompacted,
	rpctypes.ErrLeaseNotFound:   coord.ErrNoLease,
	rpctypes.ErrNoSpace:         coord.ErrFull,
	rpctypes.ErrRequestTooLarge: coord.ErrInvalid,
	rpctypes.ErrTooManyOps:      coord.ErrInvalid,
}

// failed is what package coord says of an error of a call with that context of
// the caller.
func (c *Client) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case c.closed.Err() != nil:
		return coord.ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, coord.ErrCompacted):
		return err
	}
	err = rpctypes.Error(err)
	for theirs, ours := range known {
		if errors.Is(err, theirs) {
			return fmt.Errorf("%w (etcd)", ours)
		}
	}
	if hopeless(err) {
		return fmt.Errorf("etcd: %w", err)
	}
	return fmt.Errorf("%w: etcd: %w", coord.ErrUnavailable, err)
}

// hopeless tells whether an error comes again however often one tries.
func hopeless(err error) bool {
	code := status.Code(err)
	if e := (rpctypes.EtcdError{}); errors.As(err, &e) {
		code = e.Code()
	}
	switch code {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	}
	return false
}
