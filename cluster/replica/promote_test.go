package replica

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/record"
)

// countingStore counts transactions, each of which takes a while.
type countingStore struct {
	coord.Store
	mu sync.Mutex
	n  int
}

func (s *countingStore) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	s.mu.Lock()
	s.n++
	s.mu.Unlock()
	time.Sleep(time.Millisecond)
	return s.Store.Txn(ctx, t)
}

// Disks that want to be members of many groups at the same time share transactions, and one of
// a group that has changed does not keep out the others.
func TestPromoteTogether(t *testing.T) {
	t.Parallel()
	for _, changed := range []int{-1, 7} {
		synctest.Test(t, func(t *testing.T) {
			const groups = 20
			store := &countingStore{Store: memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})}
			s := &Groups{Store: store}
			old, joins := record.Member{Disk: "old", Incarnation: "1"}, record.Member{Disk: "new", Incarnation: "2"}
			rec := record.Group{Members: []record.Member{old}, Joining: []record.Member{joins}}
			value, err := json.Marshal(rec)
			must(t, err)
			number := func(i int) int { return record.GroupOf(3, i) }
			epochs := make([]coord.Revision, groups)
			for i := range groups {
				r, err := store.Store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put(record.GroupKey(number(i)), value)}})
				must(t, err)
				epochs[i] = r.Revision
			}
			if changed >= 0 {
				_, err := store.Store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put(record.GroupKey(number(changed)), value)}})
				must(t, err)
			}
			errs := make([]error, groups)
			var all sync.WaitGroup
			for i := range groups {
				all.Go(func() { _, errs[i] = s.promote(t.Context(), number(i), joins, rec, epochs[i]) })
			}
			all.Wait()
			for i, err := range errs {
				var stale *EpochError
				got, _, gerr := s.Get(t.Context(), number(i))
				switch {
				case gerr != nil:
					t.Fatal(gerr)
				case i == changed && !errors.As(err, &stale):
					t.Errorf("a group that has changed: %v, expected that its epoch is another one", err)
				case i != changed && (err != nil || !slices.Equal(got.Members, []record.Member{old, joins}) || len(got.Joining) > 0):
					t.Errorf("group %d is %v, %v", i, got, err)
				}
			}
			if changed < 0 && store.n > 2 {
				t.Errorf("%d transactions for %d groups, expected that they share 2", store.n, groups)
			}
		})
	}
}
