package place

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// apply returns the state after a change.
func (s State) apply(c Change) State {
	without := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(d string) bool { return d == c.Disk })
	}
	switch c.Kind {
	case Join:
		s.Joining = append(slices.Clone(s.Joining), c.Disk)
	case Leave:
		s.Members = without(s.Members)
	case Cancel:
		s.Joining = without(s.Joining)
	}
	return s
}

// settle makes the first one who joins a member.
func (s State) settle() State {
	s.Members = append(slices.Clone(s.Members), s.Joining[0])
	s.Joining = s.Joining[1:]
	return s
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                   string
		members, joining, wish string
		want                   Change
	}{
		{"as it should be", "abc", "", "cba", Change{}},
		{"no wish", "abc", "d", "", Change{}},
		{"no members", "", "", "ab", Change{}},
		{"one moves", "abc", "", "abd", Change{Join, "d"}},
		{"it is on its way", "abc", "d", "abd", Change{}},
		{"it has arrived", "abcd", "", "abd", Change{Leave, "c"}},
		{"two move, one at a time", "abc", "d", "ade", Change{}},
		{"the last one leaves first", "abcd", "", "cd", Change{Leave, "b"}},
		{"two are missing and one joins", "a", "b", "abc", Change{Join, "c"}},
		{"two are missing and join", "a", "bc", "abc", Change{}},
		{"another wish meanwhile", "abc", "d", "abe", Change{Cancel, "d"}},
		{"less is enough", "abc", "", "ab", Change{Leave, "c"}},
		{"less is enough, elsewhere", "ab", "", "c", Change{Leave, "b"}},
		{"the only one moves", "a", "", "b", Change{Join, "b"}},
	} {
		if got := Next(State{0, letters(tt.members), letters(tt.joining), letters(tt.wish)}); got != tt.want {
			t.Errorf("%s: %v %s, expected %v %s", tt.name, got.Kind, got.Disk, tt.want.Kind, tt.want.Disk)
		}
	}
}

func letters(s string) (list []string) {
	for _, r := range s {
		list = append(list, string(r))
	}
	return list
}

// From anywhere to anywhere, with wishes that change on the way: it ends at the
// wish, never has too few copies, and nobody joins for nothing.
func TestNextReachesTheWish(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		some := func(least int) []string {
			all := letters("abcdefgh")
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all[:least+rng.IntN(4)]
		}
		s := State{Members: some(1), Wish: some(1)}
		joins, wishes := 0, 1
		for steps := 0; ; steps++ {
			if steps > 100 {
				t.Fatalf("seed %d: no end at %v", seed, s)
			}
			if wishes < 3 && rng.IntN(4) == 0 {
				s.Wish = some(1)
				wishes++
			}
			c := Next(s)
			if c.Kind == None && len(s.Joining) == 0 {
				break
			}
			if c.Kind == None || len(s.Joining) > 0 && rng.IntN(3) == 0 {
				s = s.settle()
				continue
			}
			before := len(s.Members)
			s = s.apply(c)
			if c.Kind == Join {
				joins++
			}
			if len(s.Members) < min(before, len(s.Wish)) || len(s.Members) == 0 || len(s.Joining) > max(1, s.lacks()) && c.Kind == Join {
				t.Fatalf("seed %d: %v after %v", seed, s, c)
			}
		}
		if got, want := slices.Sorted(slices.Values(s.Members)), slices.Sorted(slices.Values(s.Wish)); !slices.Equal(got, want) {
			t.Fatalf("seed %d: ended at %v, wished %v", seed, got, want)
		}
		if joins > wishes*4 {
			t.Fatalf("seed %d: %d joins for %d wishes", seed, joins, wishes)
		}
	}
}

