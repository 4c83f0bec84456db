package config

import (
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/strata-storage/strata/internal/spell"
)

// A call is one call of a function of ours, with the places of its parts.
type call struct {
	env    *evaluation
	name   string
	usage  string
	pos    Position
	dir    string // what relative paths are relative to
	args   []starlark.Value
	kwargs []starlark.Tuple
	expr   *syntax.CallExpr // nil if the call is not in a source text
	shift  int              // positional arguments that have been taken from args
}

// newCall finds out where the running call stands.
func (e *evaluation) newCall(thread *starlark.Thread, name, usage string, args starlark.Tuple, kwargs []starlark.Tuple) *call {
	c := &call{env: e, name: name, usage: usage, args: args, kwargs: kwargs}
	if thread.CallStackDepth() < 2 {
		return c
	}
	at := thread.CallFrame(1).Pos
	c.expr = e.calls[siteOf(at)]
	c.pos = e.callPosition(at)
	if e.text == "" {
		c.dir = e.dirOf(at.Filename())
	}
	return c
}

// argPos is the place of positional argument i.
func (c *call) argPos(i int) Position {
	if c.expr == nil {
		return c.pos
	}
	i += c.shift
	for _, a := range c.expr.Args {
		switch a := a.(type) {
		case *syntax.UnaryExpr:
			if a.Op == syntax.STAR || a.Op == syntax.STARSTAR {
				return c.pos
			}
		case *syntax.BinaryExpr:
			if a.Op == syntax.EQ {
				continue
			}
		}
		if i == 0 {
			return c.env.position(syntax.Start(a))
		}
		i--
	}
	return c.pos
}

// kwargPos is the place of the argument of that name.
func (c *call) kwargPos(name string) Position {
	if c.expr == nil {
		return c.pos
	}
	for _, a := range c.expr.Args {
		if b, ok := a.(*syntax.BinaryExpr); ok && b.Op == syntax.EQ {
			if id, ok := b.X.(*syntax.Ident); ok && id.Name == name {
				return c.env.position(id.NamePos)
			}
		}
	}
	return c.pos
}

// path makes a path that stands in a file relative to that file.
func (c *call) path(s string) string { return join(c.dir, s) }

// fail is an error about the call at pos.
func (c *call) fail(pos Position, format string, args ...any) error {
	return &Error{Pos: pos, Err: fmt.Errorf("%s: %w", c.name, fmt.Errorf(format, args...))}
}

// bind checks the arguments against the parameters and returns their values,
// one for each, nil for those that are not given.
func (c *call) bind(params []Param) ([]any, error) {
	b := binding{call: c, params: params, values: make([]any, len(params))}
	for i, v := range c.args {
		if err := b.positional(i, v); err != nil {
			return nil, err
		}
	}
	for _, kw := range c.kwargs {
		if err := b.keyword(string(kw[0].(starlark.String)), kw[1]); err != nil {
			return nil, err
		}
	}
	for i := range params {
		if params[i].Required && b.values[i] == nil {
			return nil, c.fail(c.pos, "argument %q is missing: %s", params[i].Name, params[i].Doc)
		}
	}
	return b.values, nil
}

type binding struct {
	*call
	params []Param
	values []any
}

func (b *binding) positional(i int, v starlark.Value) error {
	pos := b.argPos(i)
	for j := range b.params {
		p := &b.params[j]
		if p.Position == i+1 {
			return b.set(j, v, pos)
		}
	}
	for j := range b.params {
		if p := &b.params[j]; p.Variadic {
			s, ok := starlark.AsString(v)
			if !ok {
				return b.wrong(p, p.expectsOne(v), pos)
			}
			s, err := p.checkString(s)
			if err != nil {
				return b.wrong(p, err, pos)
			}
			if p.Unit == UnitPath {
				s = b.path(s)
			}
			list, _ := b.values[j].([]string)
			b.values[j] = append(list, s)
			return nil
		}
	}
	return b.fail(pos, "%s is one positional argument too many; usage: %s", describe(v), b.usage)
}

func (b *binding) keyword(name string, v starlark.Value) error {
	pos := b.kwargPos(name)
	var names []string
	for j := range b.params {
		if b.params[j].Name == name {
			return b.set(j, v, pos)
		}
		names = append(names, b.params[j].Name)
	}
	if len(names) == 0 {
		return b.fail(pos, "unknown argument %q; it takes no named arguments", name)
	}
	return b.fail(pos, "unknown argument %q%s", name, spell.DidYouMean(name, names))
}

