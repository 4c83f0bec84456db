package record

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/strata-storage/strata/cluster/place"
)

// Limits of records.
const (
	MaxName       = 128      // bytes of the name of a volume or snapshot
	MaxCopies     = 16       // of a volume
	MinObjectSize = 64 << 10 // bytes
	MaxObjectSize = 1 << 30  // bytes

	maxID      = 64   // bytes
	maxText    = 1024 // bytes of what is for people, and of addresses
	maxMembers = 64   // of a group, with those who join
)

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrInvalid)...)
}

// CheckName says what is wrong with the name of a volume or a snapshot.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return invalid("a name of %d bytes, expected 1 to %d", len(name), MaxName)
	}
	for i := range len(name) {
		if c := name[i]; !letter(c) && (i == 0 || !strings.ContainsRune("-.:+", rune(c))) {
			return invalid("the name %q, expected letters, digits and _, behind the first one also - . : +", name)
		}
	}
	return nil
}

// MaxNodeName bounds, in bytes, what people call a node, as machines do.
const MaxNodeName = 64

// CheckNodeName says what is wrong with what people are to call a node. Records of nodes
// that are called otherwise are understood.
func CheckNodeName(name string) error {
	if len(name) > MaxNodeName || !utf8.ValidString(name) {
		return invalid("the name of a node of %d bytes, expected UTF-8 of at most %d", len(name), MaxNodeName)
	}
	if strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsGraphic(c) }) {
		return invalid("the name %q of a node, expected what can be printed", name)
	}
	return nil
}

// CheckZone says what is wrong with the name of a zone.
func CheckZone(zone string) error { return checkID("a zone", zone) }

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func checkID(what, id string) error {
	if id == "" || len(id) > maxID {
		return invalid("%s of %d bytes, expected 1 to %d", what, len(id), maxID)
	}
	for i := range len(id) {
		if c := id[i]; !letter(c) && c != '-' && c != '.' && c != ':' {
			return invalid("%s %q, expected letters, digits and _ - . :", what, id)
		}
	}
	return nil
}

