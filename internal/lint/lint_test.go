package lint

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/strata-storage/strata"

// root of the module, seen from here.
const root = "../.."

// A file is a Go file of the module.
type file struct {
	path   string // from the root, with slashes
	dir    string
	test   bool
	source []byte
	tree   *ast.File
}

// walk calls f for every file of the module with that extension, by its path
// from the root.
func walk(t *testing.T, ext string, f func(rel string, text []byte) error) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ext {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(rel), text)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// files parses the module.
func files(t *testing.T) (*token.FileSet, []file) {
	t.Helper()
	set := token.NewFileSet()
	var all []file
	walk(t, ".go", func(rel string, text []byte) error {
		tree, err := parser.ParseFile(set, rel, text, parser.ParseComments|parser.SkipObjectResolution)
		all = append(all, file{rel, path.Dir(rel), strings.HasSuffix(rel, "_test.go"), text, tree})
		return err
	})
	if len(all) < 50 {
		t.Fatalf("found %d Go files only", len(all))
	}
	return set, all
}

// arrows says what the code of a folder may import: packages of the module by
// their folder, "dir/..." with what is below, others by path prefix. Folders
// that are not named may import everything but what is in private.
var arrows = map[string][]string{
	"block":                 {},
	"block/blocktest":       {"block"},
	"nbd":                   {"block", "internal/budget", "internal/socket", "internal/tlsrecord", "golang.org/x/sys/"},
	"source":                {"block", "nbd", "internal/...", "golang.org/x/sys/"},
	"layer":                 {"block", "source", "internal/...", "golang.org/x/sys/"},
	"snapshot":              {"block", "lock", "internal/..."},
	"snapshot/bitmap":       {"block", "snapshot", "internal/..."},
	"snapshot/legacy":       {"block", "snapshot", "internal/..."},
	"snapshot/ranged":       {"block", "snapshot", "internal/..."},
	"snapshot/transient":    {"block", "snapshot", "internal/..."},
	"snapshot/kinds":        {"snapshot/..."},
	"snapshot/stream":       {"block", "snapshot"},
	"snapshot/snapshottest": {"block", "block/blocktest", "lock", "snapshot"},
	"lock":                  {"internal/clock", "golang.org/x/sys/"},
	"cluster":               {"block", "source", "cluster/...", "internal/..."},
	"cluster/family":        {},
	"cluster/place":         {},
	"cluster/record":        {"cluster/coord", "cluster/family", "cluster/place"},
	"cluster/wire":          {"block", "internal/..."},
	"cluster/home":          {},
	"cluster/identity":      {},
	"cluster/job":           {"internal/pace"},
	"cluster/upkeep":        {"block", "internal/pace", "cluster/coord", "cluster/disk", "cluster/family", "cluster/job", "cluster/place", "cluster/record", "cluster/replica"},
	"cluster/steward":       {"cluster/coord", "cluster/place", "cluster/record"},
	"cluster/remote":        {"block", "cluster/coord", "cluster/disk", "cluster/replica", "cluster/wire"},
	"cluster/disk":          {"block", "cluster/family", "internal/...", "github.com/cockroachdb/pebble/"},
	"cluster/replica":       {"block", "cluster/coord", "cluster/disk", "cluster/family", "cluster/record", "internal/..."},
	"lock/locktest":         {"lock"},
	"internal/bond":         {"block"},
	"internal/cow":          {"block", "internal/...", "golang.org/x/sys/"},
	"internal/peer":         {},
	"internal/race":         {},
	"internal/units":        {},
	"internal/cert":         {},
	"internal/lint":         {},
	"internal/listen":       {"golang.org/x/sys/"},
	"internal/socket":       {"internal/race", "golang.org/x/sys/"},
	"internal/clock":        {"golang.org/x/sys/"},
	"internal/copy":         {"block", "golang.org/x/sys/"},
	"internal/load":         {"block", "github.com/HdrHistogram/"},
	"internal/rangelock":    {},
	"internal/known":        {},
	"internal/pace":         {},
	"internal/patience":     {},
	"cmd/strata":            {"internal/cli"},

	"cluster/coord":             {},
	"cluster/coord/coordtest":   {"block/blocktest", "cluster/coord"},
	"cluster/coord/memory":      {"cluster/coord", "internal/clock"},
	"cluster/coord/etcd/voters": {"cluster/coord"},
	"cluster/coord/etcd":        {"cluster/coord", "cluster/coord/etcd/voters", "internal/clock", "go.etcd.io/", "go.uber.org/", "google.golang.org/", "golang.org/x/sys/"},
}

// private lists folders that only the named ones may import.
var private = map[string][]string{
	"config":       {"internal/cli", "internal/daemon", "internal/cli/gen"},
	"internal/cli": {"cmd/strata", "internal/cli/gen"},
}

// heavy lists modules from outside, by path prefix, that only one folder may
// import: nobody else shall depend on them.
var heavy = map[string]string{
	"go.etcd.io/":        "cluster/coord/etcd",
	"go.uber.org/zap":    "cluster/coord/etcd",
	"google.golang.org/": "cluster/coord/etcd",
}

// Imports point downwards only.
func TestImports(t *testing.T) {
	t.Parallel()
	_, all := files(t)
	for _, f := range all {
		if f.test {
			continue
		}
		for _, spec := range f.tree.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !allowed(f.dir, path) {
				t.Errorf("%s imports %s", f.path, path)
			}
		}
	}
}

