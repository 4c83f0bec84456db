package coord_test

import (
	"context"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/internal/clock"
)

// Asking a lease is for every request.
func BenchmarkLeaseErr(b *testing.B) {
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{Clock: clock.Boot{}})
	defer store.Close()
	l, err := coord.NewLease(context.Background(), store, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Revoke(context.Background())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Err(); err != nil {
				b.Error(err)
			}
		}
	})
}
