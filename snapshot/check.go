package snapshot

import (
	"context"
	"errors"
	"math"

	"github.com/strata-storage/strata/block"
)

// CheckStore tells what is wrong with the store on a device to report, without
// its origin, of which a store knows the size. It changes nothing. The error is
// about the check itself, [ErrNoStore] if the device holds none that is known.
func CheckStore(ctx context.Context, dev block.Device, report func(problem error)) error {
	name, err := Identify(ctx, dev)
	switch {
	case err != nil:
		return err
	case name == "":
		return ErrNoStore
	}
	kind, err := kindOf(name)
	if err != nil {
		return err
	}
	// What is not loaded is not compared with the size of an origin.
	st, err := kind.New(Config{
		Device: block.Keep(dev), OriginSize: math.MaxInt64 &^ (MaxChunk - 1), ReadOnly: true, Retire: func(f func()) { f() },
	})
	if err != nil {
		return err
	}
	return errors.Join(st.Check(ctx, report), st.Close(ctx))
}
