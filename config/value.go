package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"github.com/strata-storage/strata/internal/units"
	"github.com/strata-storage/strata/lock"
)

// The values that arguments have once they are bound: string, bool, int64,
// float64, time.Duration, []string, map[string]string, *Spec, []*Spec and starlark.Callable, one
// for each Type.

// parseDefault reads the text of a default tag.
func (p *Param) parseDefault() (any, error) {
	switch p.Type {
	case TypeString:
		return p.checkString(p.Default)
	case TypeBool:
		return strconv.ParseBool(p.Default)
	case TypeInt:
		if p.Unit == UnitBytes || p.Unit == UnitByteRate {
			return units.ParseBytes(p.Default)
		}
		return strconv.ParseInt(p.Default, 10, 64)
	case TypeFloat:
		return strconv.ParseFloat(p.Default, 64)
	case TypeDuration:
		return parseDuration(p.Default)
	case TypeStrings:
		return strings.Split(p.Default, ","), nil
	}
	return nil, fmt.Errorf("type %s has no default", p.Type)
}

// formatValue writes a value as it would stand in a configuration.
func formatValue(p *Param, v any) string {
	switch v := v.(type) {
	case string:
		return starlark.String(v).String()
	case bool:
		return starlark.Bool(v).String()
	case int64:
		if s := formatBytes(v); (p.Unit == UnitBytes || p.Unit == UnitByteRate) && s != strconv.FormatInt(v, 10) {
			return `"` + s + `"`
		}
		return strconv.FormatInt(v, 10)
	case float64:
		return starlark.Float(v).String()
	case time.Duration:
		return `"` + v.String() + `"`
	case []string:
		q := make([]string, len(v))
		for i, s := range v {
			q[i] = starlark.String(s).String()
		}
		return "[" + strings.Join(q, ", ") + "]"
	case map[string]string:
		var q []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			q = append(q, starlark.String(k).String()+": "+starlark.String(v[k]).String())
		}
		return "{" + strings.Join(q, ", ") + "}"
	case *Spec:
		return v.String()
	case []*Spec:
		q := make([]string, len(v))
		for i, s := range v {
			q[i] = s.String()
		}
		return "[" + strings.Join(q, ", ") + "]"
	case starlark.Callable:
		return v.Name()
	}
	return fmt.Sprint(v)
}

// isDefault reports whether v is what the parameter has when it is not given.
func (p *Param) isDefault(v any) bool {
	switch v := v.(type) {
	case string:
		return v == p.Default || v == ""
	case bool:
		return !v || p.Default == "true"
	case int64, float64, time.Duration:
		d, err := p.parseDefault()
		return v == int64(0) || v == float64(0) || v == time.Duration(0) || err == nil && v == d
	case []string:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	case []*Spec:
		return len(v) == 0
	}
	return false
}

// convert checks that v fits the parameter and returns its value.
func (c *call) convert(p *Param, v starlark.Value, pos Position) (any, error) {
	switch p.Type {
	case TypeString:
		if s, ok := starlark.AsString(v); ok {
			s, err := p.checkString(s)
			switch {
			case err != nil:
			case p.Unit == UnitPath:
				s = c.path(s)
			case p.Unit == UnitLock:
				s, err = c.lockAddress(s)
			}
			return s, err
		}
	case TypeBool:
		if b, ok := v.(starlark.Bool); ok {
			return bool(b), nil
		}
	case TypeInt:
		return p.toInt(v)
	case TypeFloat:
		return p.toFloat(v)
	case TypeDuration:
		return p.toDuration(v)
	case TypeStrings:
		return c.toStrings(p, v)
	case TypeDict:
		return p.toDict(v)
	case TypeDevice:
		return c.toDevice(p, v, pos)
	case TypeDevices:
		return c.toDevices(p, v, pos)
	case TypeFunction:
		if f, ok := v.(starlark.Callable); ok {
			c.env.functions = append(c.env.functions, f)
			return f, nil
		}
	}
	return nil, p.mismatch(v)
}

func (p *Param) mismatch(v starlark.Value) error {
	return fmt.Errorf("must be %s, not %s", p.Expects(), describe(v))
}

// describe names a value that was not expected.
func describe(v starlark.Value) string {
	switch v := v.(type) {
	case starlark.String: // it may be longer than there is memory to quote it
		return shorten(starlark.String(shorten(string(v))).String())
	case starlark.Int, starlark.Float, starlark.Bool, starlark.NoneType:
		return shorten(v.String())
	case *starlark.Builtin:
		return fmt.Sprintf("the function %s (call it: %s(...))", v.Name(), v.Name())
	case *Spec:
		return "a device"
	}
	return "a " + v.Type()
}

