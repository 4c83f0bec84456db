package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/units"
)

// StatsOptions are the options of Stats.
type StatsOptions struct {
	_    struct{} `doc:"Counts requests, bytes and errors, and how long requests take." long:"The time of one read or write in 16, chosen at random, is measured, and that of every other request. Counting costs some ten nanoseconds a request."`
	File string   `name:"file" arg:"1" unit:"path" doc:"A file that the totals are written to when the device is closed."`
}

// A Meter is what Stats returns.
type Meter interface {
	block.Device
	// Statistics returns the totals so far. It may be called at any time.
	Statistics() Statistics
}

// Statistics are totals of the requests that have ended. The numbers are read
// one after the other while others go on counting.
type Statistics struct {
	// Since is when counting began, Time when the numbers were read.
	Since time.Time `json:"since"`
	Time  time.Time `json:"time"`
	// Ops has one entry for each Op, in the order of their values.
	Ops []OpStatistics `json:"ops"`
}

// OpStatistics are the totals of the requests of one kind.
type OpStatistics struct {
	Op Op `json:"op"`
	// Requests have ended, Errors of them with an error. A request with
	// block.NoWait that would have blocked is not counted: it comes again.
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
	// Bytes is the sum of the lengths of the requests that succeeded.
	Bytes uint64 `json:"bytes"`
	// Latency is that of the requests whose time was measured.
	Latency Histogram `json:"latency"`
}

// Stats returns dev with statistics: a [Meter].
func Stats(dev block.Device, o StatsOptions) (block.Device, error) {
	m := &meter{Pass: block.Pass{Device: dev}, since: time.Now()}
	if o.File != "" {
		f, err := os.OpenFile(o.File, os.O_WRONLY|os.O_CREATE, 0o640)
		if err != nil {
			return nil, fmt.Errorf("stats: %w", err)
		}
		m.file = f
	}
	return m, nil
}

type meter struct {
	block.Pass
	since time.Time
	file  *os.File
	ops   [numOps]opMeter
}

// An opMeter lies in cache lines of its own: reads and writes of several
// processors must not slow each other down.
type opMeter struct {
	_        [64]byte
	requests atomic.Uint64
	errors   atomic.Uint64
	bytes    atomic.Uint64
	latency  recorder
}

// sampled is one in how many reads and writes is measured. Looking at the
// clock twice costs more than all the rest, and choosing at random keeps the
// choice from beating in time with the requests.
const sampled = 16

func measured() bool { return rand.Uint32()%sampled == 0 }

func (m *meter) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if measured() {
		begin := time.Now()
		return m.timed(OpRead, len(p), begin, m.Device.ReadAt(ctx, p, off, flags))
	}
	return m.counted(OpRead, len(p), m.Device.ReadAt(ctx, p, off, flags))
}

func (m *meter) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if measured() {
		begin := time.Now()
		return m.timed(OpWrite, len(p), begin, m.Device.WriteAt(ctx, p, off, flags))
	}
	return m.counted(OpWrite, len(p), m.Device.WriteAt(ctx, p, off, flags))
}

func (m *meter) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	begin := time.Now()
	return m.timed(OpZero, int(n), begin, m.Device.Zero(ctx, off, n, flags))
}

func (m *meter) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	begin := time.Now()
	return m.timed(OpTrim, int(n), begin, m.Device.Trim(ctx, off, n, flags))
}

func (m *meter) Flush(ctx context.Context) error {
	begin := time.Now()
	return m.timed(OpFlush, 0, begin, m.Device.Flush(ctx))
}

func (m *meter) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		begin, told, failed := time.Now(), int64(0), error(nil)
		defer func() { _ = m.timed(OpExtents, int(told), begin, failed) }()
		for e, err := range m.Device.Extents(ctx, mc, off, n) {
			if failed = err; err == nil {
				told += e.Len
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (m *meter) Close() error {
	err := m.Device.Close()
	if m.file == nil || errors.Is(err, block.ErrClosed) {
		return err
	}
	failed := m.file.Truncate(0)
	if failed == nil {
		_, failed = io.WriteString(m.file, m.Statistics().String())
	}
	return errors.Join(err, failed, m.file.Close())
}

// timed counts a request that has ended and began at a known time.
func (m *meter) timed(op Op, n int, begin time.Time, err error) error {
	if err == nil || !errors.Is(err, block.ErrWouldBlock) {
		m.ops[op].latency.record(time.Since(begin))
	}
	return m.counted(op, n, err)
}

func (m *meter) counted(op Op, n int, err error) error {
	c := &m.ops[op]
	if err == nil {
		c.requests.Add(1)
		c.bytes.Add(uint64(n))
	} else if !errors.Is(err, block.ErrWouldBlock) {
		c.requests.Add(1)
		c.errors.Add(1)
	}
	return err
}

func (m *meter) Statistics() Statistics {
	s := Statistics{Since: m.since, Time: time.Now(), Ops: make([]OpStatistics, numOps)}
	for i := range m.ops {
		c := &m.ops[i]
		s.Ops[i] = OpStatistics{
			Op:       Op(i),
			Requests: c.requests.Load(),
			Errors:   c.errors.Load(),
			Bytes:    c.bytes.Load(),
			Latency:  c.latency.histogram(),
		}
	}
	return s
}

// String is a table for people of the operations that were used.
func (s Statistics) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "op\trequests\terrors\tbytes\trate\tmean\tp50\tp99\tmax\t")
	seconds := max(s.Time.Sub(s.Since).Seconds(), 1e-9)
	for _, o := range s.Ops {
		if o.Requests == 0 {
			continue
		}
		fmt.Fprintf(w, "%v\t%d\t%d\t%s\t%s", o.Op, o.Requests, o.Errors, units.Bytes(int64(o.Bytes)), units.Rate(float64(o.Bytes)/seconds))
		for _, d := range []time.Duration{o.Latency.Mean(), o.Latency.Quantile(0.5), o.Latency.Quantile(0.99), o.Latency.Quantile(1)} {
			fmt.Fprintf(w, "\t%s", units.Duration(d))
		}
		fmt.Fprintln(w, "\t")
	}
	w.Flush()
	return b.String()
}
