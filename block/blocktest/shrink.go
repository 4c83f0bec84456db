package blocktest

import (
	"errors"

	"github.com/strata-storage/strata/block"
)

// shrinkRuns bounds how often Shrink runs a history.
const shrinkRuns = 600

// Shrink makes h, which fails with err, shorter: it drops operations, and then
// shortens ranges and drops flags, as long as run still fails in the same way,
// by a broken promise or by an error of the device. run carries out a history
// on a fresh device with this Info. It returns what is left and its error.
func (h History) Shrink(info block.Info, err error, run func(History) error) (History, error) {
	s := shrinker{best: h, err: err, run: run, unit: max(1, int64(info.MinBlock))}
	for before := -1; before != s.cost() && s.runs < shrinkRuns; {
		before = s.cost()
		s.drop()
		s.simplify()
	}
	return s.best, s.err
}

// A shrinker holds the shortest failing history so far.
type shrinker struct {
	best History
	err  error
	run  func(History) error
	runs int
	unit int64
}

// cost becomes smaller with every step.
func (s *shrinker) cost() int {
	cost := 0
	for _, op := range s.best {
		cost += 1<<32 + int(min(op.Len, 1<<30)) + int(op.Flags)
	}
	return cost
}

// try keeps h if it fails.
func (s *shrinker) try(h History) bool {
	if s.runs == shrinkRuns {
		return false
	}
	s.runs++
	err := s.run(h)
	if err == nil || errors.Is(err, ErrBroken) != errors.Is(s.err, ErrBroken) || errors.Is(err, errHang) {
		return false
	}
	s.best, s.err = h, err
	return true
}

// drop removes operations, in large groups first.
func (s *shrinker) drop() {
	for size := (len(s.best) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(s.best); {
			end := min(at+size, len(s.best))
			shorter := append(append(History{}, s.best[:at]...), s.best[end:]...)
			if !s.try(shorter) {
				at = end
			}
		}
		if size == 1 {
			return
		}
	}
}

// simplify shortens the range of each operation and removes its flags.
func (s *shrinker) simplify() {
	for i := 0; i < len(s.best); i++ {
		for _, change := range []func(*Op){
			func(op *Op) { op.Flags = 0 },
			func(op *Op) { op.Len = min(op.Len, s.unit) },
			func(op *Op) { op.Len = min(op.Len, max(sectorSize, s.unit)) },
			func(op *Op) { op.Len = op.Len / 2 &^ (s.unit - 1) },
			func(op *Op) { n := op.Len / 2 &^ (s.unit - 1); op.Off += n; op.Len -= n },
			func(op *Op) { op.Len = max(0, op.Len-s.unit) },
		} {
			for {
				op := s.best[i]
				change(&op)
				if op == s.best[i] {
					break
				}
				shorter := append(History{}, s.best...)
				shorter[i] = op
				if !s.try(shorter) {
					break
				}
			}
		}
	}
}
