package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// keepSmall keeps the database of the member within its quota, until ctx ends. Etcd
// never gives back what was freed in it, and once the quota was reached it takes
// nothing any more until somebody says that there is room again.
func (s *Server) keepSmall(ctx context.Context, every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		if err := s.shrink(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("etcd: making room in the database", "error", err)
		}
		s.takeRoom()
	}
}

// worthwhile is how much must be free in the database to write it anew, for which
// the member stands still.
const worthwhile = 64 << 20

// shrink makes room if there is need and a way.
func (s *Server) shrink(ctx context.Context) error {
	db, full := s.etcd.Server.Backend(), s.full()
	if full {
		if err := s.forget(ctx); err != nil {
			return err
		}
	}
	size, used := db.Size(), db.SizeInUse()
	// With some room to spare: it would be full again at once.
	fits := used < s.quota/8*7
	switch free := size - used; {
	case full && !fits:
		return fmt.Errorf("it is full: %d bytes of %d are used; nothing can be changed until some are deleted", used, s.quota)
	case full, free > worthwhile && free > size/2:
		s.log.Info("etcd: the database is written anew, which makes it smaller", "size", size, "used", used)
		if err := s.etcd.Server.Defragment(); err != nil {
			return fmt.Errorf("writing the database anew: %w", err)
		}
	}
	if !full {
		return nil
	}
	_, err := s.etcd.Server.Alarm(ctx, &pb.AlarmRequest{
		Action: pb.AlarmRequest_DEACTIVATE, MemberID: uint64(s.etcd.Server.MemberID()), Alarm: pb.AlarmType_NOSPACE,
	})
	return err
}

// full tells whether this member has refused something for want of room.
func (s *Server) full() bool {
	return slices.ContainsFunc(s.etcd.Server.Alarms(), func(a *pb.AlarmMember) bool {
		return a.Alarm == pb.AlarmType_NOSPACE && a.MemberID == uint64(s.etcd.Server.MemberID())
	})
}

// forget drops all history.
func (s *Server) forget(ctx context.Context) error {
	_, err := s.etcd.Server.Compact(ctx, &pb.CompactionRequest{Revision: s.etcd.Server.KV().Rev(), Physical: true})
	if errors.Is(err, mvcc.ErrCompacted) {
		return nil
	}
	return err
}
