package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A mirror that has lost a side works on, and the log, the status and the
// metrics say so.
func TestFailedSideOfMirror(t *testing.T) {
	t.Parallel()
	b, o := newBench(t, `
listen("unix://$DIR/s")
control("$DIR/c")
export("a", slice(mirror(mem("1M"), fault(mem("1M"), "write")), offset=0))
export("b", mem("1M"))
`)
	log := &lines{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	b.startWith(o)
	const metric = `strata_mirror_failed_sides{export="a"} `
	if got := b.get("/metrics"); !strings.Contains(got, metric+"0\n") || strings.Contains(got, `failed_sides{export="b"}`) {
		t.Errorf("metrics at first:\n%s", got)
	}
	c := b.dial("a")
	for range 2 {
		if err := c.WriteAt(t.Context(), make([]byte, 4096), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.get("/metrics"); !strings.Contains(got, metric+"1\n") {
		t.Error("the metrics do not tell of the failed side")
	}
	st, err := NewClient(b.path("c")).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := &st.Exports[0]
	if len(x.Mirrors) != 1 || len(st.Exports[1].Mirrors) != 0 || x.FailedSides() != 1 {
		t.Fatalf("exports %+v", st.Exports)
	}
	sides := x.Mirrors[0].Sides
	if sides[0] != (SideStatus{Device: `mem("1M")`}) || sides[1].Error == "" || sides[1].Device != `fault(mem("1M"), "write")` {
		t.Errorf("sides %+v", sides)
	}
	got := log.String()
	if strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, "a side of a mirror has failed") ||
		!strings.Contains(got, "number=2") || !strings.Contains(got, "make the sides equal") {
		t.Errorf("the log is\n%s", got)
	}
}
