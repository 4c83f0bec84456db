package replica

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A kind is what an operation of a history does.
type kind uint8

const (
	reads kind = iota
	writes
	flushes
	loses // all copies were started anew
)

// An op is an operation on one block, done between two moments. If its outcome is unknown,
// or it has failed, it may have been done or not; end is when the volume was attached
// anew, which decides that, and never before that.
type op struct {
	kind       kind
	value      uint64
	begin, end int64
	maybe      bool
	who        string
}

const never = math.MaxInt64

func (o op) String() string {
	name := [...]string{"read", "write", "flush", "loss"}[o.kind]
	end := fmt.Sprint(o.end)
	if o.end == never {
		end = "never"
	}
	if o.maybe {
		end += "?"
	}
	return fmt.Sprintf("%6d-%-6s %-5s %d  (%s)", o.begin, end, name, o.value, o.who)
}

// A held is what a block has now, and what a loss may bring back: all that it had
// since the last flush.
type held struct {
	now  uint64
	kept []uint64 // sorted
}

// unread stands for all values that nobody reads: which of them it is does not matter.
const unread = math.MaxUint64

// A step is an operation for the model.
type step struct {
	op
	// back is what a loss brings back of a write: its value, or unread. last: no loss
	// comes after it, so that nothing has to be kept.
	back uint64
	last bool
}

// oneBlock is a block that loses only what was not flushed, and only when all copies are
// started anew.
var oneBlock = porcupine.NondeterministicModel{
	Init: func() []any { return []any{held{kept: []uint64{0}}} },
	Step: func(state, input, _ any) (list []any) {
		h, o := state.(held), input.(step)
		then := func(now uint64, kept []uint64) {
			if o.last {
				kept = nil
			}
			list = append(list, held{now, kept})
		}
		switch o.kind {
		case reads:
			if o.value == h.now {
				then(h.now, h.kept)
			}
		case writes:
			if o.maybe {
				then(h.now, h.kept)
			}
			then(o.value, add(h.kept, o.back))
		case flushes:
			then(h.now, []uint64{h.now})
		case loses:
			for _, v := range h.kept {
				then(v, h.kept)
			}
		}
		return list
	},
	Equal: func(a, b any) bool {
		x, y := a.(held), b.(held)
		return x.now == y.now && slices.Equal(x.kept, y.kept)
	},
	Hash:              func(state any) uint64 { return state.(held).now },
	DescribeOperation: func(input, _ any) string { return input.(step).String() },
	DescribeState:     func(state any) string { return fmt.Sprint(state) },
}

var oneBlockModel = oneBlock.ToModel()

func add(list []uint64, v uint64) []uint64 {
	i, found := slices.BinarySearch(list, v)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), i, v)
}

// checkFor bounds how long is looked for an order of the operations of one block.
const checkFor = time.Minute

