package config

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.starlark.net/starlark"

	"github.com/strata-storage/strata/block"
)

// TestBadOptions: an options struct that is not fit to be one panics when it
// is registered, and says why.
func TestBadOptions(t *testing.T) {
	t.Parallel()
	try := func(want string, add func(r *Registry)) {
		t.Helper()
		defer func() {
			t.Helper()
			if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), want) {
				t.Errorf("panic %v, want %q", p, want)
			}
		}()
		add(&Registry{})
	}
	try("tag doc is missing", func(r *Registry) {
		testSource[struct {
			_ struct{} `doc:"X."`
			A string   `name:"a"`
		}](r, "x")
	})
	try("the blank field has no doc tag", func(r *Registry) { testSource[struct{}](r, "x") })
	try("options are a int, not a struct", func(r *Registry) { testSource[int](r, "x") })
	try("cannot be an argument", func(r *Registry) {
		testSource[struct {
			A uint8 `name:"a" doc:"A."`
		}](r, "x")
	})
	try("is not exported", func(r *Registry) {
		testSource[struct {
			a string `name:"a" doc:"A."`
		}](r, "x")
	})
	try("tag name must be", func(r *Registry) {
		testSource[struct {
			A string `name:"Big-Name" doc:"A."`
		}](r, "x")
	})
	try(`unit "duration" does not fit`, func(r *Registry) {
		testSource[struct {
			A string `name:"a" doc:"A." unit:"duration"`
		}](r, "x")
	})
	try("tag default", func(r *Registry) {
		testSource[struct {
			A int64 `name:"a" doc:"A." unit:"bytes" default:"64Q"`
		}](r, "x")
	})
	try("tag enum does not fit", func(r *Registry) {
		testSource[struct {
			A int `name:"a" doc:"A." enum:"1|2"`
		}](r, "x")
	})
	try(`tag arg "first"`, func(r *Registry) {
		testSource[struct {
			A string `name:"a" doc:"A." arg:"first"`
		}](r, "x")
	})
	try("no field has position 1", func(r *Registry) {
		testSource[struct {
			A string `name:"a" doc:"A." arg:"2"`
		}](r, "x")
	})
	try(`two fields have the name "a"`, func(r *Registry) {
		testSource[struct {
			A string `name:"a" doc:"A."`
			B string `name:"a" doc:"A."`
		}](r, "x")
	})
	try("takes no other positional arguments", func(r *Registry) {
		AddLayers(r, "x", func([]block.Device, struct {
			_ struct{} `doc:"X."`
			A string   `name:"a" doc:"A." arg:"1"`
		}) (block.Device, error) {
			return nil, nil
		})
	})
	try("cannot be called dev", func(r *Registry) {
		testLayer[struct {
			_ struct{} `doc:"X."`
			A string   `name:"dev" doc:"A."`
		}](r, "x")
	})
	try("already registered", func(r *Registry) { testSource[testMem](r, "x"); testSource[testMem](r, "x") })
	try("that of a statement", func(r *Registry) { testSource[testMem](r, "export") })
	try("the name must be lower-case", func(r *Registry) { testSource[testMem](r, "X") })
}

