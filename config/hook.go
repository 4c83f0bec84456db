package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.starlark.net/starlark"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/spell"
	"github.com/strata-storage/strata/layer"
)

// hookSteps bounds the steps of the interpreter for one request, a few
// milliseconds.
const hookSteps = 100_000

type hookOptions struct {
	_       struct{}          `doc:"Calls functions of the configuration before requests." long:"A function gets the request, with the attributes op, offset, length, export, peer, identity and flags (a tuple of \"fua\", \"no_hole\" and \"fast_zero\"). It returns None to let the request pass, refuse(\"ENOSPC\") to make it fail with that error (EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EROFS, EOVERFLOW, ENOTSUP or ESHUTDOWN), or redirect(dev, offset) to send it to one of the targets, at its own offset if none is given. A function that fails makes the request fail with EIO and is logged. Functions run in many threads at a time and cannot change global variables. This is the slow path: it costs about a microsecond a request and takes requests off the fast path that answers them without waiting; a hook that has to be fast is a few lines of Go."`
	Read    starlark.Callable `name:"read" doc:"Called before reads."`
	Write   starlark.Callable `name:"write" doc:"Called before writes."`
	Zero    starlark.Callable `name:"zero" doc:"Called before ranges are zeroed."`
	Trim    starlark.Callable `name:"trim" doc:"Called before ranges are trimmed."`
	Flush   starlark.Callable `name:"flush" doc:"Called before flushes."`
	Targets []block.Device    `name:"targets" doc:"The devices that functions may redirect requests to. A flush reaches them too."`
}

// addHook adds the layer hook, whose arguments are functions of the
// configuration language. It is private because functions cannot be compared:
// two that are written in the same place may have seen different variables.
func addHook(r *Registry) {
	AddLayer(r, "hook", func(block.Device, hookOptions) (block.Device, error) {
		return nil, errors.New("not called")
	}, Private, OnViews, func(c *Constructor) { c.check, c.open = checkHook, openHook })
}

// hookFunctions are the functions in a spec by operation.
func hookFunctions(s *Spec) map[layer.Op]starlark.Callable {
	fs := make(map[layer.Op]starlark.Callable)
	for i := range s.cons.Params {
		if f, ok := s.values[i].(starlark.Callable); ok {
			op, err := layer.ParseOp(s.cons.Params[i].Name)
			if err == nil {
				fs[op] = f
			}
		}
	}
	return fs
}

// checkHook reports what could not work, when the configuration is read.
func checkHook(s *Spec) error {
	fs := hookFunctions(s)
	if len(fs) == 0 {
		return errors.New("no function is given: read, write, zero, trim or flush")
	}
	for _, op := range slices.Sorted(maps.Keys(fs)) {
		f, ok := fs[op].(*starlark.Function)
		if !ok {
			continue
		}
		needs := 0
		for i := range f.NumParams() {
			if f.ParamDefault(i) == nil {
				needs++
			}
		}
		if f.HasVarargs() {
			needs--
		}
		if f.HasKwargs() {
			needs--
		}
		if needs > 1 || f.NumParams() == 0 {
			return fmt.Errorf("argument %q: the function %s must take one argument, the request", op, f.Name())
		}
	}
	return nil
}

func openHook(ctx context.Context, o *opening) (block.Device, error) {
	h := &starHook{spec: o.spec, functions: hookFunctions(o.spec), log: o.log}
	for i := range o.spec.cons.Params {
		if specs, ok := o.spec.values[i].([]*Spec); ok {
			h.targetSpecs = specs
			h.targets = o.values[i].([]block.Device)
		}
	}
	hooks := layer.Hooks{Before: h.before, Devices: h.targets, Ops: slices.Sorted(maps.Keys(h.functions))}
	if len(h.targets) > 0 && h.functions[layer.OpRead] != nil {
		hooks.Ops = append(hooks.Ops, layer.OpExtents)
		hooks.Replace = hideExtents
	}
	h.threads.New = func() any { return &starlark.Thread{Name: "hook", Print: h.print} }
	return layer.Hook(o.devs[0], hooks)
}

// hideExtents keeps the device from calling a range zero whose reads go
// elsewhere.
func hideExtents(ctx context.Context, r *layer.Request, next func(context.Context) error) error {
	if r.Op == layer.OpExtents && r.Context == block.Allocation {
		r.Extents = block.OneExtent(r.Off, r.Len, 0)
		return nil
	}
	return next(ctx)
}

// A starHook runs functions of the configuration language.
type starHook struct {
	spec        *Spec
	functions   map[layer.Op]starlark.Callable
	targetSpecs []*Spec
	targets     []block.Device
	threads     sync.Pool
	log         *slog.Logger

	lastFailure atomic.Int64 // Unix time of the last one that was logged
}

func (h *starHook) before(ctx context.Context, r *layer.Request) error {
	f := h.functions[r.Op]
	if f == nil {
		return nil
	}
	v, err := h.call(ctx, f, r)
	if err == nil {
		switch v := v.(type) {
		case starlark.NoneType:
			return nil
		case refusal:
			return v.errno
		case redirection:
			if err = h.redirect(r, v); err == nil {
				return nil
			}
		default:
			err = fmt.Errorf("must return None, refuse(...) or redirect(...), not %s", describe(v))
		}
	}
	h.failed(f, r, err)
	return fmt.Errorf("hook %s failed: %w", f.Name(), block.ErrIO)
}

// call runs f on a thread of the pool.
func (h *starHook) call(ctx context.Context, f starlark.Callable, r *layer.Request) (v starlark.Value, err error) {
	t := h.threads.Get().(*starlark.Thread)
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("panic: %v", p)
			return // the thread is not used again
		}
		t.Uncancel()
		h.threads.Put(t)
	}()
	t.SetMaxExecutionSteps(t.ExecutionSteps() + hookSteps)
	req := &request{caller: block.CallerOf(ctx), op: r.Op, off: r.Off, n: r.Len, flags: r.Flags}
	return starlark.Call(t, f, starlark.Tuple{req}, nil)
}

