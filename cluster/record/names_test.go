package record

import (
	"errors"
	"strings"
	"testing"
)

// What a node is called is printed in tables and logs.
func TestNodeNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "web1", "web 1", "bücher", strings.Repeat("x", MaxNodeName)} {
		if err := CheckNodeName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"a\nb", "a\x1b[2J", "a\tb", "\xff", strings.Repeat("x", MaxNodeName+1)} {
		if err := CheckNodeName(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if CheckZone("rack-1") != nil || !errors.Is(CheckZone("rack 1"), ErrInvalid) || !errors.Is(CheckZone(strings.Repeat("x", 65)), ErrInvalid) {
		t.Error("zones")
	}
}
