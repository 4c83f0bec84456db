package record

import (
	"fmt"
	"strconv"
	"strings"
)

// A Kind is a kind of records.
type Kind uint8

// The kinds.
const (
	// Other is the kind of keys that are none of the records here.
	Other Kind = iota
	KindPool
	KindNext
	KindNode
	KindRun
	KindDisk
	KindGroup
	KindName
	KindVolume
	KindVersion
	KindSnapshot
	KindAttachment
	KindDeletion
	KindHealth
)

// kinds has the first part of the keys, and the other ones: i is an ID, n a name,
// g the number of a group, f a family, v a version.
var kinds = [...]struct{ first, parts string }{
	KindPool:       {"pool", ""},
	KindNext:       {"next", ""},
	KindNode:       {"node", "i"},
	KindRun:        {"run", "i"},
	KindDisk:       {"disk", "i"},
	KindGroup:      {"group", "g"},
	KindName:       {"name", "n"},
	KindVolume:     {"volume", "f"},
	KindVersion:    {"version", "fv"},
	KindSnapshot:   {"snapshot", "fvn"},
	KindAttachment: {"attach", "fv"},
	KindDeletion:   {"delete", "f"},
	KindHealth:     {"health", "i"},
}

// String is the first part of the keys of that kind.
func (k Kind) String() string {
	if k == Other || int(k) >= len(kinds) {
		return "other"
	}
	return kinds[k].first
}

// A Key says which record one is about. Fields that its kind does not have are
// zero.
type Key struct {
	Kind Kind
	// ID is that of a node or disk.
	ID string
	// Group is the number of a placement group.
	Group int
	// Family and Version are IDs; of snapshots and attachments the version is a
	// line.
	Family, Version uint64
	// Name is that of a volume or snapshot.
	Name string
}

// String is the key in the store.
func (k Key) String() string {
	if k.Kind == Other || int(k.Kind) >= len(kinds) {
		return ""
	}
	b := append(make([]byte, 0, 64), kinds[k.Kind].first...)
	for _, part := range []byte(kinds[k.Kind].parts) {
		b = append(b, '/')
		switch part {
		case 'i':
			b = append(b, k.ID...)
		case 'n':
			b = append(b, k.Name...)
		case 'g':
			b = appendNumber(b, uint64(k.Group))
		case 'f':
			b = appendNumber(b, k.Family)
		case 'v':
			b = appendNumber(b, k.Version)
		}
	}
	return string(b)
}

func appendNumber(b []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return b
}

// ParseKey returns what a key of the store is about. It is no error if that is
// none of the records here, but one if it is and cannot be.
func ParseKey(s string) (Key, error) {
	parts := strings.Split(s, "/")
	k := Key{}
	for kind := KindPool; int(kind) < len(kinds); kind++ {
		if kinds[kind].first == parts[0] {
			k.Kind = kind
		}
	}
	if k.Kind == Other {
		return k, nil
	}
	form := kinds[k.Kind].parts
	if len(parts)-1 != len(form) {
		return Key{}, fmt.Errorf("the key %q has %d parts, expected %d: %w", s, len(parts), len(form)+1, ErrInvalid)
	}
	for i, text := range parts[1:] {
		if err := k.parse(form[i], text); err != nil {
			return Key{}, fmt.Errorf("the key %q: %w", s, err)
		}
	}
	return k, nil
}

func (k *Key) parse(part byte, text string) (err error) {
	switch part {
	case 'i':
		k.ID, err = text, checkID("ID", text)
	case 'n':
		k.Name, err = text, CheckName(text)
	case 'g':
		var n uint64
		if n, err = parseNumber(text); err == nil {
			k.Group, err = int(n), checkGroup(n)
		}
	case 'f':
		k.Family, err = parseNumber(text)
	case 'v':
		k.Version, err = parseNumber(text)
	}
	return err
}

func parseNumber(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 || strings.ToLower(s) != s || n == 0 {
		return 0, fmt.Errorf("%q, expected a number of 16 hexadecimal digits that is not 0: %w", s, ErrInvalid)
	}
	return n, nil
}

// The keys of the store. NextKey is that of Next, PoolKey that of the Pool.
const (
	PoolKey = "pool"
	NextKey = "next"
)

// NodeKey is the key of a node.
func NodeKey(id string) string { return Key{Kind: KindNode, ID: id}.String() }

// RunKey is the key of the process of a node.
func RunKey(node string) string { return Key{Kind: KindRun, ID: node}.String() }

// DiskKey is the key of a disk.
func DiskKey(id string) string { return Key{Kind: KindDisk, ID: id}.String() }

// GroupKey is the key of a placement group.
func GroupKey(n int) string { return Key{Kind: KindGroup, Group: n}.String() }

// NameKey is the key of the name of a volume.
func NameKey(name string) string { return Key{Kind: KindName, Name: name}.String() }

// VolumeKey is the key of a family.
func VolumeKey(fid uint64) string { return Key{Kind: KindVolume, Family: fid}.String() }

// VersionKey is the key of a version.
func VersionKey(fid, vid uint64) string {
	return Key{Kind: KindVersion, Family: fid, Version: vid}.String()
}

// SnapshotKey is the key of the name of a snapshot of the volume of that line.
func SnapshotKey(fid, line uint64, name string) string {
	return Key{Kind: KindSnapshot, Family: fid, Version: line, Name: name}.String()
}

// AttachmentKey is the key of the attachment of the volume of that line.
func AttachmentKey(fid, line uint64) string {
	return Key{Kind: KindAttachment, Family: fid, Version: line}.String()
}