func (h *starHook) redirect(r *layer.Request, to redirection) error {
	i := slices.Index(h.targetSpecs, to.dev)
	if i < 0 {
		return fmt.Errorf("redirect to %s, which is not one of the hook's targets", to.dev)
	}
	r.Device = h.targets[i]
	if to.hasOffset {
		r.Off = to.offset
	}
	return nil
}

// failed logs a failure, at most one in a second.
func (h *starHook) failed(f starlark.Callable, r *layer.Request, err error) {
	now := time.Now().Unix()
	if last := h.lastFailure.Load(); now == last || !h.lastFailure.CompareAndSwap(last, now) {
		return
	}
	where := h.spec.pos.String()
	var evalErr *starlark.EvalError
	if errors.As(err, &evalErr) {
		for i := range evalErr.CallStack {
			if p := evalErr.CallStack.At(i).Pos; p.Line > 0 {
				where = p.String()
				break
			}
		}
	}
	h.log.Error("hook failed", "function", f.Name(), "at", where, "op", r.Op.String(), "offset", r.Off, "length", r.Len, "error", clip(err.Error(), maxMessage))
}

func (h *starHook) print(t *starlark.Thread, text string) {
	h.log.Info("hook prints", "at", t.CallFrame(1).Pos.String(), "text", shorten(text))
}

// request is what a function sees.
type request struct {
	caller *block.Caller
	op     layer.Op
	off, n int64
	flags  block.Flags
}

var _ starlark.HasAttrs = (*request)(nil)

var requestAttrs = []string{"export", "flags", "identity", "length", "offset", "op", "peer"}

// Attr returns an attribute of the request.
func (r *request) Attr(name string) (starlark.Value, error) {
	switch name {
	case "op":
		return starlark.String(r.op.String()), nil
	case "offset":
		return starlark.MakeInt64(r.off), nil
	case "length":
		return starlark.MakeInt64(r.n), nil
	case "export":
		return starlark.String(r.caller.Export), nil
	case "peer":
		return starlark.String(r.caller.Peer), nil
	case "identity":
		return starlark.String(r.caller.Identity), nil
	case "flags":
		var names starlark.Tuple
		for _, f := range []struct {
			bit  block.Flags
			name starlark.String
		}{{block.FUA, "fua"}, {block.NoHole, "no_hole"}, {block.FastZero, "fast_zero"}} {
			if r.flags&f.bit != 0 {
				names = append(names, f.name)
			}
		}
		return names, nil
	}
	return nil, nil
}

func (r *request) AttrNames() []string { return requestAttrs }
func (r *request) String() string {
	return fmt.Sprintf("request(op=%q, offset=%d, length=%d)", r.op.String(), r.off, r.n)
}
func (r *request) Type() string          { return "request" }
func (r *request) Freeze()               {}
func (r *request) Truth() starlark.Bool  { return true }
func (r *request) Hash() (uint32, error) { return 0, errors.New("unhashable type: request") }

// verdict is what refusal and redirection have in common as values.
type verdict struct{}

func (verdict) Type() string          { return "verdict" }
func (verdict) Freeze()               {}
func (verdict) Truth() starlark.Bool  { return true }
func (verdict) Hash() (uint32, error) { return 0, errors.New("unhashable type: verdict") }

// refusal makes a request fail.
type refusal struct {
	verdict
	errno syscall.Errno
}

func (r refusal) String() string { return fmt.Sprintf("refuse(%q)", r.errno.Error()) }

// redirection sends a request elsewhere.
type redirection struct {
	verdict
	dev       *Spec
	offset    int64
	hasOffset bool
}

func (r redirection) String() string { return fmt.Sprintf("redirect(%s)", r.dev) }

var errnos = map[string]syscall.Errno{
	"EPERM": syscall.EPERM, "EIO": syscall.EIO, "ENOMEM": syscall.ENOMEM, "EINVAL": syscall.EINVAL,
	"ENOSPC": syscall.ENOSPC, "EROFS": syscall.EROFS, "EOVERFLOW": syscall.EOVERFLOW,
	"ENOTSUP": syscall.ENOTSUP, "ESHUTDOWN": syscall.ESHUTDOWN,
}

// refuse implements refuse(error).
func refuse(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	name := "EPERM"
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "error?", &name); err != nil {
		return nil, err
	}
	errno, ok := errnos[name]
	if !ok {
		return nil, fmt.Errorf("refuse: there is no error %q%s", shorten(name), spell.DidYouMean(name, slices.Collect(maps.Keys(errnos))))
	}
	return refusal{errno: errno}, nil
}

// redirect implements redirect(dev, offset).
func redirect(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var dev, offset starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "dev", &dev, "offset?", &offset); err != nil {
		return nil, err
	}
	spec, ok := dev.(*Spec)
	if !ok {
		return nil, fmt.Errorf("redirect: argument \"dev\" must be a device, one of the hook's targets, not %s", describe(dev))
	}
	r := redirection{dev: spec}
	if offset != nil && offset != starlark.None {
		n, ok := offset.(starlark.Int)
		if !ok {
			return nil, fmt.Errorf("redirect: argument \"offset\" must be an integer, not %s", describe(offset))
		}
		if r.offset, ok = n.Int64(); !ok || r.offset < 0 {
			return nil, fmt.Errorf("redirect: argument \"offset\" is out of range: %s", describe(offset))
		}
		r.hasOffset = true
	}
	return r, nil
}
