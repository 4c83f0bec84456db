package config

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// openHooked opens the only export of a configuration and returns what is
// logged, too.
func openHooked(t testing.TB, src string) (block.Device, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	c := mustLoad(t, &Loader{}, src)
	s := &Set{Log: slog.New(slog.NewTextHandler(log, nil))}
	mustApply(t, s, c)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.table().order[0].root.dev, log
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestHookVerdicts lets pass, refuses and redirects by what the functions see.
func TestHookVerdicts(t *testing.T) {
	t.Parallel()
	dev, log := openHooked(t, `
spare = mem("64K")
limits_of = {"vm": 8192}

def on_write(req):
    if req.op != "write" or req.flags != ("fua",) and req.flags != ():
        fail("unexpected", req)
    if "fua" in req.flags:
        return refuse("EROFS")
    if req.offset + req.length > limits_of[req.export]:
        return refuse("ENOSPC")
    if req.peer == "10.0.0.9:1" and req.identity == "CN=x":
        return redirect(spare, req.offset + 4096)

def on_read(req):
    if req.offset == 4096:
        return redirect(spare)

export("vm", hook(mem("64K"), write=on_write, read=on_read, trim=lambda req: refuse(), targets=[spare]))
`)
	ctx := block.WithCaller(context.Background(), &block.Caller{Export: "vm"})
	other := block.WithCaller(context.Background(), &block.Caller{Export: "vm", Peer: "10.0.0.9:1", Identity: "CN=x"})
	buf := func(b byte) []byte { return bytes.Repeat([]byte{b}, 512) }

	for _, tt := range []struct {
		what string
		err  error
		want error
	}{
		{"a write that passes", dev.WriteAt(ctx, buf(1), 0, 0), nil},
		{"a write beyond the limit", dev.WriteAt(ctx, buf(1), 8192, 0), syscall.ENOSPC},
		{"a write with FUA", dev.WriteAt(ctx, buf(1), 0, block.FUA), syscall.EROFS},
		{"a write that is redirected", dev.WriteAt(other, buf(2), 0, 0), nil},
		{"a trim", dev.Trim(ctx, 0, 512, 0), syscall.EPERM},
		{"a flush, which has no function", dev.Flush(ctx), nil},
		{"a zero, which has no function", dev.Zero(ctx, 512, 512, 0), nil},
		{"a write out of range", dev.WriteAt(ctx, buf(1), 1<<20, 0), block.ErrRange},
	} {
		if !errors.Is(tt.err, tt.want) || (tt.want == nil) != (tt.err == nil) {
			t.Errorf("%s: %v, want %v", tt.what, tt.err, tt.want)
		}
	}
	p := make([]byte, 512)
	if err := dev.ReadAt(ctx, p, 0, 0); err != nil || !bytes.Equal(p, buf(1)) {
		t.Errorf("the hooked device holds %v (%v)", p[0], err)
	}
	if err := dev.ReadAt(ctx, p, 4096, 0); err != nil || !bytes.Equal(p, buf(2)) {
		t.Errorf("the target holds %v (%v)", p[0], err)
	}
	for e, err := range dev.Extents(ctx, block.Allocation, 0, 64<<10) {
		if err != nil || e.Status != 0 {
			t.Errorf("extents of a device whose reads may be redirected: %v, %v", e, err)
		}
	}
	if log.String() != "" {
		t.Errorf("logged: %s", log)
	}
}

// TestHookClosures: functions that are written in one place and saw different
// variables are different hooks.
func TestHookClosures(t *testing.T) {
	t.Parallel()
	s := &Set{}
	mustApply(t, s, mustLoad(t, &Loader{}, `
def no(error):
    return lambda req: refuse(error)
m = mem(512)
export("a", hook(m, read=no("ENOSPC")))
export("b", hook(m, read=no("EPERM")))
`))
	for i, want := range []syscall.Errno{syscall.ENOSPC, syscall.EPERM} {
		err := s.table().order[i].root.dev.ReadAt(context.Background(), make([]byte, 512), 0, 0)
		if block.Errno(err) != want {
			t.Errorf("export %d: %v, want %v", i, err, want)
		}
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestHookFailures: a function that fails, lasts too long or returns nonsense
// makes the request fail with EIO, and the log says why and where.
func TestHookFailures(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, function, log string }{
		{"fails", `fail("boom")`, `fail: boom`},
		{"divides by zero", `return 1 // 0`, `floored division by zero`},
		{"never ends", "x = [i for i in range(1000000)]", `too many steps`},
		{"returns a number", `return 5`, `must return None, refuse(...) or redirect(...), not 5`},
		{"returns a long string", `return "x" * (64 << 20)`, `redirect(...), not \"xxx`},
		{"fails at length", `fail("x" * (64 << 20))`, `fail: xxx`},
		{"changes a global", `seen.append(1)`, `cannot append to frozen list`},
		{"redirects to a stranger", `return redirect(other)`, `which is not one of the hook's targets`},
		{"redirects to nothing", `return redirect(None)`, `argument \"dev\" must be a device`},
		{"refuses with an unknown error", `return refuse("ENOSPACE")`, `there is no error \"ENOSPACE\"; did you mean \"ENOSPC\"?`},
		{"reads an unknown attribute", `return req.offest`, `no .offest field or method (did you mean .offset?)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dev, log := openHooked(t, `
seen = []
other = mem("64K")
def f(req):
    `+tt.function+`
export("x", hook(mem("64K"), read=f))
`)
			for range 3 {
				err := dev.ReadAt(context.Background(), make([]byte, 512), 0, 0)
				if block.Errno(err) != syscall.EIO {
					t.Errorf("%v, want EIO", err)
				}
			}
			if got := log.String(); !strings.Contains(got, tt.log) || !strings.Contains(got, "at=/conf/s.star:") || len(got) > 10_000 {
				t.Errorf("logged %.5000q, want %q", got, tt.log)
			}
		})
	}
}

// TestHookConcurrent calls functions from many goroutines at a time.
func TestHookConcurrent(t *testing.T) {
	t.Parallel()
	dev, _ := openHooked(t, `
table = {0: None, 512: refuse("EPERM")}
export("x", hook(mem("64K"), read=lambda req: table[req.offset]))
`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				off := int64(i % 2 * 512)
				err := dev.ReadAt(context.Background(), make([]byte, 512), off, 0)
				if (off == 0) != (err == nil) {
					t.Errorf("read at %d: %v", off, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestHookConforms runs the conformance suite on a device whose functions let
// everything pass.
func TestHookConforms(t *testing.T) {
	t.Parallel()
	loader := &Loader{}
	blocktest.Run(t, func(t testing.TB) block.Device {
		spec, err := loader.Eval(context.Background(),
			`hook(mem("256K"), read=lambda r: None, write=lambda r: None, zero=lambda r: None, trim=lambda r: None, flush=lambda r: None)`)
		if err != nil {
			t.Fatal(err)
		}
		dev, err := spec.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return dev
	})
}

// BenchmarkHook is the cost of a function around a request that itself costs
// next to nothing.
func BenchmarkHook(b *testing.B) {
	for _, bb := range []struct{ name, expr string }{
		{"none", `null("1G")`},
		{"pass", `hook(null("1G"), read=lambda r: None)`},
		{"compare", `hook(null("1G"), read=lambda r: refuse("EPERM") if r.offset + r.length > 1 << 29 else None)`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			spec, err := (&Loader{}).Eval(context.Background(), bb.expr)
			if err != nil {
				b.Fatal(err)
			}
			dev, err := spec.Open(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			defer dev.Close()
			p := make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				if err := dev.ReadAt(context.Background(), p, 0, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
