package layer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A Request is what a hook sees of one call of a device. It is valid until
// the hook returns. [block.CallerOf] tells on whose behalf it is made.
type Request struct {
	// Op is the method. It must not be changed.
	Op Op
	// Off and Len are the range in bytes, inside the device as it came.
	// A flush has none. Changing Len of a read or write has no effect: it
	// is len(Data).
	Off, Len int64
	// Data is what a write stores or where a read puts its result. The
	// bytes of a write belong to the caller of the device and must not be
	// modified: to change what is written, put another slice here.
	Data []byte
	// Flags of the request, without block.NoWait: a hook may wait.
	Flags block.Flags
	// Device is where the request goes: the hooked device, unless a hook
	// sends it to one of Hooks.Devices, where its range must lie too. A
	// flush always goes to all of them.
	Device block.Device

	// Context is the metadata context of OpExtents.
	Context string
	// Extents is the result of OpExtents, set once the request has been
	// passed on. Errors of the device appear when it is read, which is
	// after the hooks are done.
	Extents iter.Seq2[block.Extent, error]
}

// Hooks are functions that run around the requests to a device. They may be
// called from many goroutines at a time, may block, and must not use the
// device that Hook returned, or its Close would wait for itself.
//
// A hook that redirects, rewrites or answers requests takes over the contract
// of block.Device for them: one that answers reads, for one, must answer
// OpExtents accordingly, or ranges that the device calls zero are not read.
type Hooks struct {
	// Ops are the operations to hook; none means all. What is not hooked
	// costs nothing.
	Ops []Op
	// Before runs first and may change the request. An error refuses it:
	// the device never sees it.
	Before func(ctx context.Context, r *Request) error
	// Replace runs instead of the request. next passes it on, as often as
	// wanted; not calling it and returning nil answers the request.
	Replace func(ctx context.Context, r *Request, next func(context.Context) error) error
	// After runs last, also when the request was refused, and sees its
	// result. What it returns is the result from then on.
	After func(ctx context.Context, r *Request, err error) error
	// Devices are further devices, to which Before and Replace may send
	// requests by setting Request.Device. They belong to the result: a
	// flush reaches them all and Close closes them all.
	Devices []block.Device
}

// Hook returns dev with functions before, around and after chosen operations,
// and owns it. As hooks may wait, it clears Info().NoWait unless neither
// reads nor writes are hooked.
func Hook(dev block.Device, hooks Hooks) (block.Device, error) {
	ops, err := newOpSet(hooks.Ops)
	switch {
	case err != nil:
		return nil, fmt.Errorf("hook: %w", err)
	case hooks.Before == nil && hooks.Replace == nil && hooks.After == nil:
		return nil, errors.New("hook: no function given: set Before, Replace or After")
	}
	info := dev.Info()
	if !reflect.ValueOf(dev).Comparable() {
		dev = &block.Pass{Device: dev}
	}
	h := &hook{Pass: block.Pass{Device: dev}, Hooks: hooks, info: info, ops: ops}
	h.all = append([]block.Device{dev}, hooks.Devices...)
	for _, d := range hooks.Devices {
		if !reflect.ValueOf(d).Comparable() {
			return nil, fmt.Errorf("hook: values of %T cannot be told apart: use a pointer as the device", d)
		}
	}
	if ops&dataOps != 0 {
		h.info.NoWait, h.ignored = false, block.NoWait
	}
	return h, nil
}

type hook struct {
	block.Pass
	Hooks
	info    block.Info
	ops     opSet
	ignored block.Flags // of requests that are not hooked
	all     []block.Device
	gate    block.Gate
}

func (h *hook) Info() block.Info { return h.info }

func (h *hook) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if !h.ops.has(OpRead) {
		return h.Device.ReadAt(ctx, p, off, flags&^h.ignored)
	}
	return h.serve(ctx, Request{Op: OpRead, Off: off, Len: int64(len(p)), Data: p, Flags: flags})
}

func (h *hook) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if !h.ops.has(OpWrite) {
		return h.Device.WriteAt(ctx, p, off, flags&^h.ignored)
	}
	return h.serve(ctx, Request{Op: OpWrite, Off: off, Len: int64(len(p)), Data: p, Flags: flags})
}

