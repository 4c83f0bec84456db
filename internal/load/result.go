package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Result of a run. Durations are in nanoseconds in JSON.
type Result struct {
	Elapsed time.Duration `json:"elapsed_ns"`
	Read    *Summary      `json:"read,omitempty"`
	Write   *Summary      `json:"write,omitempty"`
}

// A Summary of the requests of one kind.
type Summary struct {
	Requests          int64   `json:"requests"`
	Bytes             int64   `json:"bytes"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"`
	Latency           Latency `json:"latency_ns"`
}

// Latency of requests, exact to one percent.
type Latency struct {
	Min  time.Duration `json:"min"`
	Mean time.Duration `json:"mean"`
	P50  time.Duration `json:"p50"`
	P90  time.Duration `json:"p90"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p99.9"`
	Max  time.Duration `json:"max"`
}

// slowest is the longest latency that is told apart.
const slowest = 5 * time.Minute

// A series collects the latencies of one worker.
type series struct {
	histogram *hdrhistogram.Histogram
	bytes     int64
}

func newSeries(wanted bool) series {
	if !wanted {
		return series{}
	}
	return series{histogram: hdrhistogram.New(1, int64(slowest), 2)}
}

func (s *series) record(d time.Duration, n int) {
	// It fails for values out of range only.
	_ = s.histogram.RecordValue(int64(min(max(d, 1), slowest)))
	s.bytes += int64(n)
}

func (r *run) result(workers []*worker, elapsed time.Duration) *Result {
	reads, writes := newSeries(r.o.Reads > 0), newSeries(r.o.Reads < 100)
	for _, w := range workers {
		reads.merge(w.reads)
		writes.merge(w.writes)
	}
	return &Result{Elapsed: elapsed, Read: reads.summary(elapsed), Write: writes.summary(elapsed)}
}

func (s *series) merge(from series) {
	if s.histogram != nil {
		s.histogram.Merge(from.histogram)
		s.bytes += from.bytes
	}
}

func (s *series) summary(elapsed time.Duration) *Summary {
	h := s.histogram
	if h == nil {
		return nil
	}
	seconds := max(elapsed, 1).Seconds()
	at := func(percent float64) time.Duration { return time.Duration(h.ValueAtPercentile(percent)) }
	return &Summary{
		Requests:          h.TotalCount(),
		Bytes:             s.bytes,
		RequestsPerSecond: float64(h.TotalCount()) / seconds,
		BytesPerSecond:    float64(s.bytes) / seconds,
		Latency: Latency{
			Min: time.Duration(h.Min()), Mean: time.Duration(h.Mean()), Max: time.Duration(h.Max()),
			P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		},
	}
}
