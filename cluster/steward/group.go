package steward

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// A scene is a group, and who should have it.
type scene struct {
	*Facts
	*Group
	o *Options
	// wish is who should have it, and soon the same without those that are away for
	// a short time.
	wish, soon []string
	// roomy says who should have it if no disk that is full counts. It may be nil.
	roomy func(*Group) []string
	// living is how many members live, and coming how many joining disks do; wished
	// are those of them that are in the wish.
	living, coming, wished int
}

func newScene(f *Facts, g *Group, o *Options, wish, soon []string) *scene {
	s := &scene{Facts: f, Group: g, o: o, wish: wish, soon: soon}
	for _, m := range g.Record.Members {
		if f.lives(m) {
			s.living++
		}
	}
	for _, m := range g.Record.Joining {
		if f.lives(m) {
			s.coming++
			if slices.Contains(wish, m.Disk) {
				s.wished++
			}
		}
	}
	return s
}

// rests reports whether the group is as it should be, as most are most of the time.
func (s *scene) rests() bool {
	if s.living < len(s.Record.Members) || s.living != len(s.wish) || len(s.Record.Joining) > 0 {
		return false
	}
	for _, m := range s.Record.Members {
		if !slices.Contains(s.wish, m.Disk) {
			return false
		}
	}
	return true
}

// lacks is how many copies are missing.
func (s *scene) lacks() int { return max(len(s.wish)-s.living, 0) }

// all is how many disks get each write.
func (s *scene) all() int { return len(s.Record.Members) + len(s.Record.Joining) }

// blocked reports whether writes wait for a disk that may not be removed.
func (s *scene) blocked() bool { return s.living+s.coming < s.min() }

// away is for how long the node of a disk is as it is, for people.
func (s *scene) away(disk string) time.Duration {
	return (s.Now - s.since(disk)).Round(time.Second)
}

// change returns a change of the group, of a copy of its record.
func (s *scene) change(k Kind, disk, why string, edit func(*record.Group)) *Change {
	r := s.Record
	r.Members, r.Joining = slices.Clone(r.Members), slices.Clone(r.Joining)
	edit(&r)
	return &Change{Kind: k, Group: s.Number, Epoch: s.Epoch, Disk: disk, Why: why, Record: r}
}

// without returns a list without a disk.
func without(list []record.Member, disk string) []record.Member {
	return slices.DeleteFunc(list, func(m record.Member) bool { return m.Disk == disk })
}

// joiner is a disk as it is added to the record.
func (s *scene) joiner(disk string) record.Member {
	return record.Member{Disk: disk, Incarnation: s.incarnation(disk), Since: int64(s.Epoch)}
}

// dead are the members, or joining disks, that do not live, first those that are of
// the least use should all others be lost.
func (s *scene) dead(list []record.Member) (dead []record.Member) {
	for _, m := range list {
		if !s.lives(m) {
			dead = append(dead, m)
		}
	}
	use := map[Condition]int{Gone: 0, Back: 1, Away: 2}
	slices.SortStableFunc(dead, func(a, b record.Member) int {
		return cmp.Or(cmp.Compare(use[s.Condition(a)], use[s.Condition(b)]), cmp.Compare(s.since(a.Disk), s.since(b.Disk)))
	})
	return dead
}

// fate says what has become of a disk that does not live.
func (s *scene) fate(m record.Member) string {
	switch s.Condition(m) {
	case Back:
		return "its node was started anew"
	case Away:
		return fmt.Sprintf("node %s is away for %v", s.Disks[m.Disk].Node, s.away(m.Disk))
	default:
		if why := s.Disks[m.Disk].Failed; why != "" {
			return "it has failed: " + why
		}
		return "it does not belong to the cluster any more"
	}
}

