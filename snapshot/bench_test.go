package snapshot_test

import (
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

func BenchmarkUnsharedWrite(b *testing.B) {
	s := newSet(b, snapshot.Options{Policy: snapshot.CopyOut}, 1<<20, 4<<20)
	create(b, s, "a", snapshot.CreateOptions{})
	d := s.Origin()
	p := make([]byte, 512)
	write(b, d, 0, 4096, 1)
	for b.Loop() {
		d.WriteAt(b.Context(), p, 0, 0)
	}
}

func BenchmarkDirectWrite(b *testing.B) {
	d := block.FromBytes(make([]byte, 1<<20))
	p := make([]byte, 512)
	for b.Loop() {
		d.WriteAt(b.Context(), p, 0, 0)
	}
}

func BenchmarkUnsharedRead(b *testing.B) {
	s := newSet(b, snapshot.Options{Policy: snapshot.CopyOut}, 1<<20, 4<<20)
	create(b, s, "a", snapshot.CreateOptions{})
	d := s.Origin()
	p := make([]byte, 512)
	write(b, d, 0, 4096, 1)
	for b.Loop() {
		d.ReadAt(b.Context(), p, 0, 0)
	}
}
