package record

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var someTime = time.Date(2026, 11, 27, 7, 0, 0, 5, time.UTC)

// samples has one record of each kind, with its value.
var samples = []struct {
	key    string
	record Record
	value  string
}{
	{PoolKey, Pool{strings.Repeat("0f", 16), 1, 4096}, `{"cluster":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","format":1,"groups":4096}`},
	{NextKey, Next{7}, `{"family":7}`},
	{"node/n1", Node{"n1", "Ä host", "rack-7", true, "https://h:1", 3, "4a"}, `{"id":"n1","name":"Ä host","zone":"rack-7","draining":true,"votes":"https://h:1","starts":3,"serial":"4a"}`},
	{"run/n1", Run{Incarnation: "i1", Peers: "10.0.0.1:7000", Version: "v1"}, `{"incarnation":"i1","peers":"10.0.0.1:7000","version":"v1"}`},
	{"disk/d1", Disk{ID: "d1", Node: "n1", Size: 1 << 40, Weight: 9}, `{"id":"d1","node":"n1","size":1099511627776,"weight":9}`},
	{"group/0000000000300007", Group{[]Member{{"d1", "i1", 0}}, []Member{{"d2", "i2", 9}}, 1}, `{"members":[{"disk":"d1","incarnation":"i1"}],"joining":[{"disk":"d2","incarnation":"i2","since":9}],"revived":1}`},
	{"name/vm1", Name{3, 1, 2, 1 << 30, 1, someTime}, `{"family":3,"line":1,"head":2,"size":1073741824,"snapshots":1,"created":"2026-11-27T07:00:00.000000005Z"}`},
	{"volume/0000000000000003", Volume{3, 4 << 20, 3, 2, 0, 3}, `{"family":3,"objectSize":4194304,"copies":3,"minCopies":2,"nextVersion":3}`},
	{"version/0000000000000003/00000000000000ff", Version{255, 1, false, 1, "monday", 512, "c/3/4", someTime}, `{"id":255,"parent":1,"line":1,"name":"monday","size":512,"origin":"c/3/4","created":"2026-11-27T07:00:00.000000005Z"}`},
	{"snapshot/0000000000000003/0000000000000001/monday", Snapshot{255}, `{"version":255}`},
	{"attach/0000000000000003/0000000000000001", Attachment{"n1", "i1"}, `{"node":"n1","incarnation":"i1"}`},
	{"delete/0000000000000003", Deletion{[]uint64{7, 2}}, `{"versions":[7,2]}`},
	{"health/d1", Health{Used: 5, Size: 9, Data: Pass{Begun: someTime, Cursor: 3}}, `{"used":5,"size":9,"data":{"begun":"2026-11-27T07:00:00.000000005Z","cursor":3}}`},
}

// Keys and values are what they are: other versions of this program read them.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, s := range samples {
		value, err := Encode(s.key, s.record)
		if err != nil || string(value) != s.value {
			t.Errorf("%s is %s, %v, expected %s", s.key, value, err, s.value)
		}
		k, err := ParseKey(s.key)
		if err != nil || k.String() != s.key {
			t.Errorf("the key %s is %v, %v", s.key, k, err)
		}
		if err := reencode(s.key, []byte(s.value)); err != nil {
			t.Errorf("%s: %v", s.key, err)
		}
	}
	for got, want := range map[string]string{
		NodeKey("n1"): "node/n1", RunKey("n1"): "run/n1", DiskKey("d1"): "disk/d1", NameKey("vm1"): "name/vm1",
		GroupKey(GroupOf(3, 7)): "group/0000000000300007", VolumeKey(3): "volume/0000000000000003",
		VersionKey(3, 255):          "version/0000000000000003/00000000000000ff",
		SnapshotKey(3, 1, "monday"): "snapshot/0000000000000003/0000000000000001/monday",
		AttachmentKey(3, 1):         "attach/0000000000000003/0000000000000001",
	} {
		if got != want {
			t.Errorf("the key %s, expected %s", got, want)
		}
	}
}

