package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/spell"
)

// A Type is the kind of value that an argument takes.
type Type string

// The types of arguments, and the Go types of the fields that they stand for.
const (
	TypeString   Type = "string"
	TypeBool     Type = "bool"
	TypeInt      Type = "int"      // int, int64
	TypeFloat    Type = "float"    // float64
	TypeDuration Type = "duration" // time.Duration
	TypeStrings  Type = "strings"  // []string
	TypeDict     Type = "dict"     // map[string]string
	TypeDevice   Type = "device"   // block.Device
	TypeDevices  Type = "devices"  // []block.Device
	TypeFunction Type = "function" // starlark.Callable, for this package's own statements
)

// Units of arguments.
const (
	UnitBytes       = "bytes"      // an integer, or a string such as "64K"
	UnitDuration    = "duration"   // a string such as "10ms"
	UnitByteRate    = "bytes/s"    // an integer, or a string such as "100M"
	UnitRequestRate = "requests/s" // a number
	UnitPath        = "path"       // a file; relative to the configuration file that names it
	UnitLock        = "lock"       // none, file:PATH or tcp://HOST:PORT/NAME; a path is as for UnitPath
)

// A Param is an argument of a constructor or statement: a field of an options
// struct, described by the field's tags.
//
//	name      the argument's name, lower case, words joined by _
//	doc       what it is, in one sentence
//	arg       "1": also the first positional argument after the devices, "2": the second;
//	          "*": takes all positional arguments that are left (only for []string)
//	required  "true": must be given
//	default   the value that the constructor takes if none is given, for people
//	unit      one of the units
//	enum      "a|b": the only values allowed, and the empty string if it is the default
//
// The blank field's tags doc and long describe the constructor itself.
type Param struct {
	Name     string
	Doc      string
	Type     Type
	Unit     string
	Default  string
	Enum     []string
	Position int
	Variadic bool
	Required bool

	field int
}

// options is what the tags of an options struct say.
type options struct {
	doc, long string
	params    []Param
}

var fieldTypes = map[reflect.Type]Type{
	reflect.TypeFor[string]():            TypeString,
	reflect.TypeFor[bool]():              TypeBool,
	reflect.TypeFor[int]():               TypeInt,
	reflect.TypeFor[int64]():             TypeInt,
	reflect.TypeFor[float64]():           TypeFloat,
	reflect.TypeFor[time.Duration]():     TypeDuration,
	reflect.TypeFor[[]string]():          TypeStrings,
	reflect.TypeFor[map[string]string](): TypeDict,
	reflect.TypeFor[block.Device]():      TypeDevice,
	reflect.TypeFor[*Spec]():             TypeDevice,
	reflect.TypeFor[[]block.Device]():    TypeDevices,
	reflect.TypeFor[[]*Spec]():           TypeDevices,
	reflect.TypeFor[starlark.Callable](): TypeFunction,
}

var unitTypes = map[string][]Type{
	UnitBytes:       {TypeInt},
	UnitByteRate:    {TypeInt},
	UnitRequestRate: {TypeInt, TypeFloat},
	UnitDuration:    {TypeDuration},
	UnitPath:        {TypeString, TypeStrings},
	UnitLock:        {TypeString},
}

// readOptions reads the tags of a struct type.
func readOptions(t reflect.Type) (*options, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("options are a %s, not a struct", t)
	}
	o := &options{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			o.doc, o.long = f.Tag.Get("doc"), strings.TrimSpace(f.Tag.Get("long"))
			continue
		}
		if _, named := f.Tag.Lookup("name"); !named {
			continue // for Go callers only
		}
		p, err := readParam(f)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		p.field = i
		o.params = append(o.params, p)
	}
	return o, o.check()
}

