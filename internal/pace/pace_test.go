package pace

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	t.Parallel()
	p := Pace{Time: 2 * time.Millisecond, Min: 100, Max: 4000}
	for i, x := range []struct {
		next int
		took time.Duration
	}{
		{500, 2 * time.Millisecond},     // is what it should be
		{500, time.Millisecond},         // near enough
		{500, time.Millisecond - 1},     // too little
		{1000, 4 * time.Millisecond},    // too much
		{500, 8 * time.Millisecond},     // far too much
		{125, time.Hour},                // somebody has stopped the process
		{100, 0},                        // and no clock is so fine
		{200, 0},                        //
		{400, 0},                        //
		{800, 0},                        //
		{1600, 0},                       //
		{3200, 0},                       //
		{4000, 0},                       // not beyond the bound
		{4000, 2500 * time.Microsecond}, //
		{3200, 2 * time.Millisecond},
	} {
		if got := p.Next(); got != x.next {
			t.Fatalf("step %d has %d, expected %d", i, got, x.next)
		}
		p.Took(x.took)
	}
	if p = (Pace{Time: 1, Min: 100, Max: 400}); p.Next() != 100 {
		t.Errorf("the first step has %d, expected the least, 100", p.Next())
	}
}
