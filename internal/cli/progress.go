package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strata-storage/strata/internal/copy"
	"github.com/strata-storage/strata/internal/units"
)

// A report shows how far something has come, until its end.
type report struct {
	what   string
	unit   string // what is counted, "" for bytes
	total  atomic.Int64
	p      *copy.Progress
	start  time.Time
	show   func(done bool, err error)
	stop   chan struct{}
	ticker sync.WaitGroup
}

// report starts to show p in one of the forms auto, bar, json and none.
func (e *Env) report(form, what string, total int64, p *copy.Progress) (*report, error) {
	r := &report{what: what, p: p, start: time.Now(), stop: make(chan struct{})}
	r.total.Store(total)
	width, onTerminal := terminalWidth(e.Stderr)
	if form == "auto" {
		if form = "json"; onTerminal {
			form = "bar"
		}
	}
	every := time.Second
	switch form {
	case "bar":
		every = 200 * time.Millisecond
		r.show = func(done bool, err error) { io.WriteString(e.Stderr, r.bar(max(width, 60), done, err, time.Now())) }
	case "json":
		r.show = func(done bool, err error) { io.WriteString(e.Stderr, r.line(done, err, time.Now())) }
	case "none":
		r.show = func(bool, error) {}
	default:
		return nil, usagef("--progress %s: want auto, bar, json or none", form)
	}
	r.ticker.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				r.show(false, nil)
			case <-r.stop:
				return
			}
		}
	})
	return r, nil
}

// counts says what is counted that are not bytes.
func (r *report) counts(unit string) { r.unit = unit }

func terminalWidth(w io.Writer) (int, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	return width, err == nil
}

// end shows the last state, and whether it is a success.
func (r *report) end(err error) {
	close(r.stop)
	r.ticker.Wait()
	r.show(true, err)
}

// pace is the mean rate per second, and the time that is left at it.
func (r *report) pace(now time.Time) (rate float64, left time.Duration) {
	done := r.p.Done.Load()
	rate = float64(done) / max(now.Sub(r.start).Seconds(), 1e-6)
	if rate > 0 {
		left = time.Duration(float64(max(r.total.Load()-done, 0)) / rate * float64(time.Second))
	}
	return rate, left
}

// line is the state as a line of JSON.
func (r *report) line(done bool, err error, now time.Time) string {
	rate, left := r.pace(now)
	v := struct {
		What    string  `json:"what"`
		Unit    string  `json:"unit,omitempty"`
		Done    int64   `json:"done"`
		Total   int64   `json:"total"`
		Data    int64   `json:"data"`
		Zeros   int64   `json:"zeros"`
		Seconds float64 `json:"seconds"`
		Bytes   *int64  `json:"bytes_per_second,omitempty"`
		Rate    float64 `json:"per_second,omitempty"`
		Left    float64 `json:"seconds_left"`
		State   string  `json:"state"`
	}{
		r.what, r.unit, min(r.p.Done.Load(), r.total.Load()), r.total.Load(), r.p.Data.Load(), r.p.Zeros.Load(),
		now.Sub(r.start).Round(time.Millisecond).Seconds(), nil, 0, left.Round(time.Millisecond).Seconds(), "running",
	}
	if r.unit == "" {
		bytes := int64(rate)
		v.Bytes = &bytes
	} else {
		v.Rate = math.Round(rate*10) / 10
	}
	if done {
		v.State = "complete"
	}
	if err != nil {
		v.State = "failed"
	}
	text, _ := json.Marshal(v) // plain numbers and strings
	return string(text) + "\n"
}

// bar is the state as one line of a terminal that is that wide.
func (r *report) bar(width int, done bool, err error, now time.Time) string {
	rate, left := r.pace(now)
	share, total := 1.0, r.total.Load()
	if total > 0 {
		share = min(float64(r.p.Done.Load())/float64(total), 1)
	}
	did, of, pace := units.Bytes(min(r.p.Done.Load(), total)), units.Bytes(total), units.Rate(rate)
	if r.unit != "" {
		did, of, pace = fmt.Sprint(min(r.p.Done.Load(), total)), fmt.Sprintf("%d %s", total, r.unit), fmt.Sprintf("%.1f/s", rate)
	}
	tail := fmt.Sprintf(" %3.0f%%  %s of %s  %s  %s left", share*100, did, of, pace, units.Clock(left))
	end := ""
	if done {
		moved := ""
		if data := r.p.Data.Load(); data+r.p.Zeros.Load() > 0 { // a comparison moves nothing
			moved = fmt.Sprintf(" (%s data)", units.Bytes(data))
		}
		tail = fmt.Sprintf(" %3.0f%%  %s%s  %s  in %s", share*100,
			of, moved, pace, units.Clock(now.Sub(r.start)))
		end = "\n"
	}
	if err != nil {
		tail += "  failed"
	}
	room := max(width-len(r.what)-len(tail)-4, 0)
	full := int(share * float64(room))
	bar := strings.Repeat("=", full) + strings.Repeat(" ", room-full)
	return "\r\x1b[K" + r.what + " [" + bar + "]" + tail + end
}

// progressFlag adds the flag that chooses the form of a report.
func progressFlag(cmd *cobra.Command, form *string) {
	cmd.Flags().StringVar(form, "progress", "auto", "bar, json or none (auto: a bar on a terminal, otherwise JSON)")
}
