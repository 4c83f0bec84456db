package config

import (
	"context"
	"fmt"
	"testing"
)

// TestPoolForgets: nothing stays of devices that are closed.
func TestPoolForgets(t *testing.T) {
	t.Parallel()
	_, loader := newLab()
	s := &Set{}
	for _, text := range []string{
		`export("a", concat(mem(1), mem(1))); export("b", mem(1))`,
		`export("a", concat(mem(1), mem(2))); export("c", mem(1))`,
		`d = mem(1); export("a", d); export("c", concat(d, mem(1)))`,
	} {
		mustApply(t, s, mustLoad(t, loader, text))
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if p := s.pool(); len(p.open)+len(p.shared)+len(p.private) > 0 {
		t.Errorf("left are %d devices, %d shared and %d places", len(p.open), len(p.shared), len(p.private))
	}
}

// BenchmarkApply is the cost of one export, which must not depend on how many
// there are.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1000, 30_000} {
		b.Run(fmt.Sprint(n, " exports"), func(b *testing.B) {
			_, loader := newLab()
			text := fmt.Sprintf(`[export("x%%d" %% i, mem(1)) for i in range(%d)]`, n)
			for b.Loop() {
				c := mustLoad(b, loader, text)
				s := &Set{}
				for range 2 {
					mustApply(b, s, c)
				}
				if err := s.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/export")
		})
	}
}
