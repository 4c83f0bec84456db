package config

import (
	"fmt"
	"runtime/metrics"
	"time"

	"go.starlark.net/starlark"
)

// guardMemory cancels the thread if the process grows by more than limit
// bytes, as it does when a loop doubles a string. The result ends the watch.
func guardMemory(thread *starlark.Thread, limit uint64) (stop func()) {
	start := heapBytes()
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if now := heapBytes(); now > start && now-start > limit {
				thread.Cancel(fmt.Sprintf("the evaluation needs more than %d MiB of memory", limit>>20))
				return
			}
		}
	}()
	return func() {
		close(done)
		<-gone
	}
}

func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// boundedRange is range() with a bound on its length, because functions that
// collect its elements do so in one step.
func boundedRange(thread *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	v, err := starlark.Call(thread, starlark.Universe["range"], args, kwargs)
	if err != nil {
		return nil, err
	}
	if n := starlark.Len(v); n > maxRange {
		return nil, fmt.Errorf("range: %d elements, at most %d are allowed", n, maxRange)
	}
	return v, nil
}
