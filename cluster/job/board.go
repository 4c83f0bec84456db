package job

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Board has the jobs of a node.
type Board struct {
	mu        sync.Mutex
	jobs      map[*Job]bool
	suspended map[Kind]bool
	// changed is closed when a kind was resumed.
	changed chan struct{}
}

// NewBoard returns one without jobs.
func NewBoard() *Board {
	return &Board{jobs: map[*Job]bool{}, suspended: map[Kind]bool{}, changed: make(chan struct{})}
}

// Begin puts a job on the board, which must End. It yields to the requests that the
// throttle knows of, which may be nil.
func (b *Board) Begin(what What, t *Throttle) *Job {
	j := &Job{board: b, throttle: t, what: what, since: time.Now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs[j] = true
	return j
}

// List returns all jobs, those of a kind together, the oldest first.
func (b *Board) List() []Status {
	b.mu.Lock()
	jobs := make([]*Job, 0, len(b.jobs))
	for j := range b.jobs {
		jobs = append(jobs, j)
	}
	b.mu.Unlock()
	list := make([]Status, len(jobs))
	for i, j := range jobs {
		list[i] = j.Status()
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), a.Since.Compare(b.Since),
			strings.Compare(a.Disk, b.Disk), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Family, b.Family))
	})
	return list
}

// Suspend lets jobs of a kind, those that are there and those to come, wait before their
// next step.
func (b *Board) Suspend(k Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.suspended[k] = true
}

// Resume lets them go on.
func (b *Board) Resume(k Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.suspended, k)
	close(b.changed)
	b.changed = make(chan struct{})
}

// Suspended reports whether jobs of a kind wait.
func (b *Board) Suspended(k Kind) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.suspended[k]
}

// proceed waits until jobs of a kind may go on.
func (b *Board) proceed(ctx context.Context, k Kind) error {
	for {
		b.mu.Lock()
		changed, suspended := b.changed, b.suspended[k]
		b.mu.Unlock()
		if !suspended {
			return context.Cause(ctx)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// rateOver is how long figures are collected for a rate.
const rateOver = 5 * time.Second

// A rate is how fast something grows, over the last few seconds.
type rate struct {
	begin, mid     time.Time
	atBegin, atMid int64
	last           int64
}

// at notes a figure.
func (r *rate) at(now time.Time, n int64) {
	if r.begin.IsZero() || n < r.last {
		*r = rate{begin: now, mid: now, atBegin: n, atMid: n}
	}
	r.last = n
	if now.Sub(r.mid) >= rateOver {
		r.begin, r.atBegin, r.mid, r.atMid = r.mid, r.atMid, now, n
	}
}

// now returns the rate in a second.
func (r *rate) now(now time.Time) float64 {
	over := now.Sub(r.begin)
	if r.begin.IsZero() || over <= 0 {
		return 0
	}
	return float64(r.last-r.atBegin) / over.Seconds()
}
