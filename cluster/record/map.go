package record

import (
	"iter"
	"slices"
	"sort"
)

// pageSize is how many entries a page of a Map has at most.
const pageSize = 128

// A Map is a sorted map that does not change: with and without return another one
// that shares all but one page with it, which costs the same for thousands of
// entries as for a few. The zero Map is empty.
type Map[K, V any] struct {
	compare func(a, b K) int
	pages   []*page[K, V]
	n       int
}

// A page has some entries, at least one.
type page[K, V any] struct {
	keys   []K
	values []V
}

// Len is the number of entries.
func (m *Map[K, V]) Len() int { return m.n }

// Get returns the value of a key.
func (m *Map[K, V]) Get(key K) (v V, ok bool) {
	p, i, ok := m.find(key)
	if ok {
		v = m.pages[p].values[i]
	}
	return v, ok
}

// All returns the entries in the order of keys.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, p := range m.pages {
			for i, k := range p.keys {
				if !yield(k, p.values[i]) {
					return
				}
			}
		}
	}
}

// From returns the entries whose keys are not before the given one, in the order
// of keys.
func (m *Map[K, V]) From(key K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		p, i, _ := m.find(key)
		for ; p < len(m.pages); p, i = p+1, 0 {
			for ; i < len(m.pages[p].keys); i++ {
				if !yield(m.pages[p].keys[i], m.pages[p].values[i]) {
					return
				}
			}
		}
	}
}

// find returns where a key is, or should be.
func (m *Map[K, V]) find(key K) (p, i int, found bool) {
	if m.n == 0 {
		return 0, 0, false
	}
	p = max(sort.Search(len(m.pages), func(p int) bool { return m.compare(m.pages[p].keys[0], key) > 0 })-1, 0)
	i, found = slices.BinarySearchFunc(m.pages[p].keys, key, m.compare)
	return p, i, found
}

// with returns a map in which the key has that value.
func (m Map[K, V]) with(key K, value V) Map[K, V] {
	p, i, found := m.find(key)
	if m.n == 0 {
		m.pages, m.n = []*page[K, V]{{[]K{key}, []V{value}}}, 1
		return m
	}
	old := m.pages[p]
	if found {
		m.pages = slices.Clone(m.pages)
		m.pages[p] = &page[K, V]{old.keys, slices.Clone(old.values)}
		m.pages[p].values[i] = value
		return m
	}
	m.n++
	if len(old.keys) < pageSize {
		m.pages = slices.Clone(m.pages)
		m.pages[p] = old.insert(i, key, value)
		return m
	}
	// Keys mostly come in their order: a full last page stays full.
	at := len(old.keys) / 2
	if p == len(m.pages)-1 && i == len(old.keys) {
		at = i
	}
	left := &page[K, V]{old.keys[:at:at], old.values[:at:at]}
	right := &page[K, V]{old.keys[at:], old.values[at:]}
	if i < at {
		left = left.insert(i, key, value)
	} else {
		right = right.insert(i-at, key, value)
	}
	m.pages = slices.Concat(m.pages[:p], []*page[K, V]{left, right}, m.pages[p+1:])
	return m
}

func (p *page[K, V]) insert(i int, key K, value V) *page[K, V] {
	return &page[K, V]{
		slices.Concat(p.keys[:i], []K{key}, p.keys[i:]),
		slices.Concat(p.values[:i], []V{value}, p.values[i:]),
	}
}

// without returns a map that does not have the key.
func (m Map[K, V]) without(key K) Map[K, V] {
	p, i, found := m.find(key)
	if !found {
		return m
	}
	m.n--
	old := m.pages[p]
	if len(old.keys) == 1 {
		m.pages = slices.Concat(m.pages[:p], m.pages[p+1:])
		return m
	}
	less := &page[K, V]{slices.Concat(old.keys[:i], old.keys[i+1:]), slices.Concat(old.values[:i], old.values[i+1:])}
	if p+1 < len(m.pages) && len(less.keys)+len(m.pages[p+1].keys) <= pageSize/2 {
		less.keys = append(less.keys, m.pages[p+1].keys...)
		less.values = append(less.values, m.pages[p+1].values...)
		m.pages = slices.Concat(m.pages[:p+1], m.pages[p+2:])
	} else {
		m.pages = slices.Clone(m.pages)
	}
	m.pages[p] = less
	return m
}

// newMap returns an empty map with keys in that order.
func newMap[K, V any](compare func(a, b K) int) Map[K, V] { return Map[K, V]{compare: compare} }

// appendSorted puts an entry with a key greater than all before into a map that
// nobody else has yet.
func (m *Map[K, V]) appendSorted(key K, value V) {
	if m.n%pageSize == 0 {
		m.pages = append(m.pages, &page[K, V]{make([]K, 0, pageSize), make([]V, 0, pageSize)})
	}
	p := m.pages[len(m.pages)-1]
	p.keys, p.values = append(p.keys, key), append(p.values, value)
	m.n++
}
