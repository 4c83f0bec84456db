package steward

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// A small cluster: eight nodes with a disk each, which have the same letter, in zones
// of their own unless said otherwise.
type small struct {
	members, joining, wish, soon string
	// back, away and gone are disks that are not as the record has them; empty ones
	// have no weight. Since is for how long it has been so.
	back, away, gone, empty string
	since                   time.Duration
	copies, min             int
	zones                   map[string]string
	full                    string
	held                    string
	// filled have no room, and refused are those of them that were removed for that a
	// while ago. Roomy would have it without them.
	filled, refused, roomy string
}

func (c small) scene() *scene {
	f := &Facts{Now: -time.Hour, Nodes: map[string]Node{}, Disks: map[string]Disk{}, Held: map[Hold]time.Duration{}}
	copies := c.copies
	if copies == 0 {
		copies = 3
	}
	g := &Group{Number: record.GroupOf(copies, 1), Epoch: 7, MinCopies: c.min}
	for _, id := range letters("abcdefgh") {
		n := Node{Node: record.Node{ID: id, Zone: id}, Incarnation: "1"}
		d := Disk{Disk: record.Disk{ID: id, Node: id, Size: 1000, Weight: 1000}}
		if z := c.zones[id]; z != "" {
			n.Zone = z
		}
		switch {
		case strings.Contains(c.back, id):
			n.Incarnation, n.Since = "2", f.Now-c.since
		case strings.Contains(c.away, id):
			n.Incarnation, n.Since = "", f.Now-c.since
		case strings.Contains(c.gone, id):
			d.Failed = "an I/O error"
		case strings.Contains(c.empty, id):
			d.Weight = 0
		case strings.Contains(c.full, id):
			d.Used = 900
		case strings.Contains(c.held, id):
			f.Held[Hold{g.Number, id}] = f.Now + 1
		}
		if strings.Contains(c.filled+c.refused, id) {
			d.Used, d.Full = 999, true
		}
		if strings.Contains(c.refused, id) {
			f.Held[Hold{g.Number, id}] = f.Now - time.Minute
		}
		f.Nodes[id], f.Disks[id] = n, d
	}
	for _, id := range letters(c.members) {
		g.Record.Members = append(g.Record.Members, record.Member{Disk: id, Incarnation: "1"})
	}
	for _, id := range letters(c.joining) {
		g.Record.Joining = append(g.Record.Joining, record.Member{Disk: id, Incarnation: "1"})
	}
	f.Groups = []Group{*g}
	o := Options{}.withDefaults()
	soon := c.soon
	if soon == "" {
		soon = c.wish
	}
	s := newScene(f, g, &o, letters(c.wish), letters(soon))
	s.roomy = func(*Group) []string { return letters(c.roomy) }
	return s
}

func letters(s string) (list []string) {
	for _, r := range s {
		list = append(list, string(r))
	}
	return list
}

func names(list []record.Member) (s string) {
	for _, m := range list {
		s += m.Disk
	}
	return s
}

