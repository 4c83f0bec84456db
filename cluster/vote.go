package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/etcd"
	"github.com/strata-storage/strata/cluster/coord/etcd/voters"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/identity"
)

// Keys of the entries that are about voters: who votes, and who sees to it.
const (
	votersKey = "voters"
	keeperKey = "leader/voters"
)

// When the node dies that leads those who vote, nothing can be agreed on until another
// one leads, which takes one to two times voteElection. Writes may have to wait for that
// long: the removal of the dead node from its groups is agreed on. They are to wait for
// a second at most.
//
// The price is that a leader is deposed whose disk takes longer than that to make
// something durable. That is harmless but for the time it takes, and leases live on.
// Measured with three voters on one disk, one transaction after another for 15 s, each
// fdatasync made slower by so much: leaders deposed, and the slowest transaction.
//
//	election   200 ms          400 ms          1 s
//	  0 ms     0, 140 ms       0, 170 ms       0, 310 ms
//	 50 ms     0, 450 ms       0, 360 ms       0, 180 ms
//	150 ms     0, 820 ms       0, 760 ms       0, 440 ms
//	300 ms    15, 2.6 s        0, 760 ms       0, 730 ms
//
// A member that is alone has nobody to be deposed by. It elects itself after one
// election time at most, which is most of the time that a start takes.
const (
	voteHeartbeat = 50 * time.Millisecond
	voteElection  = 400 * time.Millisecond
)

// voting is the part that the node has in what the cluster agrees on.
type voting struct {
	seat   *etcd.Seat
	client *etcd.Client

	mu     sync.Mutex
	agreed []string // URLs of those who vote, as was heard last
}

// takeSeat opens the place where the node has its member, if it has one.
func (n *Node) takeSeat() (err error) {
	o := etcd.ServerOptions{
		Name: n.is.Node, Dir: n.home.Etcd(), ClusterToken: n.is.Cluster, Logger: n.o.Log.With("part", "etcd"),
		Heartbeat: voteHeartbeat, Election: voteElection,
	}
	if n.o.Votes != "" {
		agreed, err := bind(n.o.Agreed)
		if err != nil {
			return fmt.Errorf("the address Agreed: %w", err)
		}
		votes, err := bind(n.o.Votes)
		if err != nil {
			return fmt.Errorf("the address Votes: %w", err)
		}
		f := identity.In(n.home.Keys())
		o.ClientURLs, o.ClientsFind = []string{"https://" + agreed}, []string{"https://" + n.o.found(n.o.Agreed)}
		o.PeerURLs, o.PeersFind = []string{"https://" + votes}, []string{n.votes()}
		o.ClientTLS = etcd.TLSFiles{Cert: f.Cert, Key: f.Key, CA: f.Authority, ServerName: identity.ServerName(n.is.Cluster), Revoked: n.revoked()}
		o.PeerTLS = o.ClientTLS
	}
	if n.voting.seat, err = etcd.NewSeat(o); err != nil {
		return err
	}
	n.later(func() error { n.voting.seat.Close(); return nil })
	return nil
}

// votes is the URL of the node for others who vote.
func (n *Node) votes() string {
	if n.o.Votes == "" {
		return ""
	}
	return "https://" + n.o.found(n.o.Votes)
}

// agree connects to what the cluster agrees on, in which this node takes part if it did
// so when it ran last.
func (n *Node) agree(ctx context.Context) error {
	n.voting.agreed = n.is.Agreed
	if err := n.takeSeat(); err != nil {
		return err
	}
	if err := n.askSeat(ctx); err != nil {
		return err
	}
	voted, err := n.sit(ctx)
	switch {
	case voted && err == nil && n.voting.seat.Learns() && len(n.is.Agreed) > 0:
		// It was to get its vote when it ended. Until it has it, others have to be asked.
		return n.connect(n.is.Agreed...)
	case voted && err == nil:
		return n.connect(n.voting.seat.Endpoint())
	case err != nil && (ctx.Err() != nil || len(n.is.Agreed) == 0 || errors.Is(err, identity.ErrExpelled)):
		return err
	case len(n.is.Agreed) == 0:
		return fmt.Errorf("data directory %s: it has no part in what the cluster agrees on, in %s, and does not say who has", n.home.Dir(), filepath.Base(n.home.Etcd()))
	}
	if cerr := n.connect(n.is.Agreed...); cerr != nil || err == nil {
		return errors.Join(err, cerr)
	}
	return n.unseat(ctx, err)
}

// askTime bounds how long a node that voted when it ran last asks others whether it still
// does.
const askTime = time.Second

