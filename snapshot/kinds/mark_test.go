package kinds_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/bond"
	"github.com/strata-storage/strata/snapshot"
)

// noting is a device in memory that keeps notes, or fails to.
type noting struct {
	block.Pass
	mu   sync.Mutex
	text string
	fail error
}

func (n *noting) Note(string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text, nil
}

func (n *noting) SetNote(_, text string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	n.text = text
	return nil
}

// A pair is an origin and a store that stay when they are closed.
type pair struct {
	t      *testing.T
	kind   string
	origin *noting
	store  []byte
	events []snapshot.EventKind
}

func newPair(t *testing.T, kind string) *pair {
	return &pair{t: t, kind: kind, store: make([]byte, 4<<20), origin: &noting{Pass: block.Pass{Device: block.Keep(block.FromBytes(make([]byte, 1<<20)))}}}
}

// open opens them; the Set must be closed.
func (p *pair) open(o snapshot.Options) (*snapshot.Set, error) {
	o.Kind, o.Manual = p.kind, true
	o.Notify = func(e snapshot.Event) { p.events = append(p.events, e.Kind) }
	s, err := snapshot.New(block.Keep(p.origin), block.FromBytes(p.store), o)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.Resume(p.t.Context()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// use opens and closes them.
func (p *pair) use(o snapshot.Options) error {
	s, err := p.open(o)
	if err != nil {
		return err
	}
	return s.Close()
}

func (p *pair) refused(what, text string) {
	p.t.Helper()
	for _, o := range []snapshot.Options{{Format: snapshot.IfBlank}, {}, {ReadOnly: true}} {
		err := p.use(o)
		if !errors.Is(err, snapshot.ErrNotTheStore) || !strings.Contains(err.Error(), text) {
			p.t.Errorf("%s: %v, expected %q", what, err, text)
		}
	}
}

// An origin that notes which store it has is refused without it, with another
// one, and with an older copy of either.
func TestMarks(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ranged", "bitmap"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			made := snapshot.Options{Format: snapshot.IfBlank}
			p := newPair(t, kind)
			must(t, p.use(made))
			if len(p.events) != 1 || p.events[0] != snapshot.Formatted {
				t.Errorf("a new store is told of by %v", p.events)
			}
			first, firstNote := bytes.Clone(p.store), p.origin.text
			must(t, p.use(made))
			must(t, p.use(snapshot.Options{}))
			must(t, p.use(snapshot.Options{ReadOnly: true}))
			good, note := bytes.Clone(p.store), p.origin.text

			p.store = make([]byte, len(good))
			p.refused("a blank store", "there is no store on the device, and the origin belongs to the "+kind+" store ")
			if !block.IsZero(p.store) {
				t.Error("a store was made all the same")
			}
			p.store = first
			p.refused("an older store", "the store is an older copy: it has been used 1 times, with the origin as it is 3 times")
			p.store, p.origin.text = bytes.Clone(good), firstNote
			p.refused("an older origin", "the origin is an older copy: it has been used 1 times, with the store as it is 3 times")
			other := newPair(t, kind)
			must(t, other.use(made))
			p.store, p.origin.text = other.store, note
			p.refused("another store", "the origin belongs to the "+kind+" store ")
			p.origin.text = "something"
			p.refused("another note", `"something" does not say which store it is`)

			// A store that notes nothing is another one, too.
			p.store, p.origin.text = make([]byte, len(good)), ""
			bare := block.Keep(p.origin.Device)
			s, err := snapshot.New(bare, block.FromBytes(p.store), snapshot.Options{Kind: kind, Format: snapshot.IfBlank, Manual: true})
			must(t, err)
			must(t, s.Resume(t.Context()))
			must(t, s.Close())
			p.origin.text = note
			p.refused("a store without a mark", "this one, of the kind "+kind+", is another")

			// What was copied without its note is not refused, and what is to
			// be forgotten is forgotten.
			p.store = bytes.Clone(good)
			must(t, snapshot.Forget(block.Keep(p.origin)))
			must(t, p.use(made))
			must(t, snapshot.Forget(p.origin))
			p.store = make([]byte, len(good))
			must(t, p.use(made))
			if at, err := bond.Of(p.origin); err != nil || at == nil || at.Kind != kind || strings.Contains(note, at.ID) {
				t.Errorf("after a new store the origin belongs to %v, %v", at, err)
			}
			if err := p.use(snapshot.Options{Format: snapshot.Always}); err != nil {
				t.Errorf("a store that is made anew by decree: %v", err)
			}
			must(t, p.use(made))
		})
	}
}

// A kind that keeps nothing is not a store for a disk that has one.
func TestMarkAndTransient(t *testing.T) {
	t.Parallel()
	p := newPair(t, "ranged")
	must(t, p.use(snapshot.Options{Format: snapshot.IfBlank}))
	good := p.store
	for _, kind := range []string{"transient", "legacy"} {
		p.kind, p.store = kind, make([]byte, len(good))
		p.refused(kind, "the origin belongs to the ranged store ")
		fresh := newPair(t, kind)
		must(t, fresh.use(snapshot.Options{Format: snapshot.IfBlank}))
		if fresh.origin.text != "" {
			t.Errorf("%s notes %q", kind, fresh.origin.text)
		}
	}
}

// A crash between the two marks, and notes that cannot be made, are no reason to
// refuse a disk.
func TestMarksAreOneApart(t *testing.T) {
	t.Parallel()
	p := newPair(t, "ranged")
	o := snapshot.Options{Format: snapshot.IfBlank}
	for round, fail := range []error{block.ErrNoSpace, nil, block.ErrIO, block.ErrIO, block.ErrNotSupported, nil, nil} {
		p.origin.fail, p.events = fail, nil
		if err := p.use(o); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		told := false
		for _, e := range p.events {
			told = told || e == snapshot.Unmarked
		}
		if told != (fail != nil) {
			t.Errorf("round %d: %v is told of by %v", round, fail, p.events)
		}
	}
	// A Set that is suspended and resumed is one more use: a copy from before
	// is an old one.
	s, err := p.open(o)
	must(t, err)
	must(t, s.Suspend(t.Context()))
	copied := bytes.Clone(p.store)
	must(t, s.Resume(t.Context()))
	must(t, s.Close())
	p.store = copied
	p.refused("a copy that was made meanwhile", "the store is an older copy")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
