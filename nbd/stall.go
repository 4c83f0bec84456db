package nbd

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A progress counts the steps of something that needs the client: it is odd
// while the client is waited for, and changes with every step.
type progress struct{ atomic.Uint64 }

// begin and end enclose the time in which the client is waited for.
func (p *progress) begin() { p.Add(1) }
func (p *progress) end()   { p.Add(1) }

// step says that the client has done enough to be given more time.
func (p *progress) step() { p.Add(2) }

// roundSize is how much a client must take of the replies, or send of a
// payload, within the limit of watch to be slow rather than gone.
const roundSize = 1 << 20

// watch breaks the connection when the client holds memory without taking
// replies or sending the payload that it has announced: after limit, within
// one more limit. stop ends that.
func (t *transmission) watch(limit time.Duration) (stop func()) {
	var mu sync.Mutex
	var stopped bool
	var taken, sent uint64 // at the last look
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		round, arrival := t.w.taking.Load(), t.sending.Load()
		switch {
		case stopped:
			return
		case round%2 == 1 && round == taken:
			t.cancel(fmt.Errorf("client takes no replies for %v: %w", limit, os.ErrDeadlineExceeded))
			return
		case arrival%2 == 1 && arrival == sent:
			t.cancel(fmt.Errorf("client sends too little of a payload for %v: %w", limit, os.ErrDeadlineExceeded))
			return
		}
		taken, sent = round, arrival
		timer.Reset(limit)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}
