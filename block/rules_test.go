package block_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
)

func TestCheckRange(t *testing.T) {
	info := block.Info{Size: 8192, MinBlock: 512}
	for _, test := range []struct {
		off, n int64
		want   error
	}{
		{0, 8192, nil},
		{8192, 0, nil},
		{512, 0, nil},
		{7680, 512, nil},
		{7680, 1024, block.ErrRange},
		{8704, 0, block.ErrRange},
		{-512, 512, block.ErrRange},
		{512, -512, block.ErrRange},
		{512, math.MaxInt64, block.ErrRange},
		{math.MaxInt64, math.MaxInt64, block.ErrRange},
		{math.MinInt64, math.MinInt64, block.ErrRange},
		{1, 512, block.ErrInvalid},
		{0, 511, block.ErrInvalid},
		{1, 0, block.ErrInvalid},
	} {
		err := info.CheckRange(test.off, test.n)
		if !errors.Is(err, test.want) {
			t.Errorf("%d bytes at %d: %v, want %v", test.n, test.off, err, test.want)
		}
		if test.want == block.ErrInvalid && errors.Is(err, block.ErrRange) {
			t.Errorf("%d bytes at %d: %v is called out of range", test.n, test.off, err)
		}
	}
}

func TestCheckRequests(t *testing.T) {
	info := block.Info{Size: 8192, MaxBlock: 1024}
	readOnly := block.Info{Size: 8192, ReadOnly: true}
	for what, test := range map[string]struct{ got, want error }{
		"read":                 {info.CheckRead(0, 1024), nil},
		"long read":            {info.CheckRead(0, 1025), block.ErrInvalid},
		"read at the end":      {info.CheckRead(8000, 193), block.ErrRange},
		"write":                {info.CheckWrite(0, 1024), nil},
		"long write":           {info.CheckWrite(0, 1025), block.ErrInvalid},
		"long zero":            {info.CheckChange(0, 8192), nil},
		"zero beyond the end":  {info.CheckChange(0, 8193), block.ErrRange},
		"read-only, read":      {readOnly.CheckRead(0, 10), nil},
		"read-only, write":     {readOnly.CheckWrite(0, 10), block.ErrReadOnly},
		"read-only, zero":      {readOnly.CheckChange(0, 10), block.ErrReadOnly},
		"extents":              {info.CheckExtents(block.Allocation, 0, 8192), nil},
		"extents, beyond":      {info.CheckExtents(block.Allocation, 1, 8192), block.ErrRange},
		"extents, unknown":     {info.CheckExtents("base:none", 0, 1), block.ErrInvalid},
		"extents, unknown far": {info.CheckExtents("", 0, 1<<40), block.ErrInvalid},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: %v, want %v", what, test.got, test.want)
		}
	}
	if got := info.CheckRead(0, 2000).Error(); got != "2000 bytes in one request, at most 1024 are allowed: invalid argument" {
		t.Errorf("text %q", got)
	}
	if got := info.CheckRange(8000, 200).Error(); got != "200 bytes at offset 8000, device has 8192: out of range of the device" {
		t.Errorf("text %q", got)
	}
}

