package snapshot

import (
	"context"
	"sync/atomic"

	"github.com/strata-storage/strata/internal/pace"
)

// A sealer sees to it that data which are written again and again come to rest.
//
// What a store may still have to prove, because the commit that it belongs to is
// the last that is known to be durable, cannot be written in place: it gets
// another place with each write. Two commits end that, which nobody waits for.
type sealer struct {
	// moved counts chunks that were written to another place although no other
	// view has theirs.
	moved atomic.Int64
	share pace.Share
}

const (
	// sealAfter is how many chunks make it worth while, sealRest how many
	// times as long as it took the devices are then left to others.
	sealAfter = 64
	sealRest  = 20
)

// moved is called when n chunks got another place in vain.
func (s *Set) moved(n int64) {
	if s.sealer.moved.Add(n) >= sealAfter && !s.o.Manual {
		s.sealer.share.Try(s.seal)
	}
}

// seal makes two commits. Whoever relies on them will hear if they fail.
func (s *Set) seal() {
	ctx := context.Background()
	if s.enter(ctx, &s.reads, 0) != nil {
		return
	}
	defer s.leave(&s.reads)
	if s.toStore.Wait(ctx) == nil {
		s.toStore.Dirty()
		_ = s.toStore.Wait(ctx)
	}
	s.sealer.moved.Store(0)
}
