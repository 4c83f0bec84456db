package main

import (
	"fmt"
	"time"
)

// What keeps a row from being better, computed from its own figures. A bound is
// named only if it alone explains why the number is out of reach, or if the
// thing that it is about is used up; never if a server of the row goes beyond.

const (
	usedUp  = 0.95 // of a client's thread
	atLimit = 0.9  // of the throughput of the bare echo
	// Our server looks for the next request before it sleeps, the echo
	// sleeps at once: where the two differ by more than this the echo is no
	// limit.
	beyondLimit = 1.1
)

// oneThread says that client and server have one thread for each connection,
// and that the server's makes little but system calls: not so with TLS, where
// our own generator is the client.
func oneThread(g group) bool { return g.transport != overTLS }

// throughputBounds tells why the throughput is not want times that of the best
// peer, on that many processors.
func throughputBounds(r row, g group, want float64, processors int) (all []string) {
	us, peer, limit := r.figures[ours], r.figures[r.best(faster)], r.figures[limitName]
	ratio := quotient(us.iops, peer.iops)
	client := r.clientCost()
	if client > 0 && us.busy > 0 && oneThread(g) && peer.iops > 0 {
		// With the client never waiting. That of a peer that is faster than
		// we are is not used up by us.
		ceiling := float64(r.load.conns) / client / peer.iops
		if ceiling < want || us.busy >= usedUp && ratio >= 1 {
			all = append(all, fmt.Sprintf("client %.0f %% busy: %.2fx if it never waited", us.busy*100, ceiling))
		}
	}
	if us.sys > 0 && oneThread(g) && peer.iops > 0 {
		// One goroutine reads a connection and does what cannot block.
		ceiling := float64(r.load.conns) / us.sys.Seconds() / peer.iops
		if ceiling < want || us.used() >= usedUp*float64(r.load.conns) {
			all = append(all, fmt.Sprintf("server's thread %.0f %% busy: %.2fx if it made system calls only", us.used()/float64(r.load.conns)*100, ceiling))
		}
	}
	if limit.iops > 0 {
		if share := us.iops / limit.iops; share >= atLimit && share <= beyondLimit {
			all = append(all, fmt.Sprintf("%.0f %% of the bare echo's throughput", share*100))
		}
	}
	if client > 0 && limit.cpu > 0 && peer.iops > 0 {
		each := client + r.leastCPU().Seconds()
		if ceiling := float64(processors) / each / peer.iops; ceiling < want {
			all = append(all, fmt.Sprintf("client and bare echo alone fill %d processors at %.2fx", processors, ceiling))
		}
	}
	if len(all) == 0 {
		return r.spent(processors)
	}
	return all
}

// used is how many processors the server used.
func (f figure) used() float64 { return f.cpu.Seconds() * f.iops }

// shares are the parts of the processors' time that the client, of so many
// connections, and the server used.
func (f figure) shares(conns, processors int) (client, server float64) {
	return f.busy * float64(conns) / float64(processors), f.used() / float64(processors)
}

// spent is where the processors' time went: what a row that nothing else bounds
// could gain is what they idle, waiting for client and server to wake each other,
// and what the server does besides its system calls.
func (r row) spent(processors int) []string {
	us := r.figures[ours]
	client, server := us.shares(r.load.conns, processors)
	if client <= 0 || server <= 0 {
		return nil
	}
	kernel := server * quotient(float64(us.sys), float64(us.cpu))
	return []string{fmt.Sprintf("processors: client %.0f %%, server's system calls %.0f %%, the rest of it %.0f %%, idle %.0f %%",
		client*100, kernel*100, (server-kernel)*100, max(1-client-server, 0)*100)}
}

