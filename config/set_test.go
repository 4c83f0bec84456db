package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A lab is a table of constructors whose devices write down what happens to
// them, and the n-th opening of which can be made to fail.
type lab struct {
	mu     sync.Mutex
	events []string
	locked map[string]bool
	failAt int // 1 is the next opening; 0 is none
}

type labDevice struct {
	block.Device
	lab   *lab
	name  string
	below []block.Device
}

func (l *lab) note(format string, args ...any) {
	l.events = append(l.events, fmt.Sprintf(format, args...))
}

// take returns what has happened since the last call.
func (l *lab) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.Join(l.events, ", ")
	l.events = nil
	return s
}

func (l *lab) open(name, lock string, below ...block.Device) (block.Device, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failAt > 0 {
		if l.failAt--; l.failAt == 0 {
			l.note("fail %s", name)
			return nil, block.ErrIO
		}
	}
	if lock != "" && l.locked[lock] {
		return nil, fmt.Errorf("%s is locked: %w", lock, syscall.EAGAIN)
	}
	if lock != "" {
		l.locked[lock] = true
		defer func() { l.locked[lock] = true }()
	}
	l.note("open %s", name)
	return &labDevice{block.FromBytes(make([]byte, 4096)), l, name, below}, nil
}

func (d *labDevice) Close() error {
	if err := d.Device.Close(); err != nil {
		return err
	}
	d.lab.mu.Lock()
	d.lab.note("close %s", d.name)
	delete(d.lab.locked, strings.TrimSuffix(d.name, " ro"))
	d.lab.mu.Unlock()
	for _, b := range d.below {
		if err := b.Close(); err != nil {
			return err
		}
	}
	return nil
}

func newLab() (*lab, *Loader) {
	l := &lab{locked: map[string]bool{}}
	r := &Registry{}
	addHook(r)
	AddSource(r, "file", func(_ context.Context, o testFile) (block.Device, error) {
		name := o.Path
		if o.ReadOnly {
			name += " ro"
		}
		return l.open(name, o.Path)
	})
	AddSource(r, "mem", func(_ context.Context, o testMem) (block.Device, error) {
		return l.open(fmt.Sprint("mem", o.Size), "")
	}, Private)
	AddLayer(r, "cow", func(d block.Device, o testCow) (block.Device, error) {
		return l.open(o.Diff, o.Diff, d)
	})
	AddLayer(r, "throttle", func(d block.Device, o testThrottle) (block.Device, error) {
		return l.open(fmt.Sprint("throttle", o.Bytes), "", d)
	}, Private)
	AddLayers(r, "concat", func(ds []block.Device, o testConcat) (block.Device, error) {
		return l.open("concat", "", ds...)
	})
	AddLayer(r, "join", func(d block.Device, o testJoin) (block.Device, error) {
		below := append([]block.Device{d}, o.More...)
		if o.Other != nil {
			below = append(below, o.Other)
		}
		return l.open("join", "", below...)
	})
	return l, &Loader{Registry: r}
}