// TestOwnConstructor: a program adds a constructor of its own, which gets
// every kind of argument that was given, and zero values for the rest.
func TestOwnConstructor(t *testing.T) {
	t.Parallel()
	type options struct {
		_      struct{}       `doc:"Everything."`
		Text   string         `name:"text" arg:"1" doc:"Text."`
		Flag   bool           `name:"flag" doc:"Flag."`
		Small  int            `name:"small" doc:"Small."`
		Size   int64          `name:"size" unit:"bytes" doc:"Size."`
		Rate   float64        `name:"rate" doc:"Rate."`
		Pause  time.Duration  `name:"pause" doc:"Pause."`
		Rest   []string       `name:"rest" arg:"*" doc:"Rest."`
		One    block.Device   `name:"one" doc:"One."`
		Many   []block.Device `name:"many" doc:"Many."`
		Absent []block.Device `name:"absent" doc:"Absent."`
		Hidden any
	}
	r := Builtin()
	var got options
	AddLayer(r, "mine", func(dev block.Device, o options) (block.Device, error) {
		got = o
		return dev, nil
	})
	spec, err := (&Loader{Registry: r}).Eval(context.Background(),
		`mine(mem(512), "t", "r1", "r2", flag=True, small=-3, size="1K", rate=2, pause="1s", one=mem(1024), many=[mem(512), null(2048)])`)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := spec.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if got.One.Info().Size != 1024 || len(got.Many) != 2 || got.Many[1].Info().Size != 2048 || got.Absent != nil {
		t.Errorf("devices: %+v", got)
	}
	got.One, got.Many = nil, nil
	want := options{Text: "t", Flag: true, Small: -3, Size: 1024, Rate: 2, Pause: time.Second, Rest: []string{"r1", "r2"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	c, err := r.Lookup("mine")
	if err != nil {
		t.Fatal(err)
	}
	const usage = "mine(dev, text=, rest..., flag=False, small=, size=, rate=, pause=, one=, many=, absent=)"
	if c.Usage() != usage {
		t.Errorf("usage %s", c.Usage())
	}
	if _, err := r.Lookup("mime"); err == nil || err.Error() != `there is no source or layer "mime"; did you mean "mine"?` {
		t.Error(err)
	}
}

// TestInterrupt: a cancelled context ends an evaluation that would last.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	l := &Loader{Print: func(Position, string) { cancel() }}
	_, err := l.LoadBytes(ctx, "x.star", []byte("def f():\n    print()\n    for i in range(1000000):\n        for j in range(1000000):\n            pass\nf()\n"))
	if err == nil || !strings.Contains(err.Error(), "evaluation was interrupted: context canceled") {
		t.Error(err)
	}
	if _, err := l.Eval(ctx, "mem(1)"); err == nil {
		t.Error("evaluated with a cancelled context")
	}
}

// TestMemoryGuard stops a program that collects strings.
func TestMemoryGuard(t *testing.T) {
	t.Parallel()
	thread := &starlark.Thread{}
	defer guardMemory(thread, 64<<20)()
	_, err := starlark.EvalOptions(dialect, thread, "", `[("x" * 1000000) + str(i) for i in range(100000)]`, nil)
	if err == nil || !strings.Contains(err.Error(), "needs more than 64 MiB of memory") {
		t.Error(err)
	}
}

// TestExistingFilesArePaths: the name of a file that exists is its path, even
// if it looks like something else.
func TestExistingFilesArePaths(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx := context.Background()
	l := &Loader{Registry: specRegistry()}
	for _, name := range []string{`vm=a.img`, `mem("1G")`, `"quoted"`, `a b`, `nbd:host`, `=`, "new\nline", `ünïcode`, `-x`} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := l.Arg(ctx, name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		path, _ := x.Device.values[0].(string)
		if x.Name != name || strings.TrimPrefix(path, "./") != name || x.Device.cons.Name != "file" {
			t.Errorf("%q: export %q of %s", name, x.Name, x.Device)
		}
		if x, err = l.Arg(ctx, "v="+name); err != nil || x.Name != "v" || x.Device.cons.Name != "file" {
			t.Errorf("%q under a name: %v, %v", name, x, err)
		}
	}
}

// TestLongText: a device that is short to write as a program, and as one
// expression longer than any memory, is described by a part of that.
func TestLongText(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, &Loader{Registry: specRegistry()}, `
def double(n):
    d = mem(512)
    for i in range(n):
        d = concat(d, d)
    return d
export("a", double(90))
`)
	got := c.Exports[0].Device.String()
	if len(got) > 2*maxSpecText || !strings.HasPrefix(got, "concat(concat(") || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %.100s", len(got), got)
	}
}

// FuzzLoad: no configuration makes the loader panic or last, and what it
// accepts can be described.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		`export("a", concat("x", cow("y", "z"), mem("1G")), allow=["10.0.0.0/8", "cn:x"])`,
		`listen("tcp://:1"); tls(mode="off"); limits(conns=5); control("c")`,
		"def f(r):\n  return refuse('EIO')\nexport('a', hook('b', write=f))\nwrap(lambda d: throttle(d, bytes='1M'))",
		`[mem(i) for i in range(10)]`,
		`mem(size=-1)`, `cow(*["a"], **{"diff": "b"})`, `export("\xff", "x")`,
	} {
		f.Add(s)
	}
	r := specRegistry()
	f.Fuzz(func(t *testing.T, src string) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		l := &Loader{Registry: r, ReadFile: func(string) ([]byte, error) { return nil, os.ErrNotExist }}
		if c, err := l.LoadBytes(ctx, "x.star", []byte(src)); err == nil {
			if c.Summary() == "" && len(c.Exports) > 0 {
				t.Error("exports without a summary")
			}
		} else if err.Error() == "" {
			t.Error("an error without a text")
		}
		if c, err := l.Args(ctx, []string{src}); err == nil {
			_ = c.Summary()
		}
	})
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		most int
		want string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äö…"}, {"abcdef", 1, "…"},
	} {
		if got := clip(tt.in, tt.most); got != tt.want {
			t.Errorf("clip(%q, %d) = %q, want %q", tt.in, tt.most, got, tt.want)
		}
	}
}
