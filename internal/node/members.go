package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster"
)

// memberRoutes adds what is about nodes and disks, and who may become one:
//
//	POST /v1/cluster/foresee          what an Order would do, a Foresight
//	POST /v1/cluster/carry            does it
//	POST /v1/cluster/token            makes a Token from a TokenRequest
//	GET  /v1/cluster/tokens           those that are valid, a TokenList
//	POST /v1/cluster/withdraw         ends the token of a TokenName
//	POST /v1/cluster/recover-quorum   lets the cluster go on with what this node knows;
//	                                  a RecoveryRequest, answered with Texts
func (n *Node) memberRoutes(mux *http.ServeMux) {
	post(mux, "/v1/cluster/foresee", func(ctx context.Context, q Order) (*Foresight, error) {
		intent, err := n.intent(q)
		if err != nil {
			return nil, err
		}
		f, err := n.cluster.Foresee(ctx, intent)
		return foresight(f, n.describe().words(), err)
	})
	post(mux, "/v1/cluster/carry", func(ctx context.Context, q Order) (*Foresight, error) {
		intent, err := n.intent(q)
		if err != nil {
			return nil, err
		}
		words := n.describe().words() // what is forgotten has no name afterwards
		f, err := n.cluster.Carry(ctx, intent, q.Force)
		return foresight(f, words, err)
	})
	post(mux, "/v1/cluster/token", n.makeToken)
	mux.HandleFunc("GET /v1/cluster/tokens", func(w http.ResponseWriter, r *http.Request) {
		reply(w)(n.tokens(r.Context()))
	})
	post(mux, "/v1/cluster/withdraw", func(ctx context.Context, q TokenName) (done, error) {
		return done{}, n.cluster.Withdraw(ctx, q.Digest)
	})
	post(mux, "/v1/cluster/recover-quorum", func(ctx context.Context, q RecoveryRequest) (Texts, error) {
		texts, err := n.cluster.RecoverQuorum(ctx, q.Really)
		words := n.describe().words()
		for i := range texts {
			texts[i] = words.Replace(texts[i])
		}
		return Texts{texts}, err
	})
}

// An Order is what is to be done with a node or a disk.
type Order struct {
	// Do is drain or undrain, of a node, weigh, of a disk, or forget, of either.
	Do string `json:"do"`
	// Node or Disk is an ID, the beginning of one, or what a node is called. To forget, it
	// is the one that is there.
	Node string `json:"node,omitempty"`
	Disk string `json:"disk,omitempty"`
	// Weight is in bytes.
	Weight int64 `json:"weight,omitempty"`
	// Force does it although it does harm.
	Force bool `json:"force,omitempty"`
}

// A Foresight is what an order will do, or has begun to.
type Foresight struct {
	Texts []string `json:"texts"`
	// Copies is how many copies of placement groups are made elsewhere, of about so many
	// Bytes in all.
	Copies int   `json:"copies"`
	Bytes  int64 `json:"bytes"`
	// Stuck is how many groups will have a copy less, as nobody else can have it, and
	// Lost how many nobody else has.
	Stuck int `json:"stuck"`
	Lost  int `json:"lost"`
	// Refused says why it is done only by force.
	Refused string `json:"refused,omitempty"`
}

// orders are the kinds of intents by what people call them.
var orders = map[string]cluster.IntentKind{
	"drain": cluster.Drain, "undrain": cluster.Undrain, "weigh": cluster.Weigh, "forget": cluster.Forget,
}

// intent is what an order means.
func (n *Node) intent(q Order) (i cluster.Intent, err error) {
	kind, ok := orders[q.Do]
	if !ok {
		return i, fmt.Errorf("there is no order %.80q, expected drain, undrain, weigh or forget: %w", q.Do, errRequest)
	}
	i.Kind, i.Weight = kind, q.Weight
	d := n.describe()
	switch {
	case (q.Node == "") == (q.Disk == ""):
		return i, fmt.Errorf("a node or a disk is needed, not both: %w", errRequest)
	case q.Disk != "":
		i.ID, err = d.findDisk(q.Disk)
	default:
		var found NodeName
		found, err = d.find(q.Node)
		i.ID = found.ID
	}
	return i, err
}

// foresight describes one, by the names of nodes that people know.
func foresight(f *cluster.Foresight, words *strings.Replacer, err error) (*Foresight, error) {
	if err != nil {
		return nil, err
	}
	x := &Foresight{Texts: []string{}, Copies: f.Copies, Bytes: f.Bytes, Stuck: len(f.Stuck), Lost: len(f.Last), Refused: words.Replace(f.Refused)}
	for _, text := range f.Texts {
		x.Texts = append(x.Texts, words.Replace(text))
	}
	return x, nil
}

// A TokenRequest asks for a Token.
type TokenRequest struct {
	// Seconds is how long it is valid.
	Seconds int64 `json:"seconds"`
	// Once is one that lets in one node.
	Once bool `json:"once,omitempty"`
}

// A Token lets nodes join.
type Token struct {
	Token string `json:"token"`
	// Join is what the nodes are told that join: the address of this one.
	Join    string    `json:"join"`
	Expires time.Time `json:"expires"`
	Once    bool      `json:"once,omitempty"`
}

// maxTokenSeconds bounds how long a token is valid: a hundred years.
const maxTokenSeconds int64 = 100 * 365 * 24 * 60 * 60

func (n *Node) makeToken(ctx context.Context, q TokenRequest) (*Token, error) {
	if q.Seconds <= 0 || q.Seconds > maxTokenSeconds {
		return nil, fmt.Errorf("a token for %d seconds, expected 1 to %d: %w", q.Seconds, maxTokenSeconds, errRequest)
	}
	if n.o.Cluster.Door == "" {
		return nil, fmt.Errorf("this node has no address at which others can join, see --cluster-listen: %w", errRequest)
	}
	valid := time.Duration(q.Seconds) * time.Second
	text, err := n.cluster.NewToken(ctx, valid, q.Once)
	return &Token{Token: text, Join: n.o.Join, Expires: time.Now().Add(valid), Once: q.Once}, err
}

// A TokenList has the tokens by which nodes can join.
type TokenList struct {
	Tokens []TokenStatus `json:"tokens"`
}

// A TokenStatus describes a token, without telling it.
type TokenStatus struct {
	Digest  string    `json:"digest"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Once    bool      `json:"once,omitempty"`
}

// A TokenName names a token by the beginning of its digest.
type TokenName struct {
	Digest string `json:"digest"`
}

func (n *Node) tokens(ctx context.Context) (*TokenList, error) {
	list, err := n.cluster.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	l := &TokenList{Tokens: []TokenStatus{}}
	for _, t := range list {
		l.Tokens = append(l.Tokens, TokenStatus{t.Digest, t.Created, t.Expires, t.Once})
	}
	return l, nil
}

// A RecoveryRequest lets the cluster go on with what one node knows.
type RecoveryRequest struct {
	// Really does it; otherwise it is only told what would be done.
	Really bool `json:"really,omitempty"`
}

// Texts are sentences on what is done.
type Texts struct {
	Texts []string `json:"texts"`
}

// refused reports whether an error says that something would do harm.
func refused(err error) bool {
	return errors.Is(err, cluster.ErrRefused) || errors.Is(err, cluster.ErrQuorum)
}
