package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How the time of the processors was spent is what can be said of every figure,
// and what is left over was spent waiting: for a disk, or for one another.

// A spending is what this process used while something was measured in it.
type spending struct {
	cpu, wall time.Duration
}

// spend adds what f uses.
func (s *spending) spend(f func() error) error {
	start, before := time.Now(), selfUsage()
	err := f()
	s.wall += time.Since(start)
	s.cpu += selfUsage() - before
	return err
}

// selfUsage is the time of processors that this process has used so far.
func selfUsage() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// account says how much of so many processors was used; "" if nothing was
// measured.
func (s spending) account(processors int) string {
	if s.wall == 0 {
		return ""
	}
	used := s.cpu.Seconds() / s.wall.Seconds()
	return fmt.Sprintf("of %d processors the process uses %.2f, not %.2f", processors, used, max(float64(processors)-used, 0))
}

// account says how the processors were used by the client and the server of a
// contender, and what is the most that they can do at that cost; "" if it is
// not known.
func (r snapRow) account(name string, processors int) string {
	f := r.figures[name]
	if f.iops == 0 || f.cpu == 0 {
		return ""
	}
	client, server := f.shares(1, processors)
	text := fmt.Sprintf("processors: client %.0f %%, server %.0f %%, neither %.0f %%", client*100, server*100, max(1-client-server, 0)*100)
	if raw := r.figures[rawName]; name != rawName && raw.iops > 0 && client > 0 {
		most := f.iops / (client + server)
		text += fmt.Sprintf(", full they would give %.2f R", most/raw.iops)
	}
	return text
}

// flushing says which part of the time of a contender goes into flushes that
// take as long as a bare one of that disk.
func (r snapRow) flushing(name string, flush time.Duration) string {
	if r.kind != flushedWrites || flush == 0 {
		return ""
	}
	share := r.figures[name].iops / inFlight * flush.Seconds()
	return fmt.Sprintf("a bare flush of this place takes %.3f ms, one for 32 writes is %.0f %% of the time", millis(flush), share*100)
}

// reasons are the bounds of a contender with the accounts that can be made.
func (s *snapReport) reasons(r snapRow, name string, bounds ...string) []string {
	var flush time.Duration
	if e := s.engine[r.site]; e != nil {
		flush = e.commit
	}
	return said(append(bounds, r.flushing(name, flush), r.account(name, runtime.NumCPU())))
}

// said leaves out what is empty.
func said(all []string) (some []string) {
	for _, text := range all {
		if strings.TrimSpace(text) != "" {
			some = append(some, text)
		}
	}
	return some
}
