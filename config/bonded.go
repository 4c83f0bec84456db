package config

import (
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/bond"
)

// bonded fails if an export lets clients write to the origin of snapshots behind
// the back of their store.
func bonded(x *Export, root *instance) error {
	if x.ReadOnly || root.dev.Info().ReadOnly {
		return nil
	}
	return root.bonded(make(map[*instance]bool))
}

func (inst *instance) bonded(seen map[*instance]bool) error {
	if seen[inst] {
		return nil
	}
	seen[inst] = true
	below := inst.below
	if inst.spec.cons.Name == snapshotsName {
		below = below[1:] // not the origin
	}
	for _, d := range below {
		if err := d.bonded(seen); err != nil {
			return err
		}
	}
	if len(inst.below) > 0 || inst.dev.Info().ReadOnly {
		return nil
	}
	m, err := bond.Of(inst.dev)
	if m == nil || err != nil {
		return nil
	}
	path := "ORIGIN"
	if paths := inst.spec.paths(); len(paths) == 1 {
		path = paths[0]
	}
	return &Error{Pos: inst.spec.pos, Err: fmt.Errorf("%s belongs to %s, and to write to it without its snapshots would ruin them: %w; export snapshots(%q, STORE), or export it read-only; or, if they are not wanted any more, run: strata snapshot forget %s",
		path, m.Name(), block.ErrPermission, path, path)}
}
