package coordtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/cluster/coord"
)

func (s *suite) watchOrder() {
	a, b := s.join(), s.join()
	_, start := s.list(a, "")
	live := s.watching(b, "w/", start, "w/end")

	put := func(r coord.Revision, key string) coord.Event {
		return coord.Event{Entry: coord.Entry{Key: key, Value: []byte(key), Revision: r}}
	}
	var want []coord.Change
	add := func(r coord.Revision, es ...coord.Event) { want = append(want, coord.Change{Revision: r, Events: es}) }
	r := s.put(a, "w/2", "v", "w/1")
	add(r, put(r, "w/1"), put(r, "w/2"))
	s.put(a, "v", "x")
	r = s.put(b, "w/1")
	add(r, put(r, "w/1"))
	r = s.txn(a, nil, coord.Delete("w/1"), coord.Delete("w/absent"), coord.Put("w/0", []byte("w/0")))
	add(r, put(r, "w/0"), coord.Event{Entry: coord.Entry{Key: "w/1", Revision: r}, Deleted: true})
	for i := range 20 {
		r = s.put([]coord.Store{a, b}[i%2], "w/2", "w/3")
		add(r, put(r, "w/2"), put(r, "w/3"))
	}
	r = s.put(a, "w/end")
	add(r, put(r, "w/end"))

	s.equal("a watch from the beginning", s.watch(a, "w/", start, "w/end"), want)
	for i := range want[:len(want)-1] {
		if s.slow && i%6 != 0 {
			continue
		}
		s.equal("a watch from the middle", s.watch(b, "w/", want[i].Revision, "w/end"), want[i+1:])
		s.equal("a watch from before the middle", s.watch(b, "w/", want[i].Revision-1, "w/end"), want[i:])
	}
	s.equal("a watch from before", <-live, want)

	// One that begins in the future skips what comes before.
	future := s.watching(b, "f/", r+2, "f/end")
	s.put(a, "f/1")
	s.put(a, "f/2")
	for last := coord.Revision(0); last <= r+2; {
		last = s.put(a, "f/x")
	}
	s.put(a, "f/end")
	for _, c := range <-future {
		if c.Revision <= r+2 {
			s.Errorf("a watch after revision %d sees %d", r+2, c.Revision)
		}
	}
}

func (s *suite) watchEnds() {
	a, b := s.join(), s.join()
	r := s.put(a, "w")
	why := errors.New("because")
	ctx, cancel := context.WithCancelCause(s.ctx())
	defer cancel(nil)
	var seen []error
	for c, err := range a.Watch(ctx, "w", r-1) {
		seen = append(seen, err)
		if err == nil {
			s.equal("events", len(c.Events), 1)
			s.work.Go(func() { cancel(why) })
		}
	}
	if len(seen) != 2 || seen[0] != nil || !errors.Is(seen[1], why) {
		s.Fatalf("a cancelled watch yields %v", seen)
	}
	// A loop may be left and begun again.
	watch := a.Watch(s.ctx(), "w", r-1)
	for range 3 {
		for c, err := range watch {
			s.ok(err)
			s.equal("revision", c.Revision, r)
			break
		}
	}
	s.put(b, "w")
}

// A watch of more than anybody wants to have in memory arrives as a whole, though
// the reader is slow and others write.
func (s *suite) watchMuch() {
	a, b := s.join(), s.join()
	_, start := s.list(a, "")
	const n = 30
	write := func(i int) {
		v := bytes.Repeat([]byte{byte(i)}, coord.MaxValue)
		s.txn(a, nil, coord.Put("much/a", v), coord.Put("much/b", v), coord.Put("much/c", []byte(fmt.Sprint(i))))
	}
	for i := range n / 2 {
		write(i)
	}
	i := 0
	for c, err := range b.Watch(s.ctx(), "much/", start) {
		s.ok(err)
		s.equal("number of events", len(c.Events), 3)
		for _, e := range c.Events[:2] {
			if len(e.Value) != coord.MaxValue || e.Value[0] != byte(i) {
				s.Fatalf("change %d has %d bytes of %d", i, len(e.Value), e.Value[0])
			}
		}
		s.equal("value", string(c.Events[2].Value), fmt.Sprint(i))
		if i++; i == n {
			break
		}
		if n/2+i-1 < n {
			write(n/2 + i - 1)
		}
	}
}

// A watch survives its network.
func (s *suite) watchCut() {
	a, b := s.join(), s.join()
	_, start := s.list(a, "")
	got := s.watching(b, "w/", start, "w/end")
	var want []coord.Revision
	for i := range 6 {
		s.Cut(b, i%2 == 0, i%3 != 1)
		want = append(want, s.put(a, "w/1"), s.put(a, "w/2"))
		s.Cut(b, false, false)
		want = append(want, s.put(a, "w/3"))
	}
	want = append(want, s.put(a, "w/end"))
	var revisions []coord.Revision
	for _, c := range <-got {
		revisions = append(revisions, c.Revision)
	}
	s.equal("revisions", revisions, want)
}

// compact is about what happens when history is forgotten.
func (s *suite) compact() {
	a, b := s.join(), s.join()
	old := s.put(a, "c/1")
	s.put(a, "c/2")
	s.put(a, "c/2")
	_, now := s.list(a, "")
	next := s.watching(b, "c/", now, "c/3")
	s.Compact()
	for _, err := range a.Watch(s.ctx(), "c/", old) {
		if !errors.Is(err, coord.ErrCompacted) {
			s.Fatalf("a watch from a compacted revision: %v", err)
		}
	}
	es, _ := s.list(b, "c/")
	s.equal("number of entries", len(es), 2)
	r := s.put(a, "c/3")
	s.equal("changes since the compaction", (<-next)[0].Revision, r)
	s.equal("the same again", s.watch(a, "c/", now, "c/3")[0].Revision, r)
}