// readParam reads the tags of one field.
func readParam(f reflect.StructField) (Param, error) {
	p := Param{
		Name:     f.Tag.Get("name"),
		Doc:      f.Tag.Get("doc"),
		Type:     fieldTypes[f.Type],
		Unit:     f.Tag.Get("unit"),
		Default:  f.Tag.Get("default"),
		Required: f.Tag.Get("required") == "true",
	}
	if e := f.Tag.Get("enum"); e != "" {
		p.Enum = strings.Split(e, "|")
	}
	if p.Type == TypeDuration && p.Unit == "" {
		p.Unit = UnitDuration
	}
	if p.Type == TypeBool && p.Default == "" {
		p.Default = "false"
	}
	switch {
	case p.Type == "":
		return p, fmt.Errorf("type %s cannot be an argument", f.Type)
	case !f.IsExported():
		return p, fmt.Errorf("is not exported")
	case !nameRule.MatchString(p.Name):
		return p, fmt.Errorf("tag name must be lower-case letters, digits and _")
	case p.Doc == "":
		return p, fmt.Errorf("tag doc is missing")
	case p.Unit != "" && !slices.Contains(unitTypes[p.Unit], p.Type):
		return p, fmt.Errorf("unit %q does not fit type %s", p.Unit, f.Type)
	case p.Enum != nil && p.Type != TypeString:
		return p, fmt.Errorf("tag enum does not fit type %s", f.Type)
	}
	switch arg := f.Tag.Get("arg"); {
	case arg == "*" && p.Type == TypeStrings:
		p.Variadic = true
	case arg != "":
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return p, fmt.Errorf("tag arg %q is neither a position from 1 on nor, for []string, *", arg)
		}
		p.Position = n
	}
	if p.Default != "" {
		if _, err := p.parseDefault(); err != nil {
			return p, fmt.Errorf("tag default: %w", err)
		}
	}
	return p, nil
}

// check looks for contradictions between parameters.
func (o *options) check() error {
	names := map[string]bool{}
	positions := 0
	for _, p := range o.params {
		if names[p.Name] {
			return fmt.Errorf("two fields have the name %q", p.Name)
		}
		names[p.Name] = true
		if p.Position > 0 {
			positions++
		}
	}
	for n := 1; n <= positions; n++ {
		if !slices.ContainsFunc(o.params, func(p Param) bool { return p.Position == n }) {
			return fmt.Errorf("no field has position %d", n)
		}
	}
	return nil
}

// fill sets the fields of a struct of the type that o was read from. Values
// are those of a binding, with devices in place of specs if the fields want
// devices.
func (o *options) fill(v reflect.Value, values []any) {
	for i, p := range o.params {
		if values[i] == nil {
			continue
		}
		f, val := v.Field(p.field), reflect.ValueOf(values[i])
		if val.CanConvert(f.Type()) {
			val = val.Convert(f.Type())
		}
		f.Set(val)
	}
}

// usage describes a call of a function.
func usage(name string, devs []string, params []Param) string {
	args := slices.Clone(devs)
	byPosition := slices.Clone(params)
	slices.SortStableFunc(byPosition, func(a, b Param) int { return a.rank() - b.rank() })
	for _, p := range byPosition {
		switch {
		case p.Variadic:
			args = append(args, p.Name+"...")
		case p.Position > 0 && p.Required:
			args = append(args, p.Name)
		case p.Default != "":
			args = append(args, p.Name+"="+p.defaultText())
		default:
			args = append(args, p.Name+"=")
		}
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

// rank orders parameters: positional, variadic, the rest.
func (p *Param) rank() int {
	const last = 1 << 20
	switch {
	case p.Position > 0:
		return p.Position
	case p.Variadic:
		return last
	}
	return last + 1
}

// defaultText is the default as it would be written in a configuration.
func (p *Param) defaultText() string {
	v, err := p.parseDefault()
	if err != nil {
		return p.Default
	}
	return formatValue(p, v)
}

// Expects says what a value of the parameter looks like, for people.
func (p *Param) Expects() string {
	switch p.Unit {
	case UnitBytes:
		return `a size such as 65536 or "64K"`
	case UnitByteRate:
		return `a rate in bytes per second such as 1000000 or "100M"`
	case UnitRequestRate:
		return "a number of requests per second"
	case UnitDuration:
		return `a duration such as "10ms" or "1m30s"`
	case UnitPath:
		if p.Type == TypeStrings {
			return "a list of paths"
		}
		return "a path"
	case UnitLock:
		return "none, file:PATH or tcp://HOST:PORT/NAME"
	}
	if p.Enum != nil {
		return "one of " + spell.List(p.Enum)
	}
	switch p.Type {
	case TypeString:
		return "a string"
	case TypeBool:
		return "True or False"
	case TypeInt:
		return "an integer"
	case TypeFloat:
		return "a number"
	case TypeStrings:
		return "a list of strings"
	case TypeDict:
		return "a dictionary of strings"
	case TypeDevice:
		return "a device, a path or an NBD URI"
	case TypeDevices:
		return "a list of devices"
	}
	return "a function"
}
