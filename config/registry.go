package config

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/spell"
)

// A Kind says what a constructor makes its device from.
type Kind string

const (
	// Source makes a device out of its arguments alone.
	Source Kind = "source"
	// Layer makes a device out of one other device.
	Layer Kind = "layer"
	// Layers makes a device out of any number of other devices.
	Layers Kind = "layers"
)

// A Constructor is one entry of the table: a way to make a device.
type Constructor struct {
	// Name is that of the function in configurations.
	Name string
	Kind Kind
	// Doc is one sentence, Long a paragraph or empty.
	Doc, Long string
	// Params are the arguments beyond the devices that a layer is made of,
	// in the order of the options struct.
	Params []Param
	// Private, ReadsBase and OnViews: see the functions of those names.
	Private, ReadsBase, OnViews bool

	options *options
	// dev is the name of a layer's argument for the device under it.
	dev string
	// complete, if not nil, may put another Spec in the place of one that
	// was just made.
	complete func(*Spec) *Spec
	// prepare, if not nil, is called before each of the devices that a spec
	// is made of is opened, with those that are open. What undo does is done
	// if the device cannot be made.
	prepare func(ctx context.Context, s *Spec, open []block.Device) (undo func(), err error)

	// check, if not nil, looks for mistakes that the table cannot express.
	check func(*Spec) error
	// open calls the constructor's function. On an error the devices in o
	// are still the caller's.
	open func(ctx context.Context, o *opening) (block.Device, error)
}

// An opening is what a constructor gets to make a device.
type opening struct {
	spec *Spec
	// devs are the devices that a layer is made of.
	devs []block.Device
	// values are those of spec with devices in place of specs.
	values []any
	log    *slog.Logger
}

// read fills an options struct of the constructor.
func (o *opening) read(into any) {
	o.spec.cons.options.fill(reflect.ValueOf(into).Elem(), o.values)
}

// read fills an options struct of the constructor, but for devices, which
// have not been opened.
func (s *Spec) read(into any) {
	values := slices.Clone(s.values)
	for i, v := range values {
		switch v.(type) {
		case *Spec, []*Spec:
			values[i] = nil
		}
	}
	s.cons.options.fill(reflect.ValueOf(into).Elem(), values)
}

// A Registry is a table of constructors. It must not be changed once a Loader
// uses it. The zero value is empty.
type Registry struct {
	byName map[string]*Constructor
	order  []string
}

// A Property is something that is true of a constructor beyond what its
// options struct says.
type Property func(*Constructor)

// Private makes every mention of the constructor in a configuration a device
// of its own, as two disks in memory are two. Without it, equal expressions
// are one device that is opened once, as a file is.
func Private(c *Constructor) { c.Private = true }

// ReadsBase says that a layer only reads the device under it. A path in that
// device's place is then opened for reading only, so that many such layers,
// in many processes, can be over one file.
func ReadsBase(c *Constructor) { c.ReadsBase = true }

// OnViews says that views of the device under the layer, its snapshots for
// instance, are seen through the layer: a view of the export is the layer over
// a view of its device. Without it the layer hides them. It is for layers that
// keep nothing outside of memory.
func OnViews(c *Constructor) { c.OnViews = true }

// Over gives a layer's argument for the device under it another name than dev.
func Over(name string) Property { return func(c *Constructor) { c.dev = name } }

// AddSource adds a source to r. O is its options struct; the fields' tags are
// described at [Param]. It panics if the name is taken or the struct is not
// fit to be one of options.
func AddSource[O any](r *Registry, name string, f func(context.Context, O) (block.Device, error), props ...Property) {
	add[O](r, name, Source, props, func(ctx context.Context, _ []block.Device, o O) (block.Device, error) {
		return f(ctx, o)
	})
}

// AddLayer adds a layer over one device to r, as AddSource does.
func AddLayer[O any](r *Registry, name string, f func(block.Device, O) (block.Device, error), props ...Property) {
	add[O](r, name, Layer, props, func(_ context.Context, devs []block.Device, o O) (block.Device, error) {
		return f(devs[0], o)
	})
}

// AddLayers adds a layer over any number of devices to r, as AddSource does.
func AddLayers[O any](r *Registry, name string, f func([]block.Device, O) (block.Device, error), props ...Property) {
	add[O](r, name, Layers, props, func(_ context.Context, devs []block.Device, o O) (block.Device, error) {
		return f(devs, o)
	})
}

func add[O any](r *Registry, name string, kind Kind, props []Property,
	f func(context.Context, []block.Device, O) (block.Device, error)) {
	table, err := readOptions(reflect.TypeFor[O]())
	if err != nil {
		panic(fmt.Sprintf("config: constructor %s: %v", name, err))
	}
	c := &Constructor{Name: name, Kind: kind, Doc: table.doc, Long: table.long, Params: table.params, options: table, dev: deviceArg}
	c.open = func(ctx context.Context, op *opening) (block.Device, error) {
		var o O
		table.fill(reflect.ValueOf(&o).Elem(), op.values)
		return f(ctx, op.devs, o)
	}
	for _, p := range props {
		p(c)
	}
	r.add(c)
}

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// add checks what the options struct cannot know and enters c.
func (r *Registry) add(c *Constructor) {
	problem := ""
	switch {
	case !nameRule.MatchString(c.Name):
		problem = "the name must be lower-case letters, digits and _"
	case r.byName[c.Name] != nil:
		problem = "the name is already registered"
	case isStatement(c.Name):
		problem = "the name is that of a statement of configuration files"
	case c.Doc == "":
		problem = "the blank field has no doc tag"
	}
	for _, p := range c.Params {
		if c.Kind == Layers && (p.Position > 0 || p.Variadic) {
			problem = fmt.Sprintf("argument %s: a layer over many devices takes no other positional arguments", p.Name)
		}
		if c.Kind == Layer && p.Name == c.dev {
			problem = "an argument cannot be called " + c.dev
		}
	}
	if problem != "" {
		panic(fmt.Sprintf("config: constructor %s: %s", c.Name, problem))
	}
	if r.byName == nil {
		r.byName = make(map[string]*Constructor)
	}
	r.byName[c.Name] = c
	r.order = append(r.order, c.Name)
}

// Lookup returns the constructor of that name, or an error that says which
// name may have been meant.
func (r *Registry) Lookup(name string) (*Constructor, error) {
	if c := r.byName[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("there is no source or layer %q%s", name, spell.DidYouMean(name, slices.Collect(maps.Keys(r.byName))))
}

// All returns the constructors: sources first, then layers, each in the order
// in which they were added.
func (r *Registry) All() []*Constructor {
	var sources, layers []*Constructor
	for _, name := range r.order {
		if c := r.byName[name]; c.Kind == Source {
			sources = append(sources, c)
		} else {
			layers = append(layers, c)
		}
	}
	return append(sources, layers...)
}

// Usage is how the constructor is called, such as
// "cow(dev, diff, sync=False)".
func (c *Constructor) Usage() string {
	var devs []string
	switch c.Kind {
	case Layer:
		devs = []string{c.dev}
	case Layers:
		devs = []string{deviceArg + "..."}
	}
	return usage(c.Name, devs, c.Params)
}
