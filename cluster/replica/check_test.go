package replica

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A kind is what an operation of a history does.
type kind uint8

const (
	reads kind = iota
	writes
	flushes
	loses // all copies were started anew
)

// An op is an operation on one block. Begin and end are moments; an op whose outcome is
// unknown, or that has failed, may happen at any later one, or never.
type op struct {
	kind       kind
	value      uint64
	begin, end int64
	who        string
}

const never = math.MaxInt64

func (o op) String() string {
	name := [...]string{"read", "write", "flush", "loss"}[o.kind]
	end := fmt.Sprint(o.end)
	if o.end == never {
		end = "?"
	}
	return fmt.Sprintf("%6d-%-6s %-5s %d  (%s)", o.begin, end, name, o.value, o.who)
}

// explain says why a history of one block is not that of a block that loses only what
// was not flushed, and only when all copies are started anew; "" if it may be.
func explain(ops []op) string {
	seen := map[uint64]bool{}
	for _, o := range ops {
		if o.kind == reads {
			seen[o.value] = true
		}
	}
	// What nobody knows of, and nobody has seen, need not have happened.
	ops = slices.DeleteFunc(slices.Clone(ops), func(o op) bool { return o.kind == writes && o.end == never && !seen[o.value] })
	slices.SortFunc(ops, func(a, b op) int { return int(a.begin - b.begin) })
	s := &search{ops: ops, done: make([]bool, len(ops)), tried: map[string]bool{}}
	if s.from(0, []uint64{0}) {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "no order explains these (%d of %d at best):\n", s.best, len(ops))
	for i, o := range ops {
		mark := " "
		if s.bestDone != nil && s.bestDone[i] {
			mark = "+"
		}
		fmt.Fprintln(&b, mark, o)
	}
	return b.String()
}

// A search looks for an order.
type search struct {
	ops      []op
	done     []bool
	tried    map[string]bool
	best     int
	bestDone []bool
}

// from tries to go on with a value, and those that a loss may bring back.
func (s *search) from(now uint64, kept []uint64) bool {
	limit, left, count := int64(never), false, 0
	for i, o := range s.ops {
		if s.done[i] {
			count++
			continue
		}
		if o.end != never {
			left = true
			limit = min(limit, o.end)
		}
	}
	if count > s.best || s.bestDone == nil {
		s.best, s.bestDone = count, slices.Clone(s.done)
	}
	if !left {
		return true
	}
	// A read that fits now changes nothing: it may as well be now.
	for i, o := range s.ops {
		if !s.done[i] && o.kind == reads && o.value == now && o.begin <= limit {
			s.done[i] = true
			if s.from(now, kept) {
				return true
			}
			s.done[i] = false
			return false
		}
	}
	key := s.key(now, kept)
	if s.tried[key] {
		return false
	}
	s.tried[key] = true
	for i, o := range s.ops {
		if s.done[i] || o.begin > limit {
			continue
		}
		s.done[i] = true
		if s.step(o, now, kept) {
			return true
		}
		s.done[i] = false
	}
	return false
}

func (s *search) step(o op, now uint64, kept []uint64) bool {
	switch o.kind {
	case reads:
		return o.value == now && s.from(now, kept)
	case writes:
		return s.from(o.value, add(kept, o.value))
	case flushes:
		return s.from(now, []uint64{now})
	}
	for _, v := range kept {
		if s.from(v, kept) {
			return true
		}
	}
	return false
}

func add(list []uint64, v uint64) []uint64 {
	if slices.Contains(list, v) {
		return list
	}
	return append(slices.Clone(list), v)
}

func (s *search) key(now uint64, kept []uint64) string {
	b := make([]byte, 0, len(s.done)/8+64)
	var x byte
	for i, d := range s.done {
		if d {
			x |= 1 << (i % 8)
		}
		if i%8 == 7 {
			b, x = append(b, x), 0
		}
	}
	kept = slices.Clone(kept)
	slices.Sort(kept)
	return string(fmt.Appendf(append(b, x), "/%d/%v", now, kept))
}
