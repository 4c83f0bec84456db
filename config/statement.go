package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"github.com/strata-storage/strata/internal/listen"
)

// A statement is a function of configuration files that says something about
// the server rather than about a device.
type statement struct {
	name    string
	options reflect.Type
	apply   func(c *call, options any) error
}

type listenOptions struct {
	_         struct{} `doc:"Waits for clients at the given addresses." long:"May be called many times. Without it the server listens at tcp://localhost:10809."`
	Addresses []string `name:"addresses" arg:"*" required:"true" doc:"tcp://HOST:PORT, unix:///PATH?mode=0660, vsock://CID:PORT, systemd:NAME or stdio:."`
}

type tlsOptions struct {
	_        struct{} `doc:"Says how connections are encrypted."`
	Mode     string   `name:"mode" enum:"off|optional|required" default:"required" doc:"Whether clients may or must use TLS."`
	Cert     string   `name:"cert" unit:"path" doc:"PEM file with the server's certificate and those between it and the authority."`
	Key      string   `name:"key" unit:"path" doc:"PEM file with the key of the certificate."`
	ClientCA string   `name:"client_ca" unit:"path" doc:"PEM file with the authorities that certificates of clients must come from; without it clients need none."`
}

type exportOptions struct {
	_              struct{}          `doc:"Serves a device under a name."`
	Name           string            `name:"name" arg:"1" required:"true" doc:"The name that clients ask for; the export named \"\" is the default."`
	Device         *Spec             `name:"dev" arg:"2" required:"true" doc:"The device."`
	Description    string            `name:"description" doc:"A text for people, shown in lists of exports."`
	ReadOnly       bool              `name:"read_only" doc:"Forbids writing although the device could."`
	RequireTLS     bool              `name:"require_tls" doc:"Hides the export from clients that do not use TLS."`
	Allow          []string          `name:"allow" doc:"Who may connect, see the rules below; everyone if it is not given, nobody if it is empty."`
	MaxConnections int               `name:"max_connections" default:"0" doc:"The most connections at one time; 0 is no bound."`
	Prerun         []string          `name:"prerun" doc:"A program and its arguments, run before a connection is allowed; a failure forbids it."`
	Postrun        []string          `name:"postrun" doc:"A program and its arguments, run when a connection has ended."`
	RunTimeout     time.Duration     `name:"run_timeout" default:"30s" doc:"How long prerun and postrun may take before they are killed and have failed."`
	Wrap           starlark.Callable `name:"wrap" doc:"A function of a device that returns the device to serve in its place."`
}

type controlOptions struct {
	_    struct{} `doc:"Opens a Unix socket over which strata status, reload and stop talk to the server."`
	Path string   `name:"path" arg:"1" required:"true" unit:"path" doc:"The path of the socket."`
}

type wrapOptions struct {
	_        struct{}          `doc:"Applies a function to the device of every export, those of later statements too."`
	Function starlark.Callable `name:"function" arg:"1" required:"true" doc:"A function of a device that returns the device to serve in its place."`
}

// statements is the table of them, in the order of the documentation.
var statements []statement

func init() {
	statements = []statement{
		statementOf("listen", (*call).listen),
		statementOf("tls", (*call).tls),
		statementOf("export", (*call).export),
		statementOf("wrap", (*call).wrap),
		statementOf("limits", (*call).limits),
		statementOf("control", (*call).control),
	}
}

func statementOf[O any](name string, apply func(*call, *O) error) statement {
	return statement{name, reflect.TypeFor[O](), func(c *call, o any) error { return apply(c, o.(*O)) }}
}

// isStatement reports whether the language has a function of that name that
// is no constructor.
func isStatement(name string) bool {
	switch name {
	case "refuse", "redirect", "range":
		return true
	}
	return slices.ContainsFunc(statements, func(s statement) bool { return s.name == name })
}

// function is what the statement becomes in the language.
func (e *evaluation) function(s statement) *starlark.Builtin {
	table, err := readOptions(s.options)
	if err != nil {
		panic(fmt.Sprintf("config: statement %s: %v", s.name, err))
	}
	return starlark.NewBuiltin(s.name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		c := e.newCall(thread, s.name, usage(s.name, nil, table.params), args, kwargs)
		if e.config == nil {
			return nil, c.fail(c.pos, "belongs in a configuration file, not in an expression")
		}
		values, err := c.bind(table.params)
		if err != nil {
			return nil, err
		}
		o := reflect.New(s.options)
		table.fill(o.Elem(), values)
		return starlark.None, s.apply(c, o.Interface())
	})
}

func (c *call) listen(o *listenOptions) error {
	for i, a := range o.Addresses {
		addr, err := listen.Parse(a)
		if err != nil {
			return &Error{Pos: c.argPos(i), Err: err}
		}
		for _, l := range c.env.config.Listeners {
			if l.Address == addr.String() {
				return c.fail(c.argPos(i), "%s is listened at already, see %s", a, l.Pos)
			}
		}
		c.env.config.Listeners = append(c.env.config.Listeners, Listener{addr.String(), c.argPos(i)})
	}
	return nil
}