// Groups that miss most come first, and the limits hold.
func TestPlan(t *testing.T) {
	t.Parallel()
	groups := []State{
		{0, letters("abc"), nil, letters("abd")},
		{1, letters("ab"), nil, letters("abe")},
		{2, letters("a"), nil, letters("ade")},
		{3, letters("abcd"), nil, letters("abd")},
		{4, letters("bc"), letters("f"), letters("bcd")},
	}
	got := fmt.Sprint(Plan(groups, Limits{}))
	if want := "[{2 {join d}} {1 {join e}} {4 {cancel f}} {0 {join d}} {3 {leave c}}]"; got != want {
		t.Errorf("%s, expected %s", got, want)
	}
	for _, tt := range []struct {
		limits Limits
		want   string
	}{
		{Limits{Joins: 2}, "[{2 {join d}} {4 {cancel f}} {3 {leave c}}]"},
		{Limits{Disk: 1}, "[{2 {join d}} {1 {join e}} {4 {cancel f}} {3 {leave c}}]"},
		{Limits{Source: 1}, "[{2 {join d}} {4 {cancel f}} {3 {leave c}}]"},
	} {
		if got := fmt.Sprint(Plan(groups, tt.limits)); got != tt.want {
			t.Errorf("%+v: %s, expected %s", tt.limits, got, tt.want)
		}
	}
}

// A node comes, another one drains, and disks of a third are gone: within the limits
// all groups get where they should be, and no more is copied than has to.
func TestPlanReachesTheWish(t *testing.T) {
	t.Parallel()
	const groups, copies = 256, 3
	limits := Limits{Joins: 12, Disk: 3, Source: 4}
	disks := cluster(20, 2, 0)
	before := mustNew(t, disks).all(groups, copies)
	disks[4].Weight, disks[5].Weight = 0, 0 // node2 drains
	disks[6].Weight, disks[7].Weight = 0, 0 // node3 is dead
	disks = append(disks, Disk{ID: "new", Node: "new", Weight: 8 << 40})
	wish := mustNew(t, disks).all(groups, copies)
	states := make([]State, groups)
	dead := func(d string) bool { return d == "disk6" || d == "disk7" }
	for g := range states {
		states[g] = State{Group: g, Members: slices.DeleteFunc(slices.Clone(before[g]), dead), Wish: wish[g]}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	joins, risky := 0, groups
	for rounds := 0; ; rounds++ {
		moves := Plan(states, limits)
		for _, m := range moves {
			states[m.Group] = states[m.Group].apply(m.Change)
			if m.Kind == Join {
				joins++
			}
		}
		checkLimits(t, states, limits)
		busy, lacking := 0, 0
		for g, s := range states {
			lacking += min(s.lacks(), 1)
			if len(s.Members)+len(s.Joining) > copies+1 {
				t.Fatalf("group %d is on %v and %v", g, s.Members, s.Joining)
			}
			if busy += len(s.Joining); len(s.Joining) > 0 && rng.IntN(2) == 0 {
				states[g] = s.settle()
			}
		}
		if lacking > risky {
			t.Fatalf("%d groups miss copies, %d did before", lacking, risky)
		}
		risky = lacking
		if len(moves) == 0 && busy == 0 {
			t.Logf("%d rounds, %d joins", rounds, joins)
			break
		}
	}
	least := 0
	for g, s := range states {
		if got, want := slices.Sorted(slices.Values(s.Members)), slices.Sorted(slices.Values(wish[g])); !slices.Equal(got, want) {
			t.Fatalf("group %d is on %v, expected %v", g, got, want)
		}
		for _, d := range wish[g] {
			if !slices.Contains(before[g], d) {
				least++
			}
		}
	}
	if joins != least {
		t.Errorf("%d joins, %d had to be", joins, least)
	}
}

func checkLimits(t *testing.T, states []State, l Limits) {
	t.Helper()
	use := usage{disk: map[string]int{}, source: map[string]int{}}
	for _, s := range states {
		for _, d := range s.Joining {
			use.add(s, d)
		}
	}
	if use.joins > l.Joins {
		t.Fatalf("%d joins", use.joins)
	}
	for d, n := range use.disk {
		if n > l.Disk {
			t.Fatalf("%d groups come to %s", n, d)
		}
	}
	for d, n := range use.source {
		if n > l.Source {
			t.Fatalf("%d groups come from %s", n, d)
		}
	}
}