func (b *binding) set(j int, v starlark.Value, pos Position) error {
	p := &b.params[j]
	if b.values[j] != nil {
		return b.fail(pos, "argument %q is given twice", p.Name)
	}
	if v == starlark.None {
		if p.Required {
			return b.wrong(p, p.mismatch(v), pos)
		}
		return nil // as if it were not given
	}
	val, err := b.convert(p, v, pos)
	if err != nil {
		return b.wrong(p, err, pos)
	}
	b.values[j] = val
	return nil
}

// wrong says that the value of an argument does not do, unless err knows
// better already.
func (b *binding) wrong(p *Param, err error, pos Position) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	if !strings.HasPrefix(err.Error(), "must ") {
		return b.fail(pos, "argument %q: %w", p.Name, err)
	}
	return b.fail(pos, "argument %q %w", p.Name, err)
}

// expectsOne is the mismatch of one element of a list.
func (p *Param) expectsOne(v starlark.Value) error {
	return fmt.Errorf("must be strings, not %s", describe(v))
}

// device is the function of the configuration language that a constructor
// becomes.
func (e *evaluation) device(cons *Constructor) *starlark.Builtin {
	return starlark.NewBuiltin(cons.Name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		c := e.newCall(thread, cons.Name, cons.Usage(), args, kwargs)
		devs, err := c.takeDevices(cons)
		if err != nil {
			return nil, err
		}
		values, err := c.bind(cons.Params)
		if err != nil {
			return nil, err
		}
		return asValue(newSpec(&Spec{cons: cons, devs: devs, values: values, pos: c.pos, origin: &e.digest}))
	})
}

func asValue(s *Spec, err error) (starlark.Value, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

var anyDevice = Param{Name: deviceArg, Type: TypeDevice}

// takeDevices removes from the call's arguments the devices that the layer is
// made of.
func (c *call) takeDevices(cons *Constructor) ([]*Spec, error) {
	switch cons.Kind {
	case Layer:
		return c.takeOne(cons)
	case Layers:
		return c.takeAll()
	}
	return nil, nil
}

func (c *call) takeOne(cons *Constructor) ([]*Spec, error) {
	var v starlark.Value
	var pos Position
	if len(c.args) > 0 {
		v, pos = c.args[0], c.argPos(0)
		c.args, c.shift = c.args[1:], 1
	}
	for i, kw := range c.kwargs {
		if kw[0] != starlark.String(cons.dev) {
			continue
		}
		if v != nil {
			return nil, c.fail(c.kwargPos(cons.dev), "argument %q is given twice", cons.dev)
		}
		v, pos = kw[1], c.kwargPos(cons.dev)
		c.kwargs = append(c.kwargs[:i:i], c.kwargs[i+1:]...)
		break
	}
	if v == nil {
		return nil, c.fail(c.pos, "the device that the layer is made of is missing")
	}
	_, byPath := v.(starlark.String)
	d, err := c.oneDevice(cons.dev, v, pos)
	if err != nil {
		return nil, err
	}
	if byPath && cons.ReadsBase {
		d = d.readOnly()
	}
	return []*Spec{d}, nil
}

func (c *call) takeAll() ([]*Spec, error) {
	var devs []*Spec
	for i, v := range c.args {
		pos := c.argPos(i)
		if list, ok := v.(starlark.Sequence); ok {
			for e := range starlark.Elements(list) {
				d, err := c.oneDevice(deviceArg, e, pos)
				if err != nil {
					return nil, err
				}
				devs = append(devs, d)
			}
			continue
		}
		d, err := c.oneDevice(deviceArg, v, pos)
		if err != nil {
			return nil, err
		}
		devs = append(devs, d)
	}
	c.args = nil
	if len(devs) == 0 {
		return nil, c.fail(c.pos, "the devices that the layer is made of are missing")
	}
	return devs, nil
}

func (c *call) oneDevice(arg string, v starlark.Value, pos Position) (*Spec, error) {
	d, err := c.toDevice(&anyDevice, v, pos)
	if own := (*Error)(nil); err == nil || errors.As(err, &own) {
		return d, err
	}
	return nil, c.fail(pos, "argument %q %w", arg, err)
}
