package coord_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// What is refused is named, with what was expected.
func TestCheck(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("k", coord.MaxKey)
	for want, err := range map[string]error{
		"an empty key": coord.CheckKey(""),
		`a key of 513 bytes, which begins with "` + key[:32] + `"; at most 512 are allowed`: coord.CheckKey(key + "k"),
		"a prefix of 513 bytes":                                   coord.CheckPrefix(key + "k"),
		`the key "a\x00b", which may have bytes from ! to ~ only`: coord.CheckKey("a\x00b"),
		"a watch after revision -1":                               coord.CheckWatch("", -1),
		"a time to live of 1ms, must be from 1s to 5m0s":          coord.CheckTTL(time.Millisecond),
		"a transaction that changes k twice":                      coord.Txn{Then: []coord.Op{coord.Put("k", nil), coord.Delete("k")}}.Check(),
		"a transaction that compares k twice":                     coord.Txn{If: []coord.Compare{coord.IfAbsent("k"), coord.IfRevision("k", 1)}}.Check(),
		"comparing k to revision -1":                              coord.Txn{If: []coord.Compare{coord.IfRevision("k", -1)}}.Check(),
		"deleting k with a value":                                 coord.Txn{Then: []coord.Op{{Key: "k", Value: []byte("v"), Delete: true}}}.Check(),
		"k on lease -1":                                           coord.Txn{Then: []coord.Op{coord.PutLeased(-1, "k", nil)}}.Check(),
		"a value of 262145 bytes for k, at most 262144":           coord.Txn{Then: []coord.Op{coord.Put("k", make([]byte, coord.MaxValue+1))}}.Check(),
		"of 0 comparisons and 129 operations, at most 128 each":   coord.Txn{Then: make([]coord.Op, coord.MaxOps+1)}.Check(),
		"of 129 comparisons":                                      coord.Txn{If: make([]coord.Compare, coord.MaxOps+1)}.Check(),
	} {
		if !errors.Is(err, coord.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, err := range []error{coord.CheckKey(key), coord.CheckKey("!~"), coord.CheckPrefix(""), coord.CheckTTL(coord.MinTTL), coord.CheckTTL(coord.MaxTTL), coord.CheckWatch("", 0), coord.Txn{}.Check()} {
		if err != nil {
			t.Error(err)
		}
	}
}
