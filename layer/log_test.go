package layer

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

// logTo returns a Logger that leaves out the time of each line.
func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLogConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		return must[block.Device](t)(Log(disks(block.Info{NoWait: true}, 144<<10)[0], LogOptions{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}))
	})
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := must[block.Device](t)(Delay(block.FromBytes(make([]byte, 4096)), DelayOptions{All: time.Millisecond}))
		var b bytes.Buffer
		dev := must[block.Device](t)(Log(slow, LogOptions{Logger: logTo(&b)}))
		everyRequest(dev)
		ctx := block.WithCaller(t.Context(), &block.Caller{Export: "vm", Peer: "10.0.0.1:99"})
		_ = dev.Zero(ctx, 1, 2, block.FUA|block.NoHole|block.FastZero)
		_ = dev.Zero(ctx, 4096, 1, 0)
		_ = firstError(dev.Extents(ctx, "no:such", 0, 1))
		want := strings.Join([]string{
			"level=INFO msg=request op=read offset=512 length=512 duration=1ms",
			"level=INFO msg=request op=write offset=512 length=512 flags=fua duration=1ms",
			"level=INFO msg=request op=zero offset=512 length=512 flags=no_hole duration=1ms",
			"level=INFO msg=request op=trim offset=512 length=512 duration=1ms",
			"level=INFO msg=request op=flush duration=1ms",
			"level=INFO msg=request op=extents offset=512 length=512 duration=1ms extents=1",
			"level=INFO msg=request op=zero offset=1 length=2 flags=fua,no_hole,fast_zero duration=1ms export=vm peer=10.0.0.1:99",
			`level=WARN msg=request op=extents offset=0 length=1 duration=1ms extents=0 export=vm peer=10.0.0.1:99 error="metadata context \"no:such\" is not known here: invalid argument"`,
			"",
		}, "\n")
		if got := b.String(); got != want {
			t.Errorf("logged\n%s\nwant\n%s", got, want)
		}
	})
}

func TestLogToAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "requests")
	for _, format := range []string{"json", "text", ""} {
		dev := must[block.Device](t)(Log(block.FromBytes(make([]byte, 4096)), LogOptions{File: file, Format: format, Ops: []string{"trim", "flush"}}))
		everyRequest(dev)
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); !errors.Is(err, block.ErrClosed) {
			t.Errorf("a second Close returned %v", err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 6 {
		t.Fatalf("logged %d lines, want 6:\n%s", len(lines), text)
	}
	for i, want := range []string{`"op":"trim"`, `"op":"flush"`, "op=trim", "op=flush", "op=trim", "op=flush"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %q lacks %s", lines[i], want)
		}
	}
}

func TestLogNoWait(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if must[block.Device](t)(Log(nothing{}, LogOptions{Logger: logTo(&b)})).Info().NoWait {
		t.Error("a log that may wait offers NoWait")
	}
	if !must[block.Device](t)(Log(nothing{}, LogOptions{Logger: logTo(&b), Ops: []string{"flush"}})).Info().NoWait {
		t.Error("a log of flushes hides NoWait")
	}
}

func TestLogRefusesBadOptions(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing", "log")
	for want, o := range map[string]LogOptions{
		`log: "reed" is not an operation: write read, write, zero, trim, flush or extents`: {Ops: []string{"reed"}},
		`log: format is "xml", must be text or json`:                                       {Format: "xml", File: "x"},
		"log: a format needs a file":                                                       {Format: "json"},
		"log: both a file and a Logger are given":                                          {File: "x", Logger: slog.Default()},
		"log: open " + missing + ": no such file or directory":                             {File: missing},
	} {
		if _, err := Log(nothing{}, o); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func BenchmarkLog(b *testing.B) {
	dev := must[block.Device](b)(Log(nothing{}, LogOptions{File: filepath.Join(b.TempDir(), "log")}))
	benchmarkRead(b, dev)
}
