package replica

import (
	"context"
	"testing"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// records is an Agreed and a Trees: a node's copy of the records, as package cluster
// has it.
type records struct{ *record.State }

func (a records) Attachment(h Head) coord.Revision {
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

func (a records) Copies(family uint64) int {
	f, ok := a.View().Families.Get(family)
	if !ok {
		return 0
	}
	return f.Volume.Record.Copies
}

func (a records) Needed(copies int) int { return a.View().Needed(copies) }

func (a records) Frozen(h Head) bool {
	f, ok := a.View().Families.Get(h.Family)
	if !ok {
		return false
	}
	v, ok := f.Versions.Get(h.Version)
	return ok && v.Name != ""
}

func (a records) Wait(ctx context.Context, r coord.Revision) error {
	_, err := a.State.Wait(ctx, r)
	return err
}

// put puts records.
func put(t testing.TB, store coord.Store, list map[string]record.Record) {
	t.Helper()
	var txn coord.Txn
	for key, r := range list {
		value, err := record.Encode(key, r)
		must(t, err)
		txn.Then = append(txn.Then, coord.Put(key, value))
	}
	_, err := store.Txn(t.Context(), txn)
	must(t, err)
}

// headOf is what a Config says about a head that was attached.
func headOf(h record.Head) (Head, uint64) {
	return Head{h.Line().Family, h.Name.Record.Head}, uint64(h.Volume.Revision)
}
