package config

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The forms of a command-line argument, see Loader.Arg.
var (
	pathRule       = regexp.MustCompile(`^\.{0,2}/`)
	expressionRule = regexp.MustCompile(`^(\s*[A-Za-z_][A-Za-z0-9_]*\s*\(|\s*["'(])`)
	namedRule      = regexp.MustCompile(`^[^=/()"'\[\],\s]*=`)
)

// Arg reads a command-line argument that says what to export:
//
//	/dir/disk.img ./a=b   a path, because it begins with /, ./ or ../
//	disk.img              a path, whatever its characters, if that file exists
//	nbd://host/name       an NBD URI
//	NAME=REST             REST, which is one of the other forms, under that name
//	cow("a", "b")         an expression: a function's name and a parenthesis,
//	                      a quote or a parenthesis
//	disk.img              anything else is the path of a file that is missing
//
// The first form that fits is taken. The NAME has no white space, slash,
// comma, quote, parenthesis or bracket. Without it the export has the name of
// the file or of the remote export, and that of an expression is "".
func (l *Loader) Arg(ctx context.Context, arg string) (*Export, error) {
	name, offset := argName(arg)
	spec, implied, err := l.device(ctx, arg, offset)
	if err != nil {
		return nil, err
	}
	if offset == 0 {
		name = implied
	}
	x := &Export{Name: name, Device: spec, Pos: Position{Text: arg}}
	if err := x.checkName(); err != nil {
		return nil, &Error{Pos: x.Pos, Err: err}
	}
	return x, nil
}

// argName is the NAME of an argument in the form NAME=REST, and where the REST
// begins.
func argName(arg string) (name string, offset int) {
	if pathRule.MatchString(arg) || exists(arg) || uriRule.MatchString(arg) {
		return "", 0
	}
	m := namedRule.FindString(arg)
	return strings.TrimSuffix(m, "="), len(m)
}

// Args reads several arguments as Arg does and makes a configuration of them.
func (l *Loader) Args(ctx context.Context, args []string) (*Config, error) {
	c := &Config{}
	for _, arg := range args {
		x, err := l.Arg(ctx, arg)
		if err != nil {
			return nil, err
		}
		if first := c.find(x.Name); first != nil {
			_, offset := argName(arg)
			return nil, errorAt(x.Pos, "the export name %q is taken by %s; choose another: NAME=%s", x.Name, first.Pos, shorten(arg[offset:]))
		}
		c.Exports = append(c.Exports, x)
	}
	return c, c.validate()
}

// Device reads a command-line argument that says which device is meant: the
// forms of Arg, but for NAME=REST.
func (l *Loader) Device(ctx context.Context, arg string) (*Spec, error) {
	spec, _, err := l.device(ctx, arg, 0)
	return spec, err
}

// device reads what arg holds from offset on, and tells the name that it
// implies.
func (l *Loader) device(ctx context.Context, arg string, offset int) (spec *Spec, implied string, err error) {
	rest := arg[offset:]
	isPath := pathRule.MatchString(rest) || exists(rest)
	switch {
	case rest == "":
		return nil, "", errorAt(Position{Text: arg}, "expected a path, an NBD URI or an expression")
	case !isPath && uriRule.MatchString(rest):
		implied = exportOf(rest)
	case !isPath && expressionRule.MatchString(rest):
		spec, err = l.eval(ctx, arg, offset)
		return spec, "", err
	default:
		implied = filepath.Base(rest)
		if c, err := l.registry().Lookup(rest); err == nil && !isPath {
			return nil, "", errorAt(Position{Text: arg}, "there is no such file; %s is a function, call it: %s", rest, c.Usage())
		}
	}
	e := l.evaluation(ctx)
	e.text = arg
	if isPath && (uriRule.MatchString(rest) || schemeRule.MatchString(rest)) {
		rest = "./" + rest // a file, although its name looks like a URI
	}
	spec, err = e.named(rest, Position{Text: arg}, func(s string) string { return s })
	return spec, implied, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// exportOf is the export name in an NBD URI, empty if there is none.
func exportOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/")
}
