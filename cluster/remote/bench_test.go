package remote

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/internal/race"
)

// An instant disk does nothing.
type instant struct{ replica.Peer }

func (instant) Read(context.Context, *replica.Request, []byte) error  { return nil }
func (instant) Write(context.Context, *replica.Request, []byte) error { return nil }

func overLoopback(t testing.TB) *Peer { return behindSocket(t, instant{}).(*Peer) }

func TestNoAllocationPerRequest(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector drops what is pooled")
	}
	p, r, b := overLoopback(t), testRequest(), make([]byte, 4096)
	for name, f := range map[string]func(context.Context, *replica.Request, []byte) error{"read": p.Read, "write": p.Write} {
		n := testing.AllocsPerRun(2000, func() {
			if err := f(t.Context(), r, b); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations per request, expected none", name, n)
		}
	}
}

func BenchmarkPeer(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		for _, depth := range []int{1, 16, 64} {
			for _, write := range []bool{false, true} {
				b.Run(fmt.Sprintf("%dKiB/depth%d/write=%v", size>>10, depth, write), func(b *testing.B) {
					p := overLoopback(b)
					b.SetBytes(int64(size))
					b.ReportAllocs()
					var n atomic.Int64
					var work sync.WaitGroup
					for range depth {
						work.Go(func() {
							r, buf := testRequest(), make([]byte, size)
							do := p.Read
							if write {
								do = p.Write
							}
							for n.Add(1) <= int64(b.N) {
								if err := do(b.Context(), r, buf); err != nil {
									b.Error(err)
								}
							}
						})
					}
					work.Wait()
				})
			}
		}
	}
}
