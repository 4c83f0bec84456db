package voters

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A Node may have a member of the cluster that agrees.
type Node struct {
	// Name is that of the node and of its member.
	Name string
	// PeerURL is where its member listens to others.
	PeerURL string
	// Zone is what fails together.
	Zone string
	// Alive: it can start a member now.
	Alive bool
	// Leaving: it shall not have one, because it is drained for example.
	Leaving bool
}

// A Member takes part in agreeing: it votes, or it learns in order to vote.
type Member struct {
	// ID is another one each time that the member is added.
	ID uint64 `json:"id"`
	// Name is that of its node, empty if it was never started.
	Name string `json:"name,omitempty"`
	// PeerURLs are where it listens to others, ClientURLs to clients.
	PeerURLs   []string `json:"peers"`
	ClientURLs []string `json:"clients,omitempty"`
	// Learner: it gets everything and has no vote.
	Learner bool `json:"learner,omitempty"`
}

// A State is what a decision is made of.
type State struct {
	// Nodes are all that there are, dead ones, too, as long as nobody said that
	// they are gone for good: that a node has died does not make the cluster
	// smaller.
	Nodes []Node
	// Members are all members.
	Members []Member
	// Down is how long members have not answered, for those that do not.
	Down map[uint64]time.Duration
	// Grace is after which time of that a voter is dead, Patience a learner.
	Grace, Patience time.Duration
}

// A Kind is what is done.
type Kind int

// The kinds of actions.
const (
	Nothing Kind = iota
	AddLearner
	Promote
	Remove
)

// An Action is one change of members, or none.
type Action struct {
	Kind   Kind
	Node   Node   // of AddLearner
	Member Member // of the others
	Why    string // for people
}

// Target is how many of so many nodes should vote.
func Target(nodes int) int {
	switch {
	case nodes < 3:
		return 1
	case nodes < 7:
		return 3
	default:
		return 5
	}
}

// majority is how many of so many voters have to agree.
func majority(voters int) int { return voters/2 + 1 }

// A count is a state with what follows from it.
type count struct {
	State
	target   int
	voters   int            // all of them,
	living   int            // those that answer,
	good     []Member       // those that shall stay, which are not dead,
	bad      []Member       // and the others
	learners []Member       // one, or two that get their votes together
	fit      []Node         // that could be added
	zones    map[string]int // good voters in each
}

// Next returns the one change that brings the members nearer to what they should
// be, or Nothing and why. It keeps to this:
//
//   - Nothing is changed without a majority of living voters, and nothing that
//     would leave less than that, counting those who do not answer as gone.
//   - A new member learns first. A dead voter is removed only when enough others
//     vote without it.
//   - One change is made at a time, and there are no more learners than that: but if
//     two more votes are wanted, two of them learn, and are given their votes one right
//     after the other. With an even number of voters one more has to live than before.
//   - The number of voters does not become even unless that is on the way to
//     something better.
func Next(s State) Action {
	c := s.count()
	switch {
	case c.living < majority(c.voters):
		return Action{Why: fmt.Sprintf("%d of %d voters answer, which is no majority", c.living, c.voters)}
	case len(c.learners) > 0:
		return c.learn()
	}
	if a := c.remove(); a.Kind != Nothing {
		return a
	}
	return c.add()
}

func (s State) count() *count {
	c := &count{State: s, target: Target(len(s.Nodes)), zones: map[string]int{}}
	for _, m := range s.Members {
		if m.Learner {
			c.learners = append(c.learners, m)
			continue
		}
		c.voters++
		if s.Down[m.ID] == 0 {
			c.living++
		}
		if n, known := c.node(m); known && !n.Leaving && s.Down[m.ID] < s.Grace {
			c.good = append(c.good, m)
			c.zones[n.Zone]++
		} else {
			c.bad = append(c.bad, m)
		}
	}
	for _, n := range s.Nodes {
		if n.Alive && !n.Leaving && !slices.ContainsFunc(s.Members, n.has) {
			c.fit = append(c.fit, n)
		}
	}
	// The zone with fewest voters first.
	slices.SortFunc(c.fit, func(a, b Node) int {
		return cmp.Or(cmp.Compare(c.zones[a.Zone], c.zones[b.Zone]), cmp.Compare(a.Name, b.Name))
	})
	return c
}

// has tells whether a member is of that node.
func (n Node) has(m Member) bool {
	return m.Name == n.Name || m.Name == "" && slices.Contains(m.PeerURLs, n.PeerURL)
}

// node is the one of a member.
func (s State) node(m Member) (Node, bool) {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.has(m) })
	if i < 0 {
		return Node{}, false
	}
	return s.Nodes[i], true
}