func mustLoad(t testing.TB, l *Loader, src string) *Config {
	t.Helper()
	c, err := l.LoadBytes(context.Background(), "/conf/s.star", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustApply(t testing.TB, s *Set, c *Config) []*Retired {
	t.Helper()
	r, err := s.Apply(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func names(rs []*Retired) string {
	var list []string
	for _, r := range rs {
		list = append(list, r.Name())
	}
	return strings.Join(list, " ")
}

// TestReload applies pairs of configurations and states what is opened and
// closed, and which exports lose their connections.
func TestReload(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, first, second string
		opened, then, atEnd string
		retired             string
	}{
		{
			name:   "nothing changes",
			first:  `export("a", cow("f", "d"))`,
			second: `export("a", cow(file("f"), "./d", chunk="64K"), description="new")`,
			opened: "open /conf/f, open /conf/d",
			atEnd:  "close /conf/d, close /conf/f",
		},
		{
			name:   "an export comes and shares a file",
			first:  `export("a", "f")`,
			second: `export("a", "f"); export("b", "f")`,
			opened: "open /conf/f", atEnd: "close /conf/f",
		},
		{
			name:    "the layer changes, the file under it stays open",
			first:   `export("a", throttle("f", bytes=1))`,
			second:  `export("a", throttle("f", bytes=2))`,
			opened:  "open /conf/f, open throttle1",
			then:    "open throttle2, close throttle1",
			retired: "a", atEnd: "close throttle2, close /conf/f",
		},
		{
			name:    "an export goes",
			first:   `export("a", "f"); export("b", throttle("g"))`,
			second:  `export("a", "f")`,
			opened:  "open /conf/f, open /conf/g, open throttle0",
			then:    "close throttle0, close /conf/g",
			retired: "b", atEnd: "close /conf/f",
		},
		{
			name:    "rules about access change, the device stays open",
			first:   `export("a", "f")`,
			second:  `export("a", "f", allow=["10.0.0.1"])`,
			opened:  "open /conf/f",
			retired: "a", atEnd: "close /conf/f",
		},
		{
			name:   "two mentions of a private device are two, also later",
			first:  `export("a", concat(mem(1), mem(1)))`,
			second: `export("a", concat(mem(1), mem(1)), max_connections=3)`,
			opened: "open mem1, open mem1, open concat",
			atEnd:  "close concat, close mem1, close mem1",
		},
		{
			name:   "a private device with a name is one in all exports",
			first:  `m = mem(1); export("a", m); export("b", concat(m, m))`,
			second: `m = mem(1); export("b", concat(m, m))`,
			opened: "open mem1, open concat", retired: "a",
			atEnd: "close concat, close mem1",
		},
		{
			name:    "a disk in memory survives a new layer over it",
			first:   `export("a", mem(1))`,
			second:  `export("a", throttle(mem(1)))`,
			opened:  "open mem1",
			then:    "open throttle0",
			retired: "a", atEnd: "close throttle0, close mem1",
		},
		{
			name:    "a disk in memory of another export is another disk",
			first:   `export("a", mem(1))`,
			second:  `export("b", mem(1))`,
			opened:  "open mem1",
			then:    "open mem1, close mem1",
			retired: "a", atEnd: "close mem1",
		},
		{
			name:   "devices that are arguments are shared and closed like others",
			first:  `export("a", join("f", other="g", more=["h", "f"]))`,
			second: `export("a", join("f", other="g", more=["h", "f"])); export("b", "g")`,
			opened: "open /conf/f, open /conf/g, open /conf/h, open join",
			atEnd:  "close join, close /conf/h, close /conf/f, close /conf/g",
		},
		{
			name: "hooks of the same text over the same file are two, and stay",
			first: `
def no(error):
    return lambda req: refuse(error)
export("a", hook("f", write=no("EIO")))
export("b", hook("f", write=no("EPERM")))`,
			second: `
def no(error):
    return lambda req: refuse(error)
export("a", hook("f", write=no("EIO")))
export("b", hook("f", write=no("EPERM")))`,
			opened: "open /conf/f", atEnd: "close /conf/f",
		},
		{
			name:   "a hook changes with the file that it stands in",
			first:  `export("a", hook("f", write=lambda req: None)); export("b", "g")`,
			second: `export("a", hook("f", write=lambda req: refuse())); export("b", "g")`,
			opened: "open /conf/f, open /conf/g", retired: "a",
			atEnd: "close /conf/f, close /conf/g",
		},
		{
			name:    "everything goes",
			first:   `export("a", "f")`,
			second:  `limits()`,
			opened:  "open /conf/f",
			then:    "close /conf/f",
			retired: "a",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab, loader := newLab()
			s := &Set{}
			mustApply(t, s, mustLoad(t, loader, tt.first))
			if got := lab.take(); got != tt.opened {
				t.Errorf("first: %q, want %q", got, tt.opened)
			}
			retired := mustApply(t, s, mustLoad(t, loader, tt.second))
			if got := lab.take(); got != tt.then {
				t.Errorf("second: %q, want %q", got, tt.then)
			}
			if got := names(retired); got != tt.retired {
				t.Errorf("retired %q, want %q", got, tt.retired)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if got := lab.take(); got != tt.atEnd {
				t.Errorf("end: %q, want %q", got, tt.atEnd)
			}
		})
	}
}

// TestFailedApply fails every opening of a new configuration in turn: the old
// one goes on, and what had been opened is closed again.
func TestFailedApply(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		lab, loader := newLab()
		s := &Set{}
		mustApply(t, s, mustLoad(t, loader, `export("old", cow("f", "d"))`))
		before := s.Status()
		lab.take()
		lab.failAt = n
		next := mustLoad(t, loader, `export("old", cow("f", "d"), description="x")
export("new", concat(cow("f", "e"), mem(1), throttle("g")))
export("other", throttle(cow("h", "i")))`)
		retired, err := s.Apply(context.Background(), next)
		if err == nil {
			if n != 9 {
				t.Errorf("%d openings, want 8", n-1)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			return
		}
		if retired != nil || !errors.Is(err, block.ErrIO) || !strings.HasPrefix(err.Error(), "/conf/s.star:") {
			t.Errorf("opening %d: %v, %v", n, retired, err)
		}
		opens, closes := map[string]int{}, map[string]int{}
		for _, e := range strings.Split(lab.take(), ", ") {
			if name, ok := strings.CutPrefix(e, "open "); ok {
				opens[name]++
			} else if name, ok := strings.CutPrefix(e, "close "); ok {
				closes[name]++
			}
		}
		if fmt.Sprint(opens) != fmt.Sprint(closes) {
			t.Errorf("opening %d fails: opened %v, closed %v", n, opens, closes)
		}
		after := s.Status()
		if len(after) != 1 || after[0].Export != before[0].Export {
			t.Errorf("opening %d: the old configuration has changed: %v", n, after)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if got := lab.take(); got != "close /conf/d, close /conf/f" {
			t.Errorf("opening %d: at the end %q", n, got)
		}
	}
}

// TestLockedFile: a file that is open with other arguments is refused, and
// the error says by whom it is used.
func TestLockedFile(t *testing.T) {
	t.Parallel()
	lab, loader := newLab()
	s := &Set{}
	mustApply(t, s, mustLoad(t, loader, `export("a", "f")`))
	_, err := s.Apply(context.Background(), mustLoad(t, loader, `export("a", file("f", read_only=True))`))
	want := `/conf/s.star:1:13: /conf/f is in use by file("/conf/f"), see /conf/s.star:1:13: ` +
		`write the same expression in both places to share the device, or, to change it, remove it with one reload and add it with the next`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	mustApply(t, s, mustLoad(t, loader, ``))
	mustApply(t, s, mustLoad(t, loader, `export("a", file("f", read_only=True))`))
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if got := lab.take(); got != "open /conf/f, close /conf/f, open /conf/f ro, close /conf/f ro" {
		t.Error(got)
	}
}

// TestReloadRace reloads while clients come and go. The race detector and the
// ends of the devices are the test.
func TestReloadRace(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	lab, loader := newLab()
	s := &Set{}
	sources := []string{
		`export("a", cow("f", "d")); export("b", throttle(mem(1)))`,
		`export("a", cow("f", "d"), max_connections=2)`,
		`export("b", mem(1)); export("a", throttle(cow("f", "d")))`,
	}
	mustApply(t, s, mustLoad(t, loader, sources[0]))
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for range 200 {
				req := &nbd.ExportRequest{Name: []string{"a", "b"}[i%2], Peer: tcpPeer("10.0.0.1:5")}
				x, err := s.Resolve(ctx, req)
				if err != nil {
					continue
				}
				if err := x.Device.ReadAt(ctx, make([]byte, 16), 0, 0); err != nil {
					t.Errorf("read during a reload: %v", err)
				}
				x.Release()
			}
		})
	}
	for i := range 60 {
		mustApply(t, s, mustLoad(t, loader, sources[i%len(sources)]))
		s.Status()
	}
	clients.Wait()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	lab.take()
	if len(lab.locked) != 0 || len(s.devices.open) != 0 {
		t.Errorf("left open: %v, %v", lab.locked, s.devices.open)
	}
}

// TestSpecOpen opens an expression by itself; closing the result closes what
// is under it, and only once.
func TestSpecOpen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	lab, loader := newLab()
	spec, err := loader.Eval(ctx, `concat(cow("f", "d"), "f")`)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := spec.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	if err := dev.Close(); !errors.Is(err, block.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if got := lab.take(); got != "open f, open d, open concat, close concat, close d, close f" {
		t.Error(got)
	}
	lab.failAt = 3
	if _, err := spec.Open(ctx); !errors.Is(err, block.ErrIO) {
		t.Errorf("failing: %v", err)
	}
	if got := lab.take(); got != "open f, open d, fail concat, close d, close f" {
		t.Error(got)
	}
}
