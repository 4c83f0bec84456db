package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/record"
)

// tokenPrefix begins the keys of tokens that are valid, which go on with their digests:
// the tokens themselves are not known to the cluster.
const tokenPrefix = "token/"

// A TokenInfo is what the cluster knows of a token.
type TokenInfo struct {
	// Digest is by what it is withdrawn.
	Digest string `json:"-"`
	// Expires is until when nodes can join by it, by the clock of the node that lets
	// them in. Once is one that lets in one node.
	Expires time.Time `json:"expires"`
	Created time.Time `json:"created"`
	Once    bool      `json:"once,omitempty"`
}

// ErrToken: a token is not known to the cluster.
var ErrToken = errors.New("the token is not one of this cluster, was used up, or was withdrawn")

// NewToken makes a token by which nodes can join for that long, or one node if once is set.
// Nobody can be told it again.
func (n *Node) NewToken(ctx context.Context, valid time.Duration, once bool) (string, error) {
	a, err := n.authority(ctx)
	if err != nil {
		return "", err
	}
	now := time.Now().UTC().Round(time.Second)
	t := a.NewToken(now.Add(valid))
	text, err := t.Encode()
	if err != nil {
		return "", err
	}
	value, err := json.Marshal(TokenInfo{Expires: t.Expires, Created: now, Once: once})
	if err != nil {
		return "", err
	}
	if _, err = n.store.Txn(ctx, coord.Txn{Then: []coord.Op{coord.Put(tokenPrefix+t.Digest(), value)}}); err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	n.o.Log.Info("there is a token to join by", "digest", t.Digest(), "expires", t.Expires, "once", once)
	return text, nil
}

// Tokens are all that are valid, and forgets those that have expired.
func (n *Node) Tokens(ctx context.Context) (list []TokenInfo, err error) {
	entries, _, err := n.store.List(ctx, tokenPrefix)
	if err != nil {
		return nil, fmt.Errorf("reading the tokens: %w", err)
	}
	var old coord.Txn
	for _, e := range entries {
		t, err := tokenOf(e)
		if err != nil {
			return nil, err
		}
		if !time.Now().Before(t.Expires) && len(old.Then) < coord.MaxOps {
			old.Then = append(old.Then, coord.Delete(e.Key))
			continue
		}
		list = append(list, t)
	}
	if len(old.Then) > 0 {
		if _, err := n.store.Txn(ctx, old); err != nil {
			n.o.Log.Debug("tokens that have expired are still there", "error", err)
		}
	}
	return list, nil
}

func tokenOf(e coord.Entry) (t TokenInfo, err error) {
	if err = json.Unmarshal(e.Value, &t); err != nil {
		err = fmt.Errorf("the entry %s: %w", e.Key, err)
	}
	t.Digest = strings.TrimPrefix(e.Key, tokenPrefix)
	return t, err
}

// minDigest is how much of a digest has to be given.
const minDigest = 6

// Withdraw ends a token, of which the beginning of the digest is enough if no other one
// begins so.
func (n *Node) Withdraw(ctx context.Context, digest string) error {
	list, err := n.Tokens(ctx)
	if err != nil {
		return err
	}
	var found []string
	for _, t := range list {
		if strings.HasPrefix(t.Digest, digest) {
			found = append(found, t.Digest)
		}
	}
	switch {
	case len(digest) < minDigest:
		err = fmt.Errorf("the digest has %d characters, expected %d at least: %w", len(digest), minDigest, record.ErrInvalid)
	case len(found) == 0:
		err = fmt.Errorf("no token has that digest: %w", record.ErrNotFound)
	case len(found) > 1:
		err = fmt.Errorf("%d tokens begin with that, expected more of the digest: %w", len(found), record.ErrInvalid)
	default:
		_, err = n.store.Txn(ctx, coord.Txn{Then: []coord.Op{coord.Delete(tokenPrefix + found[0])}})
	}
	if err != nil {
		return fmt.Errorf("withdrawing the token %.80q: %w", digest, err)
	}
	n.o.Log.Info("a token was withdrawn", "digest", found[0])
	return nil
}

// accept decides whether somebody may join by a token. The time is that of this machine
// only: those who join may have none yet.
func (n *Node) accept(ctx context.Context, t identity.Token) error {
	if err := t.Check(time.Now()); err != nil {
		return err
	}
	e, _, err := n.store.Get(ctx, tokenPrefix+t.Digest())
	if err == nil && e.Revision == 0 {
		err = ErrToken
	}
	return err
}

// spend ends a token that lets in one node, which this is.
func (n *Node) spend(ctx context.Context, t identity.Token) error {
	key := tokenPrefix + t.Digest()
	e, _, err := n.store.Get(ctx, key)
	if err != nil {
		return err
	}
	if e.Revision == 0 {
		return ErrToken
	}
	if info, err := tokenOf(e); err != nil || !info.Once {
		return err
	}
	r, err := n.store.Txn(ctx, coord.Txn{If: []coord.Compare{coord.IfRevision(key, e.Revision)}, Then: []coord.Op{coord.Delete(key)}})
	if err == nil && !r.Done {
		err = ErrToken
	}
	return err
}
