package config

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
)

var update = flag.Bool("update", false, "rewrite the golden files and the reference pages")

// Constructors that open nothing but stand for every kind of argument.
type (
	testFile struct {
		_        struct{} `doc:"A file."`
		Path     string   `name:"path" arg:"1" required:"true" unit:"path" doc:"Its path."`
		ReadOnly bool     `name:"read_only" doc:"Never write to it."`
	}
	testMem struct {
		_    struct{} `doc:"A disk in memory."`
		Size int64    `name:"size" arg:"1" required:"true" unit:"bytes" doc:"Its size."`
	}
	testRemote struct {
		_   struct{} `doc:"A remote disk."`
		URI string   `name:"uri" arg:"1" required:"true" doc:"Where it is."`
	}
	testExec struct {
		_    struct{} `doc:"A server as a child process."`
		Argv []string `name:"command" arg:"*" required:"true" doc:"The program and its arguments."`
	}
	testConcat struct {
		_ struct{} `doc:"Devices end to end."`
	}
	testCow struct {
		_     struct{} `doc:"Keeps changes in another file."`
		Diff  string   `name:"diff" arg:"1" required:"true" unit:"path" doc:"The file with the changes."`
		Chunk int64    `name:"chunk" unit:"bytes" default:"64K" doc:"The unit of copying."`
		Sync  string   `name:"sync" enum:"always|never" default:"always" doc:"When to sync."`
	}
	testThrottle struct {
		_        struct{}      `doc:"Limits the rate."`
		Bytes    int64         `name:"bytes" unit:"bytes/s" doc:"Bytes per second."`
		Requests float64       `name:"requests" unit:"requests/s" doc:"Requests per second."`
		Burst    time.Duration `name:"burst" default:"1s" doc:"How long to save up."`
	}
	testJoin struct {
		_     struct{}       `doc:"Takes further devices as arguments."`
		Other block.Device   `name:"other" doc:"One more."`
		More  []block.Device `name:"more" doc:"Many more."`
		Count int            `name:"count" doc:"A number."`
	}
)

var errNotOpened = errors.New("not to be opened")

// specRegistry is a table whose devices cannot be opened.
func specRegistry() *Registry {
	r := &Registry{}
	addHook(r)
	testSource[testFile](r, "file")
	testSource[testMem](r, "mem", Private)
	testSource[testRemote](r, "nbd")
	testSource[testExec](r, "exec", Private)
	AddLayers(r, "concat", func([]block.Device, testConcat) (block.Device, error) { return nil, errNotOpened })
	testLayer[testCow](r, "cow", ReadsBase)
	testLayer[testThrottle](r, "throttle", Private)
	testLayer[testJoin](r, "join")
	return r
}

func testSource[O any](r *Registry, name string, props ...Property) {
	AddSource(r, name, func(context.Context, O) (block.Device, error) { return nil, errNotOpened }, props...)
}

func testLayer[O any](r *Registry, name string, props ...Property) {
	AddLayer(r, name, func(block.Device, O) (block.Device, error) { return nil, errNotOpened }, props...)
}

// TestGolden runs testdata/*.txt. A file begins with a sentence that says
// what it shows. Then come cases, each a configuration, a line of four
// dashes, and what comes of it: the summary of the configuration or the
// error. A line of equals signs separates cases. "file NAME" as the first
// line of a case makes it a file that the later cases can load, "arg" makes
// it a command-line argument and "expr" an expression.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			golden(t, path)
		})
	}
}

const separator = "================\n"

func golden(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(text), separator)
	if len(cases) < 2 || !strings.HasSuffix(strings.TrimSpace(cases[0]), ".") {
		t.Fatalf("%s does not begin with a sentence that says what it shows", path)
	}
	files := map[string]string{}
	var out bytes.Buffer
	out.WriteString(cases[0])
	for i, c := range cases[1:] {
		input, want, _ := strings.Cut(c, "----\n")
		got := evaluateCase(files, input)
		if got != "" {
			fmt.Fprintf(&out, "%s%s----\n%s", separator, input, got)
		} else {
			fmt.Fprintf(&out, "%s%s", separator, input)
		}
		if !*update && got != want {
			t.Errorf("%s, case %d:\n%s--- got:\n%s--- want:\n%s", path, i+1, input, got, want)
		}
	}
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// evaluateCase returns what comes of one case.
func evaluateCase(files map[string]string, input string) string {
	var printed strings.Builder
	l := &Loader{
		Registry: specRegistry(),
		Print:    func(pos Position, text string) { fmt.Fprintf(&printed, "%s: %s\n", pos, text) },
		ReadFile: func(path string) ([]byte, error) {
			if s, ok := files[path]; ok {
				return []byte(s), nil
			}
			return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
		},
	}
	first, rest, _ := strings.Cut(input, "\n")
	var c *Config
	var err error
	switch {
	case strings.HasPrefix(first, "file "):
		files[strings.TrimPrefix(first, "file ")] = rest
		return ""
	case first == "arg":
		c, err = l.Args(context.Background(), strings.Split(strings.TrimSuffix(rest, "\n"), "\n"))
	case first == "expr":
		s, evalErr := l.Eval(context.Background(), strings.TrimSuffix(rest, "\n"))
		if err = evalErr; err == nil {
			return fmt.Sprintf("%s%s\n", &printed, s)
		}
	default:
		c, err = l.LoadBytes(context.Background(), "dir/strata.star", []byte(input))
	}
	if err != nil {
		return fmt.Sprintf("%serror: %v\n", &printed, err)
	}
	return printed.String() + c.Summary()
}