func checkText(what, text string) error {
	if len(text) > maxText || !utf8.ValidString(text) {
		return invalid("%s of %d bytes, expected UTF-8 of at most %d", what, len(text), maxText)
	}
	return nil
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (k Key) is(kind Kind) error {
	if k.Kind != kind {
		return invalid("a record of %v under a key of %v", kind, k.Kind)
	}
	return nil
}

func (p Pool) check(k Key) error {
	if err := k.is(KindPool); err != nil {
		return err
	}
	if p.Format > Format {
		return fmt.Errorf("format %d, this program knows up to %d: %w", p.Format, Format, ErrNewer)
	}
	if _, err := hex.DecodeString(p.Cluster); err != nil || len(p.Cluster) != 32 || strings.ToLower(p.Cluster) != p.Cluster {
		return invalid("the name of the cluster %.40q, expected 32 hexadecimal digits", p.Cluster)
	}
	if p.Format < 1 {
		return invalid("format %d, expected 1 or more", p.Format)
	}
	if p.Groups < 1 || p.Groups > place.MaxGroups || bits.OnesCount(uint(p.Groups)) != 1 {
		return invalid("%d groups, expected a power of two up to %d", p.Groups, place.MaxGroups)
	}
	return nil
}

func (n Next) check(k Key) error {
	if n.Family == 0 {
		return invalid("family 0, expected 1 or more")
	}
	return k.is(KindNext)
}

func (n Node) check(k Key) error {
	if n.ID != k.ID {
		return invalid("node %.80q under the key of %q", n.ID, k.ID)
	}
	return first(k.is(KindNode), checkText("a name", n.Name), checkID("zone", n.Zone),
		checkText("an address for votes", n.Votes), checkText("the number of a certificate", n.Serial))
}

func (r Run) check(k Key) error {
	return first(k.is(KindRun), checkID("incarnation", r.Incarnation), checkText("an address for peers", r.Peers),
		checkText("an address for clients", r.Exports), checkText("an address for orders", r.Control), checkText("a version", r.Version))
}

func (d Disk) check(k Key) error {
	if d.ID != k.ID {
		return invalid("disk %.80q under the key of %q", d.ID, k.ID)
	}
	if d.Size < 0 || d.Weight < 0 {
		return invalid("size %d and weight %d, expected 0 or more", d.Size, d.Weight)
	}
	return first(k.is(KindDisk), checkID("node", d.Node), checkText("a failure", d.Failed))
}

func (g Group) check(k Key) error {
	if err := k.is(KindGroup); err != nil {
		return err
	}
	if len(g.Members) == 0 || len(g.Members)+len(g.Joining) > maxMembers {
		return invalid("%d members and %d that join, expected 1 to %d in all, and a member", len(g.Members), len(g.Joining), maxMembers)
	}
	seen := make(map[string]bool, len(g.Members)+len(g.Joining))
	for _, list := range [][]Member{g.Members, g.Joining} {
		for _, m := range list {
			if err := first(checkID("disk", m.Disk), checkID("incarnation", m.Incarnation)); err != nil {
				return err
			}
			if seen[m.Disk] {
				return invalid("disk %s is there twice", m.Disk)
			}
			seen[m.Disk] = true
		}
	}
	return nil
}

func (n Name) check(k Key) error {
	if n.Family == 0 || n.Line == 0 || n.Head < n.Line {
		return invalid("family %d, line %d, head %d, expected no 0, and no head before the line", n.Family, n.Line, n.Head)
	}
	if n.Snapshots < 0 {
		return invalid("%d snapshots, expected 0 or more", n.Snapshots)
	}
	return first(k.is(KindName), checkSize(n.Size))
}

func checkSize(size int64) error {
	if size < 1 {
		return invalid("a size of %d bytes, expected 1 or more", size)
	}
	return nil
}

func (v Volume) check(k Key) error {
	if v.Family != k.Family || v.NextVersion == 0 {
		return invalid("family %d with next version %d under the key of %d, expected the same family and a version", v.Family, v.NextVersion, k.Family)
	}
	if v.ObjectSize < MinObjectSize || v.ObjectSize > MaxObjectSize || bits.OnesCount64(uint64(v.ObjectSize)) != 1 {
		return invalid("objects of %d bytes, expected a power of two from %d to %d", v.ObjectSize, MinObjectSize, MaxObjectSize)
	}
	if v.Copies < 1 || v.Copies > MaxCopies {
		return invalid("%d copies, expected 1 to %d", v.Copies, MaxCopies)
	}
	if v.MinCopies < 1 || v.MinCopies > v.Copies {
		return invalid("%d copies at least, expected 1 to %d", v.MinCopies, v.Copies)
	}
	if v.Zones < 0 || v.Zones > v.Copies {
		return invalid("%d zones at least, expected 0 to %d", v.Zones, v.Copies)
	}
	return k.is(KindVolume)
}

func (v Version) check(k Key) error {
	if v.ID != k.Version || v.Parent >= v.ID || v.Line == 0 || v.Line > v.ID {
		return invalid("version %d with parent %d in line %d under the key of %d, expected the same version, and no younger parent or line", v.ID, v.Parent, v.Line, k.Version)
	}
	if v.Name == "" {
		if v.Size != 0 || v.Origin != "" {
			return invalid("a size of %d bytes and the origin %.80q, expected neither without a name", v.Size, v.Origin)
		}
		return k.is(KindVersion)
	}
	if v.Doomed {
		return invalid("the name %.80q of a doomed version", v.Name)
	}
	return first(k.is(KindVersion), CheckName(v.Name), checkSize(v.Size), checkText("an origin", v.Origin))
}

func (s Snapshot) check(k Key) error {
	if s.Version == 0 {
		return invalid("version 0, expected 1 or more")
	}
	return k.is(KindSnapshot)
}

func (a Attachment) check(k Key) error {
	return first(k.is(KindAttachment), checkID("node", a.Node), checkID("incarnation", a.Incarnation))
}