func (c *call) tls(o *tlsOptions) error {
	if first := c.env.config.TLS; first != nil {
		return c.fail(c.pos, "is called twice, the first time at %s", first.Pos)
	}
	t := &TLS{Mode: o.Mode, Cert: o.Cert, Key: o.Key, ClientCA: o.ClientCA, Pos: c.pos}
	if t.Mode == "" {
		t.Mode = TLSRequired
	}
	if t.Mode != TLSOff {
		if t.Cert == "" {
			return c.fail(c.pos, `argument "cert" is missing: a server that speaks TLS needs a certificate`)
		}
		if t.Key == "" {
			return c.fail(c.pos, `argument "key" is missing: a server that speaks TLS needs the key of its certificate`)
		}
	}
	c.env.config.TLS = t
	return nil
}

func (c *call) control(o *controlOptions) error {
	if first := c.env.controlAt; first.IsValid() {
		return c.fail(c.pos, "is called twice, the first time at %s", first)
	}
	c.env.config.Control, c.env.controlAt = o.Path, c.pos
	return nil
}

func (c *call) limits(o *Limits) error {
	if first := c.env.limitsAt; first.IsValid() {
		return c.fail(c.pos, "is called twice, the first time at %s", first)
	}
	if err := o.Server().Validate(); err != nil {
		return c.fail(c.pos, "%s", strings.TrimPrefix(err.Error(), "nbd: "))
	}
	c.env.config.Limits, c.env.limitsAt = *o, c.pos
	return nil
}

func (c *call) export(o *exportOptions) error {
	x := &Export{
		Name: o.Name, Description: o.Description, Device: o.Device,
		ReadOnly: o.ReadOnly, RequireTLS: o.RequireTLS, MaxConnections: o.MaxConnections,
		Prerun: o.Prerun, Postrun: o.Postrun, RunTimeout: o.RunTimeout, Pos: c.pos,
	}
	if x.RunTimeout == 0 {
		x.RunTimeout = 30 * time.Second
	}
	if err := x.checkName(); err != nil {
		return c.fail(c.pos, "%w", err)
	}
	if first := c.env.exports[x.Name]; first != nil {
		return c.fail(c.pos, "the name %q is taken by the export at %s", x.Name, first.Pos)
	}
	if x.MaxConnections < 0 {
		return c.fail(c.kwargPos("max_connections"), "argument \"max_connections\" must not be negative, it is %d", x.MaxConnections)
	}
	for name, argv := range map[string][]string{"prerun": x.Prerun, "postrun": x.Postrun} {
		if argv != nil && (len(argv) == 0 || strings.TrimSpace(argv[0]) == "") {
			return c.fail(c.kwargPos(name), "argument %q must begin with the name of a program", name)
		}
	}
	var err error
	if x.Allow, err = parseRules(o.Allow); err != nil {
		return c.fail(c.kwargPos("allow"), "%w", err)
	}
	if o.Wrap != nil {
		w := wrapper{o.Wrap, c.kwargPos("wrap")}
		if x.Device, err = c.env.applyWrapper(w, x.Device); err != nil {
			return err
		}
	}
	c.env.config.Exports = append(c.env.config.Exports, x)
	c.env.exports[x.Name] = x
	return nil
}

// A wrapper is a function from devices to devices, and where it was given.
type wrapper struct {
	f   starlark.Callable
	pos Position
}

func (c *call) wrap(o *wrapOptions) error {
	c.env.wraps = append(c.env.wraps, wrapper{o.Function, c.pos})
	return nil
}

// finish applies what is for all exports.
func (e *evaluation) finish() error {
	for _, w := range e.wraps {
		for _, x := range e.config.Exports {
			dev, err := e.applyWrapper(w, x.Device)
			if err != nil {
				return err
			}
			x.Device = dev
		}
	}
	return nil
}

func (e *evaluation) applyWrapper(w wrapper, dev *Spec) (*Spec, error) {
	v, err := starlark.Call(e.thread, w.f, starlark.Tuple{dev}, nil)
	if err != nil {
		return nil, err
	}
	if d, ok := v.(*Spec); ok {
		return d, nil
	}
	return nil, errorAt(w.pos, "wrap: the function %s must return a device, not %s", w.f.Name(), describe(v))
}

// builtins are the names that a configuration or expression can use beyond
// those of the language.
func (e *evaluation) builtins() starlark.StringDict {
	d := starlark.StringDict{
		"range":    starlark.NewBuiltin("range", boundedRange),
		"refuse":   starlark.NewBuiltin("refuse", refuse),
		"redirect": starlark.NewBuiltin("redirect", redirect),
	}
	for _, s := range statements {
		d[s.name] = e.function(s)
	}
	for _, c := range e.loader.registry().All() {
		d[c.Name] = e.device(c)
	}
	return d
}
