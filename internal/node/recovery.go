package node

import (
	"context"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
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
	moved time.Time // when a copy was made last
	total int
	left  int
}

// stalled is after how long without a new copy nobody knows how long the rest takes: it waits
// for a node that is away.
const stalled = 30 * time.Second

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
	case left < r.left:
		r.moved = now
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
	if took := now.Sub(r.since).Seconds(); s.Done > 0 && took > 0 && now.Sub(r.moved) < stalled {
		s.PerSecond = float64(s.Done) / took
		left := float64(r.left) / s.PerSecond
		s.SecondsLeft = &left
	}
	return s
}

// lookEvery is how often the node looks how the cluster is, where something has changed,
// and lookShare how many times as long as that took it does not.
const (
	lookEvery = time.Second
	lookShare = 50
)

// watch is the goroutine that follows what becomes of the cluster until ctx ends.
func (n *Node) watch(ctx context.Context) {
	story := chronicle{log: n.log}
	t := time.NewTimer(lookEvery)
	defer t.Stop()
	for last := coord.Revision(-1); ; {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		if v := n.cluster.View(); v.Revision != last && n.look(v, &story, began) {
			last = v.Revision
		}
		t.Reset(max(lookEvery, lookShare*time.Since(began)))
	}
}

// toMake is how many copies have to be made still.
func toMake(r *steward.Report) int { return r.Joining + r.Due }

// look is one look, and reports whether there was anything to see.
func (n *Node) look(v *record.View, story *chronicle, now time.Time) bool {
	n.ledger.Keep(func(export string) bool {
		_, there := exportOf(v, export)
		return there
	})
	report, err := n.cluster.Status()
	if err != nil {
		return false
	}
	d := newDescriber(v, n.uri)
	n.recovery.see(now, toMake(report))
	story.nodes(d, n.cluster.ID())
	story.groups(report, d.words(), now)
	return true
}
