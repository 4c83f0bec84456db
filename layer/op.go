package layer

import (
	"fmt"
	"strings"
)

// An Op is a kind of request: one method of block.Device.
type Op uint8

// The kinds of requests.
const (
	OpRead Op = iota
	OpWrite
	OpZero
	OpTrim
	OpFlush
	OpExtents

	numOps = int(OpExtents) + 1
)

var opNames = [numOps]string{"read", "write", "zero", "trim", "flush", "extents"}

// String returns the name that ParseOp reads.
func (op Op) String() string {
	if int(op) < numOps {
		return opNames[op]
	}
	return fmt.Sprintf("op %d", uint8(op))
}

// MarshalText writes the name of op.
func (op Op) MarshalText() ([]byte, error) { return []byte(op.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (op *Op) UnmarshalText(text []byte) (err error) {
	*op, err = ParseOp(string(text))
	return err
}

// ParseOp returns the Op with a name: read, write, zero, trim, flush or
// extents.
func ParseOp(name string) (Op, error) {
	for i, s := range opNames {
		if s == name {
			return Op(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not an operation: write %s or %s",
		name, strings.Join(opNames[:numOps-1], ", "), opNames[numOps-1])
}

// opSet is a set of Ops.
type opSet uint8

const (
	everyOp opSet = 1<<numOps - 1
	dataOps       = 1<<OpRead | 1<<OpWrite // those that know block.NoWait
)

func (s opSet) has(op Op) bool { return s>>op&1 != 0 }

// newOpSet returns the set of ops, which is every Op if there are none.
func newOpSet(ops []Op) (opSet, error) {
	if len(ops) == 0 {
		return everyOp, nil
	}
	var s opSet
	for _, op := range ops {
		if int(op) >= numOps {
			return 0, fmt.Errorf("%v is not an operation", op)
		}
		s |= 1 << op
	}
	return s, nil
}

// parseOps returns the Ops with names.
func parseOps(names []string) ([]Op, error) {
	ops := make([]Op, len(names))
	for i, name := range names {
		op, err := ParseOp(name)
		if err != nil {
			return nil, err
		}
		ops[i] = op
	}
	return ops, nil
}
