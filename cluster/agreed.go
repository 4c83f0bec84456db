package cluster

import (
	"context"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// agreed is what disks and gateways want to know of the records.
type agreed struct{ *record.State }

var (
	_ replica.Agreed = agreed{}
	_ disk.Trees     = agreed{}
)

// Attachment is that of replica.Agreed. Only the head of a line can be attached: a
// snapshot has a name, and what was rolled back without one is doomed.
func (a agreed) Attachment(h replica.Head) coord.Revision {
	v := a.View()
	f, ok := v.Families.Get(h.Family)
	if !ok {
		return 0
	}
	version, ok := f.Versions.Get(h.Version)
	if !ok || version.Name != "" || version.Doomed {
		return 0
	}
	_, generation := v.Attachment(record.Line{Family: h.Family, Line: version.Line})
	return generation
}

// Frozen is that of replica.Agreed.
func (a agreed) Frozen(h replica.Head) bool {
	f, _ := a.View().Families.Get(h.Family)
	if f == nil {
		return false
	}
	v, ok := f.Versions.Get(h.Version)
	return ok && v.Name != ""
}

// Copies is that of replica.Agreed.
func (a agreed) Copies(family uint64) int {
	f, _ := a.View().Families.Get(family)
	if f == nil {
		return 0
	}
	return f.Volume.Record.Copies
}

// Needed is that of replica.Agreed.
func (a agreed) Needed(copies int) int { return a.View().Needed(copies) }

// Wait is that of replica.Agreed.
func (a agreed) Wait(ctx context.Context, r coord.Revision) error {
	_, err := a.State.Wait(ctx, r)
	return err
}