func allowed(dir, path string) bool {
	first, _, _ := strings.Cut(path, "/")
	if !strings.Contains(first, ".") {
		return true // the standard library
	}
	local, isLocal := strings.CutPrefix(path, module+"/")
	if isLocal {
		if users, ok := private[local]; ok && !slices.Contains(users, dir) {
			return false
		}
	}
	for prefix, only := range heavy {
		if strings.HasPrefix(path, prefix) && dir != only {
			return false
		}
	}
	rules, ok := arrows[dir]
	if !ok {
		return true
	}
	for _, rule := range rules {
		below, isTree := strings.CutSuffix(rule, "...")
		switch {
		case isLocal && isTree && strings.HasPrefix(local, below) && private[local] == nil:
			return true
		case isLocal && local == rule:
			return true
		case !isLocal && strings.HasSuffix(rule, "/") && strings.HasPrefix(path, rule):
			return true
		}
	}
	return false
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dir, path string
		want      bool
	}{
		{"block", "context", true},
		{"block", "golang.org/x/sys/unix", false},
		{"block", module + "/nbd", false},
		{"nbd", module + "/block", true},
		{"nbd", "golang.org/x/sys/unix", true},
		{"nbd", module + "/layer", false},
		{"layer", module + "/config", false},
		{"layer", module + "/internal/cli", false},
		{"layer", module + "/internal/rangelock", true},
		{"cmd/strata", module + "/config", false},
		{"cluster/coord", module + "/nbd", false},
		{"cluster/coord", "go.etcd.io/etcd/client/v3", false},
		{"cluster/coord/etcd", "go.etcd.io/etcd/client/v3", true},
		{"cluster/coord/etcd", module + "/block", false},
		{"config", "google.golang.org/grpc", false},
	} {
		if got := allowed(tt.dir, tt.path); got != tt.want {
			t.Errorf("%s may import %s: %v, expected %v", tt.dir, tt.path, got, tt.want)
		}
	}
}

// One idea per file, one page per function.
const (
	maxFile     = 500
	maxFunction = 60
)

func TestSizes(t *testing.T) {
	t.Parallel()
	set, all := files(t)
	for _, f := range all {
		if f.test {
			continue
		}
		if n := bytes.Count(f.source, []byte("\n")); n > maxFile {
			t.Errorf("%s has %d lines, at most %d are allowed", f.path, n, maxFile)
		}
		for _, decl := range f.tree.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
				if n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; n > maxFunction {
					t.Errorf("%s: function %s has %d lines, at most %d are allowed", f.path, fn.Name, n, maxFunction)
				}
			}
		}
	}
}

func TestFormatted(t *testing.T) {
	t.Parallel()
	_, all := files(t)
	for _, f := range all {
		formatted, err := format.Source(f.source)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(formatted, f.source) {
			t.Errorf("%s is not formatted: run gofmt -w", f.path)
		}
	}
}

// The kinds of snapshot stores are named in their own packages, where they are
// linked in, where one is the default, and where they are compared: nothing else
// may depend on which one it is.
func TestKindsOfStoresAreNamedNowhere(t *testing.T) {
	t.Parallel()
	_, all := files(t)
	for _, f := range all {
		if f.test || strings.HasPrefix(f.dir, "snapshot/") || f.path == "config/snapshots.go" || f.dir == "internal/bench" {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if ok && slices.Contains([]string{`"ranged"`, `"bitmap"`, `"legacy"`, `"transient"`}, lit.Value) {
				t.Errorf("%s names the kind of store %s", f.path, lit.Value)
			}
			return true
		})
	}
}

// Every package says what it is for, in one place.
func TestPackageDocs(t *testing.T) {
	t.Parallel()
	_, all := files(t)
	docs := map[string][]string{}
	for _, f := range all {
		if f.test {
			continue
		}
		if _, ok := docs[f.dir]; !ok {
			docs[f.dir] = nil
		}
		if f.tree.Doc != nil {
			docs[f.dir] = append(docs[f.dir], f.path)
		}
		if name := filepath.Base(f.dir); slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc"}, name) {
			t.Errorf("%s: a package is named for what it does, not %s", f.dir, name)
		}
	}
	for dir, where := range docs {
		if len(where) == 0 {
			t.Errorf("package in %s has no comment", dir)
		}
		if tagged := dir == "internal/race"; len(where) > 1 && !tagged {
			t.Errorf("package in %s has %d comments: %s", dir, len(where), strings.Join(where, ", "))
		}
	}
}

// What is exported is documented.
func TestExportedDocs(t *testing.T) {
	t.Parallel()
	_, all := files(t)
	for _, f := range all {
		if f.test || strings.HasPrefix(f.dir, "cmd/") {
			continue
		}
		for _, decl := range f.tree.Decls {
			for _, name := range undocumented(decl) {
				t.Errorf("%s: %s has no comment", f.path, name)
			}
		}
	}
}

// contract holds the methods whose comments are at the interface that they
// implement.
var contract = []string{
	"Info", "ReadAt", "WriteAt", "Zero", "Trim", "Flush", "Extents", "Close", // block.Device
	"Error", "Unwrap", "Is", "String", "Write", "Read", "Len", "Less", "Swap",
	"Freeze", "Truth", "Type", "Hash", "Name", "CallInternal", "Attr", "AttrNames", // starlark.Value
	"MarshalJSON", "UnmarshalJSON", "Describe", "Collect",
}

// undocumented returns the exported names that decl introduces without comment.
func undocumented(decl ast.Decl) (names []string) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() || d.Doc != nil {
			return nil
		}
		if d.Recv != nil && (!exportedReceiver(d) || slices.Contains(contract, d.Name.Name)) {
			return nil
		}
		return []string{d.Name.Name}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				if s.Doc == nil && s.Comment == nil && d.Doc == nil {
					for _, n := range s.Names {
						if n.IsExported() {
							names = append(names, n.Name)
						}
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	typ := d.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}
