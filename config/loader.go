package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// Limits of an evaluation. A configuration is written by the person who runs
// the server, so they guard against mistakes, not malice.
const (
	maxSteps  = 5_000_000 // steps of the interpreter, a fraction of a second
	maxSource = 1 << 20   // bytes of one file or expression
	maxFiles  = 100       // files in one configuration
	maxRange  = 1_000_000 // elements of range()
	maxGrowth = 512 << 20 // bytes of memory
)

// A Loader evaluates expressions and configuration files. The zero value
// works. It may be used by several goroutines at once.
type Loader struct {
	// Registry is the table of constructors, nil for Builtin.
	Registry *Registry
	// Print receives what configurations print(). Nil discards it.
	Print func(pos Position, text string)
	// ReadFile reads the files that are loaded. Nil is os.ReadFile with a
	// bound on the size, which does not wait at a pipe without a writer.
	ReadFile func(path string) ([]byte, error)
}

var sharedBuiltin = sync.OnceValue(Builtin)

func (l *Loader) registry() *Registry {
	if l.Registry != nil {
		return l.Registry
	}
	return sharedBuiltin()
}

// Load evaluates the configuration file at path and the files that it loads.
// It opens no device. Cancelling ctx stops it. Errors are of type [Error] or
// join several.
func (l *Loader) Load(ctx context.Context, path string) (*Config, error) {
	src, err := l.read(path)
	if err != nil {
		return nil, err
	}
	return l.LoadBytes(ctx, path, src)
}

// LoadBytes is Load of a file whose content is src.
func (l *Loader) LoadBytes(ctx context.Context, path string, src []byte) (*Config, error) {
	e := l.evaluation(ctx)
	e.config = &Config{}
	err := e.run(func() error {
		if _, err := e.module(path, src); err != nil {
			return err
		}
		return e.finish()
	})
	if err != nil {
		return nil, err
	}
	if err := e.config.validate(); err != nil {
		return nil, err
	}
	return e.config, nil
}

// Eval evaluates an expression that makes a device, such as
// concat("a.img", "b.img"). Relative paths in it are left as they are.
func (l *Loader) Eval(ctx context.Context, expr string) (*Spec, error) {
	return l.eval(ctx, expr, 0)
}

// eval evaluates what text holds from offset on.
func (l *Loader) eval(ctx context.Context, text string, offset int) (*Spec, error) {
	e := l.evaluation(ctx)
	e.text, e.textOffset = text, len([]rune(text[:offset]))
	expr := text[offset:]
	e.digest = digest([]byte(expr))
	var spec *Spec
	err := e.run(func() error {
		if len(text) > maxSource {
			return fmt.Errorf("the expression is longer than %d bytes", maxSource)
		}
		tree, err := dialect.ParseExpr("", expr, 0)
		if err != nil {
			return err
		}
		e.noteCalls(tree)
		v, err := starlark.EvalExprOptions(dialect, e.thread, tree, e.predeclared)
		if err != nil {
			return err
		}
		c := &call{env: e, pos: Position{Text: text}}
		if spec, err = c.toDevice(&anyDevice, v, c.pos); err != nil {
			return &Error{Pos: Position{Text: text}, Err: fmt.Errorf("the expression %w", err)}
		}
		return nil
	})
	return spec, err
}

// dialect is the language: no recursion and no while, so that programs end.
var dialect = &syntax.FileOptions{Set: true, TopLevelControl: true}

// An evaluation is the work on one file or expression.
type evaluation struct {
	loader      *Loader
	ctx         context.Context
	thread      *starlark.Thread
	predeclared starlark.StringDict
	calls       map[site]*syntax.CallExpr
	modules     map[string]*module
	functions   []starlark.Callable

	// Of an expression: its text, and how many characters of that stand
	// before what is evaluated.
	text       string
	textOffset int

	// Of a file: what it says so far.
	config    *Config
	exports   map[string]*Export
	wraps     []wrapper
	limitsAt  Position
	controlAt Position

	// digest identifies the sources that were read, all of them once the
	// evaluation is over.
	digest string
}

