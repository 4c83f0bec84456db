package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/strata-storage/strata/nbd"
)

// The nodes of the usual cluster: the first one has founded it, clients are at the
// second, and the third has copies only.
const (
	firstNode = iota
	gatewayNode
	memberNode
)

// takes is how often a snapshot or a clone is taken for a figure.
const takes = 20

// measureStart measures how long a cluster of one takes until a volume is read.
func (l *clusterLab) measureStart(ctx context.Context) error {
	if !l.wants("start") {
		return nil
	}
	for range l.o.rounds {
		b, first, err := l.startOnce(ctx, nil)
		if b != nil {
			defer b.close()
		}
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		if err := b.nodes[0].cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		<-b.nodes[0].done
		_, again, err := l.startOnce(ctx, b)
		if err != nil {
			return fmt.Errorf("start again: %w", err)
		}
		l.report.note(l.site, "start, new", first)
		l.report.note(l.site, "start, again", again)
		b.close()
	}
	return nil
}

// startOnce starts a node, a new one if b is nil, and reads a byte.
func (l *clusterLab) startOnce(ctx context.Context, b *clusterBed) (*clusterBed, time.Duration, error) {
	begin, isNew := time.Now(), b == nil
	var err error
	if isNew {
		if b, err = l.openCluster(ctx, "1 node", 1); err == nil {
			err = b.volume(ctx, "vm1", 1, false)
		}
	} else {
		b.group = 0
		err = b.start(ctx, 0)
	}
	if err != nil {
		return b, 0, err
	}
	c, err := (&nbd.Dialer{}).Dial(ctx, b.uri(0, "vm1"))
	if err != nil {
		return b, 0, err
	}
	err = c.ReadAt(ctx, make([]byte, 1), 0, 0)
	return b, time.Since(begin), errors.Join(err, c.Close())
}

