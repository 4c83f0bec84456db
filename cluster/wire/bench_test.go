package wire

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

func BenchmarkRequest(b *testing.B) {
	for _, way := range []string{"tcp", "tls"} {
		for _, kind := range []struct {
			name string
			op   Op
			read bool
		}{{"write", opRead, false}, {"read", opRead, true}, {"inline", opInline, false}} {
			for _, size := range []int{4 << 10, 64 << 10} {
				for _, depth := range []int{1, 16, 64} {
					b.Run(fmt.Sprintf("%s/%s/%dKiB/depth%d", way, kind.name, size>>10, depth), func(b *testing.B) {
						benchmark(b, way, kind.op, kind.read, size, depth)
					})
				}
			}
		}
	}
}

func benchmark(b *testing.B, way string, op Op, read bool, size, depth int) {
	var o Options
	if way == "tls" {
		_, o = overTLSLoopback(b)
	} else {
		o = over(b, newServer())
	}
	c := connect(b, o)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var work sync.WaitGroup
	b.ResetTimer()
	for range depth {
		work.Go(func() {
			head := make([]byte, 64)
			back := make([]byte, 0, 64)
			p := make([]byte, size)
			r := Call{Op: op, Head: head, HeadInto: back}
			if read {
				r.Into = p
			} else {
				r.Payload = p
			}
			if op == opInline {
				r.Into = p
			}
			for left.Add(-1) >= 0 {
				if _, err := c.Do(b.Context(), r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
}
