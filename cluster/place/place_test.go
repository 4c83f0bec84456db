package place

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/race"
)

// cluster returns n disks of one weight, perNode on a node and perZone nodes in a
// zone; with 0 a node is its own.
func cluster(n, perNode, perZone int) []Disk {
	disks := make([]Disk, n)
	for i := range disks {
		node := i / perNode
		disks[i] = Disk{ID: fmt.Sprintf("disk%d", i), Node: fmt.Sprintf("node%d", node), Weight: 4 << 40}
		if perZone > 0 {
			disks[i].Zone = fmt.Sprintf("zone%d", node/perZone)
		}
	}
	return disks
}

func mustNew(t testing.TB, disks []Disk) *Map {
	t.Helper()
	m, err := New(disks)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// all places so many groups.
func (m *Map) all(groups, copies int) [][]string {
	list := make([][]string, groups)
	for g := range list {
		list[g] = m.Disks(uint64(g), copies)
	}
	return list
}

// moved counts the copies in b that are not in a.
func moved(a, b [][]string) (n int) {
	for g := range a {
		for _, d := range b[g] {
			if !slices.Contains(a[g], d) {
				n++
			}
		}
	}
	return n
}

// Numbers that a second implementation, in another language and made from the
// package comment alone, agrees with.
func TestGolden(t *testing.T) {
	t.Parallel()
	for x, want := range map[uint64]uint64{
		1: 64 << 48, 2: 63 << 48, 3: 0x3e6a3fe5c6042a, 1 << 63: 1 << 48,
		math.MaxUint64: 0x2e2e, 0x123456789abcdef: 0x7d053f782f843,
	} {
		if got := cost(x); got != want {
			t.Errorf("cost(%#x) = %#x, expected %#x", x, got, want)
		}
	}
	if got := seedOf("disk0"); got != 0x5bd48b59f73dfcc7 {
		t.Errorf("the seed of disk0 is %#x", got)
	}
	disks := cluster(24, 2, 3)
	for i := range disks {
		disks[i].Weight = int64(1+i%5) << 40
	}
	m := mustNew(t, disks)
	var b strings.Builder
	for _, g := range []uint64{0, 1, 2, 4095, 1 << 40} {
		fmt.Fprintln(&b, g, m.Disks(g, 3), m.Disks(g, 6))
	}
	if got := b.String(); got != golden {
		t.Errorf("placed:\n%sexpected:\n%s", got, golden)
	}
}

const golden = `0 [disk18 disk4 disk14] [disk18 disk4 disk14 disk8 disk23 disk16]
1 [disk18 disk6 disk12] [disk18 disk6 disk12 disk3 disk9 disk14]
2 [disk7 disk4 disk21] [disk7 disk4 disk21 disk12 disk9 disk17]
4095 [disk17 disk4 disk22] [disk17 disk4 disk22 disk8 disk18 disk13]
1099511627776 [disk17 disk19 disk3] [disk17 disk19 disk3 disk11 disk14 disk20]
`

// The table, the straight lines and the shifts are a logarithm.
func TestCostIsALogarithm(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	last := uint64(math.MaxUint64)
	for range 200_000 {
		x := rng.Uint64() | 1
		if rng.IntN(2) == 0 {
			x >>= rng.IntN(64)
		}
		if rng.IntN(4) == 0 {
			x = ^x | 1
		}
		got := float64(cost(x)) / (1 << 48)
		f, _ := new(big.Float).SetUint64(math.MaxUint64 - x + 1).Float64()
		want := -math.Log1p(-f/0x1p64) / math.Ln2
		if x < 1<<62 {
			want = 64 - math.Log2(float64(x))
		}
		if cost(x) == 0 || math.Abs(got-want) > 0.0005*want+1e-9 {
			t.Fatalf("cost(%#x) is %g, expected %g", x, got, want)
		}
	}
	for x := uint64(1); x != 0 && x < math.MaxUint64/9*8; x += x/8 + 1 {
		if c := cost(x); c > last {
			t.Fatalf("cost(%#x) is greater than that of a smaller draw", x)
		} else {
			last = c
		}
	}
}

// The order in which disks are named has no influence.
func TestOrderOfDisks(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	disks := cluster(60, 3, 2)
	want := mustNew(t, disks).all(200, 3)
	for range 5 {
		rng.Shuffle(len(disks), func(i, j int) { disks[i], disks[j] = disks[j], disks[i] })
		if n := moved(want, mustNew(t, disks).all(200, 3)); n != 0 {
			t.Fatalf("%d copies are elsewhere", n)
		}
	}
}

// Random clusters: the rules of spreading hold for every group.
func TestSpread(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		disks := cluster(1+rng.IntN(30), 1+rng.IntN(4), rng.IntN(5))
		by := map[string]Disk{}
		nodesOf := map[string]map[string]bool{} // of zones, those that have a weight
		nodes := map[string]bool{}
		for i := range disks {
			d := &disks[i]
			d.Weight = rng.Int64N(5) * (1 << rng.IntN(58))
			by[d.ID] = *d
			if d.Weight > 0 {
				nodes[d.Node] = true
				if nodesOf[zoneOf(*d)] == nil {
					nodesOf[zoneOf(*d)] = map[string]bool{}
				}
				nodesOf[zoneOf(*d)][d.Node] = true
			}
		}
		m, copies := mustNew(t, disks), rng.IntN(8)
		wantDisks, wantZones := m.Reach(copies)
		if wantDisks != min(copies, len(nodes)) || wantZones != min(copies, len(nodesOf)) {
			t.Fatalf("reach of %d copies is %d disks and %d zones", copies, wantDisks, wantZones)
		}
		for g := range uint64(50) {
			ids := m.Disks(g, copies)
			zones, used := map[string]int{}, map[string]bool{}
			for _, id := range ids {
				d := by[id]
				if d.Weight == 0 || used[d.Node] {
					t.Fatalf("seed %d: group %d is on %v: %s has no weight, or its node a copy", seed, g, ids, id)
				}
				used[d.Node] = true
				zones[zoneOf(d)]++
			}
			if len(ids) != wantDisks || len(zones) != wantZones {
				t.Fatalf("seed %d: group %d is on %v in %d zones, expected %d disks in %d", seed, g, ids, len(zones), wantDisks, wantZones)
			}
			for zone, n := range zones {
				for other := range nodesOf {
					if n > zones[other]+1 && zones[other] < len(nodesOf[other]) {
						t.Fatalf("seed %d: group %d is on %v: zone %s has %d copies, %s only %d", seed, g, ids, zone, n, other, zones[other])
					}
				}
			}
		}
	}
}