func (h *hook) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if !h.ops.has(OpZero) {
		return h.Device.Zero(ctx, off, n, flags)
	}
	return h.serve(ctx, Request{Op: OpZero, Off: off, Len: n, Flags: flags})
}

func (h *hook) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if !h.ops.has(OpTrim) {
		return h.Device.Trim(ctx, off, n, flags)
	}
	return h.serve(ctx, Request{Op: OpTrim, Off: off, Len: n, Flags: flags})
}

func (h *hook) Flush(ctx context.Context) error {
	if !h.ops.has(OpFlush) {
		return h.flush(ctx)
	}
	return h.serve(ctx, Request{Op: OpFlush})
}

func (h *hook) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if !h.ops.has(OpExtents) {
		return h.Device.Extents(ctx, mc, off, n)
	}
	return func(yield func(block.Extent, error) bool) {
		r := &Request{Op: OpExtents, Off: off, Len: n, Context: mc}
		if err := h.run(ctx, r); err != nil {
			yield(block.Extent{}, err)
		} else if r.Extents != nil {
			r.Extents(yield)
		} else if n > 0 {
			yield(block.Extent{}, fmt.Errorf("hook answered a request for extents with none: %w", block.ErrIO))
		}
	}
}

func (h *hook) Close() error {
	if err := h.gate.Close(); err != nil {
		return err
	}
	var failed []error
	for _, d := range h.all {
		failed = append(failed, d.Close())
	}
	return errors.Join(failed...)
}

// requests saves an allocation for each request that is hooked.
var requests = sync.Pool{New: func() any { return new(Request) }}

func (h *hook) serve(ctx context.Context, in Request) error {
	r := requests.Get().(*Request)
	*r = in
	err := h.run(ctx, r)
	*r = Request{}
	requests.Put(r)
	return err
}

// run checks a request, so that hooks see none that is out of range, and
// makes it.
func (h *hook) run(ctx context.Context, r *Request) error {
	if err := h.gate.Enter(); err != nil {
		return err
	}
	defer h.gate.Leave()
	if err := check(&h.info, r.Op, r.Off, r.Len); err != nil {
		return err
	}
	r.Flags &^= block.NoWait
	r.Device = h.Device
	err := h.around(ctx, r)
	if h.After != nil {
		err = h.After(ctx, r, err)
	}
	return err
}

func (h *hook) around(ctx context.Context, r *Request) error {
	if h.Before != nil {
		if err := h.Before(ctx, r); err != nil {
			return err
		}
	}
	if h.Replace != nil {
		return h.Replace(ctx, r, func(ctx context.Context) error { return h.forward(ctx, r) })
	}
	return h.forward(ctx, r)
}

// forward passes r on to where it is to go.
func (h *hook) forward(ctx context.Context, r *Request) error {
	if !h.owns(r.Device) {
		return fmt.Errorf("hook sent a %v to a device that is not one of its Devices: %w", r.Op, block.ErrInvalid)
	}
	switch r.Op {
	case OpRead:
		return r.Device.ReadAt(ctx, r.Data, r.Off, r.Flags)
	case OpWrite:
		return r.Device.WriteAt(ctx, r.Data, r.Off, r.Flags)
	case OpZero:
		return r.Device.Zero(ctx, r.Off, r.Len, r.Flags)
	case OpTrim:
		return r.Device.Trim(ctx, r.Off, r.Len, r.Flags)
	case OpFlush:
		return h.flush(ctx)
	case OpExtents:
		r.Extents = r.Device.Extents(ctx, r.Context, r.Off, r.Len)
		return nil
	}
	return fmt.Errorf("hook changed the operation to %v: %w", r.Op, block.ErrInvalid)
}

func (h *hook) owns(dev block.Device) bool {
	for _, d := range h.all {
		if d == dev {
			return true
		}
	}
	return false
}

// flush makes durable what went to any of the devices, however it got there.
func (h *hook) flush(ctx context.Context) error {
	var failed error
	for _, d := range h.all {
		if err := d.Flush(ctx); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// check reports whether a device with info allows a request of n bytes.
func check(info *block.Info, op Op, off, n int64) error {
	switch op {
	case OpRead:
		return info.CheckRead(off, int(n))
	case OpWrite:
		return info.CheckWrite(off, int(n))
	case OpZero, OpTrim:
		return info.CheckChange(off, n)
	case OpExtents:
		return info.CheckRange(off, n)
	}
	return nil
}