// learn is what happens to learners: they get a vote, or go, or learn on.
func (c *count) learn() Action {
	if last := len(c.learners) - 1; last > 0 && !c.pairs() && c.voters%2 == 1 || last > 1 {
		return Action{Kind: Remove, Member: c.learners[last], Why: "there is another learner"}
	}
	for _, m := range c.learners {
		if why := c.hopeless(m); why != "" {
			return Action{Kind: Remove, Member: m, Why: why}
		}
	}
	m := c.learners[0]
	n, _ := c.node(m)
	switch {
	case slices.ContainsFunc(c.learners, func(m Member) bool { return c.Down[m.ID] > 0 }):
		return Action{Why: "the learner is awaited"}
	// Not before: a member starts only if it knows of all.
	case c.pairs() && len(c.learners) == 1 && len(c.fit) > 0:
		return Action{Kind: AddLearner, Node: c.fit[0], Why: c.lack()}
	case c.living+1 < majority(c.voters+1):
		return Action{Why: fmt.Sprintf("with the learner %d of %d voters would answer, which is no majority", c.living+1, c.voters+1)}
	case !c.worthwhile(n, len(c.fit)+len(c.learners)-1):
		return Action{Why: "an even number of voters would not be better"}
	}
	return Action{Kind: Promote, Member: m, Why: c.lack()}
}

// pairs tells whether two more votes are wanted, and nobody loses his, so that their number
// stays odd.
func (c *count) pairs() bool {
	return c.voters%2 == 1 && len(c.bad) == 0 && len(c.good)+2 <= c.target
}

// hopeless says why a learner is not to learn on, if so.
func (c *count) hopeless(m Member) string {
	n, known := c.node(m)
	down := c.Down[m.ID]
	switch {
	case !known:
		return "the node of the learner is gone"
	case n.Leaving:
		return "the node of the learner is leaving"
	case down > 0 && (!n.Alive || down >= c.Patience):
		return fmt.Sprintf("the learner has not answered for %v", down)
	case !c.wants(n):
		return "enough others vote"
	}
	return ""
}

// lack says what is lacking.
func (c *count) lack() string {
	if len(c.good) < c.target {
		return fmt.Sprintf("%d voters are well, wanted are %d", len(c.good), c.target)
	}
	return "the voters are to be spread over zones"
}

// wants tells whether one more voter on a node is better: there are too few, or too
// many of them in other zones.
func (c *count) wants(n Node) bool { return len(c.good) < c.target || c.spreads(n) }

func (c *count) spreads(n Node) bool {
	for _, voters := range c.zones {
		if voters >= c.zones[n.Zone]+2 {
			return len(c.good) == c.target
		}
	}
	return false
}

// worthwhile tells whether one more voter is better though no other one comes: if
// so many others can be added after it.
func (c *count) worthwhile(n Node, others int) bool {
	return c.voters%2 == 0 || others > 0 || len(c.bad) > 0 || c.spreads(n)
}

// remove takes the vote from who is not to have it.
func (c *count) remove() Action {
	if len(c.good) >= c.target {
		for _, m := range c.bad {
			if c.spares(m) {
				return Action{Kind: Remove, Member: m, Why: c.reason(m)}
			}
		}
	}
	if len(c.good) > c.target && len(c.bad) == 0 {
		if m := c.surplus(); c.spares(m) {
			return Action{Kind: Remove, Member: m, Why: fmt.Sprintf("%d vote, wanted are %d", len(c.good), c.target)}
		}
	}
	// Of those that are gone for good one is better off without, though nobody is
	// there to take the place. When no node is known of any voter, it is more likely
	// that the nodes are not known yet.
	for _, m := range c.bad {
		if _, known := c.node(m); !known && len(c.good) > 0 && len(c.fit) == 0 && c.spares(m) {
			return Action{Kind: Remove, Member: m, Why: c.reason(m)}
		}
	}
	return Action{}
}

// spares tells whether a majority of the others is alive.
func (c *count) spares(m Member) bool {
	living := c.living
	if c.Down[m.ID] == 0 {
		living--
	}
	return c.voters > 1 && living >= majority(c.voters-1)
}

// reason says why a voter is not to have a vote.
func (c *count) reason(m Member) string {
	switch n, known := c.node(m); {
	case !known:
		return "its node is gone"
	case n.Leaving:
		return "its node is leaving"
	default:
		return fmt.Sprintf("it has not answered for %v, and enough others vote", c.Down[m.ID])
	}
}

// surplus is who goes first if there are too many: who does not answer, then one of
// the zone with most voters.
func (c *count) surplus() Member {
	return slices.MaxFunc(c.good, func(a, b Member) int {
		na, _ := c.node(a)
		nb, _ := c.node(b)
		return cmp.Or(cmp.Compare(c.Down[a.ID], c.Down[b.ID]), cmp.Compare(c.zones[na.Zone], c.zones[nb.Zone]), cmp.Compare(a.Name, b.Name))
	})
}

// add makes a learner of the fittest node, if it is wanted.
func (c *count) add() Action {
	switch {
	case len(c.fit) == 0 && len(c.good) < c.target:
		return Action{Why: fmt.Sprintf("%d voters are well, wanted are %d, and no other node is alive", len(c.good), c.target)}
	case len(c.fit) == 0, !c.wants(c.fit[0]):
		return Action{Why: "all is well"}
	case !c.worthwhile(c.fit[0], len(c.fit)-1):
		return Action{Why: "an even number of voters would not be better"}
	}
	return Action{Kind: AddLearner, Node: c.fit[0], Why: c.lack()}
}
