package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/cluster/record"
)

// gateway serves the volume on a node for a while, if it gets it.
func (s *sim) gateway(p *process) (served bool) {
	ctx := p.ctx
	l, err := coord.NewLease(ctx, p.store, simTTL)
	if err != nil {
		return false
	}
	defer func() { _ = l.Revoke(ctx) }()
	h, tree, generation, err := claimHead(p, l)
	if err != nil {
		return false
	}
	v, err := Attach(ctx, Config{
		Groups: &Groups{p.store}, Agreed: p.mirror, Trees: p.mirror, Peer: s.peer(p), Lease: l, Head: h, Generation: generation,
		Tree: tree, Size: simBlocks * disk.BlockSize, ObjectSize: simPer * disk.BlockSize, Copies: simCopies, Count: simGroups,
		Limit: 3 * time.Second,
		Near:  func(m record.Member) bool { return s.rand.n(2) == 0 },
	})
	if err != nil {
		s.count("attach failed")
		return false
	}
	s.count("attached")
	s.mu.Lock()
	s.writer++
	name := fmt.Sprintf("g%d %s", s.writer, p.incarnation)
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
				s.request(p, v, fmt.Sprintf("%s/%d", name, i))
			}
		})
	}
	for s.rand.n(2) == 0 {
		sleep(ctx, s.upTo(life))
		if time.Now().Before(until) && v.Err() == nil && p.ctx.Err() == nil && !s.quietNow() {
			s.freeze(p, v, l)
		}
	}
	workers.Wait()
	if s.rand.n(2) == 0 && p.ctx.Err() == nil {
		_, _ = v.Tidy(ctx)
	}
	_ = v.Close()
	v.cancel(errDead)
	if p.ctx.Err() == nil {
		now := v.head.Load()
		_ = Release(ctx, p.store, now.Head, now.generation)
	}
	return true
}

// versions returns the tree as it is agreed now.
func versions(ctx context.Context, store coord.Store) ([]family.Version, coord.Revision, error) {
	e, _, err := store.Get(ctx, "tree")
	if err != nil {
		return nil, 0, err
	}
	var list []family.Version
	return list, e.Revision, json.Unmarshal(e.Value, &list)
}

// claimHead claims what is the head now.
func claimHead(p *process, l *coord.Lease) (h Head, tree uint64, generation coord.Revision, err error) {
	list, _, err := versions(p.ctx, p.store)
	if err != nil {
		return h, 0, 0, err
	}
	h = Head{simFamily, list[len(list)-1].ID}
	if generation, err = Claim(p.ctx, p.store, l, h, record.Attachment{Node: p.name, Incarnation: p.incarnation}); err != nil {
		return h, 0, 0, err
	}
	again, at, err := versions(p.ctx, p.store)
	if err == nil && len(again) != len(list) {
		err = Release(p.ctx, p.store, h, generation)
		return h, 0, 0, errors.Join(err, errors.New("it is a snapshot meanwhile"))
	}
	return h, uint64(at), generation, err
}

// freeze makes a snapshot.
func (s *sim) freeze(p *process, v *Volume, l *coord.Lease) {
	o := op{begin: s.now(), who: "snapshot"}
	err := v.Freeze(p.ctx, func(ctx context.Context) (h Head, generation coord.Revision, tree uint64, err error) {
		old := v.head.Load()
		list, at, err := versions(ctx, p.store)
		if err != nil {
			return h, 0, 0, err
		}
		h = Head{simFamily, old.Version + 1}
		value, _ := json.Marshal(append(list, family.Version{ID: h.Version, Parent: old.Version}))
		r, err := p.store.Txn(ctx, coord.Txn{
			If: []coord.Compare{coord.IfRevision("tree", at), coord.IfRevision(record.AttachmentKey(old.Family, old.Version), old.generation)},
			Then: []coord.Op{
				coord.Put("tree", value), coord.Delete(record.AttachmentKey(old.Family, old.Version)),
				coord.PutLeased(l.ID(), record.AttachmentKey(h.Family, h.Version), []byte("{}")),
			},
		})
		if err == nil && !r.Done {
			err = errors.New("somebody else has it")
		}
		if err != nil {
			return h, 0, 0, fmt.Errorf("%w: %w", ErrFenced, err)
		}
		o.value = old.Version
		return h, r.Revision, uint64(r.Revision), nil
	})
	s.outcome("snapshot", err)
	if err == nil {
		o.end = s.now()
		s.mu.Lock()
		s.frozen = append(s.frozen, o)
		s.mu.Unlock()
	}
}

// request makes one request and notes what came of it.
func (s *sim) request(p *process, v *Volume, who string) {
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
	case k < 5:
		err = s.look(p, v, o, blocks)
		s.outcome("map", err)
	case k < 40:
		buf := make([]byte, n*disk.BlockSize)
		if err = v.ReadAt(ctx, buf, off, 0); err == nil && p.ctx.Err() == nil {
			s.sawRead(o, blocks, buf)
		}
		s.outcome("read", err)
	case k < 84:
		s.mu.Lock()
		s.next++
		o.kind, o.value = writes, s.next
		s.mu.Unlock()
		buf := make([]byte, n*disk.BlockSize)
		value(o.value, buf)
		err = v.WriteAt(ctx, buf, off, 0)
		s.sawChange(p, o, err, blocks)
		s.outcome("write", err)
	case k < 88:
		o.kind = writes
		err = v.Zero(ctx, off, int64(n)*disk.BlockSize, 0)
		s.sawChange(p, o, err, blocks)
		s.outcome("zero", err)
	default:
		o.kind = flushes
		if err = v.Flush(ctx); err == nil && p.ctx.Err() == nil {
			all := make([]int, simBlocks)
			for i := range all {
				all[i] = i
			}
			s.record(o, all...)
		}
		s.outcome("flush", err)
	}
	sleep(ctx, s.upTo(s.think))
}

// look asks what is allocated. What is a hole has been read.
func (s *sim) look(p *process, v *Volume, o op, blocks []int) error {
	zeros := make([]byte, simBlocks*disk.BlockSize)
	off := int64(blocks[0]) * disk.BlockSize
	for e, err := range v.Extents(p.ctx, block.Allocation, off, int64(len(blocks))*disk.BlockSize) {
		if err != nil || p.ctx.Err() != nil {
			return err
		}
		if b, end := int(e.Off/disk.BlockSize), int(e.End()/disk.BlockSize); e.Status&block.Zero != 0 {
			s.sawRead(o, blocks[b-blocks[0]:end-blocks[0]], zeros)
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
}

func (s *sim) sawChange(p *process, o op, err error, blocks []int) {
	if err != nil || p.ctx.Err() != nil {
		o.end = never
	}
	s.record(o, blocks...)
}

func (s *sim) sawRead(o op, blocks []int, buf []byte) {
	for i, b := range blocks {
		v, err := valueOf(buf[i*disk.BlockSize : (i+1)*disk.BlockSize])
		if err != nil {
			s.t.Errorf("%s, block %d: %v", o.who, b, err)
		}
		o.value = v
		s.record(o, b)
	}
}

// gateways lets one node after the other serve, sometimes two that both want to.
func (s *sim) gateways(id int) {
	for !s.stopped() && s.ctx.Err() == nil {
		p := s.process(s.rand.n(simNodes))
		if p == nil || !s.gateway(p) {
			sleep(s.ctx, time.Duration(100+s.rand.n(400))*time.Millisecond)
		}
	}
}
