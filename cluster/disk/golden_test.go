package disk

import (
	"encoding/hex"
	"testing"
)

// The encodings are those of docs/format-cluster-disk.md, byte by byte: disks
// that exist must be read by every later version.
func TestGolden(t *testing.T) {
	t.Parallel()
	o := Object{Family: 3, Index: 258}
	s := super{id: UUID{0: 0xaa, 15: 0xbb}, size: 7344128}
	r := own{has: 0x8017, data: 0x8013}
	r.places[0], r.places[1], r.places[4], r.places[15] = 1000, 1001, 1002, 5
	r.sums[0], r.sums[1], r.sums[4], r.sums[15] = 1, 2, 3, 0x01020304
	if metaFormat != 21 {
		t.Errorf("the metadata have format %d", metaFormat)
	}
	for name, tt := range map[string]struct {
		got  []byte
		want string
	}{
		"superblock": {s.encode()[:56], "53747244736b534220451aba01000000aa0000000000000000000000000000bb00107000000000000010000000040000" + "0000100000000000"},
		"record":     {r.encode(nil), "17801380" + "827d" + "50" + "010000000200000003000000" + "04030201"},
		"header":     {(&header{State{300, 0x0102030405060708}, 5, 1}).encode(nil), "0807060504030201" + "ac02" + "05" + "01"},
		"tally":      {(&tally{200, 0}).encode(nil), "c80100"},
		"mark":       {mark{9, true}.encode(nil), "0901"},
		"run":        {(&run{10, 9}).encode(nil), "0a09"},
		"object":     {objectKey(nil, tableObject, o), "6f" + "b1e0d14972ce1f9a" + "0000000000000003" + "0000000000000102"},
		"dirty":      {objectKey(nil, tableDirty, o), "64" + "b1e0d14972ce1f9a" + "0000000000000003" + "0000000000000102"},
		"piece":      {pieceKey(nil, o, 513, 2), "70" + "b1e0d14972ce1f9a" + "0000000000000003" + "0000000000000102" + "0201" + "fffffffffffffffd"},
		"tally key":  {tallyKey(nil, o, 2), "74" + "0000000000000003" + "0000000000000002" + "0000000000000102"},
		"segment":    {segmentKey(nil, 7), "7300000007"},
		"digest":     {put64(nil, Entry{Version: 2, Block: 8208, Kind: Data, Sum: 0xcafe}.digest()), "656171f05114671a"},
		"hole":       {put64(nil, Entry{Version: 2, Block: 8208, Kind: Hole}.digest()), "12dffad239397df8"},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s: %s, expected %s", name, got, tt.want)
		}
	}
}
