package blocktest

import (
	"fmt"
	"os"
	"testing"
)

// EveryCut tests that a store survives the loss of power at every moment. It
// calls setup with a new machine again and again. setup makes disks, formats
// them if it likes, and returns two functions: work opens the disks and uses
// the store; check opens the disks after the power came back and returns what
// is wrong with the store, if anything.
//
// In the first rounds the power goes during the first write, zero, trim or
// flush that work makes, then during the second, and so on until work ends by
// itself, each with several outcomes; beyond the 200th with one outcome each. If
// there are several disks, some outcomes leave everything on one and nothing on
// another, which finds promises that come in the wrong order.
// The power goes after work has ended, too, and in some rounds once more while
// check runs, which is called again then. An error of work counts only if the
// power was on. work and check may be called from this goroutine only, and
// must have ended the goroutines they started when they return.
//
// A failure names the moment. BLOCKTEST_CUT=17/torn runs the outcome "torn" of
// the 17th moment only.
//
// EveryCut returns how many states of the disks the power cuts have left, each
// of which check has seen.
func EveryCut(t testing.TB, setup func(m *Machine) (work, check func() error)) (states int) {
	t.Helper()
	if value := os.Getenv("BLOCKTEST_CUT"); value != "" {
		c, err := parseCut(value)
		if err == nil {
			var r round
			r, err = c.run(setup)
			states = r.states
		}
		if err != nil {
			t.Fatal(err)
		}
		return states
	}
	states, err := everyCut(setup)
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func everyCut(setup func(m *Machine) (work, check func() error)) (states int, err error) {
	const thorough = 200
	all := []Outcome{Dropped, Kept, Torn, Mixed, Reordered, Skipped}
	single := len(all)
	for n := 1; ; n++ {
		outcomes := all
		if n > thorough {
			outcomes = all[n%len(all):][:1]
		}
		hit := false
		// How many disks there are is known after the first round.
		for i := 0; i < len(outcomes); i++ {
			r, err := cut{n, outcomes[i]}.run(setup)
			if err != nil {
				return states, err
			}
			hit, states = hit || r.reached, states+r.states
			if r.disks > 1 && len(all) == single {
				all = append(all, First, Others)
				outcomes = all
			}
		}
		if !hit {
			return states, nil
		}
	}
}

// A cut is one round of EveryCut.
type cut struct {
	at      int
	outcome Outcome
}

func (c cut) String() string { return fmt.Sprintf("%d/%v", c.at, c.outcome) }

func parseCut(s string) (cut, error) {
	var at int
	var name string
	if _, err := fmt.Sscanf(s, "%d/%s", &at, &name); err == nil && at > 0 {
		for o := range outcomeNames {
			if outcomeNames[o] == name {
				return cut{at, Outcome(o)}, nil
			}
		}
	}
	return cut{}, fmt.Errorf("BLOCKTEST_CUT is %q, want a number and an outcome, as in 17/torn", s)
}

// A round is what has happened in one.
type round struct {
	// reached: the power went before work ended.
	reached bool
	// states is how many check has seen, disks how many there are.
	states, disks int
}

func (c cut) run(setup func(m *Machine) (work, check func() error)) (r round, err error) {
	m := NewMachine(uint64(c.at)<<8 | uint64(c.outcome))
	work, check := setup(m)
	r.disks = len(m.disks)
	m.Survive(c.outcome)
	m.CutAfter(c.at)
	err = work()
	reached, moment := m.moment()
	r.reached = reached
	if err != nil && !reached {
		return r, fmt.Errorf("the work failed although the power was on: %w", err)
	}
	m.Restart()
	r.states = 1
	if c.outcome == Mixed || c.outcome == Torn {
		again := 1 + c.at%5
		m.CutAfter(again)
		err = check()
		cutAgain, second := m.moment()
		if cutAgain {
			moment += fmt.Sprintf(", and again after the restart, during change %d of the check (%s)", again, second)
			m.Restart()
			r.states++
			err = check()
		}
	} else {
		err = check()
	}
	if err != nil {
		return r, fmt.Errorf("power cut %v, %s: %w\nTo see only this one, set BLOCKTEST_CUT=%v", c, moment, err, c)
	}
	return r, nil
}

// moment tells whether and when the power was cut.
func (m *Machine) moment() (off bool, when string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off && m.cutIn != "" {
		return true, "during " + m.cutIn
	}
	return m.off, "after the work"
}
