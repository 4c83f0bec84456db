package steward

import (
	"fmt"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// A Kind is a kind of changes, see the package.
type Kind uint8

// The kinds.
const (
	Revive Kind = iota + 1
	Remove
	Exchange
	Lead
	Cancel
	Leave
	Join
	Create
)

// String is the name of the kind in lower case.
func (k Kind) String() string {
	if k > Create {
		return "unknown"
	}
	return [...]string{"none", "revive", "remove", "exchange", "lead", "cancel", "leave", "join", "create"}[k]
}

// A Change is one change of the record of one group.
type Change struct {
	Kind  Kind
	Group int
	// Epoch is that of the record that it is made for, 0 if there is none: with
	// another one it must not be made.
	Epoch coord.Revision
	// Disk is whom it is about; when a group is revived, the first of its members.
	Disk string
	// Why is the reason, in words.
	Why string
	// Record is what the group becomes.
	Record record.Group
}

// entry returns what makes the change, and on which condition.
func (c *Change) entry() (coord.Compare, coord.Op, error) {
	key := record.GroupKey(c.Group)
	value, err := record.Encode(key, c.Record)
	return coord.IfRevision(key, c.Epoch), coord.Put(key, value), err
}

// Together is a transaction that makes changes, all of them or none.
func Together(changes []Change) (t coord.Txn, err error) {
	for _, c := range changes {
		same, put, err := c.entry()
		if err != nil {
			return t, err
		}
		t.If, t.Then = append(t.If, same), append(t.Then, put)
	}
	return t, nil
}

// String says what the change does.
func (c Change) String() string {
	return fmt.Sprintf("group %#x at epoch %d: %v %s: %s", c.Group, c.Epoch, c.Kind, c.Disk, c.Why)
}