// askSeat asks the others that vote whether this node does, and gives its seat up if not:
// they may have recovered without it, so that what it knows is of no use, and two of
// them that do not know must not take themselves for the cluster.
func (n *Node) askSeat(ctx context.Context) error {
	seat := n.voting.seat
	if len(n.is.Agreed) < 2 || !seat.Used() {
		return nil
	}
	client, err := n.dialAgreed(n.is.Agreed...)
	if err != nil {
		return err
	}
	defer client.Close()
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	e, _, err := client.Get(asking, votersKey)
	if err != nil || e.Revision == 0 {
		return nil // nobody knows
	}
	// A copy must not vote with the vote of the original, nor one that is older: it has
	// forgotten what it has agreed to.
	if _, err := n.awaitEnd(ctx, client); errors.Is(err, ErrCopy) || ctx.Err() != nil {
		return err
	}
	if err := n.newest(ctx, client); errors.Is(err, ErrOlder) {
		return err
	}
	r, err := voters.ParseRecord(e.Value)
	if err != nil || seat.Names(r) {
		return err
	}
	n.o.Log.Warn("this node does not vote any more: it was away for too long")
	return seat.Drop(r)
}

// sit starts the member that the node has had when it ran last, if there is one, which
// waits for enough of the others.
func (n *Node) sit(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel(nil)
	waiting.Go(func() {
		ticks := time.NewTicker(sayAfter)
		defer ticks.Stop()
		for said := false; ; said = true {
			select {
			case <-ticks.C:
			case <-ctx.Done():
				return
			}
			if !said {
				n.o.Log.Warn("waiting for enough of the nodes that vote on what the cluster agrees on", "at", n.is.Agreed)
			}
			if err := n.askPeers(ctx); err != nil {
				cancel(err)
			}
		}
	})
	return n.voting.seat.Resume(ctx)
}

// sayAfter is for how long an operator is not told what is waited for.
const sayAfter = 3 * time.Second

// unseat is called when the member of the node could not be started, by reason of why: if
// it was removed meanwhile, its data are of no use any more.
func (n *Node) unseat(ctx context.Context, why error) error {
	var last error
	for until := n.store.Clock().Now() + unseatTime; n.store.Clock().Now() < until; {
		var r voters.Record
		e, _, err := n.store.Get(ctx, votersKey)
		if err == nil && e.Revision != 0 {
			r, err = voters.ParseRecord(e.Value)
		}
		if last = err; err == nil && e.Revision != 0 && !n.voting.seat.Names(r) {
			n.o.Log.Warn("this node does not vote any more: it was away for too long", "error", why)
			return n.voting.seat.Drop(r)
		}
		// The record comes after the fact.
		if !n.pause(ctx, leasePause) {
			break
		}
	}
	return errors.Join(why, last)
}

// unseatTime is for how long a node whose member cannot be started looks whether that was
// removed.
const unseatTime = 15 * time.Second

func (n *Node) dialAgreed(endpoints ...string) (*etcd.Client, error) {
	return etcd.Dial(etcd.Options{Endpoints: endpoints, TLS: n.identity.Client("", nil), Logger: n.o.Log})
}

func (n *Node) connect(endpoints ...string) error {
	client, err := n.dialAgreed(endpoints...)
	if err != nil {
		return err
	}
	n.store, n.voting.client = client, client
	n.later(client.Close)
	return nil
}

// endpoints are the URLs of those who vote.
func (n *Node) endpoints() []string {
	n.voting.mu.Lock()
	defer n.voting.mu.Unlock()
	if len(n.voting.agreed) > 0 || n.o.Agreed == "" {
		return n.voting.agreed
	}
	return []string{"https://" + n.o.found(n.o.Agreed)}
}

// followVoters is the goroutine that does what the record of voters says.
func (n *Node) followVoters() {
	news := make(chan voters.Record, 1)
	n.work.Go(func() { n.hearVoters(news) })
	f := follower{n: n}
	for n.ctx.Err() == nil {
		rings := make(chan struct{})
		stop := n.store.Clock().AfterFunc(cmp.Or(n.o.votePause, votePause), func() { close(rings) })
		select {
		case f.record = <-news:
			f.obey()
		case <-rings:
			if f.retry {
				f.obey()
			}
		case <-f.gone():
			f.lost = n.voting.seat.Gone()
		case <-n.ctx.Done():
		}
		stop()
		f.steer()
		n.notePeers()
	}
}

// votePause is between two looks at how the member of the node is, votePatience how many
// of them it may know no leader until others are asked.
const (
	votePause    = time.Second
	votePatience = 4
)

// hearVoters hears of each record of voters, or at least of the latest one.
func (n *Node) hearVoters(news chan voters.Record) {
	hear := func(e coord.Entry) {
		r, err := voters.ParseRecord(e.Value)
		if err != nil {
			n.o.Log.Error("who votes on what the cluster agrees on cannot be understood", "error", err)
			return
		}
		select {
		case <-news: // it was not the latest one
		default:
		}
		news <- r
	}
	for n.ctx.Err() == nil {
		e, at, err := n.store.Get(n.ctx, votersKey)
		if err != nil {
			n.pause(n.ctx, leasePause)
			continue
		}
		if e.Revision != 0 {
			hear(e)
		}
		for change, err := range n.store.Watch(n.ctx, votersKey, at) {
			if err != nil {
				break
			}
			for _, e := range change.Events {
				if e.Key == votersKey && !e.Deleted {
					hear(e.Entry)
				}
			}
		}
	}
}

