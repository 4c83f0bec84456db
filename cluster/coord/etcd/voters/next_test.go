package voters

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// parse makes a state of words: a node is name.zone with a mark: v voter, l learner,
// n none; then the state: ! does not answer and is dead as a node, ? does not answer
// since a moment, ~ does not answer though the node is alive, - is leaving, * is a
// member whose node is gone.
func parse(text string) State {
	s := State{Down: map[uint64]time.Duration{}, Grace: 30 * time.Second, Patience: 5 * time.Minute}
	for i, word := range strings.Fields(text) {
		name, rest, _ := strings.Cut(word, ".")
		zone, marks := rest[:1], rest[1:]
		id := uint64(i + 1)
		n := Node{Name: name, PeerURL: "http://" + name, Zone: zone, Alive: !strings.Contains(marks, "!"), Leaving: strings.Contains(marks, "-")}
		if !strings.Contains(marks, "*") {
			s.Nodes = append(s.Nodes, n)
		}
		switch {
		case strings.ContainsAny(marks, "!~"):
			s.Down[id] = time.Hour
		case strings.Contains(marks, "?"):
			s.Down[id] = time.Second
		}
		if strings.ContainsAny(marks, "vl") {
			s.Members = append(s.Members, Member{ID: id, Name: name, PeerURLs: []string{n.PeerURL}, Learner: strings.Contains(marks, "l")})
		}
	}
	return s
}