// decodeAny decodes a record of any kind.
func decodeAny(key string, value []byte) (Record, error) {
	k, err := ParseKey(key)
	if err != nil {
		return nil, err
	}
	switch k.Kind {
	case KindPool:
		return Decode[Pool](key, value)
	case KindNext:
		return Decode[Next](key, value)
	case KindNode:
		return Decode[Node](key, value)
	case KindRun:
		return Decode[Run](key, value)
	case KindDisk:
		return Decode[Disk](key, value)
	case KindGroup:
		return Decode[Group](key, value)
	case KindName:
		return Decode[Name](key, value)
	case KindVolume:
		return Decode[Volume](key, value)
	case KindVersion:
		return Decode[Version](key, value)
	case KindSnapshot:
		return Decode[Snapshot](key, value)
	case KindAttachment:
		return Decode[Attachment](key, value)
	case KindDeletion:
		return Decode[Deletion](key, value)
	case KindHealth:
		return Decode[Health](key, value)
	}
	return nil, ErrInvalid
}

// reencode decodes a record, and checks that it can be encoded and is the same then.
func reencode(key string, value []byte) error {
	r, err := decodeAny(key, value)
	if err != nil {
		return err
	}
	first, err := Encode(key, r)
	if err != nil {
		return errors.New("cannot be encoded: " + err.Error())
	}
	if r, err = decodeAny(key, first); err != nil {
		return errors.New("cannot be decoded again: " + err.Error())
	}
	if second, err := Encode(key, r); err != nil || string(second) != string(first) {
		return errors.New("is another one when it was encoded: " + string(second))
	}
	return nil
}

