package kinds_test

import (
	"context"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/kinds"
)

// A store is checked without its origin, and damage is found.
func TestCheckStore(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ranged", "bitmap", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			disk := make([]byte, 4<<20)
			check := func() (problems []error) {
				t.Helper()
				if err := snapshot.CheckStore(ctx, block.FromBytes(disk), func(p error) { problems = append(problems, p) }); err != nil {
					t.Fatal(err)
				}
				return problems
			}
			if err := snapshot.CheckStore(ctx, block.FromBytes(disk), nil); !errors.Is(err, snapshot.ErrNoStore) {
				t.Errorf("a blank device: %v", err)
			}
			origin := make([]byte, 1<<20)
			s, err := snapshot.New(block.FromBytes(origin), block.FromBytes(disk), snapshot.Options{Kind: kind, Format: snapshot.IfBlank, Policy: snapshot.CopyOut})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Create(ctx, "a", snapshot.CreateOptions{}), writeSome(ctx, s.Origin()), s.Close()); err != nil {
				t.Fatal(err)
			}
			if p := check(); len(p) > 0 {
				t.Errorf("a store that is sound: %v", p)
			}
			// The copy of the superblock, or the list of exceptions.
			disk[len(disk)-4096+100] ^= 1
			if kind == "legacy" {
				copy(disk[4096:], []byte{0, 0, 0, 0, 0, 0, 0, 0x70})
			} else {
				disk[100] ^= 1
			}
			if p := check(); len(p) == 0 {
				t.Error("nobody finds what is damaged")
			}
		})
	}
}

func writeSome(ctx context.Context, dev block.Device) error {
	p := make([]byte, 100<<10)
	for i := range p {
		p[i] = byte(i) | 1
	}
	return errors.Join(dev.WriteAt(ctx, p, 5000, 0), dev.Flush(ctx))
}
