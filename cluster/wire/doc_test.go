package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The document for a second implementer says what the code does.
func TestDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/protocol-cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	for k, name := range map[kind]string{
		kindHello: "hello", kindWelcome: "welcome", kindRefusal: "refusal", kindRequest: "request", kindStream: "stream",
		kindReply: "reply", kindItem: "item", kindCredit: "credit", kindCancel: "cancel", kindPing: "ping", kindGoodbye: "goodbye",
	} {
		if row := fmt.Sprintf("\n| %d | %s |", k, name); !bytes.Contains(text, []byte(row)) {
			t.Errorf("there is no row %q", row)
		}
	}
	for _, list := range [][]ErrorCode{numbers, named} {
		for _, e := range list {
			if row := fmt.Sprintf("\n| %d | ", e.Code); !bytes.Contains(text, []byte(row)) {
				t.Errorf("there is no row %q", row)
			}
		}
	}
	example := regexp.MustCompile("(?m)^53574601.*$").Find(text)
	want, err := hex.DecodeString(strings.ReplaceAll(string(example), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	var f frame
	f.set(header{kind: kindRequest, op: 3, id: 1<<16 | 5, millis: 1500, room: 4096}, []byte("ab"), []byte("xyz"))
	if got := append(f.small, f.payload...); !bytes.Equal(got, want) {
		t.Errorf("the example is %x, the code makes %x", want, got)
	}
}