func zoneOf(d Disk) string {
	if d.Zone == "" {
		return "of " + d.Node
	}
	return d.Zone
}

func TestFewDisks(t *testing.T) {
	t.Parallel()
	if ids := mustNew(t, nil).Disks(1, 3); len(ids) != 0 {
		t.Errorf("no disks: %v", ids)
	}
	m := mustNew(t, cluster(4, 2, 0))
	for copies, want := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 2, 3: 2, 100: 2} {
		if ids := m.Disks(7, copies); len(ids) != want {
			t.Errorf("%d copies: %v", copies, ids)
		}
	}
}

func TestNotDisks(t *testing.T) {
	t.Parallel()
	for name, disks := range map[string][]Disk{
		"no ID":     {{Node: "a"}},
		"no node":   {{ID: "a"}},
		"twice":     {{ID: "a", Node: "a"}, {ID: "a", Node: "b"}},
		"negative":  {{ID: "a", Node: "a", Weight: -1}},
		"two zones": {{ID: "a", Node: "n", Zone: "x"}, {ID: "b", Node: "n", Zone: "y"}},
	} {
		if _, err := New(disks); !errors.Is(err, ErrDisks) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIndexAndRange(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(6, 7))
	for groups := 1; groups <= MaxGroups; groups *= 2 {
		for range 100 {
			hash := rng.Uint64()
			g := Index(hash, groups)
			first, last := Range(g, groups)
			if g < 0 || g >= groups || hash < first || hash > last || Index(first, groups) != g || Index(last, groups) != g {
				t.Fatalf("hash %#x is in group %d of %d, from %#x to %#x", hash, g, groups, first, last)
			}
		}
		if first, _ := Range(0, groups); first != 0 {
			t.Errorf("the first of %d groups begins at %#x", groups, first)
		}
		if _, last := Range(groups-1, groups); last != math.MaxUint64 {
			t.Errorf("the last of %d groups ends at %#x", groups, last)
		}
	}
}

// spread returns the greatest and the standard deviation of what disks have,
// relative to what their weights say.
func spread(disks []Disk, list [][]string, copies int) (sd, most float64) {
	have, sum := map[string]int{}, 0.0
	for _, ids := range list {
		for _, id := range ids {
			have[id]++
		}
	}
	for _, d := range disks {
		sum += float64(d.Weight)
	}
	for _, d := range disks {
		ideal := float64(d.Weight) / sum * float64(len(list)*copies)
		r := float64(have[d.ID]) / ideal
		sd += (r - 1) * (r - 1)
		most = max(most, r)
	}
	return math.Sqrt(sd / float64(len(disks))), most
}

// Disks get what their weights say, but for chance.
func TestBalance(t *testing.T) {
	t.Parallel()
	const copies = 3
	for _, nodes := range []int{10, 100, 500} {
		for _, groups := range []int{4096, 16384, 65536} {
			if race.Enabled && nodes*groups > 100*16384 {
				continue // ten times slower, and nothing to find
			}
			disks := cluster(nodes, 1, 0)
			sd, most := spread(disks, mustNew(t, disks).all(groups, copies), copies)
			chance := 1 / math.Sqrt(float64(groups*copies)/float64(nodes))
			t.Logf("%3d disks, %5d groups: standard deviation %4.1f %%, the fullest %5.1f %%; chance %4.1f %%", nodes, groups, 100*sd, 100*(most-1), 100*chance)
			if sd > 1.2*chance || most > 1+5.5*chance {
				t.Errorf("%d disks, %d groups: standard deviation %.3f, fullest %.3f, chance alone %.3f", nodes, groups, sd, most, chance)
			}
		}
	}
}

// One copy of each group has no rules, so that weights are kept to exactly.
func TestWeights(t *testing.T) {
	t.Parallel()
	groups := 200_000
	if race.Enabled {
		groups = 20_000
	}
	disks := cluster(20, 1, 0)
	for i := range disks {
		disks[i].Weight = 1 << 30 * int64(1+i%4)
	}
	m := mustNew(t, disks)
	have := map[int64]int{}
	by := map[string]int64{}
	for _, d := range disks {
		by[d.ID] = d.Weight >> 30
	}
	for g := range uint64(groups) {
		have[by[m.Disks(g, 1)[0]]]++
	}
	for w := int64(1); w <= 4; w++ {
		want := float64(groups) * float64(w) / 10
		if d := float64(have[w]) - want; math.Abs(d) > 4.5*math.Sqrt(want) {
			t.Errorf("the disks of weight %d have %d groups, expected %.0f", w, have[w], want)
		}
	}
}

// When one disk comes, goes or changes, little more moves than must.
func TestMovement(t *testing.T) {
	t.Parallel()
	const copies = 3
	groups := 8192
	if race.Enabled {
		groups = 1024
	}
	for _, perZone := range []int{0, 4} {
		for _, nodes := range []int{12, 100} {
			disks := cluster(nodes, 1, perZone)
			for name, change := range map[string]func(d []Disk) []Disk{
				"one goes":      func(d []Disk) []Disk { return slices.Delete(d, 5, 6) },
				"one drains":    func(d []Disk) []Disk { d[5].Weight = 0; return d },
				"one is halved": func(d []Disk) []Disk { d[5].Weight /= 2; return d },
				"one comes":     func(d []Disk) []Disk { d[5].ID += "new"; return d },
			} {
				was := disks
				if name == "one comes" {
					was = slices.Delete(slices.Clone(disks), 5, 6)
				}
				before := mustNew(t, was).all(groups, copies)
				now := change(slices.Clone(disks))
				after := mustNew(t, now).all(groups, copies)
				least, got := 0.0, moved(before, after)
				a, b := count(before), count(after)
				for _, id := range []string{"disk5", "disk5new"} {
					least += math.Abs(float64(a[id] - b[id]))
				}
				t.Logf("%d nodes, %d in a zone, %s: %d copies move, %.0f must", nodes, perZone, name, got, least)
				if float64(got) > 1.05*least {
					t.Errorf("%d nodes, %d in a zone, %s: %d copies move, %.0f must", nodes, perZone, name, got, least)
				}
			}
		}
	}
}

func count(list [][]string) map[string]int {
	n := map[string]int{}
	for _, ids := range list {
		for _, id := range ids {
			n[id]++
		}
	}
	return n
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{3, 100, 500} {
		b.Run(fmt.Sprintf("disks=%d", n), func(b *testing.B) {
			m := mustNew(b, cluster(n, 1, 0))
			b.ReportAllocs()
			for g := uint64(0); b.Loop(); g++ {
				m.Disks(g, 3)
			}
		})
	}
}

func BenchmarkAll(b *testing.B) {
	m := mustNew(b, cluster(500, 1, 0))
	for _, groups := range []int{4096, Groups} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			for b.Loop() {
				m.all(groups, 3)
			}
		})
	}
}