// settle returns a change that is due at once: it costs nothing, and somebody may wait
// for it.
func (s *scene) settle() *Change {
	if s.living == 0 {
		return s.revive()
	}
	if c := s.bury(s.Record.Members, Remove); c != nil {
		return c
	}
	if first := s.Record.Members[0]; !s.lives(first) {
		i := slices.IndexFunc(s.Record.Members, s.lives)
		lead := s.Record.Members[i]
		return s.change(Lead, lead.Disk, fmt.Sprintf("others pull from the first member, which is disk %s: %s", first.Disk, s.fate(first)), func(r *record.Group) {
			r.Members = slices.Insert(slices.Delete(r.Members, i, i+1), 0, lead)
		})
	}
	return s.bury(s.Record.Joining, Cancel)
}

// bury removes a disk that does not live, or lets it join if that would leave too few.
func (s *scene) bury(list []record.Member, kind Kind) *Change {
	dead := s.dead(list)
	left := s.all() - 1
	if kind == Remove {
		left = len(s.Record.Members) - 1
	}
	if len(dead) > 0 && left >= max(s.min(), 1) {
		m := dead[0]
		return s.change(kind, m.Disk, s.fate(m), func(r *record.Group) {
			r.Members, r.Joining = without(r.Members, m.Disk), without(r.Joining, m.Disk)
		})
	}
	for _, m := range dead {
		if s.Condition(m) == Back {
			why := fmt.Sprintf("%s, and without it too few are left for writes, which need %d", s.fate(m), s.min())
			return s.change(Exchange, m.Disk, why, func(r *record.Group) {
				r.Members = without(r.Members, m.Disk)
				r.Joining = append(without(r.Joining, m.Disk), s.joiner(m.Disk))
			})
		}
	}
	return nil
}

// revive lets a group go on none of whose members lives, if that can be now.
func (s *scene) revive() *Change {
	var back []record.Member
	usable, since := 0, s.Now
	for _, m := range s.Record.Members {
		switch s.Condition(m) {
		case Back:
			back = append(back, s.joiner(m.Disk))
			since = min(since, s.since(m.Disk))
			usable++
		case Away:
			usable++
		}
	}
	if len(back) == 0 || len(back) < usable && s.Now-since < s.o.Revive {
		return nil
	}
	var joining []record.Member
	need := min(s.min(), s.all())
	for _, d := range s.wish {
		isBack := slices.ContainsFunc(back, func(m record.Member) bool { return m.Disk == d })
		if len(back)+len(joining) < need && !isBack && s.incarnation(d) != "" {
			joining = append(joining, s.joiner(d))
		}
	}
	if len(back)+len(joining) < need {
		return nil
	}
	why := fmt.Sprintf("no member has lived on; %d of %d are back", len(back), len(s.Record.Members))
	return s.change(Revive, back[0].Disk, why, func(r *record.Group) {
		r.Members, r.Joining = back, joining
		r.Revived++
	})
}

// tidy returns a change that removes what is there too much.
func (s *scene) tidy() *Change {
	if len(s.wish) == 0 || s.living < len(s.Record.Members) {
		return nil
	}
	if len(s.Record.Members) > max(len(s.wish), s.min()) {
		// Not all of those that are not wished for: there may be no other place for a copy.
		if d := s.surplus(); d != "" {
			return s.change(Leave, d, "it is one too many, and has its place elsewhere", func(r *record.Group) {
				r.Members = without(r.Members, d)
			})
		}
	}
	return nil
}

// cancel returns a change that removes a joining disk that is not needed.
func (s *scene) cancel() *Change {
	if len(s.wish) == 0 || s.wished < s.lacks() || s.all()-1 < s.min() {
		return nil
	}
	for _, m := range s.Record.Joining {
		if !slices.Contains(s.wish, m.Disk) {
			return s.change(Cancel, m.Disk, "it is not needed any more", func(r *record.Group) {
				r.Joining = without(r.Joining, m.Disk)
			})
		}
	}
	return nil
}

// surplus is the member that leaves first: one without which the others are in as many
// zones as can be, then on as many nodes, then one that is to be empty, then the last one,
// as the first is where others pull from.
func (s *scene) surplus() (disk string) {
	best := -1
	for _, m := range slices.Backward(s.Record.Members) {
		if slices.Contains(s.wish, m.Disk) || !s.spare(m) {
			continue
		}
		score := 4 * s.zonesWithout(m.Disk)
		if s.twice(m) {
			score += 2
		}
		if s.emptying(m.Disk) {
			score++
		}
		if score > best {
			best, disk = score, m.Disk
		}
	}
	return disk
}

