package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/copy"
)

// halfway is a report of a copy of 1 GiB that has run for two seconds.
func halfway() (*report, time.Time) {
	r := &report{what: "copy", p: new(copy.Progress), start: time.Unix(100, 0)}
	r.total.Store(1 << 30)
	r.p.Done.Store(512 << 20)
	r.p.Data.Store(256 << 20)
	r.p.Zeros.Store(256 << 20)
	return r, time.Unix(102, 0)
}

func TestProgressBar(t *testing.T) {
	t.Parallel()
	r, now := halfway()
	got := r.bar(80, false, nil, now)
	want := "\r\x1b[Kcopy [" + strings.Repeat("=", 13) + strings.Repeat(" ", 14) + "]  50%  512 MiB of 1 GiB  256 MiB/s  0:02 left"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	r.p.Done.Store(1 << 30)
	if got := r.bar(80, true, nil, now); !strings.HasSuffix(got, "100%  1 GiB (256 MiB data)  512 MiB/s  in 0:02\n") {
		t.Errorf("at the end %q", got)
	}
	if got := r.bar(80, true, errors.New("x"), now); !strings.HasSuffix(got, "failed\n") {
		t.Errorf("after a failure %q", got)
	}
	r.p.Data.Store(0)
	r.p.Zeros.Store(0)
	if got := r.bar(80, true, nil, now); !strings.HasSuffix(got, "100%  1 GiB  512 MiB/s  in 0:02\n") {
		t.Errorf("at the end of a comparison %q", got)
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	r, now := halfway()
	want := `{"what":"copy","done":536870912,"total":1073741824,"data":268435456,"zeros":268435456,"seconds":2,"bytes_per_second":268435456,"seconds_left":2,"state":"running"}` + "\n"
	if got := r.line(false, nil, now); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What is counted need not be bytes.
func TestProgressOfGroups(t *testing.T) {
	t.Parallel()
	r := &report{what: "check", p: new(copy.Progress), start: time.Unix(100, 0)}
	r.counts("groups")
	r.total.Store(506)
	r.p.Done.Store(253)
	now := time.Unix(102, 0)
	if got := r.bar(80, false, nil, now); !strings.HasSuffix(got, "]  50%  253 of 506 groups  126.5/s  0:02 left") {
		t.Errorf("got %q", got)
	}
	r.p.Done.Store(506)
	if got := r.bar(80, true, nil, now); !strings.HasSuffix(got, "] 100%  506 groups  253.0/s  in 0:02\n") {
		t.Errorf("at the end %q", got)
	}
	want := `{"what":"check","unit":"groups","done":506,"total":506,"data":0,"zeros":0,"seconds":2,"per_second":253,"seconds_left":0,"state":"complete"}` + "\n"
	if got := r.line(true, nil, now); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestProgressOfNothing(t *testing.T) {
	t.Parallel()
	r := &report{what: "copy", p: new(copy.Progress), start: time.Unix(100, 0)}
	if got := r.bar(80, true, nil, time.Unix(100, 0)); !strings.Contains(got, "100%") {
		t.Errorf("a copy of nothing: %q", got)
	}
	var b bytes.Buffer
	e := &Env{Stderr: &b}
	if _, err := e.report("sometimes", "copy", 0, new(copy.Progress)); err == nil {
		t.Error("an unknown form was accepted")
	}
}
