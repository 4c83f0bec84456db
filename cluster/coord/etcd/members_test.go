package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/etcd/voters"
)

// A node is one that has a member when the record says so.
type node struct {
	voters.Node
	client *Client
	mu     sync.Mutex // also for what the seat does, which is not to fail then
	seat   *Seat
	dead   bool
}

func newNode(t *testing.T, name string) *node {
	t.Helper()
	n := &node{Node: voters.Node{Name: name, PeerURL: freeURL(t, "http"), Zone: name}}
	n.open(t, tempDir(t))
	return n
}

func (n *node) open(t *testing.T, dir string) {
	t.Helper()
	o := quick(n.Name, dir)
	o.PeerURLs = []string{n.PeerURL}
	var err error
	n.seat, err = NewSeat(o)
	ok(t, err)
}

// follow does what the record says, until ctx ends.
func (n *node) follow(ctx context.Context, t *testing.T) {
	after := coord.Revision(0)
	for ctx.Err() == nil {
		e, at, err := n.client.Get(ctx, "voters")
		if err == nil && e.Revision > after {
			after = at
			n.obey(ctx, t, e.Value)
		}
		for _, err := range n.client.Watch(ctx, "voters", at) {
			if err != nil {
				return
			}
			break
		}
	}
}

func (n *node) obey(ctx context.Context, t *testing.T, value []byte) {
	r, err := voters.ParseRecord(value)
	if err != nil {
		t.Error(err)
		return
	}
	if urls := r.Endpoints(); len(urls) > 0 {
		if err := n.client.SetEndpoints(urls); err != nil {
			t.Error(err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return
	}
	if err := n.seat.Follow(ctx, r); err != nil && ctx.Err() == nil {
		t.Errorf("node %s: %v", n.Name, err)
	}
}

// crash ends the member of a node for good.
func (n *node) crash() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = true
	if m := n.seat.member; m != nil {
		m.etcd.Server.HardStop()
	}
	n.seat.Close()
}

// run lets nodes follow the record, and keeps voters, until the test ends.
func run(t *testing.T, nodes []*node, endpoints []string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, n := range nodes {
		n.client = dial(t, Options{Endpoints: endpoints, Timeout: time.Second})
		work.Go(func() { n.follow(ctx, t) })
	}
	work.Go(func() { keep(ctx, t, nodes) })
	t.Cleanup(func() {
		stop()
		work.Wait()
		for _, n := range nodes {
			work.Go(n.crash)
		}
		work.Wait()
	})
}

// A cluster of one grows to three voters; all the time something can be agreed on.
func TestGrow(t *testing.T) {
	t.Parallel()
	nodes := []*node{newNode(t, "a"), newNode(t, "b"), newNode(t, "c")}
	ok(t, nodes[0].seat.Found(t.Context()))
	run(t, nodes, []string{nodes[0].seat.Endpoint()})
	agreed(t, nodes[0].client, "a b c", 0)
	if v := value(t, nodes[2].client, "k/0"); string(v) != "v" {
		t.Errorf("what was put first is %q", v)
	}
}

// trio begins a cluster of the first three nodes.
func trio(t *testing.T, nodes []*node) (endpoints []string) {
	t.Helper()
	members := map[string][]string{}
	for _, n := range nodes[:3] {
		members[n.Name] = []string{n.PeerURL}
	}
	var starting sync.WaitGroup
	for _, n := range nodes[:3] {
		starting.Go(func() {
			o := n.seat.o
			o.Members = members
			if err := n.seat.start(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, n := range nodes[:3] {
		ok(t, n.seat.note(uint64(n.seat.member.etcd.Server.MemberID())))
		endpoints = append(endpoints, n.seat.Endpoint())
	}
	return endpoints
}

// A voter that dies is replaced; what was agreed on stays, and more can be agreed on
// all the time.
func TestReplace(t *testing.T) {
	t.Parallel()
	nodes := []*node{newNode(t, "a"), newNode(t, "b"), newNode(t, "c"), newNode(t, "d")}
	run(t, nodes, trio(t, nodes))
	last := agreed(t, nodes[0].client, "a b c", 0)
	nodes[1].crash()
	agreed(t, nodes[3].client, "a c d", last)
	if v := value(t, nodes[3].client, "k/0"); string(v) != "v" {
		t.Errorf("what was put first is %q", v)
	}

	// When the dead one comes back, it finds that it is not wanted any more, and
	// forgets what it knew.
	b := nodes[1]
	b.open(t, b.seat.o.Dir)
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if was, err := b.seat.Resume(short); !was || err == nil {
		t.Errorf("a removed member starts: %v, %v", was, err)
	}
	for wanted := true; wanted; { // the record comes after the fact
		r, err := voters.ParseRecord(value(t, nodes[3].client, "voters"))
		ok(t, err)
		if _, wanted = r.Of(b.Node); !wanted {
			ok(t, b.seat.Follow(t.Context(), r))
		}
	}
	if was, err := b.seat.Resume(t.Context()); was || err != nil {
		t.Errorf("a member that has left starts: %v, %v", was, err)
	}
	left, err := os.ReadDir(b.seat.o.Dir)
	ok(t, err)
	for _, f := range left {
		if f.Name() == "etcd" || f.Name() == "id" {
			t.Errorf("%s is left", f.Name())
		}
	}
}

// value is that of an entry, as soon as it can be read.
func value(t *testing.T, c *Client, key string) []byte {
	t.Helper()
	for {
		e, _, err := c.Get(t.Context(), key)
		if !errors.Is(err, coord.ErrUnavailable) {
			ok(t, err)
			return e.Value
		}
	}
}

// A seat starts what was there, and nothing else.
func TestSeat(t *testing.T) {
	t.Parallel()
	n := newNode(t, "a")
	s := n.seat
	if was, err := s.Resume(t.Context()); was || err != nil {
		t.Errorf("an empty seat: %v, %v", was, err)
	}
	ok(t, s.Found(t.Context()))
	put(t, dial(t, Options{Endpoints: []string{s.Endpoint()}}), "k", []byte("v"))
	// Another process that knows nothing of it does no harm.
	blind := &Seat{o: s.o}
	if err := blind.Found(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another member") {
		t.Errorf("founding where a member runs: %v", err)
	}
	s.Close()
	if s.Endpoint() != "" {
		t.Errorf("a member that was stopped is at %s", s.Endpoint())
	}
	n.open(t, s.o.Dir)
	if err := n.seat.Found(t.Context()); err == nil || !strings.Contains(err.Error(), "has its data in") {
		t.Errorf("a second cluster in the same place: %v", err)
	}
	was, err := n.seat.Resume(t.Context())
	if !was || err != nil || n.seat.id != s.id {
		t.Errorf("a seat with data: %v, %v", was, err)
	}
	defer n.seat.Close()
	e, _, err := dial(t, Options{Endpoints: []string{n.seat.Endpoint()}}).Get(t.Context(), "k")
	if err != nil || string(e.Value) != "v" {
		t.Errorf("after that: %+v, %v", e, err)
	}
	// The record of that very member changes nothing.
	ok(t, n.seat.Follow(t.Context(), voters.Record{Members: []voters.Member{{ID: s.id, Name: "a", PeerURLs: []string{n.PeerURL}}}}))
	if n.seat.Endpoint() == "" {
		t.Error("the member was stopped")
	}

	two := quick("a", "x")
	two.PeerURLs = []string{freeURL(t, "http"), freeURL(t, "http")}
	if _, err := NewSeat(two); err == nil || !strings.Contains(err.Error(), "one peer URL") {
		t.Errorf("a seat with two URLs: %v", err)
	}
	dir := tempDir(t)
	ok(t, os.WriteFile(filepath.Join(dir, "id"), []byte("x"), 0o600))
	o := quick("a", dir)
	o.PeerURLs = []string{n.PeerURL}
	if _, err := NewSeat(o); err == nil || !strings.Contains(err.Error(), "which member has its data in") {
		t.Errorf("a damaged note: %v", err)
	}
}

// keep leads and keeps voters until ctx ends.
func keep(ctx context.Context, t *testing.T, nodes []*node) {
	store := nodes[0].client
	o := voters.Options{Cluster: store.Cluster(), Store: store, Key: "voters", Every: 50 * time.Millisecond, Grace: time.Second}
	o.Nodes = func(context.Context) ([]voters.Node, error) {
		var all []voters.Node
		for _, n := range nodes {
			n.mu.Lock()
			state := n.Node
			state.Alive = !n.dead
			all = append(all, state)
			n.mu.Unlock()
		}
		return all, nil
	}
	l, err := coord.NewLease(ctx, store, 20*time.Second)
	for ; err != nil; l, err = coord.NewLease(ctx, store, 20*time.Second) {
		if ctx.Err() != nil {
			return
		}
	}
	defer l.Revoke(context.Background())
	for ctx.Err() == nil {
		if e, err := coord.Elect(ctx, l, "keeper", nil); err == nil {
			if err := voters.Keep(ctx, e, o); !errors.Is(err, context.Canceled) {
				t.Logf("the keeper ended: %v", err)
			}
		}
	}
}

// agreed puts entries until just those members vote, and returns how many.
func agreed(t *testing.T, c *Client, want string, n int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ; ; n++ {
		put(t, c, fmt.Sprint("k/", n), []byte("v"))
		names := map[string]bool{}
		all, err := c.Cluster().Members(ctx)
		for _, m := range all {
			names[m.Name] = true
			if m.Learner {
				names["learner"] = true
			}
		}
		got := strings.Join(slices.Sorted(maps.Keys(names)), " ")
		switch {
		case err == nil && got == want:
			return n + 1
		case ctx.Err() != nil:
			t.Fatalf("members %s, want %s", got, want)
		}
	}
}

// Endpoints are replaced by others of their kind.
func TestSetEndpoints(t *testing.T) {
	t.Parallel()
	c := dial(t, Options{Endpoints: []string{"unix://" + filepath.Join(tempDir(t), "none")}})
	for want, urls := range map[string][]string{
		"no endpoints":            nil,
		"some are not":            {"https://a:1", "http://b:1"},
		"all https, or none, and": {"https://a:1"},
	} {
		if err := c.SetEndpoints(urls); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", urls, err, want)
		}
	}
	ok(t, c.SetEndpoints([]string{start(t, quick("one", tempDir(t))).Endpoint()}))
	put(t, c, "k", nil)
}
