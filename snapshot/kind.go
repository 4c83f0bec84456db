package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A Kind is a kind of store: what a package registers to add one.
type Kind struct {
	// Name is what users write.
	Name string
	// Doc is one sentence.
	Doc string
	// Args describes the arguments of the kind, for the reference and for
	// error messages. Nobody but New looks into their values.
	Args []Arg
	// Caps of a store with default arguments, for the reference.
	Caps Caps
	// New parses the arguments and allocates; it does no input or output. It
	// keeps the configuration.
	New func(Config) (Store, error)
	// Match reports whether the first bytes of a device, at most 64 KiB,
	// look like a store of this kind. It may be nil.
	Match func(head []byte) bool
}

// An Arg is an argument of a kind.
type Arg struct{ Name, Default, Doc string }

// Config is what a store is made of.
type Config struct {
	// Device is the store device. The engine reads and writes data at the
	// places that the store gives out, the store all the rest.
	Device block.Device
	// OriginSize is the size of the origin in bytes.
	OriginSize int64
	// Chunk is the size of a chunk in bytes, a power of two from 512 to
	// 1 MiB, not smaller than MinBlock of either device. 0 is what the store
	// has, DefaultChunk if it is formatted.
	Chunk int64
	// Format says whether to make a store on the device.
	Format Format
	// ReadOnly: nothing may be written.
	ReadOnly bool
	// Args are the arguments of the kind.
	Args map[string]string
	// Retire calls f, from any goroutine, as soon as no reader uses a place
	// that Map returned before. It may be called within f. It is never nil.
	Retire func(f func())
}

// Format says when a store device is formatted.
type Format int

const (
	// Never: the device must hold a store.
	Never Format = iota
	// IfBlank formats a device whose first 64 KiB are zeros.
	IfBlank
	// Always formats. What the device held is lost.
	Always
)

// DefaultChunk is the size of chunks unless another is chosen.
const DefaultChunk = 4096

// Sizes of chunks, in bytes.
const (
	MinChunk = 512
	MaxChunk = 1 << 20
)

var registry struct {
	sync.RWMutex
	kinds map[string]Kind
}

// Register makes a kind of store known, in general from an init function. It
// panics if the name is taken.
func Register(k Kind) {
	registry.Lock()
	defer registry.Unlock()
	if _, ok := registry.kinds[k.Name]; ok || k.Name == "" || k.New == nil {
		panic(fmt.Sprintf("snapshot: cannot register a kind of store named %q", k.Name))
	}
	if registry.kinds == nil {
		registry.kinds = map[string]Kind{}
	}
	registry.kinds[k.Name] = k
}

// Kinds returns the kinds that are registered, by name.
func Kinds() []Kind {
	registry.RLock()
	defer registry.RUnlock()
	return slices.SortedFunc(maps.Values(registry.kinds), func(a, b Kind) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

// Detect returns the kind of the store whose first bytes, up to 64 KiB, are
// head.
func Detect(head []byte) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Match != nil && k.Match(head) {
			return k, true
		}
	}
	return Kind{}, false
}

// headSize is how much of a device tells the kind of the store on it.
const headSize = 64 << 10

// Identify returns the name of the kind of the store on a device, and "" if
// there is none that is known.
func Identify(ctx context.Context, dev block.Device) (string, error) {
	info := dev.Info()
	n := min(info.Size, headSize)
	if info.MaxBlock > 0 {
		n = min(n, int64(info.MaxBlock))
	}
	head := make([]byte, n-n%int64(max(info.MinBlock, 1)))
	if err := dev.ReadAt(ctx, head, 0, 0); err != nil {
		return "", err
	}
	k, _ := Detect(head)
	return k.Name, nil
}

// explain tells of a device on which the kind finds no store whether there is
// one of another kind.
func (s *Set) explain(ctx context.Context, err error) error {
	if !errors.Is(err, ErrNoStore) {
		return err
	}
	if kind, e := Identify(ctx, s.dev); e == nil && kind != "" && kind != s.o.Kind {
		return fmt.Errorf("the device holds a store of the kind %q, expected %q: %w", kind, s.o.Kind, ErrMismatch)
	}
	return err
}

func kindOf(name string) (Kind, error) {
	registry.RLock()
	k, ok := registry.kinds[name]
	registry.RUnlock()
	if ok {
		return k, nil
	}
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return Kind{}, fmt.Errorf("unknown kind of snapshot store %q, expected one of %q: %w", name, names, block.ErrInvalid)
}