func TestErrno(t *testing.T) {
	_, missing := os.Open("/does/not/exist")
	for _, test := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{block.ErrNoSpace, syscall.ENOSPC},
		{fmt.Errorf("wrapped: %w", block.ErrReadOnly), syscall.EROFS},
		{block.ErrRange, syscall.EINVAL},
		{block.ErrClosed, syscall.ESHUTDOWN},
		{missing, syscall.ENOENT},
		{context.Canceled, syscall.ESHUTDOWN},
		{context.DeadlineExceeded, syscall.ETIMEDOUT},
		{errors.New("something"), syscall.EIO},
		{fs.ErrExist, syscall.EIO},
		{syscall.Errno(0), syscall.EIO},
		{errors.Join(errors.New("a"), block.ErrNoMemory), syscall.ENOMEM},
	} {
		if got := block.Errno(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}

// sequence is a sequence of extents that counts how many were taken.
func sequence(taken *int, err error, list ...block.Extent) func(func(block.Extent, error) bool) {
	return func(yield func(block.Extent, error) bool) {
		for _, e := range list {
			*taken++
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(block.Extent{}, err)
		}
	}
}

func collect(seq func(func(block.Extent, error) bool)) (list []block.Extent, err error) {
	for e, err := range seq {
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
	return list, nil
}

func TestMergeExtents(t *testing.T) {
	type list = []block.Extent
	for _, test := range []struct{ in, want list }{
		{nil, nil},
		{list{{0, 5, 1}}, list{{0, 5, 1}}},
		{list{{0, 5, 1}, {5, 5, 1}, {10, 1, 1}}, list{{0, 11, 1}}},
		{list{{0, 5, 1}, {5, 5, 2}, {10, 1, 2}, {11, 4, 1}}, list{{0, 5, 1}, {5, 6, 2}, {11, 4, 1}}},
	} {
		for _, end := range []error{nil, block.ErrIO} {
			var taken int
			got, err := collect(block.MergeExtents(sequence(&taken, end, test.in...)))
			if !reflect.DeepEqual(got, test.want) || err != end {
				t.Errorf("%v became %v, %v; want %v, %v", test.in, got, err, test.want, end)
			}
		}
	}
}

// TestExtentsStop: no helper goes on when its caller stops, which would panic.
func TestExtentsStop(t *testing.T) {
	var taken int
	list := []block.Extent{{0, 5, 1}, {5, 5, 2}, {10, 1, 3}}
	for range block.MergeExtents(sequence(&taken, block.ErrIO, list...)) {
		break
	}
	if taken != 2 {
		t.Errorf("MergeExtents took %d extents for one", taken)
	}
	for range block.MergeExtents(sequence(&taken, block.ErrIO, list[0])) {
		break
	}
	for range block.ShiftExtents(sequence(&taken, nil, list...), 7) {
		break
	}
	for range block.OneExtent(0, 1, 0) {
		break
	}
	for range block.FailExtents(block.ErrIO) {
		break
	}
}

func TestExtentHelpers(t *testing.T) {
	var taken int
	got, err := collect(block.ShiftExtents(sequence(&taken, block.ErrIO, block.Extent{Off: 100, Len: 5, Status: 3}), -60))
	if want := (block.Extent{Off: 40, Len: 5, Status: 3}); len(got) != 1 || got[0] != want || err != block.ErrIO {
		t.Errorf("ShiftExtents: %v, %v", got, err)
	}
	if got, err := collect(block.OneExtent(3, 4, 2)); err != nil || len(got) != 1 || got[0] != (block.Extent{Off: 3, Len: 4, Status: 2}) {
		t.Errorf("OneExtent: %v, %v", got, err)
	}
	if got, err := collect(block.OneExtent(3, 0, 2)); err != nil || len(got) != 0 {
		t.Errorf("OneExtent of nothing: %v, %v", got, err)
	}
	if got, err := collect(block.FailExtents(block.ErrNoSpace)); err != block.ErrNoSpace || len(got) != 0 {
		t.Errorf("FailExtents: %v, %v", got, err)
	}
	if end := (block.Extent{Off: 3, Len: 4}).End(); end != 7 {
		t.Errorf("End is %d", end)
	}
}

// TestGateWaits: Close waits for who is inside and lets nobody in afterwards.
func TestGateWaits(t *testing.T) {
	var gate block.Gate
	for range 2 {
		if err := gate.Enter(); err != nil {
			t.Fatal(err)
		}
	}
	gate.Leave()
	var inside, early atomic.Bool
	inside.Store(true)
	done := make(chan error)
	go func() {
		err := gate.Close()
		early.Store(inside.Load())
		done <- err
	}()
	// Who is inside meets a closed gate, and does not wait for himself.
	for gate.Enter() == nil {
		gate.Leave()
		runtime.Gosched()
	}
	for range 1000 {
		runtime.Gosched()
	}
	inside.Store(false)
	gate.Leave()
	if err := <-done; err != nil || early.Load() {
		t.Errorf("Close returned %v, while somebody was inside: %v", err, early.Load())
	}
	for range 2 {
		if err := gate.Enter(); !errors.Is(err, block.ErrClosed) {
			t.Errorf("Enter after Close: %v", err)
		}
	}
	if err := gate.Close(); !errors.Is(err, block.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

// Nobody is inside of a gate that is closed, and one of two closes it.
func TestGateRaces(t *testing.T) {
	t.Parallel()
	for range 50 {
		var g block.Gate
		var inside atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for g.Enter() == nil {
					inside.Add(1)
					runtime.Gosched()
					inside.Add(-1)
					g.Leave()
				}
			})
		}
		errs := make(chan error, 2)
		for range 2 {
			wg.Go(func() {
				err := g.Close()
				if n := inside.Load(); err == nil && n != 0 {
					t.Errorf("%d are inside of a closed gate", n)
				}
				errs <- err
			})
		}
		wg.Wait()
		if a, b := <-errs, <-errs; (a == nil) == (b == nil) {
			t.Errorf("closed twice: %v, %v", a, b)
		}
	}
}
