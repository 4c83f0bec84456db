package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-storage/strata/nbd"
)

func isInstalled(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// loopbackBytes is what has been sent through the loopback interface of this process's
// network: between nodes, as clients of this benchmark use Unix sockets.
func loopbackBytes() int64 {
	text, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == "lo" {
			if fields := strings.Fields(rest); len(fields) > 8 {
				n, _ := strconv.ParseInt(fields[8], 10, 64)
				return n
			}
		}
	}
	return 0
}

// flushingEach writes random chunks for a while with a flush after each, so many at the
// same time. fio cannot: it flushes after a number of requests, and not before it waits
// for all of them.
func flushingEach(ctx context.Context, uri string, depth int, long time.Duration) (f figure, total int64, err error) {
	c, err := (&nbd.Dialer{}).Dial(ctx, uri)
	if err != nil {
		return f, 0, err
	}
	defer c.Close()
	took, errs := make([][]time.Duration, depth), make([]error, depth)
	var spent spending
	err = spent.spend(func() error {
		var all sync.WaitGroup
		for lane := range depth {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(lane), 3))
				data := make([]byte, chunk)
				for begin := time.Now(); time.Since(begin) < long && errs[lane] == nil; {
					start := time.Now()
					data[0]++
					errs[lane] = errors.Join(c.WriteAt(ctx, data, r.Int64N(c.Info().Size/chunk)*chunk, 0), c.Flush(ctx))
					took[lane] = append(took[lane], time.Since(start))
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	})
	var list []time.Duration
	for _, l := range took {
		list = append(list, l...)
	}
	f.iops = float64(len(list)) / spent.wall.Seconds()
	f.busy = spent.cpu.Seconds() / spent.wall.Seconds()
	f.p50, f.p99 = quantile(list, 0.5), quantile(list, 0.99)
	return f, int64(len(list)), err
}

const (
	// stallBefore is for how long writes go on before something is done to them,
	// stallAfter for how long afterwards.
	stallBefore = 300 * time.Millisecond
	stallAfter  = 2 * time.Second
	// stallLimit is when nobody waits any longer.
	stallLimit = 60 * time.Second
)

// errStopped: writes have not gone on.
var errStopped = errors.New("writes have not gone on")

// stall is the longest time in which no write ends, of one client that makes one after
// the other, from the moment on when harm is called. After an error the client connects
// anew, to the next of the URIs.
func stall(ctx context.Context, harm func() error, uris ...string) (longest time.Duration, err error) {
	var last, since atomic.Int64 // the last write that has ended, and the longest gap
	base := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		steadily(ctx, uris, func() {
			now := int64(time.Since(base))
			if gap := now - last.Swap(now); gap > since.Load() {
				since.Store(gap)
			}
		})
	})
	defer all.Wait()
	defer cancel()
	for last.Load() == 0 && time.Since(base) < stallLimit {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(stallBefore)
	since.Store(0)
	begin := time.Now()
	if err := harm(); err != nil {
		return 0, err
	}
	for time.Since(begin) < stallAfter || time.Since(base)-time.Duration(last.Load()) > stallAfter/2 {
		if time.Since(begin) > stallLimit {
			return stallLimit, errStopped
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return time.Duration(since.Load()), nil
}

// steadily writes until ctx ends, and calls wrote after each write.
func steadily(ctx context.Context, uris []string, wrote func()) {
	data := make([]byte, chunk)
	r := rand.New(rand.NewPCG(1, 4))
	for i := 0; ctx.Err() == nil; i++ {
		c, err := (&nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}}).Dial(ctx, uris[i%len(uris)])
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		for err == nil {
			if err = c.WriteAt(ctx, data, r.Int64N(c.Info().Size/chunk)*chunk, 0); err == nil {
				wrote()
			}
		}
		c.Close()
	}
}
