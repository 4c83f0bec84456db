package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
)

// config is that of a volume at a node.
func (s *sim) config(p *process) Config {
	return Config{
		Groups: &Groups{Store: p.store}, Agreed: p.agreed, Trees: p.agreed, Peer: s.peer(p),
		Size: simBlocks * disk.BlockSize, ObjectSize: simPer * disk.BlockSize, Copies: simCopies, Count: simGroups,
		Limit: 3 * time.Second,
	}
}

// attach makes a node the gateway of a volume, as package cluster does.
func (s *sim) attachBy(p *process, l *coord.Lease, volume int, near func(record.Member) bool) (*Volume, error) {
	h, generation, err := p.catalog.Attach(p.ctx, simVolumes[volume], l.ID(), record.Attachment{Node: nodeName(p.node), Incarnation: p.incarnation})
	if err != nil {
		return nil, err
	}
	s.claimed(volume)
	v, err := p.state.Wait(p.ctx, generation)
	if err == nil && !s.calm {
		err = s.ensure(p, v)
	}
	if err != nil {
		return nil, err
	}
	c := s.config(p)
	c.Lease, c.Generation, c.Near = l, generation, near
	c.Head, c.Tree = headOf(h)
	attached, err := Attach(p.ctx, c)
	if err == nil {
		s.all.Go(func() { <-p.ctx.Done(); attached.cancel(errDead) })
	}
	if err == nil {
		s.decided(volume)
	}
	return attached, err
}

// ensure lets groups go on that can.
func (s *sim) ensure(p *process, v *record.View) error {
	changes, err := steward.Ready(v, simNumbers[:])
	if err != nil || len(changes) == 0 {
		return err
	}
	t, err := steward.Together(changes)
	must(s.t, err)
	r, err := p.revives.Txn(p.ctx, t)
	if err == nil {
		_, err = p.state.Wait(p.ctx, r.Revision)
	}
	return err
}

// detach gives a volume up.
func (s *sim) detach(p *process, v *Volume, volume int) error {
	return p.catalog.Detach(p.ctx, s.line(volume), v.head.Load().generation)
}

// line is that of a volume.
func (s *sim) line(volume int) record.Line {
	h, _ := s.state.View().Head(simVolumes[volume])
	return h.Line()
}

// gateway serves a volume on a node for a while, if it gets it.
func (s *sim) gateway(p *process, volume int) (served bool) {
	ctx := p.ctx
	l, err := coord.NewLease(ctx, p.store, simTTL)
	if err != nil {
		return false
	}
	defer func() { _ = l.Revoke(ctx) }()
	v, err := s.attachBy(p, l, volume, func(record.Member) bool { return s.rand.n(2) == 0 })
	if err != nil {
		s.count("attach failed")
		return false
	}
	s.count("attached")
	s.mu.Lock()
	s.writer++
	name := fmt.Sprintf("g%d %s %s", s.writer, p.incarnation, simVolumes[volume])
	s.mu.Unlock()
	go func() { <-p.ctx.Done(); v.cancel(errDead) }()
	life := time.Duration(200+s.rand.n(4000)) * time.Millisecond
	if s.rand.n(5) == 0 {
		life *= 4
	}
	until := time.Now().Add(life)
	if s.rand.n(2) == 0 {
		// The gateway dies, the node does not.
		s.all.Go(func() { sleep(p.ctx, time.Until(until)); v.cancel(errDead) })
	}
	var workers sync.WaitGroup
	for i := range 3 {
		workers.Go(func() {
			for time.Now().Before(until) && v.Err() == nil && p.ctx.Err() == nil && !s.stopped() {
				s.request(p, v, volume, fmt.Sprintf("%s/%d", name, i))
			}
		})
	}
	for s.rand.n(2) == 0 {
		sleep(ctx, s.upTo(life))
		if time.Now().Before(until) && v.Err() == nil && p.ctx.Err() == nil && !s.quietNow() {
			s.freeze(p, v, volume)
		}
	}
	workers.Wait()
	if s.rand.n(2) == 0 && p.ctx.Err() == nil {
		_, _ = v.Tidy(ctx)
	}
	_ = v.Close()
	v.cancel(errDead)
	if p.ctx.Err() == nil {
		_ = s.detach(p, v, volume)
	}
	return true
}

// freeze makes a snapshot.
func (s *sim) freeze(p *process, v *Volume, volume int) {
	made := snap{begin: s.now()}
	err := v.Freeze(p.ctx, func(ctx context.Context) (Head, coord.Revision, uint64, error) {
		old := v.head.Load()
		h, err := p.catalog.Snapshot(ctx, simVolumes[volume], fmt.Sprint("s", old.Version), old.generation)
		if err != nil {
			return Head{}, 0, 0, fmt.Errorf("%w: %w", ErrFenced, err)
		}
		head, tree := headOf(h)
		made.version, made.tree = old.Version, tree
		return head, h.Name.Revision, tree, nil
	})
	s.outcome("snapshot", err)
	if err == nil {
		made.end = s.now()
		s.mu.Lock()
		s.frozen[volume] = append(s.frozen[volume], made)
		s.mu.Unlock()
	}
}

