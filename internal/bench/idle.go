package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/strata-storage/strata/nbd"
)

// idleConns is how many connections the memory of an idle one is measured on.
const idleConns = 10_000

// idle is the memory of a server that has nothing to do.
type idle struct {
	alone   int64 // bytes resident with one export and no connection
	perConn int64 // more for each connection that has made a request
	conns   int
}

// measureIdle measures the memory of our own server: by itself, and with many
// connections that each have made a request.
func (l *lab) measureIdle(ctx context.Context, report *report) error {
	if !l.o.only.MatchString("idle") {
		return nil
	}
	r, err := l.start(ctx, strataFile, overUnix)
	if err != nil {
		return err
	}
	defer r.stop()
	var result idle
	if result.alone, err = resident(r.group); err != nil {
		return err
	}
	dialer := nbd.Dialer{Replies: nbd.SimpleReplies}
	clients := make([]*nbd.Client, 0, idleConns)
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	page := make([]byte, 4096)
	for range idleConns {
		c, err := dialer.Dial(ctx, r.uri)
		if err != nil {
			return fmt.Errorf("connection %d: %w", len(clients)+1, err)
		}
		clients = append(clients, c)
		if err := c.ReadAt(ctx, page, 0, 0); err != nil {
			return err
		}
	}
	total, err := resident(r.group)
	if err != nil {
		return err
	}
	result.conns, result.perConn = len(clients), (total-result.alone)/int64(len(clients))
	report.idle = &result
	fmt.Printf("%-22s %.1f MB resident alone, %.1f KiB more for each of %d connections\n", "Idle",
		float64(result.alone)/1e6, float64(result.perConn)/1024, result.conns)
	return nil
}

// resident is VmRSS of a process in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", pid)
}
