package cluster

import (
	"testing"

	"github.com/strata-storage/strata/cluster/record"
)

// BenchmarkStart is how long it takes from nothing, and from what was stopped, until a
// volume has been read from.
func BenchmarkStart(b *testing.B) {
	first := func(b *testing.B, n *Node) {
		b.Helper()
		dev := open(b, n, "vm1")
		must(b, dev.ReadAt(b.Context(), make([]byte, 4096), 0, 0))
		must(b, dev.Close())
	}
	spec := record.Spec{Size: 1 << 30}
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			o := Options{Dir: tempDir(b), DiskSize: 1 << 30}
			n := start(b, o)
			must(b, n.Create(b.Context(), "vm1", spec))
			first(b, n)
			b.StopTimer()
			must(b, stop(n))
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		o := Options{Dir: tempDir(b), DiskSize: 1 << 30}
		n := start(b, o)
		must(b, n.Create(b.Context(), "vm1", spec))
		first(b, n)
		must(b, stop(n))
		for b.Loop() {
			n := start(b, o)
			first(b, n)
			b.StopTimer()
			must(b, stop(n))
			b.StartTimer()
		}
	})
}
