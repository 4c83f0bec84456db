package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/etcd/voters"
)

// Cluster returns the members of the cluster that the client talks to.
func (c *Client) Cluster() voters.Cluster { return members{c} }

// SetEndpoints replaces the endpoints, see Options: voters come and go.
func (c *Client) SetEndpoints(urls []string) error {
	o := c.o
	o.Endpoints = urls
	secure, err := o.secure()
	if err != nil {
		return err
	}
	if secure != c.secure && !o.named() {
		return errors.New("etcd: the endpoints were all https, or none, and are to stay so")
	}
	c.client.SetEndpoints(urls...)
	c.moves.move()
	return nil
}

// moves tells who has a stream that there are other endpoints.
type moves struct {
	mu   sync.Mutex
	next chan struct{}
}

// await is closed at the next move.
func (m *moves) await() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next == nil {
		m.next = make(chan struct{})
	}
	return m.next
}

func (m *moves) move() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next != nil {
		close(m.next)
		m.next = nil
	}
}

// A members is those of a cluster of etcd.
type members struct{ *Client }

var _ voters.Cluster = members{}

func (c members) Members(ctx context.Context) (all []voters.Member, err error) {
	call, done := c.begin(ctx)
	defer done()
	r, err := c.client.MemberList(call)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	for _, m := range r.Members {
		all = append(all, voters.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner})
	}
	return all, nil
}

func (c members) Check(ctx context.Context, m voters.Member) error {
	err := errors.New("it has not started")
	for _, url := range m.ClientURLs {
		if err = c.check(ctx, m.ID, url); err == nil {
			return nil
		}
	}
	return err
}

// check asks the member at one URL. The way that etcd's client has for that reads its
// endpoints while others may set them.
func (c members) check(ctx context.Context, id uint64, url string) error {
	o := c.o
	o.Endpoints = []string{url}
	one, err := Dial(o)
	if err != nil {
		return err
	}
	defer one.Close()
	call, done := one.begin(ctx)
	defer done()
	r, err := pb.NewMaintenanceClient(one.client.ActiveConnection()).Status(call, &pb.StatusRequest{})
	switch {
	case err != nil:
		return one.failed(ctx, err)
	case r.Header.MemberId != id:
		return fmt.Errorf("another member answers at %s", url)
	case r.Leader == 0:
		return fmt.Errorf("%w: the member at %s knows no leader", coord.ErrUnavailable, url)
	}
	return nil
}

func (c members) AddLearner(ctx context.Context, peerURL string) error {
	call, done := c.begin(ctx)
	defer done()
	_, err := c.client.MemberAddAsLearner(call, []string{peerURL})
	return c.failed(ctx, err)
}

func (c members) Promote(ctx context.Context, id uint64) error {
	call, done := c.begin(ctx)
	defer done()
	_, err := c.client.MemberPromote(call, id)
	if errors.Is(rpctypes.Error(err), rpctypes.ErrMemberLearnerNotReady) {
		return voters.ErrNotReady
	}
	return c.failed(ctx, err)
}

func (c members) Remove(ctx context.Context, id uint64) error {
	call, done := c.begin(ctx)
	defer done()
	_, err := c.client.MemberRemove(call, id)
	if errors.Is(rpctypes.Error(err), rpctypes.ErrMemberNotFound) {
		return nil
	}
	return c.failed(ctx, err)
}
