package ranged

import (
	"testing"

	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/snapshot/snapshottest"
)

func init() {
	for _, name := range []string{"eager", "tight"} {
		snapshot.Register(snapshot.Kind{Name: name, Caps: capabilities, New: func(c snapshot.Config) (snapshot.Store, error) {
			st, err := newStore(c)
			if err != nil {
				return nil, err
			}
			st.(*store).eager, st.(*store).tight = name == "eager", name == "tight"
			return st, nil
		}})
	}
}

// TestConformance runs the suite as usual, with a checkpoint at every occasion,
// and with checkpoints because the log is full.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, share := range []string{"refs", "exact"} {
		t.Run(share, func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, snapshottest.Config{Kind: "ranged", Args: map[string]string{"share": share}, Exact: share == "exact"})
		})
	}
	for _, kind := range []string{"eager", "tight"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			snapshottest.Run(t, snapshottest.Config{Kind: kind, Args: map[string]string{"memory": "1M"}, Seeds: 4})
		})
	}
}