// checkString checks what no string may hold, and the enum.
func (p *Param) checkString(s string) (string, error) {
	switch {
	case strings.ContainsRune(s, 0):
		return "", fmt.Errorf("must not contain a NUL character")
	case p.Enum != nil && !slices.Contains(p.Enum, s):
		return "", fmt.Errorf("must be %s, not %q", p.Expects(), shorten(s))
	case p.Unit == UnitPath && s == "":
		return "", fmt.Errorf("must be a path, not the empty string")
	}
	return s, nil
}

func (p *Param) toInt(v starlark.Value) (any, error) {
	var n int64
	switch v := v.(type) {
	case starlark.Int:
		var ok bool
		if n, ok = v.Int64(); !ok {
			return nil, fmt.Errorf("%s is out of range: integers have 64 bits", shorten(v.String()))
		}
	case starlark.String:
		s := string(v)
		if p.Unit == UnitByteRate {
			s = strings.TrimSuffix(s, "/s")
		}
		if p.Unit != UnitBytes && p.Unit != UnitByteRate {
			return nil, p.mismatch(v)
		}
		var err error
		if n, err = units.ParseBytes(s); err != nil {
			return nil, err
		}
	default:
		return nil, p.mismatch(v)
	}
	if n < 0 && p.Unit != "" {
		return nil, fmt.Errorf("must not be negative, it is %d", n)
	}
	return n, nil
}

func (p *Param) toFloat(v starlark.Value) (any, error) {
	f, ok := starlark.AsFloat(v)
	switch {
	case !ok:
		return nil, p.mismatch(v)
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, fmt.Errorf("must be a finite number, not %v", v)
	case f < 0 && p.Unit != "":
		return nil, fmt.Errorf("must not be negative, it is %v", v)
	}
	return f, nil
}

func (p *Param) toDuration(v starlark.Value) (any, error) {
	switch v := v.(type) {
	case starlark.String:
		return parseDuration(string(v))
	case starlark.Int:
		if v.Sign() == 0 {
			return time.Duration(0), nil
		}
		return nil, fmt.Errorf(`must have a unit, as in "%vs" or "%vms"`, v, v)
	}
	return nil, p.mismatch(v)
}

func (c *call) toStrings(p *Param, v starlark.Value) (any, error) {
	it, ok := v.(starlark.Iterable)
	if !ok {
		return nil, p.mismatch(v)
	}
	list := []string{}
	for e := range starlark.Elements(it) {
		s, ok := starlark.AsString(e)
		if !ok {
			return nil, fmt.Errorf("must be %s, but holds %s", p.Expects(), describe(e))
		}
		s, err := p.checkString(s)
		if err != nil {
			return nil, err
		}
		if p.Unit == UnitPath {
			s = c.path(s)
		}
		list = append(list, s)
	}
	return list, nil
}

// toDict accepts values that have one obvious form as a string.
func (p *Param) toDict(v starlark.Value) (any, error) {
	d, ok := v.(*starlark.Dict)
	if !ok {
		return nil, p.mismatch(v)
	}
	m := make(map[string]string, d.Len())
	for _, item := range d.Items() {
		key, ok := starlark.AsString(item[0])
		if !ok {
			return nil, fmt.Errorf("must be %s, but has the key %s", p.Expects(), describe(item[0]))
		}
		switch v := item[1].(type) {
		case starlark.String:
			m[key] = string(v)
		case starlark.Int:
			m[key] = v.String()
		case starlark.Bool:
			m[key] = strconv.FormatBool(bool(v))
		default:
			return nil, fmt.Errorf("must be %s, but %q is %s", p.Expects(), key, describe(v))
		}
	}
	return m, nil
}

// lockAddress checks where a lock is, and makes its path relative to the file
// that names it.
func (c *call) lockAddress(s string) (string, error) {
	if err := lock.Valid(s); err != nil {
		return "", err
	}
	if path, ok := strings.CutPrefix(s, lock.FileScheme); ok {
		return lock.FileScheme + c.path(path), nil
	}
	return s, nil
}

// toDevice accepts a device or a string that names one.
func (c *call) toDevice(p *Param, v starlark.Value, pos Position) (*Spec, error) {
	switch v := v.(type) {
	case *Spec:
		return v, nil
	case starlark.String:
		return c.env.named(string(v), pos, c.path)
	}
	return nil, p.mismatch(v)
}

func (c *call) toDevices(p *Param, v starlark.Value, pos Position) ([]*Spec, error) {
	it, ok := v.(starlark.Iterable)
	if !ok {
		return nil, p.mismatch(v)
	}
	list := []*Spec{}
	for e := range starlark.Elements(it) {
		d, err := c.toDevice(p, e, pos)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}