// A site is the place of a call's opening parenthesis.
type site struct {
	file      string
	line, col int32
}

func siteOf(p syntax.Position) site { return site{p.Filename(), p.Line, p.Col} }

// A module is a file that has been loaded, or is being loaded.
type module struct {
	globals starlark.StringDict
	loading bool
}

func (l *Loader) evaluation(ctx context.Context) *evaluation {
	e := &evaluation{
		loader:  l,
		ctx:     ctx,
		calls:   make(map[site]*syntax.CallExpr),
		modules: make(map[string]*module),
		exports: make(map[string]*Export),
	}
	e.thread = &starlark.Thread{Name: "config", Print: e.print, Load: e.load}
	e.thread.SetMaxExecutionSteps(maxSteps)
	e.thread.OnMaxSteps = func(t *starlark.Thread) {
		t.Cancel(fmt.Sprintf("the evaluation takes more than %d steps", maxSteps))
	}
	e.predeclared = e.builtins()
	return e
}

// run calls f with the guards in place and explains its error.
func (e *evaluation) run(f func() error) (err error) {
	defer context.AfterFunc(e.ctx, func() { e.thread.Cancel("interrupted") })()
	defer guardMemory(e.thread, maxGrowth)()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error of the evaluation: %v", p)
		}
	}()
	if err := e.ctx.Err(); err != nil {
		return fmt.Errorf("evaluation was interrupted: %w", err)
	}
	if err := f(); err != nil {
		return e.explain(err)
	}
	for _, fn := range e.functions {
		fn.Freeze()
	}
	return nil
}

// module evaluates a file.
func (e *evaluation) module(path string, src []byte) (starlark.StringDict, error) {
	if len(src) > maxSource {
		return nil, errorAt(Position{File: path}, "the file is longer than %d bytes", maxSource)
	}
	m := &module{loading: true}
	e.modules[filepath.Clean(path)] = m
	e.digest = digest([]byte(e.digest + path + "\x00" + string(src)))
	tree, err := dialect.Parse(path, src, 0)
	if err != nil {
		return nil, err
	}
	e.config.Files = append(e.config.Files, path)
	e.noteCalls(tree)
	prog, err := starlark.FileProgram(tree, e.predeclared.Has)
	if err != nil {
		return nil, err
	}
	if m.globals, err = prog.Init(e.thread, e.predeclared); err != nil {
		return nil, err
	}
	m.globals.Freeze()
	m.loading = false
	return m.globals, nil
}

// load implements the statement load().
func (e *evaluation) load(thread *starlark.Thread, name string) (starlark.StringDict, error) {
	at := thread.CallFrame(0).Pos
	path := join(e.dirOf(at.Filename()), name)
	switch m := e.modules[filepath.Clean(path)]; {
	case m != nil && m.loading:
		return nil, errorAt(e.position(at), "%s is being loaded already: files load each other in a circle", path)
	case m != nil:
		return m.globals, nil
	case len(e.modules) == maxFiles:
		return nil, errorAt(e.position(at), "more than %d files are loaded", maxFiles)
	}
	src, err := e.loader.read(path)
	if err != nil {
		return nil, &Error{Pos: e.position(at), Err: err}
	}
	return e.module(path, src)
}

// noteCalls remembers the calls of a source text, so that errors can point at
// their arguments.
func (e *evaluation) noteCalls(tree syntax.Node) {
	syntax.Walk(tree, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok {
			e.calls[siteOf(c.Lparen)] = c
		}
		return true
	})
}

func (e *evaluation) print(thread *starlark.Thread, text string) {
	if e.loader.Print != nil {
		e.loader.Print(e.position(thread.CallFrame(1).Pos), text)
	}
}

func (l *Loader) read(path string) ([]byte, error) {
	if l.ReadFile != nil {
		return l.ReadFile(path)
	}
	// A pipe that nobody writes to is empty, and not waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSource+1))
}

// dirOf is the directory that paths in the file are relative to.
func (e *evaluation) dirOf(file string) string {
	if dir := filepath.Dir(file); dir != "." {
		return dir
	}
	return ""
}

func join(dir, path string) string {
	if dir == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
