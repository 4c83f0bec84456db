package layer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

func newStats(t testing.TB, dev block.Device) Meter {
	t.Helper()
	return must[block.Device](t)(Stats(dev, StatsOptions{})).(Meter)
}

func TestStatsConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		return must[block.Device](t)(Stats(disks(block.Info{NoWait: true}, 144<<10)[0], StatsOptions{}))
	})
}

func TestStatsCountEachOperation(t *testing.T) {
	t.Parallel()
	dev := newStats(t, block.FromBytes(make([]byte, 4096)))
	for range 3 {
		everyRequest(dev)
	}
	_ = dev.ReadAt(t.Context(), make([]byte, 512), 4000, 0)
	_ = firstError(dev.Extents(t.Context(), "no:such", 0, 1))
	for i, o := range dev.Statistics().Ops {
		want := OpStatistics{Op: Op(i), Requests: 3, Bytes: 3 * 512}
		switch o.Op {
		case OpFlush:
			want.Bytes = 0
		case OpRead, OpExtents:
			want.Requests, want.Errors = 4, 1
		}
		if o.Op > OpWrite && o.Latency.Count() != o.Requests {
			t.Errorf("%v: %d of %d requests were measured", o.Op, o.Latency.Count(), o.Requests)
		}
		if got := (OpStatistics{o.Op, o.Requests, o.Errors, o.Bytes, Histogram{}}); got.Op != want.Op || got.Requests != want.Requests || got.Errors != want.Errors || got.Bytes != want.Bytes {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	}
}

func TestStatsIgnoreWhatComesAgain(t *testing.T) {
	t.Parallel()
	dev := newStats(t, &waiting{Pass: block.Pass{Device: block.FromBytes(make([]byte, 4096))}})
	if !dev.Info().NoWait {
		t.Error("NoWait is not passed on")
	}
	for range 100 {
		if err := dev.ReadAt(t.Context(), make([]byte, 1), 0, block.NoWait); err != block.ErrWouldBlock {
			t.Fatal(err)
		}
	}
	if o := dev.Statistics().Ops[OpRead]; o.Requests != 0 || o.Errors != 0 || o.Latency.Count() != 0 {
		t.Errorf("counted %+v", o)
	}
}

func TestStatsMeasureASample(t *testing.T) {
	t.Parallel()
	dev := newStats(t, nothing{})
	for range 16000 {
		_ = dev.WriteAt(t.Context(), nil, 0, 0)
	}
	o := dev.Statistics().Ops[OpWrite]
	if n := o.Latency.Count(); o.Requests != 16000 || n < 500 || n > 2000 {
		t.Errorf("%d of %d requests were measured, want about 1000 of 16000", n, o.Requests)
	}
}

func TestStatsLatency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := must[block.Device](t)(Delay(block.FromBytes(make([]byte, 4096)), DelayOptions{All: time.Second}))
		dev := newStats(t, slow)
		for range 200 {
			everyRequest(dev)
		}
		for _, o := range dev.Statistics().Ops {
			if m := o.Latency.Mean(); m != time.Second || o.Latency.Quantile(0.5) != time.Second {
				t.Errorf("%v took %v, want 1s", o.Op, m)
			}
		}
	})
}

func TestStatsOfManyAtOnce(t *testing.T) {
	t.Parallel()
	dev := newStats(t, block.FromBytes(make([]byte, 4096)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				everyRequest(dev)
				_ = dev.Statistics()
			}
		})
	}
	wg.Wait()
	for _, o := range dev.Statistics().Ops {
		if o.Requests != 4000 || o.Errors != 0 {
			t.Errorf("counted %d %vs and %d errors, want 4000 and none", o.Requests, o.Op, o.Errors)
		}
	}
}

func TestStatsAreWrittenToAFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "totals")
		slow := must[block.Device](t)(Delay(block.FromBytes(make([]byte, 4096)), DelayOptions{Flush: 1500 * time.Millisecond}))
		dev := must[block.Device](t)(Stats(slow, StatsOptions{File: file}))
		_ = dev.Flush(t.Context())
		_ = dev.Zero(t.Context(), 0, 4096, 0)
		_ = dev.Zero(t.Context(), 4096, 1, 0)
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); !errors.Is(err, block.ErrClosed) {
			t.Errorf("a second Close returned %v", err)
		}
		got, err := os.ReadFile(file)
		want := strings.Join([]string{
			"     op  requests  errors  bytes       rate  mean   p50   p99   max",
			"   zero         2       1  4 KiB  2.7 KiB/s    0s    0s    0s    0s",
			"  flush         1       0    0 B      0 B/s  1.5s  1.5s  1.5s  1.5s",
			"",
		}, "\n")
		if err != nil || string(got) != want {
			t.Errorf("file holds\n%s, %v\nwant\n%s", got, err, want)
		}
		dir := t.TempDir()
		if _, err := Stats(nothing{}, StatsOptions{File: dir}); err == nil || err.Error() != "stats: open "+dir+": is a directory" {
			t.Errorf("error is %v", err)
		}
	})
}

func TestStatisticsAreJSON(t *testing.T) {
	t.Parallel()
	dev := newStats(t, block.FromBytes(make([]byte, 4096)))
	everyRequest(dev)
	text, err := json.Marshal(dev.Statistics())
	if err != nil {
		t.Fatal(err)
	}
	var back Statistics
	if err := json.Unmarshal(text, &back); err != nil || back.Ops[OpTrim].Op != OpTrim || back.Ops[OpTrim].Latency.Count() != 1 {
		t.Errorf("%s came back as %+v, %v", text, back, err)
	}
}

func TestStatsAllocateNothing(t *testing.T) {
	passesFree(t, newStats(t, nothing{}), 0, 512)
}

func BenchmarkStats(b *testing.B) {
	dev := newStats(b, nothing{})
	b.Run("one", func(b *testing.B) { benchmarkRead(b, dev) })
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = dev.ReadAt(b.Context(), nil, 0, 0)
			}
		})
	})
}