func (a Action) String() string {
	switch a.Kind {
	case AddLearner:
		return "add " + a.Node.Name
	case Promote:
		return "promote " + a.Member.Name
	case Remove:
		return "remove " + a.Member.Name
	default:
		return "nothing"
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ state, want, why string }{
		// One node, and growing.
		{"a.1v", "nothing", "all is well"},
		{"a.1v b.2n", "nothing", "all is well"},
		{"a.1v b.2n c.3n", "add b", "1 voters are well, wanted are 3"},
		{"a.1v b.2l? c.3n", "nothing", "the learner is awaited"},
		{"a.1v b.2l c.3n", "add c", "wanted are 3"},
		{"a.1v b.2l? c.3l", "nothing", "the learner is awaited"},
		{"a.1v b.2l c.3l?", "nothing", "the learner is awaited"},
		{"a.1v b.2l c.3l", "promote b", "wanted are 3"},
		{"a.1v b.2l c.3l d.4l e.5n", "remove d", "there is another learner"},
		{"a.1v b.2v c.3n", "add c", "wanted are 3"},
		{"a.1v b.2v c.3l", "promote c", "wanted are 3"},
		{"a.1v b.2v c.3v", "nothing", "all is well"},
		{"a.1v b.2v c.3v d.4n e.5n f.6n", "nothing", "all is well"},
		{"a.1v b.2v c.3v d.4n e.5n f.6n g.7n", "add d", "wanted are 5"},
		{"a.1v b.2v c.3v d.4l e.5n f.6n g.7n", "add e", "wanted are 5"},
		{"a.1v b.2v c.3v d.4l e.5l f.6n g.7n", "promote d", "wanted are 5"},
		{"a.1v b.2v c.3v d.4v e.5l f.6n g.7n", "promote e", "wanted are 5"},
		{"a.1v b.2v c.3v d.4v e.5v f.6n g.7n", "nothing", "all is well"},
		// Two voters are not better than one, and a third is not alive.
		{"a.1v b.2n c.3n!", "nothing", "an even number of voters would not be better"},
		{"a.1v b.2l c.3n!", "nothing", "an even number of voters would not be better"},
		{"a.1v b.2v c.3n!", "nothing", "no other node is alive"},
		// A voter dies: another one first, and then it goes.
		{"a.1v b.2v c.3v? d.4n", "nothing", "all is well"},
		{"a.1v b.2v c.3v! d.4n", "add d", "2 voters are well, wanted are 3"},
		{"a.1v b.2v c.3v! d.4l", "promote d", "wanted are 3"},
		{"a.1v b.2v c.3v! d.4v", "remove c", "it has not answered for 1h0m0s"},
		{"a.1v b.2v c.3v~ d.4n", "add d", "wanted are 3"},
		{"a.1v b.2v c.3v!", "nothing", "no other node is alive"},
		// It comes back before that.
		{"a.1v b.2v c.3v d.4l", "remove d", "enough others vote"},
		{"a.1v b.2v c.3v d.4v", "remove d", "4 vote, wanted are 3"},
		{"a.1v b.2v? c.3v d.4v", "remove b", "4 vote, wanted are 3"},
		// Without a majority nothing is done, nor what would cost it.
		{"a.1v b.2v! c.3v! d.4n", "nothing", "1 of 3 voters answer, which is no majority"},
		{"a.1v b.2v? c.3v? d.4n", "nothing", "no majority"},
		{"a.1v b.2v!", "nothing", "no majority"},
		{"a.1v b.2v c.3v! d.4v?", "nothing", "no majority"},
		{"a.1v b.2v c.3v d.4v! e.5v! f.6l g.7n", "promote f", "wanted are 5"},
		{"a.1v b.2v c.3v d.4v? e.5v? f.6v- g.7n", "remove f", "its node is leaving"},
		{"a.1v b.2v c.3v? d.4v? e.5v f.6v- g.7n", "remove f", "its node is leaving"},
		{"a.1v- b.2v c.3v? d.4n", "add d", "wanted are 3"},
		{"a.1v- b.2v c.3v? d.4v", "remove a", "its node is leaving"},
		{"a.1v b.2v c.3v- d.4v! e.5n f.6n g.7n", "add e", "wanted are 5"},
		// Nodes that leave or are gone.
		{"a.1v- b.2n", "add b", "wanted are 1"},
		{"a.1v- b.2l", "promote b", "wanted are 1"},
		{"a.1v- b.2v", "remove a", "its node is leaving"},
		{"a.1v-", "nothing", "no other node is alive"},
		{"a.1v b.2v c.3v-", "nothing", "no other node is alive"},
		{"a.1v b.2v c.3v!*", "remove c", "its node is gone"},
		{"a.1v b.2v", "remove b", "2 vote, wanted are 1"},
		{"a.1v b.2v c.3v!* d.4n", "add d", "wanted are 3"},
		{"a.1v b.2l* c.3n d.4n", "remove b", "the node of the learner is gone"},
		{"a.1v b.2l- c.3n d.4n", "remove b", "leaving"},
		{"a.1v b.2v c.3v* d.4n! e.5n!", "remove c", "its node is gone"},
		{"a.1v* b.2v* c.3v*", "nothing", "no other node is alive"},
		// Learners that do not come.
		{"a.1v b.2l! c.3n", "remove b", "has not answered"},
		{"a.1v b.2l~ c.3n", "remove b", "has not answered for 1h0m0s"},
		{"a.1v b.2l c.3l~", "remove c", "has not answered for 1h0m0s"},
		{"a.1v b.2v c.3v! d.4l e.5l", "remove e", "there is another learner"},
		// Zones.
		{"a.1v b.1n c.2n", "add c", ""},
		{"a.1v b.1v c.1v d.2n", "add d", "spread over zones"},
		{"a.1v b.1v c.1v d.2l", "promote d", "spread over zones"},
		{"a.1v b.1v c.1v d.2v", "remove c", "4 vote"},
		{"a.1v b.1v c.2v d.2n", "nothing", "all is well"},
		{"a.1v b.1v c.2v d.3n", "add d", "spread over zones"},
	} {
		a := Next(parse(c.state))
		if a.String() != c.want || !strings.Contains(a.Why, c.why) {
			t.Errorf("%-40s %v, because %s; want %s, %s", c.state, a, a.Why, c.want, c.why)
		}
	}
}

// A learner that never started has no name, and is known by its URL.
func TestUnnamed(t *testing.T) {
	t.Parallel()
	s := parse("a.1v- b.2l c.3n!")
	s.Members[1].Name = ""
	if a := Next(s); a.Kind != Promote {
		t.Errorf("%v: %s", a, a.Why)
	}
	r := Record{s.Members}
	if m, ok := r.Of(s.Nodes[1]); !ok || m.ID != 2 {
		t.Errorf("the member of b: %+v, %v", m, ok)
	}
	if m, ok := r.Of(s.Nodes[2]); ok {
		t.Errorf("the member of c: %+v", m)
	}
}

