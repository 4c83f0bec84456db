package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/upkeep"
	"github.com/strata-storage/strata/internal/control"
)

// A CheckRequest asks for a check of all copies of a volume.
type CheckRequest struct {
	Name string `json:"name"`
	// Digests: what the copies should be is compared, and the data are not read.
	Digests bool `json:"digests,omitempty"`
	// Repair: what is wrong is mended, where another copy is right.
	Repair bool `json:"repair,omitempty"`
}

// A CheckStep says how far a check has come. The last one has the End.
type CheckStep struct {
	// Done of Total placement groups have been checked.
	Done  int `json:"done"`
	Total int `json:"total"`
	// Problems are what was found since the step before, in sentences.
	Problems []string  `json:"problems,omitempty"`
	End      *CheckEnd `json:"end,omitempty"`
	// Error is why the check could not be finished.
	Error string `json:"error,omitempty"`
}

// A CheckEnd is what a check came to. An object counts once for each copy.
type CheckEnd struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Bad is how much was wrong, Mended how much of that is right again.
	Bad    int64 `json:"bad"`
	Mended int64 `json:"mended"`
}

// check answers with lines of JSON, each a CheckStep.
func (n *Node) check(w http.ResponseWriter, r *http.Request) {
	var q CheckRequest
	if !control.Read(w, r, &q) {
		return
	}
	ctx, done := n.transfer(r)
	defer done()
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	told := 0
	tell := func(s CheckStep, found *upkeep.Found) {
		s.Problems = found.Findings[told:]
		told = len(found.Findings)
		_ = lines.Encode(s) // whoever does not listen has gone, which ends ctx
		_ = flush.Flush()
	}
	last := CheckStep{}
	found, err := n.checkVolume(ctx, q, func(done, total int, found *upkeep.Found) {
		last.Done, last.Total = done, total
		tell(last, found)
	})
	if found == nil {
		found = &upkeep.Found{}
	}
	if last.End = (&CheckEnd{found.Objects, found.Bytes, found.Bad, found.Mended}); err != nil {
		last.Error, last.End = err.Error(), nil
	} else {
		last.Done = last.Total
	}
	tell(last, found)
}

// checkVolume checks the records of a volume, and then what disks have of it.
func (n *Node) checkVolume(ctx context.Context, q CheckRequest, progress func(done, total int, found *upkeep.Found)) (*upkeep.Found, error) {
	problems := recordProblems(n.cluster.Latest(ctx), q.Name)
	with := func(f *upkeep.Found) *upkeep.Found {
		all := *f
		all.Bad += int64(len(problems))
		all.Findings = append(problems[:len(problems):len(problems)], f.Findings...)
		return &all
	}
	found, err := n.cluster.Check(ctx, q.Name, upkeep.CheckOptions{
		Data: !q.Digests, Mend: q.Repair,
		Progress: func(done, total int, found *upkeep.Found) { progress(done, total, with(found)) },
	})
	if found != nil {
		found = with(found)
	}
	return found, err
}

// recordProblems says what is wrong with the records of a volume and its family.
func recordProblems(v *record.View, volume string) (list []string) {
	head, ok := v.Head(volume)
	if !ok {
		return nil
	}
	report := func(format string, args ...any) { list = append(list, fmt.Sprintf("records: "+format, args...)) }
	name, l := head.Name.Record, head.Line()
	f, _ := v.Families.Get(l.Family)
	tree, err := f.Tree()
	if err != nil {
		report("%v", err)
		return list
	}
	if h, ok := f.Versions.Get(name.Head); !ok || h.Name != "" || h.Doomed || h.Line != l.Line {
		report("the head is version %d, which is %+v", name.Head, h)
	} else if !tree.Leaf(name.Head) {
		report("the head, version %d, has children", name.Head)
	}
	count := 0
	for called, s := range v.Snapshots(l) {
		if count++; s.Name != called || s.Doomed || s.Line != l.Line {
			report("the snapshot %s is version %d, which is %+v", called, s.ID, s)
		}
	}
	if count != name.Snapshots {
		report("there are %d snapshots, expected %d", count, name.Snapshots)
	}
	for id, x := range f.Versions.All() {
		if s, ok := f.Snapshots.Get(record.SnapshotName{Line: x.Line, Name: x.Name}); x.Name != "" && (!ok || s.Version != id) {
			report("version %d is the snapshot %s, which is another one, or has no record", id, x.Name)
		}
		if id >= head.Volume.Record.NextVersion {
			report("version %d exists, and the next one is %d", id, head.Volume.Record.NextVersion)
		}
	}
	return list
}

// Check checks all copies of a volume. step is told what is found.
func (c *Client) Check(ctx context.Context, q CheckRequest, step func(CheckStep)) (*CheckEnd, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	answer, err := c.Open(ctx, http.MethodPost, "/v1/volumes/check", json.RawMessage(text))
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	for lines := json.NewDecoder(answer); ; {
		var s CheckStep
		if err := lines.Decode(&s); err != nil {
			return nil, fmt.Errorf("the node has not said how the check ended: %w", early(err))
		}
		step(s)
		switch {
		case s.Error != "":
			return nil, errors.New(s.Error)
		case s.End != nil:
			return s.End, nil
		}
	}
}