// spare reports whether a group has as many copies on different nodes as before without a
// member, or as many as it is to have.
func (s *scene) spare(m record.Member) bool {
	return len(s.Record.Members) > s.Copies() || s.twice(m)
}

// twice reports whether there is another member on the node of a member.
func (s *scene) twice(m record.Member) bool {
	return slices.ContainsFunc(s.Record.Members, func(o record.Member) bool {
		return o.Disk != m.Disk && s.Disks[o.Disk].Node == s.Disks[m.Disk].Node
	})
}

// emptying reports whether a disk is to have nothing.
func (s *scene) emptying(disk string) bool {
	d := s.Disks[disk]
	return d.Weight == 0 || s.Nodes[d.Node].Draining
}

// stuck are the disks that are to have nothing, and keep the group as there is no other node
// for it.
func (s *scene) stuck() (disks []string) {
	for _, m := range s.Record.Members {
		if len(s.wish) < s.Copies() && s.emptying(m.Disk) && !s.spare(m) {
			disks = append(disks, m.Disk)
		}
	}
	return disks
}

// zonesWithout is in how many zones the other members are.
func (s *scene) zonesWithout(disk string) int {
	zones := map[string]bool{}
	for _, m := range s.Record.Members {
		if m.Disk != disk {
			zones[s.zone(m.Disk)] = true
		}
	}
	return len(zones)
}

// joiners are the disks of which one should join, the best one first, and whether
// that is to move the group only.
func (s *scene) joiners() (disks []string, move bool) {
	if s.living == 0 || s.all() >= maxDisks {
		return nil, false
	}
	if s.lacks() > s.wished {
		disks = s.able(s.wish)
	}
	if len(disks) == 0 && s.blocked() {
		disks = s.able(s.soon)
	}
	if len(disks) == 0 && s.lacks() > s.coming {
		disks = s.instead()
	}
	if len(disks) > 0 || s.lacks() > 0 || s.living < len(s.Record.Members) || len(s.Record.Joining) > 0 {
		return disks, false
	}
	for _, d := range s.able(s.wish) {
		if disk := s.Disks[d]; !disk.Full && disk.percent() < int64(s.o.Full) {
			disks = append(disks, d)
		}
	}
	return disks, true
}

// maxDisks bounds members and joining disks of a group.
const maxDisks = 48

// able are those of the disks that can join now.
func (s *scene) able(list []string) (able []string) {
	for _, d := range list {
		is := func(m record.Member) bool { return m.Disk == d }
		if s.incarnation(d) != "" && !s.holds(Hold{s.Number, d}) &&
			!slices.ContainsFunc(s.Record.Members, is) && !slices.ContainsFunc(s.Record.Joining, is) {
			able = append(able, d)
		}
	}
	return able
}

// kept is a disk that should have the group and does not, as it has been full for a while;
// none if that is the reason of nothing.
func (s *scene) kept() (disk string) {
	for _, d := range s.wish {
		if h := (Hold{s.Number, d}); s.Disks[d].Full && s.holds(h) && s.Now-s.Held[h] >= s.o.Hold {
			return d
		}
	}
	return ""
}

// instead are disks that can join for one that is full. The group moves back when that has
// room again.
func (s *scene) instead() (disks []string) {
	if s.roomy == nil || s.kept() == "" {
		return nil
	}
	for _, d := range s.able(s.roomy(s.Group)) {
		near := func(m record.Member) bool { return s.zone(m.Disk) == s.zone(d) }
		if !slices.ContainsFunc(s.Record.Members, near) {
			disks = append(disks, d)
		}
	}
	return disks
}

// refuse are the disks that should have the group and do not, as they are full.
func (s *scene) refuse() (disks []string) {
	for _, d := range s.wish {
		if s.lacks() > 0 && s.Disks[d].Full && s.holds(Hold{s.Number, d}) {
			disks = append(disks, d)
		}
	}
	return disks
}
