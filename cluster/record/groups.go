package record

import (
	"iter"
	"slices"
)

// groupPageBits of the index of a group say where in its page it is.
const groupPageBits = 6

// Groups are the placement groups by number. They do not change. Requests look for
// groups all the time, so it is a table, and not a Map.
type Groups struct {
	pages [MaxCopies + 1][]*groupPage // by copies and index
	n     int
}

type groupPage [1 << groupPageBits]Entry[Group]

// Len is the number of groups.
func (g *Groups) Len() int { return g.n }

// Get returns the group of that number. Its epoch is the revision.
func (g *Groups) Get(number int) (e Entry[Group], ok bool) {
	if copies, p, i := placeOf(number); uint(copies) < uint(len(g.pages)) && p < len(g.pages[copies]) {
		if page := g.pages[copies][p]; page != nil {
			e = page[i]
		}
	}
	return e, e.Revision != 0
}

// All returns the groups in the order of their numbers.
func (g *Groups) All() iter.Seq2[int, Entry[Group]] {
	return func(yield func(int, Entry[Group]) bool) {
		for copies, pages := range g.pages {
			for p, page := range pages {
				if page == nil {
					continue
				}
				for i, e := range page {
					if e.Revision != 0 && !yield(GroupOf(copies, p<<groupPageBits|i), e) {
						return
					}
				}
			}
		}
	}
}

// with returns groups of which one is that entry, or absent if its revision is 0.
func (g Groups) with(number int, e Entry[Group]) Groups {
	copies, p, _ := placeOf(number)
	pages := slices.Clone(g.pages[copies])
	if p < len(pages) && pages[p] != nil {
		page := *pages[p]
		pages[p] = &page
	}
	g.pages[copies] = pages
	g.set(number, e)
	return g
}

// set changes groups that nobody else has yet.
func (g *Groups) set(number int, e Entry[Group]) {
	copies, p, i := placeOf(number)
	pages := g.pages[copies]
	if p >= len(pages) {
		pages = append(pages, make([]*groupPage, p+1-len(pages))...)
	}
	if pages[p] == nil {
		pages[p] = &groupPage{}
	}
	if pages[p][i].Revision != 0 {
		g.n--
	}
	if e.Revision != 0 {
		g.n++
	}
	pages[p][i], g.pages[copies] = e, pages
}

func placeOf(number int) (copies, page, i int) {
	copies, index := SplitGroup(number)
	return copies, index >> groupPageBits, index & (1<<groupPageBits - 1)
}
