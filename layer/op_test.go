package layer

import (
	"encoding/json"
	"testing"
)

func TestOpsHaveNamesThatParse(t *testing.T) {
	t.Parallel()
	for op := range Op(numOps) {
		got, err := ParseOp(op.String())
		if err != nil || got != op {
			t.Errorf("ParseOp(%q) = %v, %v", op, got, err)
		}
		text, err := json.Marshal(op)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &got); err != nil || got != op {
			t.Errorf("%s came back from JSON as %v, %v", text, got, err)
		}
	}
	_, err := ParseOp("wirte")
	if want := `"wirte" is not an operation: write read, write, zero, trim, flush or extents`; err == nil || err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	if _, err := newOpSet([]Op{OpRead, 77}); err == nil || err.Error() != "op 77 is not an operation" {
		t.Errorf("error is %q", err)
	}
}
