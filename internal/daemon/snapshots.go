package daemon

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/control"
	"github.com/strata-storage/strata/snapshot"
)

// A SnapshotRequest asks for a change of the snapshots of an export.
type SnapshotRequest struct {
	Export string `json:"export"`
	// Names of the snapshots that it is about.
	Names []string `json:"names,omitempty"`
	// To is the new name of the one snapshot that is renamed.
	To string `json:"to,omitempty"`
	// Of and Priority are those of the one snapshot that is taken.
	Of       string `json:"of,omitempty"`
	Priority int    `json:"priority,omitempty"`
}

// A SnapshotStatus describes the snapshots of an origin as a whole. Sizes are
// in bytes.
type SnapshotStatus struct {
	// Device is the expression that makes it.
	Device string `json:"device,omitempty"`
	// Count is the number of snapshots.
	Count int `json:"count"`
	// Size of the store. Free is what is not in use, Pending what becomes
	// free by itself, Data and Meta are in use.
	Size    int64 `json:"size"`
	Free    int64 `json:"free"`
	Pending int64 `json:"pending"`
	Data    int64 `json:"data"`
	Meta    int64 `json:"meta"`
	// Exceptions are chunks on the store.
	Exceptions int64 `json:"exceptions"`
	Suspended  bool  `json:"suspended"`
	// Task is what is being done in the background: idle, freeing, merging
	// or homing. Done of Total entries, or chunks, are behind it.
	Task  string `json:"task"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	// RollingBack names the snapshot that the origin is being set back to,
	// and RollbackDone says how much of the origin is behind it, from 0 to 1.
	RollingBack  string  `json:"rolling_back,omitempty"`
	RollbackDone float64 `json:"rollback_done,omitempty"`
}

// A Snapshot is one of a SnapshotList.
type Snapshot struct {
	Name string `json:"name"`
	// Created is absent if the store does not know.
	Created  *time.Time `json:"created,omitempty"`
	Priority int        `json:"priority,omitempty"`
	// Of is the snapshot that it was taken of, empty for the origin.
	Of   string `json:"of,omitempty"`
	Open bool   `json:"open"`
	// Exclusive is the space in bytes that comes back if it is deleted,
	// Shared what it shares with others on the store. Absent while the
	// snapshots are suspended.
	Exclusive *int64 `json:"exclusive,omitempty"`
	Shared    *int64 `json:"shared,omitempty"`
}

// A SnapshotList has the snapshots of an export, the oldest first.
type SnapshotList struct {
	Export    string         `json:"export"`
	Status    SnapshotStatus `json:"status"`
	Snapshots []Snapshot     `json:"snapshots"`
}

// A SnapshotCheck is what a check found.
type SnapshotCheck struct {
	Problems []string `json:"problems"`
}

// maxProblems bounds what is told of a check.
const maxProblems = 1000

// snapshotRoutes adds what is about snapshots:
//
//	GET  /v1/snapshots?export=E                      a SnapshotList
//	GET  /v1/snapshots/diff?export=E&from=A&to=B     lines of DiffLine
//	GET  /v1/snapshots/stream?export=E&from=A&to=B   the difference with its data, see snapshot/stream
//	POST /v1/snapshots/create, delete, rename, rollback, suspend, resume
//	                                                 a SnapshotRequest; the answer is empty
//	POST /v1/snapshots/check                         a SnapshotRequest; a SnapshotCheck
func (d *Daemon) snapshotRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/snapshots", func(w http.ResponseWriter, r *http.Request) {
		name := r.FormValue("export")
		d.onSnapshots(w, name, func(s *snapshot.Set) (any, error) { return listSnapshots(r.Context(), name, s) })
	})
	mux.HandleFunc("GET /v1/snapshots/diff", d.diff)
	mux.HandleFunc("GET /v1/snapshots/stream", d.stream)
	for verb, do := range map[string]func(context.Context, *snapshot.Set, *SnapshotRequest) (any, error){
		"create":   createSnapshot,
		"delete":   deleteSnapshots,
		"rename":   renameSnapshot,
		"rollback": rollbackTo,
		"suspend": func(ctx context.Context, s *snapshot.Set, _ *SnapshotRequest) (any, error) {
			return struct{}{}, s.Suspend(ctx)
		},
		"resume": func(ctx context.Context, s *snapshot.Set, _ *SnapshotRequest) (any, error) {
			return struct{}{}, s.Resume(ctx)
		},
		"check": checkSnapshots,
	} {
		mux.HandleFunc("POST /v1/snapshots/"+verb, func(w http.ResponseWriter, r *http.Request) {
			q := new(SnapshotRequest)
			if !control.Read(w, r, q) {
				return
			}
			d.onSnapshots(w, q.Export, func(s *snapshot.Set) (any, error) { return do(r.Context(), s, q) })
		})
	}
}

// snapshotSet returns the snapshots of an export, which stay open until
// release.
func (d *Daemon) snapshotSet(export string) (s *snapshot.Set, release func(), err error) {
	devices, release, ok := d.set.Hold(export)
	if !ok {
		err = fmt.Errorf("there is no export %q", export)
		if disk, name, ok := strings.Cut(export, "@"); ok {
			err = fmt.Errorf("%w: name the disk, and the snapshot behind it, as in: %s %s", err, disk, name)
		}
		return nil, nil, err
	}
	if s, err = config.Snapshots(devices); err != nil {
		release()
		return nil, nil, fmt.Errorf("export %q: %w", export, err)
	}
	return s, release, nil
}

// onSnapshots answers with what f returns for the snapshots of an export.
func (d *Daemon) onSnapshots(w http.ResponseWriter, export string, f func(*snapshot.Set) (any, error)) {
	s, release, err := d.snapshotSet(export)
	if err != nil {
		control.Fail(w, http.StatusNotFound, err)
		return
	}
	defer release()
	v, err := f(s)
	if err != nil {
		control.Fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	control.Answer(w, http.StatusOK, v)
}

func createSnapshot(ctx context.Context, s *snapshot.Set, q *SnapshotRequest) (any, error) {
	name, err := q.one()
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.Create(ctx, name, snapshot.CreateOptions{Of: q.Of, Priority: q.Priority})
}

func deleteSnapshots(ctx context.Context, s *snapshot.Set, q *SnapshotRequest) (any, error) {
	if len(q.Names) == 0 {
		return nil, errors.New("the names of snapshots are missing")
	}
	seen := map[string]bool{}
	for _, name := range q.Names {
		if seen[name] {
			return nil, fmt.Errorf("snapshot %q is named twice", name)
		}
		seen[name] = true
	}
	return struct{}{}, s.Delete(ctx, q.Names...)
}

func renameSnapshot(ctx context.Context, s *snapshot.Set, q *SnapshotRequest) (any, error) {
	name, err := q.one()
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.Rename(ctx, name, q.To)
}

func rollbackTo(ctx context.Context, s *snapshot.Set, q *SnapshotRequest) (any, error) {
	name, err := q.one()
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.Rollback(ctx, name)
}

func checkSnapshots(ctx context.Context, s *snapshot.Set, _ *SnapshotRequest) (any, error) {
	c := SnapshotCheck{Problems: []string{}}
	err := s.Check(ctx, func(problem error) {
		if len(c.Problems) < maxProblems {
			c.Problems = append(c.Problems, problem.Error())
		}
	})
	return c, err
}

// one returns the name in a request that is about one snapshot.
func (q *SnapshotRequest) one() (string, error) {
	if len(q.Names) != 1 {
		return "", fmt.Errorf("the request names %d snapshots, must name one", len(q.Names))
	}
	return q.Names[0], nil
}

func listSnapshots(ctx context.Context, export string, s *snapshot.Set) (*SnapshotList, error) {
	if err := s.Refresh(ctx); err != nil {
		return nil, err
	}
	l := &SnapshotList{Export: export, Status: statusOf(s), Snapshots: []Snapshot{}}
	var names []string
	for _, x := range s.List() {
		e := Snapshot{Name: x.Name, Priority: x.Priority, Of: x.Of, Open: x.Open}
		if !x.Created.IsZero() {
			e.Created = &x.Created
		}
		l.Snapshots = append(l.Snapshots, e)
		names = append(names, x.Name)
	}
	if l.Status.Suspended || len(names) == 0 {
		return l, nil
	}
	usage, err := s.Usage(ctx, names...)
	if errors.Is(err, snapshot.ErrNoSnapshot) {
		return l, nil // deleted since we looked
	}
	if err != nil {
		return nil, err
	}
	for i := range usage {
		l.Snapshots[i].Exclusive, l.Snapshots[i].Shared = &usage[i].Exclusive, &usage[i].Shared
	}
	return l, nil
}

func statusOf(s *snapshot.Set) SnapshotStatus {
	st := s.Stats()
	x := SnapshotStatus{
		Count: len(s.List()), Size: st.Store.Size, Free: st.Store.Free, Pending: st.Store.Pending,
		Data: st.Store.Data, Meta: st.Store.Meta, Exceptions: st.Store.Exceptions, Suspended: st.Suspended,
		Task: st.Task.String(), Done: st.Work.Done, Total: st.Work.Total, RollingBack: st.RollingBack,
	}
	if st.Rollback.Total > 0 {
		x.RollbackDone = float64(st.Rollback.Done) / float64(st.Rollback.Total)
	}
	return x
}

// snapshotsOf describes the origins among devices.
func snapshotsOf(devices iter.Seq2[*config.Spec, block.Device]) []SnapshotStatus {
	var list []SnapshotStatus
	for spec, dev := range devices {
		if s := snapshot.SetOf(dev); s != nil {
			x := statusOf(s)
			x.Device = spec.String()
			list = append(list, x)
		}
	}
	return list
}

// resumeAll lets the requests go on that wait for snapshots to be resumed, which
// nobody does any more when the server ends.
func (d *Daemon) resumeAll() {
	for spec, dev := range d.set.Devices() {
		if s := snapshot.SetOf(dev); s != nil && s.Stats().Suspended {
			if err := s.Resume(d.aborted); err != nil {
				d.o.Log.Warn("resuming at the end failed", "device", spec.String(), "error", err)
			}
		}
	}
}
