package config

import (
	"fmt"
	"regexp"
	"strings"

	"go.starlark.net/starlark"
)

// deviceArg is the name of a layer's argument for the device under it.
const deviceArg = "dev"

// maxDepth bounds how deep devices are nested: every request passes through
// all of them, one on the stack of the other.
const maxDepth = 100

// A Spec says how a device is to be made: a constructor and its arguments. It
// is what the functions of the configuration language return. Nothing has
// been opened. A Spec never changes.
type Spec struct {
	cons   *Constructor
	devs   []*Spec
	values []any // one for each of cons.Params; nil is not given
	pos    Position
	depth  int
	origin *string // digest of the files that it was read from
	byPath bool    // a path stood in its place
}

// Constructor is the entry of the table.
func (s *Spec) Constructor() *Constructor { return s.cons }

// Devices are the devices that this one is made of: those under a layer, then
// those given as arguments.
func (s *Spec) Devices() []*Spec {
	all := s.devs[:len(s.devs):len(s.devs)]
	for _, v := range s.values {
		switch v := v.(type) {
		case *Spec:
			all = append(all, v)
		case []*Spec:
			all = append(all, v...)
		}
	}
	return all
}

// Pos is where the device is mentioned.
func (s *Spec) Pos() Position { return s.pos }

// newSpec completes and checks s.
func newSpec(s *Spec) (*Spec, error) {
	for _, d := range s.Devices() {
		s.depth = max(s.depth, d.depth+1)
	}
	if s.depth >= maxDepth {
		return nil, errorAt(s.pos, "%s: devices are nested more than %d deep", s.cons.Name, maxDepth)
	}
	if s.cons.check != nil {
		if err := s.cons.check(s); err != nil {
			return nil, errorAt(s.pos, "%s: %w", s.cons.Name, err)
		}
	}
	if s.cons.complete != nil {
		s = s.cons.complete(s)
	}
	return s, nil
}

// String is the expression that makes the device, with the defaults left out
// and, if it is very long, its end.
func (s *Spec) String() string {
	var b limitedBuilder
	s.write(&b)
	return b.String()
}

func (s *Spec) write(b *limitedBuilder) {
	if b.full() {
		return
	}
	b.add(s.cons.Name + "(")
	sep := ""
	for _, d := range s.devs {
		b.add(sep)
		d.write(b)
		sep = ", "
	}
	for i := range s.cons.Params {
		p, v := &s.cons.Params[i], s.values[i]
		if b.full() {
			return
		}
		if v == nil || p.isDefault(v) && !p.Required {
			continue
		}
		b.add(sep)
		sep = ", "
		list, isList := v.([]string)
		switch {
		case p.Variadic && isList:
			text := formatValue(p, list)
			b.add(text[1 : len(text)-1])
			continue
		case p.Position == 0:
			b.add(p.Name + "=")
		case s.skipped(p.Position):
			b.add(p.Name + "=")
		}
		switch v := v.(type) {
		case *Spec:
			v.write(b)
		case []*Spec:
			b.add("[")
			for j, d := range v {
				if j > 0 {
					b.add(", ")
				}
				d.write(b)
			}
			b.add("]")
		default:
			b.add(formatValue(p, v))
		}
	}
	b.add(")")
}

// skipped reports whether a positional argument before position is not
// written.
func (s *Spec) skipped(position int) bool {
	for i := range s.cons.Params {
		p := &s.cons.Params[i]
		if p.Position > 0 && p.Position < position &&
			(s.values[i] == nil || p.isDefault(s.values[i]) && !p.Required) {
			return true
		}
	}
	return false
}

// limitedBuilder builds a string that does not grow without bound: a Spec
// that mentions another one twice, and that one a third twice, is short to
// write down as a program and very long as one expression.
type limitedBuilder struct{ strings.Builder }

const maxSpecText = 4 << 10

func (b *limitedBuilder) full() bool { return b.Len() >= maxSpecText }

func (b *limitedBuilder) add(s string) {
	if !b.full() {
		b.WriteString(s)
	}
}

func (b *limitedBuilder) String() string {
	s := b.Builder.String()
	if len(s) < maxSpecText {
		return s
	}
	return strings.ToValidUTF8(s[:maxSpecText], "") + "…"
}

// Type, Freeze, Truth and Hash make a Spec a value of the language.
func (s *Spec) Type() string          { return "device" }
func (s *Spec) Freeze()               {}
func (s *Spec) Truth() starlark.Bool  { return true }
func (s *Spec) Hash() (uint32, error) { return 0, fmt.Errorf("unhashable type: device") }

var _ starlark.Value = (*Spec)(nil)

// uriRule recognises an NBD URI.
var uriRule = regexp.MustCompile(`^nbds?(\+(unix|vsock))?:`)

// schemeRule recognises what looks like any URI.
var schemeRule = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*)://`)

// named makes the device that a string means where a device is expected: a
// remote one for an NBD URI, otherwise a file.
func (e *evaluation) named(s string, pos Position, path func(string) string) (*Spec, error) {
	name := "file"
	if uriRule.MatchString(s) {
		name = "nbd"
	} else if m := schemeRule.FindStringSubmatch(s); m != nil {
		return nil, errorAt(pos, "unknown scheme %q; there is nbd, nbds, nbd+unix, nbds+unix, nbd+vsock and nbds+vsock, and a file has none", m[1])
	}
	c, err := e.loader.registry().Lookup(name)
	if err != nil {
		return nil, errorAt(pos, "%q stands for %s(%q): %w", s, name, s, err)
	}
	for i := range c.Params {
		p := &c.Params[i]
		if p.Position != 1 {
			continue
		}
		values := make([]any, len(c.Params))
		if s, err = p.checkString(s); err != nil {
			return nil, errorAt(pos, "%s: %w", name, err)
		}
		if p.Unit == UnitPath {
			s = path(s)
		}
		values[i] = s
		return newSpec(&Spec{cons: c, values: values, pos: pos, origin: &e.digest, byPath: p.Unit == UnitPath})
	}
	return nil, errorAt(pos, "%s() takes no positional argument", name)
}
