package etcd

import (
	"context"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// leaderGrace is how long a request may go on that was begun under an older leader: it
// may have reached the new one.
const leaderGrace = 50 * time.Millisecond

// waiting ends requests that wait for a leader that is gone. What a member has passed on
// to a leader that died is lost, and etcd lets the client wait for it until its time is
// over, which is many times longer than to choose another leader. The client learns
// that nobody knows what became of the request, which is the truth, and asks anew.
type waiting struct {
	server atomic.Pointer[etcdserver.EtcdServer]
}

// intercept is a grpc.UnaryServerInterceptor.
func (w *waiting) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	if info.FullMethod == pb.Maintenance_Status_FullMethodName {
		defer func() {
			// A member that is just ending knows nothing any more, and fails badly.
			if recover() != nil {
				err = errEnding
			}
		}()
	}
	server := w.server.Load()
	if server == nil {
		return handler(ctx, req)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := make(chan struct{})
	defer close(over)
	go watchLeader(server.LeaderChangedNotify(), over, cancel)
	answer, err = handler(ctx, req)
	if err != nil && context.Cause(ctx) == errOldLeader {
		err = errOldLeader
	}
	return answer, err
}

var errEnding = status.Error(codes.Unavailable, "the member is ending")

var errOldLeader = status.Error(codes.Unavailable, "the leader has changed, it is not known what became of the request")

// watchLeader cancels a request some time after the leader has changed.
func watchLeader(changed, over <-chan struct{}, cancel context.CancelCauseFunc) {
	select {
	case <-changed:
	case <-over:
		return
	}
	timer := time.NewTimer(leaderGrace)
	defer timer.Stop()
	select {
	case <-timer.C:
		cancel(errOldLeader)
	case <-over:
	}
}