// measureUsual measures what is special of the usual cluster.
func (l *clusterLab) measureUsual(ctx context.Context) (err error) {
	steps := []struct {
		what string
		f    func(ctx context.Context, b *clusterBed) error
	}{
		{"snapshots", l.measureTakes}, {"first writes", l.measureFirstWrites}, {"idle", l.measureIdleNode}, {"rebuild", l.measureRebuild}, {"kill", l.measureKills},
	}
	var b *clusterBed
	for _, s := range steps {
		if !l.wants(s.what) {
			continue
		}
		if b == nil {
			if b, err = l.openCluster(ctx, usual.String(), usual.nodes); err != nil {
				return err
			}
			defer b.close()
			if err := b.volume(ctx, "vm1", usual.copies, true); err != nil {
				return err
			}
		}
		if err := s.f(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// measureTakes measures how long snapshots and clones take: with nobody at the volume,
// and while a client writes.
func (l *clusterLab) measureTakes(ctx context.Context, b *clusterBed) error {
	for _, busy := range []string{"", ", while a client writes"} {
		stop := func() {}
		if busy != "" {
			writing, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				steadily(writing, []string{b.uri(0, "vm1")}, func() {})
			}()
			stop = func() { cancel(); <-done }
		}
		err := l.takeAll(ctx, b, busy)
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *clusterLab) takeAll(ctx context.Context, b *clusterBed, busy string) error {
	for i := range takes {
		name := fmt.Sprintf("s%d%t", i, busy != "")
		begin := time.Now()
		if err := b.change(ctx, "snapshot", map[string]any{"name": "vm1", "snapshot": name}); err != nil {
			return err
		}
		l.report.note(l.site, "snapshot"+busy, time.Since(begin))
		begin = time.Now()
		if err := b.change(ctx, "clone", map[string]any{"name": "vm1", "snapshot": name, "to": "clone" + name}); err != nil {
			return err
		}
		l.report.note(l.site, "clone"+busy, time.Since(begin))
	}
	return nil
}

// measureFirstWrites measures writes after a snapshot was taken and to a clone, and the
// same ones once more.
func (l *clusterLab) measureFirstWrites(ctx context.Context, b *clusterBed) error {
	for round := range l.o.rounds {
		snap := fmt.Sprintf("first%d", round)
		clone := "of" + snap
		if err := b.change(ctx, "snapshot", map[string]any{"name": "vm1", "snapshot": snap}); err != nil {
			return err
		}
		if err := b.change(ctx, "clone", map[string]any{"name": "vm1", "snapshot": snap, "to": clone}); err != nil {
			return err
		}
		for _, row := range []struct{ volume, what string }{{"vm1", "a snapshot"}, {clone, "a clone"}} {
			for _, kind := range []string{"first write after ", "rewrite after "} {
				f, _, err := flushingBatches(ctx, b.uri(0, row.volume), uint64(round), l.firstChunks())
				if err != nil {
					return err
				}
				l.report.rate(kind+row.what, f.iops)
			}
		}
		if err := l.measureBareBlocks(); err != nil {
			return err
		}
	}
	return nil
}

// flushingBatches writes each of so many chunks once, and flushes at the end.
func flushingBatches(ctx context.Context, uri string, seed uint64, chunks int) (f figure, total int64, err error) {
	w, err := newWriter(ctx, uri, seed)
	if err != nil {
		return f, 0, err
	}
	defer w.c.Close()
	begin := time.Now()
	err = w.write(ctx, chunks)
	f.iops = float64(chunks) / time.Since(begin).Seconds()
	return f, int64(chunks), err
}

// measureIdleNode measures what the cluster uses when nobody wants anything.
func (l *clusterLab) measureIdleNode(ctx context.Context, b *clusterBed) error {
	const long = 5 * time.Second
	before, err := groupUsage(b.group)
	if err != nil {
		return err
	}
	bytes := loopbackBytes()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(long):
	}
	after, err := groupUsage(b.group)
	if err != nil {
		return err
	}
	nodes := float64(len(b.nodes))
	l.report.rate("idle CPU", (after.cpu-before.cpu).Seconds()/long.Seconds()/nodes)
	l.report.rate("idle bytes", float64(loopbackBytes()-bytes)/long.Seconds()/nodes)
	for _, n := range b.nodes {
		size, err := resident(n.cmd.Process.Pid)
		if err != nil {
			return err
		}
		l.report.rate("resident", float64(size))
	}
	return nil
}

// restartAfter is after which a node that was killed is started again, where something
// looks after it. It is what the unit file says.
const restartAfter = 100 * time.Millisecond

// measureKills kills nodes while a client writes.
func (l *clusterLab) measureKills(ctx context.Context, b *clusterBed) error {
	here, elsewhere := b.uri(gatewayNode, "vm1"), b.uri(memberNode, "vm1")
	for range min(l.o.rounds, 3) {
		for _, k := range []struct {
			what  string
			node  int
			again bool // at once
			uris  []string
		}{
			{killMember, memberNode, false, []string{here}},
			{killGateway, gatewayNode, false, []string{here, elsewhere}},
			{killRestarted, gatewayNode, true, []string{here}},
			{killLeft, gatewayNode, true, []string{here, elsewhere}},
			{killFounder, firstNode, false, []string{here}},
		} {
			started := make(chan error, 1)
			start := func() { started <- b.start(ctx, k.node) }
			took, err := stall(ctx, func() error {
				err := b.kill(k.node)
				if k.again && err == nil {
					time.AfterFunc(restartAfter, start)
				}
				return err
			}, k.uris...)
			if err != nil && !errors.Is(err, errStopped) {
				return fmt.Errorf("%s: %w", k.what, err)
			}
			l.report.note(l.site, k.what, took)
			if !k.again {
				start()
			}
			if err := <-started; err != nil {
				return fmt.Errorf("%s: starting it again: %w", k.what, err)
			}
			if err := b.settle(ctx); err != nil {
				return fmt.Errorf("%s: %w", k.what, err)
			}
		}
	}
	return nil
}