func TestBadRecords(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0f", 16)
	for _, tt := range []struct {
		key, value, text string
		is               error
	}{
		{"pool", `{"cluster":"` + id + `","format":2,"groups":1}`, "format 2, this program knows up to 1", ErrNewer},
		{"pool", `{"cluster":"` + id + `","format":1,"groups":1,"colour":"red"}`, `the field "colour"`, ErrNewer},
		{"pool", `{"cluster":"` + id + `","format":1,"groups":3}`, "3 groups, expected a power of two", ErrInvalid},
		{"pool", `{"cluster":"` + id + `","groups":1}`, "format 0", ErrInvalid},
		{"pool", `{"cluster":"X","format":1,"groups":1}`, "32 hexadecimal digits", ErrInvalid},
		{"next", `{"family":0}`, "family 0", ErrInvalid},
		{"next", `{"family":1} {}`, "more behind", ErrInvalid},
		{"next", ``, "EOF", ErrInvalid},
		{"next", `{"family":"1"}`, "cannot unmarshal", ErrInvalid},
		{"next", strings.Repeat(" ", MaxRecord+1), "at most 65536", ErrInvalid},
		{"node/a", `{"id":"b","zone":"z"}`, `node "b" under the key of "a"`, ErrInvalid},
		{"node/a", `{"id":"a","zone":""}`, "zone of 0 bytes", ErrInvalid},
		{"node/a b", `{}`, "expected letters", ErrInvalid},
		{"run/a", `{"incarnation":"i","peers":"` + strings.Repeat("p", 1025) + `"}`, "1025 bytes", ErrInvalid},
		{"disk/a", `{"id":"a","node":"n","size":-1,"weight":0}`, "size -1", ErrInvalid},
		{"disk/a", `{"id":"b","node":"n"}`, `disk "b"`, ErrInvalid},
		{"group/0000000000300007", `{"members":[]}`, "0 members", ErrInvalid},
		{"group/0000000000300007", `{"members":[{"disk":"a","incarnation":"i"}],"joining":[{"disk":"a","incarnation":"i"}]}`, "disk a is there twice", ErrInvalid},
		{"group/0000000000300007", `{"members":[{"disk":"a"}]}`, "incarnation of 0 bytes", ErrInvalid},
		{"group/0000000000000007", `{"members":[]}`, "of 0 copies", ErrInvalid},
		{"group/7", `{}`, "16 hexadecimal digits", ErrInvalid},
		{"group/00000000003000FF", `{}`, "16 hexadecimal digits", ErrInvalid},
		{"name/a@b", `{}`, "expected letters", ErrInvalid},
		{"name/" + strings.Repeat("a", 129), `{}`, "129 bytes", ErrInvalid},
		{"name/a", `{"family":1,"line":2,"head":1,"size":1}`, "head 1", ErrInvalid},
		{"name/a", `{"family":1,"line":1,"head":1,"size":0}`, "a size of 0 bytes", ErrInvalid},
		{"name/a", `{"family":1,"line":1,"head":1,"size":1,"snapshots":-1}`, "-1 snapshots", ErrInvalid},
		{"volume/0000000000000003", `{"family":4,"nextVersion":1}`, "family 4", ErrInvalid},
		{"volume/0000000000000003", `{"family":3,"nextVersion":1,"objectSize":100000}`, "objects of 100000", ErrInvalid},
		{"volume/0000000000000003", `{"family":3,"nextVersion":1,"objectSize":65536,"copies":17}`, "17 copies", ErrInvalid},
		{"volume/0000000000000003", `{"family":3,"nextVersion":1,"objectSize":65536,"copies":2,"minCopies":3}`, "3 copies at least", ErrInvalid},
		{"volume/0000000000000003", `{"family":3,"nextVersion":1,"objectSize":65536,"copies":2,"minCopies":1,"zones":3}`, "3 zones", ErrInvalid},
		{"volume/3", `{}`, "16 hexadecimal digits", ErrInvalid},
		{"volume", `{}`, "1 parts, expected 2", ErrInvalid},
		{"version/0000000000000003/0000000000000002", `{"id":2,"parent":2,"line":1}`, "parent 2", ErrInvalid},
		{"version/0000000000000003/0000000000000002", `{"id":2,"line":1,"size":3}`, "expected neither without a name", ErrInvalid},
		{"version/0000000000000003/0000000000000002", `{"id":2,"line":1,"size":3,"name":"a","doomed":true}`, "a doomed version", ErrInvalid},
		{"version/0000000000000003/0000000000000002", `{"id":2,"line":1,"size":3,"name":"/"}`, "expected letters", ErrInvalid},
		{"snapshot/0000000000000003/0000000000000001/a", `{"version":0}`, "version 0", ErrInvalid},
		{"attach/0000000000000003/0000000000000001", `{"node":"n"}`, "incarnation", ErrInvalid},
		{"attach/0000000000000003/0000000000000000", `{}`, "not 0", ErrInvalid},
	} {
		_, err := decodeAny(tt.key, []byte(tt.value))
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s = %.80s: %v, expected %s: %v", tt.key, tt.value, err, tt.text, tt.is)
		}
	}
	if _, err := Encode("node/a", Next{1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a record under the key of another kind: %v", err)
	}
	if _, err := Encode("job/x", Next{1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a record under a key of no kind: %v", err)
	}
}

func TestGroupNumbers(t *testing.T) {
	t.Parallel()
	for copies := 1; copies <= MaxCopies; copies++ {
		for _, index := range []int{0, 1, 1<<20 - 1} {
			n := GroupOf(copies, index)
			if c, i := SplitGroup(n); c != copies || i != index {
				t.Errorf("group %#x is %d of %d copies, expected %d of %d", n, i, c, index, copies)
			}
		}
	}
	if got := (Volume{Copies: 3}).Group(0x8000<<48, 4096); got != GroupOf(3, 2048) {
		t.Errorf("group %#x", got)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range samples {
		f.Add(s.key)
	}
	f.Add("job/x")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err == nil && k.Kind != Other && k.String() != s {
			t.Errorf("%q is %q", s, k.String())
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples {
		f.Add(s.key, []byte(s.value))
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		err := reencode(key, value)
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNewer) {
			t.Error(err)
		}
	})
}
