package layer

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// A Histogram counts durations by size. The zero value is empty.
type Histogram struct {
	// Sum and Max are exact.
	Sum time.Duration `json:"sum_ns"`
	Max time.Duration `json:"max_ns"`
	// Buckets are those that are not empty, shortest first.
	Buckets []Bucket `json:"buckets"`
}

// A Bucket is a number of durations of about the same size.
type Bucket struct {
	// UpTo is the longest that belongs here. It is at most a quarter longer
	// than the shortest that does.
	UpTo  time.Duration `json:"up_to_ns"`
	Count uint64        `json:"count"`
}

// Count is how many durations the histogram holds.
func (h *Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b.Count
	}
	return n
}

// Mean is the arithmetic mean, 0 if there is no duration.
func (h *Histogram) Mean() time.Duration {
	return h.Sum / time.Duration(max(h.Count(), 1))
}

// Quantile is a duration that the share q, from 0 to 1, of all is no longer
// than; at most a quarter too long, and 0 if there is no duration.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := q * float64(h.Count())
	for _, b := range h.Buckets {
		if left -= float64(b.Count); left <= 0 {
			return min(b.UpTo, h.Max)
		}
	}
	return h.Max
}

// A recorder is a Histogram that many goroutines write to without a lock. It
// has four buckets for each doubling.
type recorder struct {
	sum, max atomic.Int64
	counts   [4 * 40]atomic.Uint64 // up to 1<<41 ns, which is half an hour
}

func (r *recorder) record(d time.Duration) {
	r.counts[bucketOf(d)].Add(1)
	r.sum.Add(int64(d))
	for {
		longest := r.max.Load()
		if int64(d) <= longest || r.max.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

func (r *recorder) histogram() Histogram {
	h := Histogram{Sum: time.Duration(r.sum.Load()), Max: time.Duration(r.max.Load())}
	for i := range r.counts {
		if n := r.counts[i].Load(); n > 0 {
			h.Buckets = append(h.Buckets, Bucket{bucketEnd(i), n})
		}
	}
	return h
}

// bucketOf numbers the bucket of d: 0 to 3 ns have one each, then the two bits
// behind the first one choose among the four of a doubling.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 4 {
		return int(v)
	}
	doubling := bits.Len64(v) - 3
	return min(doubling*4+int(v>>doubling), len(recorder{}.counts)-1)
}

// bucketEnd is the longest duration in bucket i.
func bucketEnd(i int) time.Duration {
	switch {
	case i < 4:
		return time.Duration(i)
	case i == len(recorder{}.counts)-1:
		return math.MaxInt64
	}
	doubling := i/4 - 1
	return time.Duration(uint64(i%4+5)<<doubling - 1)
}
