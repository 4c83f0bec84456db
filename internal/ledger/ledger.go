// Package ledger adds up what the connections to an NBD server did, also those that
// have ended, and gives it to Prometheus.
package ledger

import (
	"slices"
	"sync"

	"github.com/strata-storage/strata/nbd"
)

// Counters add up what connections did.
type Counters struct {
	// Accepted counts connections that chose the export.
	Accepted     uint64 `json:"accepted"`
	Requests     uint64 `json:"requests"`
	Errors       uint64 `json:"errors"`
	BytesRead    uint64 `json:"bytes_read"`
	BytesWritten uint64 `json:"bytes_written"`
}

func (c *Counters) add(s *nbd.ConnStatus) {
	c.Accepted++
	c.Requests += s.Requests
	c.Errors += s.Errors
	c.BytesRead += s.BytesRead
	c.BytesWritten += s.BytesWritten
}

// A Ledger keeps the counters of connections that have ended. A connection
// that ends is for a moment both here and among the server's: counters that
// went up and down again would tell a monitoring system that the server was
// restarted, so the ledger knows which to leave out.
type Ledger struct {
	mu    sync.Mutex
	sums  map[string]*Counters // by export
	ended map[connKey]struct{} // may still be among the server's connections
}

type connKey struct {
	server *nbd.Server
	id     uint64
}

// maxEnded bounds Ledger.ended between two readings.
const maxEnded = 1024

// New returns one without connections.
func New() *Ledger {
	return &Ledger{sums: map[string]*Counters{}, ended: map[connKey]struct{}{}}
}

// Close notes the final counters of a connection to s.
func (l *Ledger) Close(s *nbd.Server, c nbd.ConnStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended[connKey{s, c.ID}] = struct{}{}
	if len(l.ended) > maxEnded {
		l.forget(s, s.Conns())
	}
	if !c.Ready {
		return
	}
	if l.sums[c.Export] == nil {
		l.sums[c.Export] = new(Counters)
	}
	l.sums[c.Export].add(&c)
}

// forget drops from ended what is no longer among the connections of s.
func (l *Ledger) forget(s *nbd.Server, there []nbd.ConnStatus) {
	for key := range l.ended {
		if key.server == s && !slices.ContainsFunc(there, func(c nbd.ConnStatus) bool { return c.ID == key.id }) {
			delete(l.ended, key)
		}
	}
}

// Read returns the connections of the servers, and the counters of every
// export that ever had one.
func (l *Ledger) Read(servers []*nbd.Server) ([]nbd.ConnStatus, map[string]Counters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []nbd.ConnStatus
	for _, s := range servers {
		conns := s.Conns()
		for _, c := range conns {
			if _, ended := l.ended[connKey{s, c.ID}]; !ended {
				open = append(open, c)
			}
		}
		l.forget(s, conns)
	}
	slices.SortStableFunc(open, func(a, b nbd.ConnStatus) int { return a.Since.Compare(b.Since) })
	sums := make(map[string]Counters, len(l.sums))
	for name, c := range l.sums {
		sums[name] = *c
	}
	for i := range open {
		if c := &open[i]; c.Ready {
			sum := sums[c.Export]
			sum.add(c)
			sums[c.Export] = sum
		}
	}
	return open, sums
}

// Keep forgets the counters of exports that nobody wants to know of any more.
func (l *Ledger) Keep(wanted func(export string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.sums {
		if !wanted(name) {
			delete(l.sums, name)
		}
	}
}
