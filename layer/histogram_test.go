package layer

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestHistogramBucketsFollowEachOther(t *testing.T) {
	t.Parallel()
	for i := 1; i < len(recorder{}.counts); i++ {
		first, last := bucketEnd(i-1)+1, bucketEnd(i)
		if bucketOf(first) != i || bucketOf(last) != i {
			t.Fatalf("bucket %d holds %v to %v, which belong to %d and %d", i, first, last, bucketOf(first), bucketOf(last))
		}
		if i+1 < len(recorder{}.counts) && float64(last) > 1.25*float64(first) {
			t.Errorf("bucket %d, from %v to %v, is too wide", i, first, last)
		}
	}
	if bucketOf(-1) != 0 {
		t.Error("a clock that goes back has no bucket")
	}
}

func TestHistogramQuantiles(t *testing.T) {
	t.Parallel()
	var r recorder
	if h := r.histogram(); h.Quantile(0.5) != 0 || h.Mean() != 0 || h.Count() != 0 {
		t.Errorf("an empty histogram has values: %+v", h)
	}
	for _, i := range rand.Perm(1000) {
		r.record(time.Duration(i+1) * time.Millisecond)
	}
	h := r.histogram()
	for q, want := range map[float64]time.Duration{0: 1, 0.001: 1, 0.5: 500, 0.99: 990, 1: 1000} {
		want *= time.Millisecond
		if got := h.Quantile(q); got < want || got > want*5/4 || got > h.Max {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	if h.Count() != 1000 || h.Max != time.Second || h.Mean() != 500500*time.Microsecond {
		t.Errorf("count %d, max %v, mean %v", h.Count(), h.Max, h.Mean())
	}
	r.record(5 * time.Hour)
	if h := r.histogram(); h.Quantile(1) != 5*time.Hour {
		t.Errorf("the longest is %v", h.Quantile(1))
	}
}