// p99Bounds tells why the p99 is not want times that of the best peer.
func p99Bounds(r row, g group, want float64, processors int) (all []string) {
	us, limit := r.figures[ours], r.figures[limitName]
	best := float64(r.figures[r.best(sooner)].p99)
	if floor := quotient(float64(limit.p99), best); floor > want && floor <= 1 && limit.p99 <= us.p99 {
		all = append(all, fmt.Sprintf("bare echo has %.2fx", floor))
	}
	// With so many requests in flight the mean latency follows from the
	// throughput, and that from the client if it never waits.
	if oneThread(g) {
		mean := float64(r.load.depth) * r.clientCost() * 1e9
		if floor := quotient(mean, best); floor > want && floor <= 1 {
			all = append(all, fmt.Sprintf("the mean alone is %.2fx if the client never waited", floor))
		}
	}
	if threads := 2 * r.load.conns; threads > processors {
		all = append(all, fmt.Sprintf("%d threads of client and server on %d processors; the median is %.2fx", threads, processors, quotient(float64(us.p50), float64(r.figures[r.best(sooner)].p50))))
	}
	if len(all) == 0 {
		return r.spent(processors)
	}
	return all
}

// cpuBounds tells why the processor time of the server is not want times that
// of the best peer.
func cpuBounds(r row, want float64) (all []string) {
	us, peer, limit := r.figures[ours], r.figures[r.best(cheaper)], r.figures[limitName]
	if floor := quotient(float64(limit.cpu), float64(peer.cpu)); floor > want && floor <= 1 && limit.cpu <= us.cpu {
		all = append(all, fmt.Sprintf("bare echo costs %.2fx", floor))
	}
	if floor := quotient(float64(us.sys), float64(peer.cpu)); floor > want {
		all = append(all, fmt.Sprintf("%.2fx in system calls alone", floor))
	}
	if len(all) == 0 && us.sys > 0 {
		all = append(all, fmt.Sprintf("%.2fx in system calls, %.2fx besides them", quotient(float64(us.sys), float64(peer.cpu)), quotient(float64(us.cpu-us.sys), float64(peer.cpu))))
	}
	return all
}

// copyBounds tells why a copy is not want times as fast as the fastest peer's.
func copyBounds(r copyRow, want float64, processors int) (all []string) {
	us, peer := r.times[ours], r.fastestPeer()
	if ceiling := quotient(float64(peer.took), float64(r.times[limitName].took)); ceiling > 0 && ceiling < want {
		all = append(all, fmt.Sprintf("%.2fx with nothing at the other end", ceiling))
	}
	if least := peer.servers + min(us.tool, peer.tool); least > 0 {
		ceiling := quotient(float64(peer.took)*float64(processors), float64(least))
		all = append(all, fmt.Sprintf("%.2fx if the least processor time of both tools filled %d processors; ours idled %.0f %%, the peer's %.0f %%",
			ceiling, processors, us.idle(processors)*100, peer.idle(processors)*100))
	}
	return all
}

// idle is the share of the processors' time that nobody used.
func (t copyTime) idle(processors int) float64 {
	return max(1-quotient((t.tool+t.servers).Seconds(), t.took.Seconds()*float64(processors)), 0)
}

// clientCost is the least that the client used of a processor for a request of
// this row, in seconds, whoever the server was; 0 if it is not known.
func (r row) clientCost() (least float64) {
	for name, f := range r.figures {
		if name == limitName || f.iops <= 0 || f.busy <= 0 {
			continue
		}
		if cost := f.busy * float64(r.load.conns) / f.iops; least == 0 || cost < least {
			least = cost
		}
	}
	return least
}

// leastCPU is the least that a server used for a request, the echo included.
func (r row) leastCPU() time.Duration {
	least := r.figures[limitName].cpu
	for _, f := range r.figures {
		least = min(least, f.cpu)
	}
	return least
}

func faster(a, b figure) bool  { return a.iops > b.iops }
func sooner(a, b figure) bool  { return a.p99 < b.p99 }
func cheaper(a, b figure) bool { return a.cpu < b.cpu }

// quotient is 0 where there is nothing to compare with.
func quotient(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
