package coordtest

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/strata-storage/strata/cluster/coord"
)

// A state is all entries at a revision, by key.
type state map[string]coord.Entry

func (s state) entry(key string) coord.Entry {
	if e, ok := s[key]; ok {
		return e
	}
	return coord.Entry{Key: key}
}

// under are the entries with a prefix.
func (s state) under(prefix string) (es []coord.Entry) {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if strings.HasPrefix(key, prefix) {
			es = append(es, s[key])
		}
	}
	return es
}

// A model is what one thing after the other would have led to.
type model struct {
	*history
	revisions []coord.Revision // of the changes, the first is that of the start
	states    []state          // after each
	changes   []coord.Change   // each
	claimed   []bool           // a call did it
}

// check compares what the calls returned to what a watch says has happened.
func (h *history) check(start coord.Revision, truth []coord.Change) {
	h.Helper()
	m := &model{history: h, revisions: []coord.Revision{start}, states: []state{{}}, changes: []coord.Change{{}}}
	for _, c := range truth {
		m.apply(c)
	}
	m.claimed = make([]bool, len(m.changes))
	m.claimed[0], m.claimed[len(m.changes)-1] = true, true // by the suite
	done := 0
	for i := range h.calls {
		c := &h.calls[i]
		switch {
		case c.prefix != "" && c.err == nil:
			m.checkRead(c)
		case c.prefix == "" && c.err != nil:
			m.checkUnknown(c)
		case c.prefix == "":
			m.checkTxn(c)
		}
		if c.result.Done {
			done++
		}
	}
	for i, ok := range m.claimed {
		if !ok {
			m.checkEnd(i)
		}
	}
	m.checkOrder()
	if done == 0 {
		h.Errorf("seed %d: nothing was done", h.seed)
	}
	h.Logf("seed %d: %d calls, %d done, %d changes", h.seed, len(h.calls), done, len(truth))
}

// apply adds a change, which must be one that is possible.
func (m *model) apply(c coord.Change) {
	last := m.revisions[len(m.revisions)-1]
	if c.Revision <= last || len(c.Events) == 0 {
		m.Fatalf("seed %d: a watch has %+v after revision %d", m.seed, c, last)
	}
	next := maps.Clone(m.states[len(m.states)-1])
	before := ""
	for _, e := range c.Events {
		_, exists := next[e.Key]
		if e.Revision != c.Revision || e.Key <= before || e.Deleted && !exists {
			m.Fatalf("seed %d: a watch has %+v with the event %+v", m.seed, c, e)
		}
		before = e.Key
		if e.Deleted {
			delete(next, e.Key)
		} else {
			next[e.Key] = e.Entry
		}
	}
	m.revisions, m.states, m.changes = append(m.revisions, c.Revision), append(m.states, next), append(m.changes, c)
}

// at returns the number of the last change until a revision.
func (m *model) at(r coord.Revision) int {
	i, found := slices.BinarySearch(m.revisions, r)
	if !found {
		i--
	}
	return max(i, 0)
}

func (m *model) checkRead(c *call) {
	want := m.states[m.at(c.revision)].under(c.prefix)
	if len(want)+len(c.read) > 0 && !reflect.DeepEqual(c.read, want) {
		m.Errorf("seed %d: %v\nwant %+v", m.seed, c, want)
	}
}

// holds tells whether all comparisons are true in a state.
func holds(s state, ifs []coord.Compare) bool {
	return !slices.ContainsFunc(ifs, func(c coord.Compare) bool { return s[c.Key].Revision != c.Revision })
}

// events are what operations do to a state at a revision.
func events(s state, ops []coord.Op, r coord.Revision) (es []coord.Event) {
	for _, op := range ops {
		if _, exists := s[op.Key]; exists || !op.Delete {
			es = append(es, coord.Event{Entry: coord.Entry{Key: op.Key, Value: op.Value, Revision: r, Lease: op.Lease}, Deleted: op.Delete})
		}
	}
	slices.SortFunc(es, func(a, b coord.Event) int { return cmp.Compare(a.Key, b.Key) })
	return es
}

// is tells whether a transaction can have been the change with that number.
func (m *model) is(t coord.Txn, i int) bool {
	before := m.states[i-1]
	return holds(before, t.If) && reflect.DeepEqual(events(before, t.Then, m.revisions[i]), m.changes[i].Events)
}

func (m *model) checkTxn(c *call) {
	r := c.result
	i := m.at(r.Revision)
	s := m.states[i]
	switch {
	case r.Done && m.revisions[i] == r.Revision && i > 0 && !m.claimed[i] && m.is(c.txn, i):
		m.claimed[i] = true
	case r.Done && len(events(s, c.txn.Then, 0)) == 0 && holds(s, c.txn.If):
	case !r.Done && !holds(s, c.txn.If) && reflect.DeepEqual(r.Found, m.found(s, c.txn.If)):
	default:
		m.Errorf("seed %d: %v\nafter change %d, %+v, there was %+v", m.seed, c, i, m.changes[i], s)
	}
}

func (m *model) found(s state, ifs []coord.Compare) (es []coord.Entry) {
	for _, c := range ifs {
		es = append(es, s.entry(c.Key))
	}
	return es
}

// checkUnknown finds the change that a transaction did, if any, by its value.
func (m *model) checkUnknown(c *call) {
	id := string(c.txn.Then[0].Value)
	for i, change := range m.changes {
		if !slices.ContainsFunc(change.Events, func(e coord.Event) bool { return !e.Deleted && string(e.Value) == id }) {
			continue
		}
		if m.claimed[i] || !m.is(c.txn, i) {
			m.Errorf("seed %d: %v\ncannot have done %+v", m.seed, c, change)
			continue
		}
		m.claimed[i] = true
		c.result = coord.Result{Done: true, Revision: change.Revision}
	}
}

// checkEnd checks that a change that no call did was the end of a lease.
func (m *model) checkEnd(i int) {
	change, before := m.changes[i], m.states[i-1]
	id := before[change.Events[0].Key].Lease
	var want []string
	for _, e := range before.under("") {
		if e.Lease == id {
			want = append(want, e.Key)
		}
	}
	var got []string
	for _, e := range change.Events {
		if !e.Deleted {
			id = 0
		}
		got = append(got, e.Key)
	}
	if id == 0 || !m.ended[id] || !slices.Equal(got, want) {
		m.Errorf("seed %d: nobody did %+v, and it is not the end of a lease in %+v", m.seed, change, before)
	}
}

// checkOrder checks that a call sees all that was over when it began.
func (m *model) checkOrder() {
	slices.SortFunc(m.calls, func(a, b call) int { return cmp.Compare(a.begun, b.begun) })
	over := slices.Clone(m.calls)
	slices.SortFunc(over, func(a, b call) int { return cmp.Compare(a.over, b.over) })
	var least coord.Revision
	for _, c := range m.calls {
		for len(over) > 0 && over[0].over < c.begun {
			if over[0].err == nil {
				least = max(least, over[0].revision, over[0].result.Revision)
			}
			over = over[1:]
		}
		r, changed := max(c.revision, c.result.Revision), false
		if c.result.Done {
			i := m.at(r)
			changed = i > 0 && m.revisions[i] == r && m.is(c.txn, i)
		}
		if r != 0 && (r < least || changed && r == least) {
			m.Errorf("seed %d: %v\nbut revision %d had been seen before", m.seed, c, least)
		}
	}
}
