package steward

import (
	"errors"
	"fmt"

	"github.com/strata-storage/strata/cluster/record"
)

// ErrNoDisk: there is no disk for a group, or none that lives.
var ErrNoDisk = errors.New("there is no disk for it")

// Ready returns the changes after which each of those groups has a record with somebody
// in it who lives, as far as that is possible now. Groups that do not exist are made:
// nothing is in them, so that nobody needs to be asked. Those go on of which all members
// that are left were started anew.
//
// It is for gateways, which find that out before the steward, and need not wait for it.
// What somebody has to wait for is left to the steward.
func Ready(v *record.View, groups []int) ([]Change, error) {
	var seen Observer
	seen.See(v, 0)
	f := &Facts{Nodes: seen.nodes, Disks: seen.disks(v)}
	o := Options{}.withDefaults()
	var living wishes
	if err := living.update(f, 0); err != nil {
		return nil, err
	}
	var list []Change
	for _, number := range groups {
		g := Group{Number: number, MinCopies: v.Needed(copiesOf(number))}
		g.Record, g.Epoch = v.Group(number)
		s := newScene(f, &g, &o, living.of(&g), nil)
		switch {
		case g.Epoch == 0 && len(s.wish) == 0:
			return nil, fmt.Errorf("making group %#x: %w", number, ErrNoDisk)
		case g.Epoch == 0:
			list = append(list, *s.create())
		case s.living == 0:
			if c := s.revive(); c != nil {
				list = append(list, *c)
			}
		}
	}
	return list, nil
}

// create returns the change that makes the group.
func (s *scene) create() *Change {
	return s.change(Create, s.wish[0], "a volume has its first objects there", func(r *record.Group) {
		for _, d := range s.wish {
			r.Members = append(r.Members, s.joiner(d))
		}
	})
}
