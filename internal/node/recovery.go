package node

import (
	"context"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// A Recovery is how far the copying of placement groups to disks has come that are to
// have them: since all groups were where they should be.
type Recovery struct {
	Since time.Time `json:"since"`
	// Done and Total count copies of groups. Total grows when more has to be copied.
	Done  int `json:"done"`
	Total int `json:"total"`
	// PerSecond is the mean rate, and SecondsLeft how long the rest takes at it, null
	// if nobody knows.
	PerSecond   float64  `json:"per_second"`
	SecondsLeft *float64 `json:"seconds_left"`
}

// A recovery finds out how fast copies are made, from looks at how many are missing.
type recovery struct {
	mu    sync.Mutex
	since time.Time
	total int
	left  int
}

// see is told how many copies have to be made still.
func (r *recovery) see(now time.Time, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case left == 0:
		r.since, r.total = time.Time{}, 0
	case r.left == 0:
		r.since, r.total = now, left
	case left > r.left:
		r.total += left - r.left
	}
	r.left = left
}

// now describes it, nil if there is nothing to do.
func (r *recovery) now(now time.Time) *Recovery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return nil
	}
	s := &Recovery{Since: r.since, Done: r.total - r.left, Total: r.total}
	if took := now.Sub(r.since).Seconds(); s.Done > 0 && took > 0 {
		s.PerSecond = float64(s.Done) / took
		left := float64(r.left) / s.PerSecond
		s.SecondsLeft = &left
	}
	return s
}

// lookEvery is how often the node looks how much has to be copied, where something has
// changed.
const lookEvery = time.Second

// watch is the goroutine that follows recovery until ctx ends.
func (n *Node) watch(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for last := coord.Revision(-1); ; {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		v := n.cluster.View()
		if v.Revision == last {
			continue
		}
		if report, err := n.cluster.Status(); err == nil {
			last = v.Revision
			n.recovery.see(time.Now(), report.Joining+report.Due)
		}
		n.ledger.Keep(func(export string) bool {
			_, there := exportOf(v, export)
			return there
		})
	}
}
