package upkeep

import (
	"encoding/json"
	"testing"

	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
)

// FuzzAnswer asks what other nodes may ask, and what they must not.
func FuzzAnswer(f *testing.F) {
	for _, q := range []question{
		{Deleted: &askDeleted{[]deletion{{Family: 1, Revision: 2}}}},
		{Check: &askCheck{Disk: "d1", Family: 1, Group: 3 << 20, Compare: true}},
		{},
	} {
		b, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("{"))
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	state, err := record.Follow(f.Context(), store)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = state.Close() })
	k := New(Config{Store: store, State: state, Node: "n1", Incarnation: "i1", Board: job.NewBoard(), Disks: []*Disk{NewDisk("d1", 1, nil, Options{})}})
	f.Fuzz(func(t *testing.T, asked []byte) {
		var q question
		if json.Unmarshal(asked, &q) == nil && (q.Revision > 0 || q.Check != nil && q.Check.Disk == "d1") {
			return // that waits, or needs a disk
		}
		if b, err := k.Answer(t.Context(), asked); err == nil && !json.Valid(b) {
			t.Errorf("the answer is %q", b)
		}
	})
}
