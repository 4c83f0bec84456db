package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/strata-storage/strata/block"
)

// names is the table of snapshots by name. It is kept in the values of the
// store, so that a name and its snapshot become durable together.
type names struct {
	sync.RWMutex
	byName map[string]*record
	byID   map[ID]*record
	// contexts are those of view.Info, nil if they have to be made.
	contexts atomic.Pointer[[]string]
}

// A record is what is known of a snapshot besides what the store knows.
type record struct {
	Name     string `json:"name"`
	Created  int64  `json:"created,omitempty"` // nanoseconds since 1970
	Priority int    `json:"priority,omitempty"`
	Of       ID     `json:"of,omitempty"`

	id ID
	// open counts the views.
	open int
}

// MaxName bounds the length of names in bytes.
const MaxName = 255

const nameKey = "name/"

func (r *record) key() string { return nameKey + strconv.FormatUint(uint64(r.id), 10) }

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name of a snapshot is empty: %w", block.ErrInvalid)
	case len(name) > MaxName:
		return fmt.Errorf("the name of a snapshot has %d bytes, at most %d are allowed: %w", len(name), MaxName, block.ErrInvalid)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("the name %q is not text: %w", name, block.ErrInvalid)
	case strings.ContainsAny(name, "@/"):
		// EXPORT@NAME is how a snapshot is asked for, and URIs have slashes.
		return fmt.Errorf("the name %q must have neither @ nor /: %w", name, block.ErrInvalid)
	}
	return nil
}

// loadNames reads the table. A snapshot without a name gets its number for
// one.
func (s *Set) loadNames(context.Context) error {
	t := &s.names
	t.Lock()
	defer t.Unlock()
	old := t.byID
	t.byName, t.byID = map[string]*record{}, map[ID]*record{}
	defer t.contexts.Store(nil)
	values := map[string][]byte{}
	for k, v := range s.store.Values() {
		if strings.HasPrefix(k, nameKey) {
			values[k] = slices.Clone(v)
		}
	}
	for _, id := range s.store.Snapshots() {
		r := &record{id: id}
		if v := values[r.key()]; v != nil {
			if err := json.Unmarshal(v, r); err != nil {
				return fmt.Errorf("the record of snapshot %d: %w: %w", id, err, ErrDamaged)
			}
		}
		if o := old[id]; o != nil {
			r.open = o.open
		}
		for base, i := strconv.FormatUint(uint64(id), 10), 2; r.Name == "" || t.byName[r.Name] != nil; i++ {
			if r.Name = base; t.byName[base] != nil {
				r.Name = fmt.Sprintf("%s-%d", base, i)
			}
		}
		t.byName[r.Name], t.byID[id] = r, r
	}
	return nil
}

// putName stages the record of a snapshot, or that there is none.
func (s *Set) putName(ctx context.Context, r *record, exists bool) error {
	if !s.caps.Values {
		return nil
	}
	if !exists {
		return s.store.Put(ctx, r.key(), nil)
	}
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.store.Put(ctx, r.key(), v)
}

func (t *names) get(name string) (*record, error) {
	t.RLock()
	defer t.RUnlock()
	if r := t.byName[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("snapshot %q: %w", name, ErrNoSnapshot)
}

func (t *names) add(r *record) {
	t.Lock()
	defer t.Unlock()
	t.byName[r.Name], t.byID[r.id] = r, r
	t.contexts.Store(nil)
}

func (t *names) remove(r *record) {
	t.Lock()
	defer t.Unlock()
	delete(t.byName, r.Name)
	delete(t.byID, r.id)
	t.contexts.Store(nil)
}

// use counts a view of a snapshot.
func (t *names) use(r *record, n int) {
	t.Lock()
	defer t.Unlock()
	if now := t.byID[r.id]; now != nil {
		now.open += n
	}
}

// inOrder returns the records in the order of creation. The caller holds the
// mutex.
func (t *names) inOrder() []*record {
	records := slices.Collect(maps.Values(t.byID))
	slices.SortFunc(records, func(a, b *record) int { return cmp.Compare(a.id, b.id) })
	return records
}

// Snapshot describes a snapshot.
type Snapshot struct {
	Name     string
	Created  time.Time
	Priority int
	// Of is the name of the snapshot that it was taken of; empty if that was
	// the origin, or is no more.
	Of string
	// Open: a view of it is open.
	Open bool
	// RollingBack: the origin is being set back to it.
	RollingBack bool
}

// List returns the snapshots in the order of their creation.
func (s *Set) List() []Snapshot {
	t := &s.names
	t.RLock()
	defer t.RUnlock()
	m := s.merging.Load()
	records := t.inOrder()
	all := make([]Snapshot, 0, len(records))
	for _, r := range records {
		x := Snapshot{Name: r.Name, Priority: r.Priority, Open: r.open > 0, RollingBack: m != nil && m.id == r.id}
		if r.Created != 0 {
			x.Created = time.Unix(0, r.Created)
		}
		if of := t.byID[r.Of]; of != nil {
			x.Of = of.Name
		}
		all = append(all, x)
	}
	return all
}
