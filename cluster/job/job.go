package job

import (
	"context"
	"sync"
	"time"

	"github.com/strata-storage/strata/internal/pace"
)

// A Kind is a kind of background work.
type Kind string

// The kinds.
const (
	// Join: a disk pulls what it needs to be a member of a group.
	Join Kind = "join"
	// Delete: what only deleted versions had is freed.
	Delete Kind = "delete"
	// Clean: what a disk should not have is removed from it.
	Clean Kind = "clean"
	// Digests: what the members of groups have is compared.
	Digests Kind = "digests"
	// Data: what is on disks is read and verified.
	Data Kind = "data"
	// Tidy: marks of objects that are the same everywhere again are taken back.
	Tidy Kind = "tidy"
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{Join, Delete, Clean, Digests, Data, Tidy} }

// How many times as long as a step took nothing is done after it, while there are requests:
// with Urgent jobs what is left is lost if one more disk fails, with those that are due Soon
// copies are missing, and with Ordinary ones nothing is.
const (
	Urgent   = 1
	Soon     = 4
	Ordinary = 9
)

// rest is that of the job.
func (w *What) rest() int {
	switch {
	case w.Urgent:
		return Urgent
	case w.Kind == Join:
		return Soon
	}
	return Ordinary
}

// What says what a job is about. Fields that do not matter are zero.
type What struct {
	Kind Kind `json:"kind"`
	// Disk is the one that works.
	Disk string `json:"disk,omitempty"`
	// Group is a placement group, Family the one of a volume.
	Group  int    `json:"group,omitempty"`
	Family uint64 `json:"family,omitempty"`
	// Unit is what is counted.
	Unit string `json:"unit,omitempty"`
	// Urgent: what is left is lost if one more disk fails.
	Urgent bool `json:"urgent,omitempty"`
}

// A Status is what people can see of a job.
type Status struct {
	What
	// Done is how much of Total has been done. Total is 0 if nobody knows.
	Done  int64 `json:"done"`
	Total int64 `json:"total,omitempty"`
	// Moved is how many bytes were moved or read.
	Moved int64 `json:"moved,omitempty"`
	// Since is when the job began.
	Since time.Time `json:"since"`
	// Rate is how many units are done in a second now, and Left how long the rest
	// takes at that rate, 0 if nobody knows.
	Rate float64       `json:"rate"`
	Left time.Duration `json:"left,omitempty"`
	// Waiting: it has nothing to do before something changes, for the reason that Err
	// says, if there is one. Suspended: an operator has it wait.
	Waiting   bool   `json:"waiting,omitempty"`
	Suspended bool   `json:"suspended,omitempty"`
	Err       string `json:"error,omitempty"`
}

// A Job is one that is going on. Its methods may be called from any goroutine.
type Job struct {
	board    *Board
	throttle *Throttle
	what     What
	since    time.Time
	// Steps of a job that counts its work learn how much fits into one.
	idle, busy pace.Pace

	mu          sync.Mutex
	done, total int64
	moved       int64
	rate        rate
	waiting     bool
	err         error
}

// Times of a step: when a client may come any moment, and when there are some.
const (
	idleStep = 10 * time.Millisecond
	busyStep = time.Millisecond
)

// Step does one step, when it may be done.
func (j *Job) Step(ctx context.Context, f func() error) error {
	if err := j.board.proceed(ctx, j.what.Kind); err != nil {
		return err
	}
	if j.throttle == nil {
		return f()
	}
	return j.throttle.do(ctx, j.what.rest(), f)
}

// Run does steps until one of them says that it was the last, or has failed. f is told
// how much work, between the two bounds, fits into the step, in whatever units. It must
// be called by one goroutine at a time.
func (j *Job) Run(ctx context.Context, least, most int, f func(ctx context.Context, n int) (more bool, err error)) error {
	if j.idle.Min != least || j.idle.Max != most { // else what has been learnt holds
		j.idle = pace.Pace{Time: idleStep, Min: least, Max: most}
		j.busy = pace.Pace{Time: busyStep, Min: least, Max: most}
	}
	for more := true; more; {
		err := j.Step(ctx, func() (err error) {
			p := &j.idle
			if j.throttle != nil && j.throttle.Busy() {
				p = &j.busy
			}
			began := time.Now()
			more, err = f(ctx, p.Next())
			p.Took(time.Since(began))
			return err
		})
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Set says how much has been done, of how much.
func (j *Job) Set(done, total int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting, j.err = false, nil
	j.done, j.total = done, total
	j.rate.at(time.Now(), done)
}

// Add says that so much more has been done, and that so many bytes were moved for it.
func (j *Job) Add(done, moved int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done += done
	j.moved += moved
	j.rate.at(time.Now(), j.done)
}

// Wait says that there is nothing to do before something changes, and why.
func (j *Job) Wait(why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting, j.err = true, why
}

// End takes the job from the board.
func (j *Job) End() {
	j.board.mu.Lock()
	defer j.board.mu.Unlock()
	delete(j.board.jobs, j)
}

// Status is how the job is now.
func (j *Job) Status() Status {
	suspended := j.board.Suspended(j.what.Kind)
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Status{
		What: j.what, Done: j.done, Total: j.total, Moved: j.moved, Since: j.since,
		Rate: j.rate.now(time.Now()), Waiting: j.waiting, Suspended: suspended,
	}
	if j.err != nil {
		s.Err = j.err.Error()
	}
	if left := j.total - j.done; left > 0 && s.Rate > 0 {
		s.Left = time.Duration(float64(left) / s.Rate * float64(time.Second)).Round(time.Second)
	}
	return s
}