// What happens to one group next, and what it becomes: "members+joining".
func TestNext(t *testing.T) {
	t.Parallel()
	zones := map[string]string{"a": "x", "b": "y", "c": "z", "d": "y"}
	for _, tt := range []struct {
		intent string
		c      small
		want   string
	}{
		{"nothing happens to a group that is where it should be", small{members: "abc", wish: "cba"}, ""},
		{"without any disk that could have it, a group stays where it is", small{members: "abc"}, ""},

		{"a member that is away is removed at once", small{members: "abc", wish: "abc", away: "b"}, "remove b: ac"},
		{"a member that was started anew is removed, to join again", small{members: "abc", wish: "abc", back: "a"}, "remove a: bc"},
		{"a disk that has failed is removed before one that is away", small{members: "abcd", wish: "abc", away: "a", gone: "b"}, "remove b: acd"},
		{"too few members would be left, so writes wait; one that lives becomes the first", small{members: "ab", wish: "ab", away: "a"}, "lead b: ba"},
		{"too few members would be left, and nobody can join", small{members: "ba", wish: "ab", away: "a"}, ""},
		{"the last member is never removed, not even a failed disk", small{members: "a", wish: "bcd", gone: "a", min: 1}, ""},
		{"one copy may do", small{members: "ab", wish: "ab", away: "a", min: 1}, "remove a: b"},
		{"too few would be left, so a disk that is back joins in its place", small{members: "ab", wish: "ab", back: "a"}, "exchange a: b+a"},
		{"it does so as often as it is started anew", small{members: "b", joining: "a", wish: "ab", back: "a"}, "exchange a: b+a"},
		{"also if it is to be empty: nothing else is there", small{members: "ab", wish: "bc", back: "a"}, "exchange a: b+a"},

		{"a disk that is away for a while is waited for", small{members: "ac", wish: "abc", away: "b", since: time.Minute}, ""},
		{"one that is back joins again", small{members: "ac", wish: "abc", back: "b"}, "join b: ac+b"},
		{"after the grace period another one joins", small{members: "ac", wish: "acd", away: "b", since: time.Hour}, "join d: ac+d"},
		{"two copies are missing, and two join", small{members: "a", joining: "b", wish: "abc", min: 1}, "join c: a+bc"},
		{"two copies are missing, and two are joining", small{members: "a", joining: "bc", wish: "abc", min: 1}, ""},
		{"where writes wait, those that are away are waited for less long", small{members: "ca", wish: "abc", soon: "cde", away: "ab"}, "join d: ca+d"},
		{"where they do not, they are", small{members: "ca", wish: "abc", soon: "cad", away: "b"}, ""},
		{"a disk that was removed while it joined has to wait", small{members: "ac", wish: "abc", held: "b"}, ""},

		{"a group moves by one disk", small{members: "abc", wish: "abd"}, "join d: abc+d"},
		{"one at a time", small{members: "abc", joining: "d", wish: "ade"}, ""},
		{"the old one leaves when the new one is a member", small{members: "abcd", wish: "abd"}, "leave c: abd"},
		{"the one leaves whose zone has another", small{members: "abcd", wish: "d", zones: zones, copies: 3}, "leave b: acd"},
		{"a group moves off a disk without a weight like any other", small{members: "abc", wish: "abd", empty: "c"}, "join d: abc+d"},
		{"of two that leave, the one that is to be empty goes first", small{members: "abcd", wish: "cd", empty: "a", min: 1}, "leave a: bcd"},
		{"nothing moves to a full disk", small{members: "abc", wish: "abd", full: "d"}, ""},
		{"missing copies do", small{members: "ab", wish: "abd", full: "d"}, "join d: ab+d"},
		{"members may be full", small{members: "abc", wish: "abc", filled: "b", roomy: "acd"}, ""},
		{"one that is full and was started anew joins again, as most of it is there", small{members: "ac", wish: "abc", filled: "b"}, "join b: ac+b"},
		{"one that was removed as it was full stays away until there is room, and another one takes its place", small{members: "ac", wish: "abc", refused: "b", roomy: "acd"}, "join d: ac+d"},
		{"but not at once", small{members: "ac", wish: "abc", filled: "b", held: "b", roomy: "acd"}, ""},
		{"nor where a copy is", small{members: "ac", wish: "abc", refused: "b", roomy: "dce", zones: map[string]string{"a": "x", "d": "x"}}, "join e: ac+e"},
		{"one is enough", small{members: "ac", joining: "d", wish: "abc", refused: "b", roomy: "ace"}, ""},
		{"and stays while there is no room", small{members: "acd", wish: "abc", refused: "b", roomy: "acd"}, ""},
		{"then the group moves back", small{members: "acd", wish: "abc", roomy: "abc"}, "join b: acd+b"},
		{"a group that misses a copy does not move", small{members: "abc", wish: "abd", away: "c"}, "remove c: ab"},
		{"fewer disks are wished for, and one leaves that is one too many", small{members: "abc", wish: "ab", copies: 2}, "leave c: ab"},
		{"fewer disks are wished for than there are to be, and no copy is given up", small{members: "abc", wish: "ab", empty: "c"}, ""},
		{"but never one that writes need", small{members: "ab", wish: "a"}, ""},

		{"a joining disk that is away is removed", small{members: "abc", joining: "d", wish: "abd", away: "d"}, "cancel d: abc"},
		{"unless too few disks would get writes", small{members: "a", joining: "b", wish: "ab", away: "b"}, ""},
		{"the wish is another one meanwhile", small{members: "abc", joining: "d", wish: "abe"}, "cancel d: abc"},
		{"who was away is back and joins, the other one goes on meanwhile", small{members: "ab", joining: "d", wish: "abc"}, "join c: ab+dc"},
		{"who was away joins, the other one is not needed", small{members: "ab", joining: "dc", wish: "abc"}, "cancel d: ab+c"},

		{"all are away", small{members: "abc", wish: "abc", away: "abc"}, ""},
		{"all are back", small{members: "abc", wish: "abc", back: "abc"}, "revive a: abc"},
		{"others may be back soon", small{members: "abc", wish: "abc", back: "bc", away: "a", since: time.Second}, ""},
		{"others are not back soon", small{members: "abc", wish: "abc", back: "bc", away: "a", since: time.Minute}, "revive b: bc"},
		{"nobody waits for a disk that has failed", small{members: "abc", wish: "bcd", back: "bc", gone: "a"}, "revive b: bc"},
		{"one is back, which is too few for writes: a disk joins at once", small{members: "abc", wish: "abd", back: "b", away: "ac", since: time.Minute}, "revive b: b+d"},
		{"one is back, and there is no other disk", small{members: "ab", wish: "ab", back: "b", away: "a", since: time.Minute, copies: 2}, ""},
		{"one is back, which is enough", small{members: "ab", wish: "ab", back: "b", away: "a", since: time.Minute, min: 1}, "revive b: b"},
	} {
		s := tt.c.scene()
		pr := propose(s)
		o := Options{}.withDefaults()
		u := usage{o: &o, disk: map[string]int{}, source: map[string]int{}}
		if pr.change == nil && len(pr.join) > 0 {
			pr.change = u.join(pr)
		}
		got := ""
		if c := pr.change; c != nil {
			got = fmt.Sprintf("%v %s: %s", c.Kind, c.Disk, names(c.Record.Members))
			if len(c.Record.Joining) > 0 {
				got += "+" + names(c.Record.Joining)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, expected %q", tt.intent, got, tt.want)
		}
	}
}

// A disk is added as what it is now, so that it is told from what it was; and what the
// change was made from is not touched.
func TestAddedMembers(t *testing.T) {
	t.Parallel()
	s := small{members: "ab", wish: "ab", back: "a"}.scene()
	c := s.settle()
	if want := (record.Member{Disk: "a", Incarnation: "2", Since: 7}); c.Record.Joining[0] != want {
		t.Errorf("%+v joins, expected %+v", c.Record.Joining[0], want)
	}
	if names(s.Record.Members) != "ab" || len(s.Record.Joining) != 0 {
		t.Errorf("the old record has become %v", s.Record)
	}
	s = small{members: "ab", wish: "ab", back: "ab"}.scene()
	if c = s.settle(); c.Record.Revived != 1 || c.Record.Members[1].Incarnation != "2" || c.Record.Members[1].Since != 7 {
		t.Errorf("revived as %+v", c.Record)
	}
}
