package coord_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
)

// A meddled store has something done before each transaction.
type meddled struct {
	coord.Store
	before func()
}

func (m meddled) Txn(ctx context.Context, t coord.Txn) (coord.Result, error) {
	m.before()
	return m.Store.Txn(ctx, t)
}

// The entry of an earlier leadership can vanish just when it is taken over, because
// the resignation arrives late. Nobody waits for that once more.
func TestElectWhileResigning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
		defer store.Close()
		n := 0
		m := meddled{store, func() {
			if n++; n == 2 {
				if _, err := store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Delete("k")}}); err != nil {
					t.Error(err)
				}
			}
		}}
		l, err := coord.NewLease(t.Context(), m, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		left, err := store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.PutLeased(l.ID(), "k", nil)}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		e, err := coord.Elect(ctx, l, "k", nil)
		if err != nil || e.Token() <= left.Revision {
			t.Errorf("an election: %v", err)
		}
		if err := l.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