// peek reads a snapshot, which needs no attachment: it has what was read when it was
// made.
func (s *sim) peek(p *process, volume, block int) {
	s.mu.Lock()
	list := s.frozen[volume]
	s.mu.Unlock()
	if len(list) == 0 {
		return
	}
	of := list[s.rand.n(len(list))]
	c := s.config(p)
	c.Head, c.Tree = Head{simFamily, of.version}, of.tree
	f, err := OpenFrozen(c)
	must(s.t, err)
	defer f.Close()
	buf := make([]byte, disk.BlockSize)
	err = f.ReadAt(p.ctx, buf, int64(block)*disk.BlockSize, 0)
	s.outcome("peek", err)
	if err == nil && p.ctx.Err() == nil {
		s.sawFrozen(volume, block, of, buf)
	}
}

// sawFrozen notes what a block of a snapshot has.
func (s *sim) sawFrozen(volume, block int, of snap, buf []byte) {
	v, err := valueOf(buf)
	if err != nil {
		s.t.Errorf("block %d of snapshot %d: %v", block, of.version, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops[volume][block] = append(s.ops[volume][block], op{kind: reads, value: v, begin: of.begin, end: of.end, who: fmt.Sprint("snapshot ", of.version)})
}

// request makes one request and notes what came of it.
func (s *sim) request(p *process, v *Volume, volume int, who string) {
	ctx := p.ctx
	b := s.rand.n(s.blocks)
	n := 1
	if s.rand.n(4) == 0 {
		n = min(1+s.rand.n(6), s.blocks-b)
	}
	blocks := make([]int, n)
	for i := range blocks {
		blocks[i] = b + i
	}
	off := int64(b) * disk.BlockSize
	o := op{begin: s.now(), who: who}
	var err error
	switch k := s.rand.n(100); {
	case k < 2:
		s.peek(p, volume, b)
	case k < 7:
		err = s.look(p, v, volume, o, blocks)
		s.outcome("map", err)
	case k < 40:
		buf := make([]byte, n*disk.BlockSize)
		if err = v.ReadAt(ctx, buf, off, 0); err == nil && p.ctx.Err() == nil {
			s.sawRead(volume, o, blocks, buf)
		}
		s.outcome("read", err)
	case k < 84:
		s.mu.Lock()
		s.next++
		o.kind, o.value = writes, s.next
		s.mu.Unlock()
		buf := make([]byte, n*disk.BlockSize)
		value(o.value, buf)
		if s.rand.n(2) == 0 {
			err = v.WriteAt(ctx, buf, off, 0)
		} else {
			err = begun(ctx, v, buf, off, 0)
		}
		s.sawChange(p, volume, o, err, blocks)
		s.outcome("write", err)
	case k < 88:
		o.kind = writes
		err = v.Zero(ctx, off, int64(n)*disk.BlockSize, 0)
		s.sawChange(p, volume, o, err, blocks)
		s.outcome("zero", err)
	default:
		o.kind = flushes
		if err = v.Flush(ctx); err == nil && p.ctx.Err() == nil {
			all := make([]int, simBlocks)
			for i := range all {
				all[i] = i
			}
			s.record(volume, o, all...)
		}
		s.outcome("flush", err)
	}
	sleep(ctx, s.upTo(s.think))
}

// look asks what is allocated. What is a hole has been read.
func (s *sim) look(p *process, v *Volume, volume int, o op, blocks []int) error {
	zeros := make([]byte, simBlocks*disk.BlockSize)
	off := int64(blocks[0]) * disk.BlockSize
	for e, err := range v.Extents(p.ctx, block.Allocation, off, int64(len(blocks))*disk.BlockSize) {
		if err != nil || p.ctx.Err() != nil {
			return err
		}
		if b, end := int(e.Off/disk.BlockSize), int(e.End()/disk.BlockSize); e.Status&block.Zero != 0 {
			s.sawRead(volume, o, blocks[b-blocks[0]:end-blocks[0]], zeros)
		}
	}
	return nil
}

func (s *sim) outcome(what string, err error) {
	if err != nil {
		what += " failed"
	}
	s.count(what)
	if errors.Is(err, ErrLost) {
		s.count("lost")
	}
	if errors.Is(err, block.ErrNoSpace) {
		s.count("refused for want of room")
	}
}

func (s *sim) sawChange(p *process, volume int, o op, err error, blocks []int) {
	o.maybe = err != nil || p.ctx.Err() != nil
	s.record(volume, o, blocks...)
}

func (s *sim) sawRead(volume int, o op, blocks []int, buf []byte) {
	for i, b := range blocks {
		v, err := valueOf(buf[i*disk.BlockSize : (i+1)*disk.BlockSize])
		if err != nil {
			s.t.Errorf("%s, block %d: %v", o.who, b, err)
		}
		o.value = v
		s.record(volume, o, b)
	}
}

// gateways lets one node after the other serve, sometimes two that both want to.
func (s *sim) gateways() {
	for !s.stopped() && s.ctx.Err() == nil {
		p := s.process(s.rand.n(simNodes))
		if p == nil || !s.gateway(p, s.rand.n(len(simVolumes))) {
			sleep(s.ctx, time.Duration(100+s.rand.n(400))*time.Millisecond)
		}
	}
}