// A follower does what the record says.
type follower struct {
	n      *Node
	record voters.Record
	// retry: it could not be done.
	retry bool
	// using are the endpoints that are used, unwell how often the node's own member was
	// found to know no leader.
	using  []string
	unwell int
	// lost is the Gone of a member that has ended.
	lost <-chan struct{}
}

// gone is closed when the node's own member has ended and that is news. It was removed then,
// and nothing can be asked of it any more; the record that says so comes by way of others.
func (f *follower) gone() <-chan struct{} {
	if gone := f.n.voting.seat.Gone(); gone != f.lost {
		return gone
	}
	return nil
}

// obey starts or stops the member of this node, and notes where others are.
func (f *follower) obey() {
	n := f.n
	if urls := f.record.Endpoints(); len(urls) > 0 {
		n.voting.mu.Lock()
		n.voting.agreed = urls
		n.voting.mu.Unlock()
		if is, _ := n.home.Made(); !slices.Equal(is.Agreed, urls) {
			if err := n.home.Edit(func(r *home.Record) { r.Agreed = urls }); err != nil {
				n.o.Log.Error("the node may not find the cluster at its next start", "error", err)
			}
		}
	}
	if f.leaves() {
		f.use(f.others())
	}
	ctx, cancel := context.WithTimeout(n.ctx, voteTime)
	defer cancel()
	err := n.voting.seat.Follow(ctx, f.record)
	if err == nil && n.voting.seat.Has(f.record) {
		err = n.voting.seat.Announce(ctx)
	}
	if f.retry = err != nil && n.ctx.Err() == nil; f.retry {
		n.o.Log.Warn("this node cannot take part in what the cluster agrees on yet", "error", err)
	}
}

// voteTime bounds one attempt to start a member.
const voteTime = time.Minute

// leaves tells whether a member runs here that the record does not name.
func (f *follower) leaves() bool {
	return f.n.voting.seat.Endpoint() != "" && !f.n.voting.seat.Names(f.record)
}

// others are the URLs of the voters on other nodes.
func (f *follower) others() (urls []string) {
	for _, u := range f.record.Endpoints() {
		if u != "https://"+f.n.o.found(f.n.o.Agreed) {
			urls = append(urls, u)
		}
	}
	return urls
}

// steer chooses by whom the node asks for what is agreed: by its own member, which no
// other node can take away, unless that is in trouble.
func (f *follower) steer() {
	seat := f.n.voting.seat
	switch own, others := seat.Endpoint(), f.others(); {
	case !seat.Has(f.record):
		if len(others) > 0 {
			f.use(others)
		}
	case seat.Well():
		f.unwell = 0
		f.use([]string{own})
	case len(others) > 0:
		if f.unwell++; f.unwell >= votePatience || f.lost != nil && f.lost == seat.Gone() {
			f.use(others)
		}
	}
}

// use sets the endpoints.
func (f *follower) use(urls []string) {
	if len(urls) == 0 || slices.Equal(urls, f.using) {
		return
	}
	if err := f.n.voting.client.SetEndpoints(urls); err != nil {
		f.n.o.Log.Error("the node cannot be told who votes", "error", err)
		return
	}
	f.using = urls
}

// keepVoters is the goroutine that takes part in the election of the keeper of voters,
// and does its work while this node is it.
func (n *Node) keepVoters() {
	for n.ctx.Err() == nil {
		lease := n.run.current()
		lead, err := coord.Elect(n.ctx, lease, keeperKey, []byte(n.is.Node))
		if err == nil {
			err = voters.Keep(n.ctx, lead, voters.Options{
				Cluster: n.voting.client.Cluster(), Store: n.store, Key: votersKey, Nodes: n.electable,
				Grace: n.o.VoterGrace, Logger: n.o.Log,
			})
			n.resign(lead)
		}
		if n.ctx.Err() != nil {
			return
		}
		n.o.Log.Debug("this node does not see to who votes at the moment", "error", err)
		n.pause(n.ctx, leasePause)
	}
}

// resign lets another node be the keeper.
func (n *Node) resign(lead *coord.Leadership) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.ctx), leaveTime)
	defer cancel()
	_ = lead.Resign(ctx) // or the end of the lease does it
}

// electable are all nodes that may vote.
func (n *Node) electable(ctx context.Context) (list []voters.Node, err error) {
	if err := n.seenAll(ctx, nil); err != nil {
		return nil, err
	}
	v := n.state.View()
	for id, e := range v.Nodes.All() {
		if e.Record.Votes == "" {
			continue
		}
		_, alive := v.Runs.Get(id)
		list = append(list, voters.Node{Name: id, PeerURL: e.Record.Votes, Zone: e.Record.Zone, Alive: alive, Leaving: e.Record.Draining})
	}
	return list, nil
}
