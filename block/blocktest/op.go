package blocktest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/strata-storage/strata/block"
)

// A Kind is a kind of request, or a set of kinds.
type Kind uint8

// The kinds of requests.
const (
	Read Kind = 1 << iota
	Write
	Zero
	Trim
	Flush
	Extents

	// Changes are the requests that a power cut may hit.
	Changes = Write | Zero | Trim | Flush
	// Any is every kind.
	Any = Read | Changes | Extents
)

var kindNames = [...]string{"read", "write", "zero", "trim", "flush", "extents"}

// String returns the names of the kinds in k, joined by "|".
func (k Kind) String() string {
	var names []string
	for i, name := range kindNames {
		if k&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "|")
}

// An Op is one request of a history. Off and Len are in bytes and mean nothing
// to a flush; a write stores the bytes that Fill makes of Seed.
type Op struct {
	Kind     Kind
	Off, Len int64
	Flags    block.Flags
	Seed     uint64
}

// maxBuffer bounds the reads and writes of a history, in bytes: a script may
// not make a test run out of memory.
const maxBuffer = 64 << 20

var flagNames = []struct {
	name string
	flag block.Flags
	of   Kind
}{
	{"fua", block.FUA, Write | Zero | Trim},
	{"nohole", block.NoHole, Zero},
	{"fastzero", block.FastZero, Zero},
	{"nowait", block.NoWait, Read | Write},
}

// String returns op as a line of a script: the kind, the offset, the length,
// the seed of a write and the flags, as in "write 4096 512 seed=7 fua".
func (op Op) String() string {
	if op.Kind == Flush {
		return "flush"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v %d %d", op.Kind, op.Off, op.Len)
	if op.Kind == Write {
		fmt.Fprintf(&b, " seed=%d", op.Seed)
	}
	for _, f := range flagNames {
		if op.Flags&f.flag != 0 {
			b.WriteString(" " + f.name)
		}
	}
	return b.String()
}

// parseOp is the inverse of String.
func parseOp(line string) (Op, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return Op{}, errors.New("empty line, want an operation")
	}
	kind := kindOf(words[0])
	if kind == 0 {
		return Op{}, fmt.Errorf("unknown operation %.40q, want one of %s", words[0], strings.Join(kindNames[:], ", "))
	}
	op := Op{Kind: kind}
	words = words[1:]
	if kind == Flush {
		if len(words) > 0 {
			return Op{}, fmt.Errorf("flush takes no arguments, found %.40q", words[0])
		}
		return op, nil
	}
	if len(words) < 2 {
		return Op{}, fmt.Errorf("%v needs an offset and a length in bytes", kind)
	}
	var err error
	if op.Off, err = strconv.ParseInt(words[0], 10, 64); err != nil {
		return Op{}, fmt.Errorf("offset %.40q is not a number of bytes", words[0])
	}
	if op.Len, err = strconv.ParseInt(words[1], 10, 64); err != nil {
		return Op{}, fmt.Errorf("length %.40q is not a number of bytes", words[1])
	}
	if kind&(Read|Write) != 0 && (op.Len < 0 || op.Len > maxBuffer) {
		return Op{}, fmt.Errorf("length %d of a %v, want 0 to %d", op.Len, kind, maxBuffer)
	}
	for _, word := range words[2:] {
		if err := op.parseWord(word); err != nil {
			return Op{}, err
		}
	}
	return op, nil
}

// parseWord sets what a word behind the length means.
func (op *Op) parseWord(word string) error {
	if value, ok := strings.CutPrefix(word, "seed="); ok && op.Kind == Write {
		seed, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return fmt.Errorf("seed %.40q is not a number from 0 to 2^64-1", value)
		}
		op.Seed = seed
		return nil
	}
	for _, f := range flagNames {
		if f.name == word && f.of&op.Kind != 0 {
			op.Flags |= f.flag
			return nil
		}
	}
	return fmt.Errorf("unknown word %.40q behind %v", word, op.Kind)
}

// kindOf returns the kind with this name, 0 if there is none.
func kindOf(name string) Kind {
	for i, n := range kindNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}