// apply carries an action out, as far as that is possible with who is alive.
func apply(s *State, a Action, id uint64) {
	switch a.Kind {
	case AddLearner:
		s.Members = append(slices.Clone(s.Members), Member{ID: id, Name: a.Node.Name, Learner: true})
	case Promote:
		s.Members = slices.Clone(s.Members)
		s.Members[slices.IndexFunc(s.Members, func(m Member) bool { return m.ID == a.Member.ID })].Learner = false
	case Remove:
		s.Members = slices.DeleteFunc(slices.Clone(s.Members), func(m Member) bool { return m.ID == a.Member.ID })
	}
}

// health is what members are like if that depends on their nodes alone.
func health(s *State) {
	s.Down = map[uint64]time.Duration{}
	for _, m := range s.Members {
		if n, known := s.node(m); !known || !n.Alive {
			s.Down[m.ID] = time.Hour
		}
	}
}

func votes(s State) (voters, living int) {
	for _, m := range s.Members {
		if !m.Learner {
			voters++
			if s.Down[m.ID] == 0 {
				living++
			}
		}
	}
	return voters, living
}

// Nodes come, die, return and go; between that there is time, or there is not. A
// majority that lives is never given up by a decision, one at a time is made, and
// when nothing more happens it ends with as many voters as there can be.
func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := parse("n0.0v")
		var log []string
		for step := range 40 {
			disturb(&s, rnd, step)
			health(&s)
			rounds := rnd.IntN(3)
			if step == 39 {
				rounds = 100
			}
			for i := range rounds {
				a := Next(s)
				log = append(log, fmt.Sprintf("%v %v -> %v: %s", s.Nodes, s.Members, a, a.Why))
				if a.Kind == Nothing {
					break
				}
				if i == 99 {
					t.Fatalf("seed %d: it does not end:\n%s", seed, strings.Join(log[len(log)-10:], "\n"))
				}
				apply(&s, a, uint64(step*1000+i+10))
				health(&s)
				if voters, living := votes(s); living < majority(voters) || len(s.Members) > voters+2 {
					t.Fatalf("seed %d: %d of %d voters live after\n%s", seed, living, voters, log[len(log)-1])
				}
			}
		}
		settled(t, seed, s, log)
	}
}

// disturb lets something happen that leaves a majority of voters.
func disturb(s *State, rnd *rand.Rand, step int) {
	next := *s
	next.Nodes = slices.Clone(s.Nodes)
	i := rnd.IntN(len(next.Nodes))
	switch rnd.IntN(6) {
	case 0, 1:
		next.Nodes = append(next.Nodes, Node{Name: fmt.Sprintf("n%d", step+1), Zone: fmt.Sprint(rnd.IntN(4)), Alive: true})
	case 2:
		next.Nodes[i].Alive = false
	case 3:
		next.Nodes[i].Alive = true
	case 4:
		next.Nodes[i].Leaving = !next.Nodes[i].Leaving
	case 5:
		if len(next.Nodes) > 1 && !next.Nodes[i].Alive {
			next.Nodes = slices.Delete(next.Nodes, i, i+1)
		}
	}
	health(&next)
	if voters, living := votes(next); living >= majority(voters) {
		*s = next
	}
}

// settled checks what there is when all was done.
func settled(t *testing.T, seed uint64, s State, log []string) {
	t.Helper()
	usable := 0
	for _, n := range s.Nodes {
		if n.Alive && !n.Leaving {
			usable++
		}
	}
	c := s.count()
	voters, living := votes(s)
	full := usable >= c.target && (len(c.good) != c.target || len(c.bad) > 0)
	short := usable < c.target && living < usable && len(c.fit) > 1
	if full || short || len(c.good) > max(c.target, 1) {
		t.Fatalf("seed %d: %d voters, %d good of %d, %d nodes can:\n%s", seed, voters, len(c.good), c.target, usable, strings.Join(log[max(0, len(log)-5):], "\n"))
	}
	if usable < c.target {
		return
	}
	// No zone has two voters more than another one that has a node to spare.
	most := 0
	for _, n := range c.zones {
		most = max(most, n)
	}
	if len(c.fit) > 0 {
		least := slices.MinFunc(c.fit, func(a, b Node) int { return cmp.Compare(c.zones[a.Zone], c.zones[b.Zone]) })
		if most >= c.zones[least.Zone]+2 {
			t.Fatalf("seed %d: voters in zones %v, though %s is free:\n%s", seed, c.zones, least.Name, log[len(log)-1])
		}
	}
}
