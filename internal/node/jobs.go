package node

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
)

// A JobStatus describes a background job of a node.
type JobStatus struct {
	Node NodeName `json:"node"`
	job.What
	// Done of Total units are behind it. Total is 0 if nobody knows.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Moved counts bytes that were moved or read.
	Moved int64     `json:"moved"`
	Since time.Time `json:"since"`
	// PerSecond counts units, SecondsLeft is null if nobody knows.
	PerSecond   float64  `json:"per_second"`
	SecondsLeft *float64 `json:"seconds_left"`
	// State is running, waiting, until something changes, or suspended by an operator.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// A JobList has the background jobs of all nodes.
type JobList struct {
	Jobs []JobStatus `json:"jobs"`
	// More is how many others there are, of which nothing is told.
	More int `json:"more,omitempty"`
	// Suspended are the kinds of jobs that an operator lets wait, at some node at least.
	Suspended []string `json:"suspended,omitempty"`
	// Problem says which nodes did not answer, and why.
	Problem string `json:"problem,omitempty"`
	// Scrubs are the last ways of scrubs through the disks.
	Scrubs []Scrub `json:"scrubs"`
	// answered are the IDs of the nodes that told what they do.
	answered []string
}

// A Scrub is the last way of a scrub through a disk, or one that is under way.
type Scrub struct {
	Disk string   `json:"disk"`
	Node NodeName `json:"node"`
	// Kind is digests, when what copies have is compared, or data, when all is read.
	Kind string `json:"kind"`
	// Begun is absent if there was none yet, Ended if it is under way.
	Begun *time.Time `json:"begun,omitempty"`
	Ended *time.Time `json:"ended,omitempty"`
	// Bad is how much was not as it should be, Mended how much of it is again.
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Bad     int64 `json:"bad"`
	Mended  int64 `json:"mended"`
}

// workTime bounds how long nodes may take to tell what they do.
const workTime = 2 * time.Second

// Jobs describes the background work of all nodes.
func (n *Node) Jobs(ctx context.Context) JobList {
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	all, err := n.cluster.AllWork(ctx)
	d := n.describe()
	l := JobList{Jobs: []JobStatus{}, Scrubs: d.scrubs()}
	if err != nil {
		l.Problem = d.words().Replace(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, w := range all {
		l.answered = append(l.answered, w.Node)
		l.More += w.More
		for _, j := range w.Jobs {
			l.Jobs = append(l.Jobs, d.job(w.Node, j))
		}
		for _, k := range w.Suspended {
			if !slices.Contains(l.Suspended, string(k)) {
				l.Suspended = append(l.Suspended, string(k))
			}
		}
	}
	return l
}

func (d *describer) job(node string, j job.Status) JobStatus {
	s := JobStatus{
		Node: d.node(node), What: j.What, Done: j.Done, Total: j.Total, Moved: j.Moved, Since: j.Since, PerSecond: j.Rate,
		State: "running", Error: j.Err,
	}
	switch {
	case j.Suspended:
		s.State = "suspended"
	case j.Waiting:
		s.State = "waiting"
	}
	if j.Left > 0 {
		left := j.Left.Seconds()
		s.SecondsLeft = &left
	}
	return s
}

// scrubs describes those of all disks.
func (d *describer) scrubs() []Scrub {
	list := []Scrub{}
	for id, e := range d.Disks.All() {
		h, _ := d.Health.Get(id)
		for _, x := range []struct {
			kind job.Kind
			pass record.Pass
		}{{job.Digests, h.Record.Digests}, {job.Data, h.Record.Data}} {
			s := Scrub{
				Disk: id, Node: d.node(e.Record.Node), Kind: string(x.kind), Objects: x.pass.Objects, Bytes: x.pass.Bytes,
				Bad: x.pass.Bad, Mended: x.pass.Mended,
			}
			if !x.pass.Begun.IsZero() {
				s.Begun = &x.pass.Begun
			}
			if x.pass.Ended.After(x.pass.Begun) {
				s.Ended = &x.pass.Ended
			}
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b Scrub) int { return cmp.Compare(a.Node.Label, b.Node.Label) })
	return list
}

// A WorkStatus sums up the jobs of a kind that are under way, on all nodes.
type WorkStatus struct {
	Kind string `json:"kind"`
	Unit string `json:"unit,omitempty"`
	// Jobs is how many there are, on that number of Disks.
	Jobs  int `json:"jobs"`
	Disks int `json:"disks"`
	// The others are as for a job.
	Done        int64    `json:"done"`
	Total       int64    `json:"total"`
	Moved       int64    `json:"moved"`
	PerSecond   float64  `json:"per_second"`
	SecondsLeft *float64 `json:"seconds_left"`
	Suspended   bool     `json:"suspended,omitempty"`
}

// sum sums up what does not wait.
func (l *JobList) sum() []WorkStatus {
	list := []WorkStatus{}
	for _, kind := range job.Kinds() {
		w := WorkStatus{Kind: string(kind), Suspended: slices.Contains(l.Suspended, string(kind))}
		disks := map[string]bool{}
		for i := range l.Jobs {
			j := &l.Jobs[i]
			if j.Kind != kind || j.State == "waiting" {
				continue
			}
			if j.Disk != "" {
				disks[j.Disk] = true
			}
			w.Unit = j.Unit
			w.Jobs++
			w.Done += j.Done
			w.Total += j.Total
			w.Moved += j.Moved
			w.PerSecond += j.PerSecond
			if j.SecondsLeft != nil && (w.SecondsLeft == nil || *j.SecondsLeft > *w.SecondsLeft) {
				w.SecondsLeft = j.SecondsLeft
			}
		}
		if w.Disks = len(disks); w.Jobs > 0 || w.Suspended {
			list = append(list, w)
		}
	}
	return list
}

// A KindRequest names a kind of background jobs.
type KindRequest struct {
	Kind string `json:"kind"`
}

// A ScrubRequest asks for a scrub to begin now.
type ScrubRequest struct {
	// Data: all is read; otherwise what copies have is compared.
	Data bool `json:"data,omitempty"`
	// Disks are IDs of disks or the beginnings of such, all disks if there are none.
	Disks []string `json:"disks,omitempty"`
}

// jobRoutes adds what is about background jobs:
//
//	GET  /v1/jobs           those of all nodes, a JobList
//	POST /v1/jobs/suspend   lets those of a KindRequest wait, on all nodes
//	POST /v1/jobs/resume    lets them go on
//	POST /v1/jobs/scrub     begins the one of a ScrubRequest
func (n *Node) jobRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/jobs", func(w http.ResponseWriter, r *http.Request) { reply(w)(n.Jobs(r.Context()), nil) })
	post(mux, "/v1/jobs/suspend", func(ctx context.Context, q KindRequest) (done, error) {
		return done{}, n.cluster.SuspendAll(ctx, job.Kind(q.Kind), true)
	})
	post(mux, "/v1/jobs/resume", func(ctx context.Context, q KindRequest) (done, error) {
		return done{}, n.cluster.SuspendAll(ctx, job.Kind(q.Kind), false)
	})
	post(mux, "/v1/jobs/scrub", func(ctx context.Context, q ScrubRequest) (done, error) {
		disks, err := n.describe().findDisks(q.Disks)
		if err != nil {
			return done{}, err
		}
		return done{}, n.cluster.Scrub(ctx, q.Data, disks...)
	})
}

// findDisks are the IDs of the disks that somebody means.
func (d *describer) findDisks(texts []string) (ids []string, err error) {
	for _, text := range texts {
		id, err := d.findDisk(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// findDisk is the ID of the disk that somebody means by it or the beginning of it.
func (d *describer) findDisk(text string) (string, error) {
	var found []string
	for id := range d.Disks.All() {
		if id == text {
			return id, nil
		}
		if text != "" && len(text) < len(id) && id[:len(text)] == text {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("there is no disk %.80q: %w", text, record.ErrNotFound)
	}
	return "", fmt.Errorf("%d disks begin with %.80q, write more of the ID: %w", len(found), text, errRequest)
}