// explain says why a history is not one of oneBlock, "" if it may be.
func explain(ops []op) string {
	seen := map[uint64]int64{} // until when a value is read
	for _, o := range ops {
		if o.kind == reads {
			seen[o.value] = max(seen[o.value], o.end)
		}
	}
	// What nobody knows of, and nobody has seen, need not have happened.
	ops = slices.DeleteFunc(slices.Clone(ops), func(o op) bool { return o.kind == writes && o.maybe && seen[o.value] == 0 })
	slices.SortFunc(ops, func(a, b op) int { return cmp.Compare(a.begin, b.begin) })
	clients := map[string]int{}
	history := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		if _, ok := clients[o.who]; !ok {
			clients[o.who] = len(clients)
		}
		history[i] = porcupine.Operation{ClientId: clients[o.who], Input: prepare(o, ops, seen), Call: o.begin, Return: o.end}
	}
	if porcupine.CheckOperationsTimeout(oneBlockModel, history, checkFor) == porcupine.Ok {
		return ""
	}
	result, info := porcupine.CheckOperationsVerbose(oneBlockModel, history, checkFor)
	if file := os.Getenv("REPLICA_DRAW"); file != "" {
		if err := porcupine.VisualizePath(oneBlockModel, info, file); err != nil {
			return err.Error()
		}
	}
	best := map[int]bool{}
	for _, longest := range info.PartialLinearizations()[0] {
		if len(longest) > len(best) {
			clear(best)
			for _, i := range longest {
				best[i] = true
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "no order explains these (%s, %d of %d at best; REPLICA_DRAW=FILE.html draws them):\n", result, len(best), len(ops))
	for i, o := range ops {
		mark := " "
		if best[i] {
			mark = "+"
		}
		fmt.Fprintln(&b, mark, o)
	}
	return b.String()
}

// prepare makes an operation one for the model. Without what it leaves out, there are too
// many orders that look different.
func prepare(o op, all []op, seen map[uint64]int64) step {
	s := step{op: o, back: unread, last: true}
	for _, l := range all {
		if l.kind == loses && l.end >= o.begin {
			s.last = false
			if seen[o.value] >= l.begin {
				s.back = o.value
			}
		}
	}
	if o.kind == writes && seen[o.value] == 0 {
		s.value = unread
	}
	return s
}

// check checks the histories of all blocks.
func (s *sim) check(t *testing.T) {
	for volume, blocks := range s.ops {
		for b, ops := range blocks {
			if why := explain(ops); why != "" {
				t.Errorf("block %d of volume %s: %s", b, simVolumes[volume], why)
				return
			}
		}
	}
}

// The checker finds what must not be, and nothing else.
func TestChecker(t *testing.T) {
	t.Parallel()
	r := func(v uint64, begin, end int64) op { return op{kind: reads, value: v, begin: begin, end: end} }
	w := func(v uint64, begin, end int64) op { return op{kind: writes, value: v, begin: begin, end: end} }
	m := func(v uint64, begin, end int64) op {
		return op{kind: writes, value: v, begin: begin, end: end, maybe: true}
	}
	f := func(begin, end int64) op { return op{kind: flushes, begin: begin, end: end} }
	l := func(begin, end int64) op { return op{kind: loses, begin: begin, end: end} }
	for _, tt := range []struct {
		what string
		ops  []op
		bad  bool
	}{
		{"nothing", nil, false},
		{"a value that nobody wrote", []op{r(1, 1, 2)}, true},
		{"a write is read", []op{w(1, 1, 2), r(1, 3, 4)}, false},
		{"an old value is read", []op{w(1, 1, 2), r(0, 3, 4)}, true},
		{"a write under way is read, and then not", []op{w(1, 1, 9), r(1, 2, 3), r(0, 4, 5)}, true},
		{"two writes under way, either is last", []op{w(1, 1, 4), w(2, 1, 4), r(1, 5, 6), r(1, 7, 8)}, false},
		{"two writes under way, both are last", []op{w(1, 1, 4), w(2, 1, 4), r(1, 5, 6), r(2, 7, 8)}, true},
		{"a write that failed happens later", []op{m(1, 1, never), r(0, 3, 4), r(1, 5, 6)}, false},
		{"and then not", []op{m(1, 1, never), r(0, 3, 4), r(1, 5, 6), r(0, 7, 8)}, true},
		{"a write that failed never happens", []op{m(1, 1, 2), r(0, 3, 4)}, false},
		{"a write that failed happens after that was decided", []op{m(1, 1, 4), r(0, 5, 6), r(1, 7, 8)}, true},
		{"a loss undoes what was not flushed", []op{w(1, 1, 2), l(3, 5), r(0, 6, 7)}, false},
		{"a loss need not undo anything", []op{w(1, 1, 2), l(3, 5), r(1, 6, 7)}, false},
		{"a loss undoes what was flushed", []op{w(1, 1, 2), f(3, 4), l(5, 6), r(0, 7, 8)}, true},
		{"something is lost without a loss", []op{w(1, 1, 2), f(3, 4), w(2, 5, 6), r(1, 7, 8)}, true},
		{"a flush that began before the write", []op{w(1, 2, 3), f(1, 4), l(5, 6), r(0, 7, 8)}, false},
		{"a loss brings back something in between", []op{w(1, 1, 2), w(2, 3, 4), l(5, 6), r(1, 7, 8)}, false},
		{"what was lost is back", []op{w(1, 1, 2), l(3, 4), r(0, 5, 6), r(1, 7, 8)}, true},
	} {
		if why := explain(tt.ops); (why != "") != tt.bad {
			t.Errorf("%s: %q", tt.what, why)
		}
	}
}
