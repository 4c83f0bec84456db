package ranged

import (
	"testing"

	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/snapshot/snapshottest"
)

func init() {
	snapshot.Register(snapshot.Kind{Name: "eager", Caps: capabilities, New: func(c snapshot.Config) (snapshot.Store, error) {
		st, err := newStore(c)
		if err != nil {
			return nil, err
		}
		st.(*store).eager = true
		return st, nil
	}})
}

// TestConformance runs the suite as usual, and with a checkpoint at every
// occasion.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, share := range []string{"refs", "exact"} {
		t.Run(share, func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, snapshottest.Config{Kind: "ranged", Args: map[string]string{"share": share}, Exact: share == "exact"})
		})
	}
	t.Run("eager", func(t *testing.T) {
		t.Parallel()
		snapshottest.Run(t, snapshottest.Config{Kind: "eager", Args: map[string]string{"memory": "1M"}, Seeds: 6})
	})
}
