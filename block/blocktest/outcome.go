package blocktest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// An Outcome says what a power cut leaves of the writes that a disk has in its
// cache.
type Outcome int

// The outcomes.
const (
	// Random chooses one of the others.
	Random Outcome = iota
	// Dropped: nothing survives.
	Dropped
	// Kept: everything survives.
	Kept
	// Torn: everything up to the middle of one request survives, nothing
	// later does.
	Torn
	// Mixed: each sector survives, or an earlier state of it, or nothing.
	Mixed
	// Reordered: what came after some request survives, nothing earlier does.
	Reordered
	// Skipped: everything but one request survives.
	Skipped
	// First: everything survives on the first disk of the machine, nothing on
	// the others.
	First
	// Others: the reverse.
	Others
)

var outcomeNames = [...]string{"random", "dropped", "kept", "torn", "mixed", "reordered", "skipped", "first", "others"}

// String returns the name of o in lower case.
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
	return outcomeNames[o]
}

// lose empties the cache, of which o survives.
func (d *Disk) lose(rng *rand.Rand, o Outcome) {
	if o == Random {
		o = Outcome(1 + rng.IntN(len(outcomeNames)-1))
	}
	sectors := slices.Sorted(maps.Keys(d.cache))
	survives := d.survivors(rng, o, sectors)
	for _, i := range sectors {
		for _, v := range d.cache[i] {
			if survives(i, v.change) {
				d.durable.set(i, v.data)
			}
		}
	}
	clear(d.cache)
	d.now = maps.Clone(d.durable)
}

// survivors returns a function that decides whether the state of a sector that
// a change made survives. sectors are those in the cache, in order.
func (d *Disk) survivors(rng *rand.Rand, o Outcome, sectors []int64) func(sector int64, change int) bool {
	switch o {
	case Kept:
		return func(int64, int) bool { return true }
	case First, Others:
		all := (o == First) == (d.number == 0)
		return func(int64, int) bool { return all }
	case Mixed:
		return func(int64, int) bool { return rng.IntN(2) == 0 }
	case Torn, Reordered, Skipped:
	default:
		return func(int64, int) bool { return false }
	}
	places := make(map[int][]int64)
	for _, i := range sectors {
		for _, v := range d.cache[i] {
			places[v.change] = append(places[v.change], i)
		}
	}
	changes := slices.Sorted(maps.Keys(places))
	if len(changes) == 0 {
		return func(int64, int) bool { return true }
	}
	at := changes[rng.IntN(len(changes))]
	tear := places[at][rng.IntN(len(places[at]))]
	return func(sector int64, change int) bool {
		switch {
		case change == at:
			return o == Torn && sector < tear
		case o == Torn:
			return change < at
		case o == Reordered:
			return change > at
		}
		return true
	}
}
