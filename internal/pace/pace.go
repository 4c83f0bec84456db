// Package pace is about background work: how much of it makes a step of a given
// time, and how often it may be done.
package pace

import "time"

// A Pace is for work in steps during which others wait. How much of it fits into
// the time of a step depends on the devices, on what is in memory, and on who
// else uses the processors, so it is learnt from the steps before. The bounds
// must be set; a step that is very small does little but begin and end.
type Pace struct {
	Time     time.Duration
	Min, Max int
	budget   int
}

// Next is the budget of the next step, in units of work.
func (p *Pace) Next() int {
	if p.budget == 0 {
		p.budget = max(p.Max/8, p.Min)
	}
	return p.budget
}

// Took learns from a step that used all of its budget.
func (p *Pace) Took(d time.Duration) {
	switch n := p.Next(); {
	case d > p.Time:
		p.budget = max(int(float64(n)*float64(p.Time)/float64(d)), p.Min)
	case d < p.Time/2:
		p.budget = min(2*n, p.Max)
	}
}
