package legacy_test

import (
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// No device makes Load panic, hang, or accept what Check does not.
func FuzzLoad(f *testing.F) {
	f.Add(image(100, list(40)...))
	f.Add(image(34, list(32)...))
	f.Add(image(100, [2]uint64{99, 5}, [2]uint64{0, 35}))
	f.Add(image(3)[:20])
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1<<20 {
			return
		}
		ctx := t.Context()
		st := newStore(t, p, 100, snapshot.Never)
		if err := st.Load(ctx); err != nil {
			must(t, st.Check(ctx, func(error) {}))
			must(t, st.Close(ctx))
			return
		}
		must(t, st.Check(ctx, func(err error) { t.Errorf("check: %v", err) }))
		if len(st.Snapshots()) == 0 {
			return
		}
		if err := detach(t, st, 0, 1); err != nil && !errors.Is(err, block.ErrNoSpace) {
			t.Fatal(err)
		}
		n := st.Stats().Exceptions
		must(t, st.Close(ctx))
		must(t, st.Check(ctx, func(err error) { t.Errorf("check: %v", err) }))
		again := newStore(t, p, 100, snapshot.Never)
		must(t, again.Load(ctx))
		if got := again.Stats().Exceptions; got != n {
			t.Errorf("%d exceptions, expected %d", got, n)
		}
	})
}
