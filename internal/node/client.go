package node

import (
	"context"
	"net/url"
	"time"

	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/control"
)

// A Client talks to a running node through its control socket.
type Client struct{ *control.Client }

// NewClient returns a client of the control socket at path.
func NewClient(path string) *Client { return &Client{control.NewClient(path, "node")} }

// Status describes the node.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	st := new(Status)
	return st, c.Get(ctx, "/v1/status", st)
}

// ClusterStatus describes the cluster as the node sees it.
func (c *Client) ClusterStatus(ctx context.Context) (*ClusterStatus, error) {
	st := new(ClusterStatus)
	return st, c.Get(ctx, "/v1/cluster", st)
}

// Stop ends the node. It returns when nothing is served any more.
func (c *Client) Stop(ctx context.Context) error {
	return c.Post(ctx, "/v1/stop", nil, new(done))
}

// Token makes a token by which nodes can join for that long, or one node.
func (c *Client) Token(ctx context.Context, valid time.Duration, once bool) (*Token, error) {
	t := new(Token)
	return t, c.Post(ctx, "/v1/cluster/token", TokenRequest{int64(valid / time.Second), once}, t)
}

// Tokens lists the tokens that are valid.
func (c *Client) Tokens(ctx context.Context) ([]TokenStatus, error) {
	var l TokenList
	err := c.Get(ctx, "/v1/cluster/tokens", &l)
	return l.Tokens, err
}

// Withdraw ends the token whose digest begins so.
func (c *Client) Withdraw(ctx context.Context, digest string) error {
	return c.Post(ctx, "/v1/cluster/withdraw", TokenName{digest}, new(done))
}

// Foresee returns what an order would do.
func (c *Client) Foresee(ctx context.Context, q Order) (*Foresight, error) {
	f := new(Foresight)
	return f, c.Post(ctx, "/v1/cluster/foresee", q, f)
}

// Carry carries an order out. It does not wait for what follows from it.
func (c *Client) Carry(ctx context.Context, q Order) (*Foresight, error) {
	f := new(Foresight)
	return f, c.Post(ctx, "/v1/cluster/carry", q, f)
}

// RecoverQuorum lets the cluster go on with what the node knows, or tells what that means.
func (c *Client) RecoverQuorum(ctx context.Context, really bool) ([]string, error) {
	var t Texts
	err := c.Post(ctx, "/v1/cluster/recover-quorum", RecoveryRequest{really}, &t)
	return t.Texts, err
}

// Jobs describes the background work of all nodes.
func (c *Client) Jobs(ctx context.Context) (*JobList, error) {
	l := new(JobList)
	return l, c.Get(ctx, "/v1/jobs", l)
}

// SuspendJobs lets jobs of a kind wait, or go on.
func (c *Client) SuspendJobs(ctx context.Context, kind string, wait bool) error {
	verb := "resume"
	if wait {
		verb = "suspend"
	}
	return c.Post(ctx, "/v1/jobs/"+verb, KindRequest{kind}, new(done))
}

// Scrub begins a scrub.
func (c *Client) Scrub(ctx context.Context, q ScrubRequest) error {
	return c.Post(ctx, "/v1/jobs/scrub", q, new(done))
}

// Volumes lists the volumes of the cluster.
func (c *Client) Volumes(ctx context.Context) ([]Volume, error) {
	var l VolumeList
	err := c.Get(ctx, "/v1/volumes", &l)
	return l.Volumes, err
}

// Volume describes a volume.
func (c *Client) Volume(ctx context.Context, name string) (*VolumeDetail, error) {
	// Other names would be other paths.
	if err := record.CheckName(name); err != nil {
		return nil, err
	}
	v := new(VolumeDetail)
	return v, c.Get(ctx, "/v1/volumes/"+url.PathEscape(name), v)
}

// Tree returns which versions descend from which, of one volume or, without a name, of
// all.
func (c *Client) Tree(ctx context.Context, volume string) (*Tree, error) {
	t := new(Tree)
	return t, c.Get(ctx, "/v1/tree?"+url.Values{"volume": {volume}}.Encode(), t)
}

// CreateVolume makes a volume.
func (c *Client) CreateVolume(ctx context.Context, spec VolumeSpec) (*Volume, error) {
	v := new(Volume)
	return v, c.Post(ctx, "/v1/volumes/create", spec, v)
}

// ChangeVolume does what verb says: resize, rename, snapshot, clone or rollback. It
// returns what comes of it.
func (c *Client) ChangeVolume(ctx context.Context, verb string, q VolumeChange) (*Volume, error) {
	v := new(Volume)
	return v, c.Post(ctx, "/v1/volumes/"+verb, q, v)
}

// DeleteVolume deletes a volume, with its snapshots if all is set, or a snapshot of it.
func (c *Client) DeleteVolume(ctx context.Context, name, snapshot string, all bool) error {
	return c.Post(ctx, "/v1/volumes/delete", VolumeChange{Name: name, Snapshot: snapshot, All: all}, new(done))
}
