package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/internal/socket"
)

// At the door a node that wants to join sends one petition, and gets one grant, over
// TLS by which it has seen that it talks to the cluster of its token. Both are JSON.
const (
	maxNote  = 64 << 10         // bytes of either
	doorTime = 10 * time.Second // for all of it
)

// A petition is what a node asks for.
type petition struct {
	Token   string `json:"token"`
	Request []byte `json:"request"`
}

// A grant is what it gets, or why it does not.
type grant struct {
	Refused   string   `json:"refused,omitempty"`
	Node      string   `json:"node,omitempty"`
	Authority []byte   `json:"authority,omitempty"`
	Cert      []byte   `json:"cert,omitempty"`
	Agreed    []string `json:"agreed,omitempty"`
	// Expelled is the list of certificates that are refused.
	Expelled []byte `json:"expelled,omitempty"`
}

// authority is that of the cluster.
func (n *Node) authority(ctx context.Context) (*identity.Authority, error) {
	e, _, err := n.store.Get(ctx, authorityKey)
	if err != nil {
		return nil, err
	}
	return identity.ParseAuthority(e.Value)
}

// openDoor lets nodes with a token in.
func (n *Node) openDoor(ctx context.Context) error {
	if n.o.Door == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", n.o.Door)
	if err != nil {
		return fmt.Errorf("listening to nodes that join: %w", err)
	}
	n.later(func() error {
		n.cancel(errStopped)
		return l.Close()
	})
	var at lobby
	n.work.Go(func() {
		err := socket.Accept(n.ctx, l, n.o.Log, func(c net.Conn) {
			k := at.enter(c)
			if k == nil {
				c.Close()
				return
			}
			n.work.Go(func() {
				defer c.Close()
				err := n.answer(c, func() { at.knows(k) })
				if pushed := at.leave(k); pushed {
					n.o.Log.Debug("somebody at the door said nothing, and had to make room", "from", c.RemoteAddr(), "error", err)
				} else if err != nil {
					n.o.Log.Warn("a node could not join", "from", c.RemoteAddr(), "error", err)
				}
			})
		})
		if n.ctx.Err() == nil {
			n.o.Log.Error("no node can join any more", "error", err)
		}
	})
	return nil
}

// answer deals with one who is at the door. It calls known when that one has shown a good
// token.
func (n *Node) answer(c net.Conn, known func()) error {
	ctx, cancel := context.WithTimeout(n.ctx, doorTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	t := tls.Server(c, n.identity.Door())
	var p petition
	if err := receive(t, &p); err != nil {
		return alerted(err, "whoever asks does not take this for the cluster of its token")
	}
	g, refused := n.grant(ctx, p, known)
	if refused != nil {
		g = grant{Refused: refused.Error()}
	} else {
		n.o.Log.Info("a node joins", "from", c.RemoteAddr(), "node", g.Node)
	}
	return errors.Join(refused, send(t, g), t.CloseWrite())
}

// grant decides about a petition.
func (n *Node) grant(ctx context.Context, p petition, known func()) (g grant, err error) {
	t, err := identity.ParseToken(p.Token)
	if err != nil {
		return g, err
	}
	if err := n.accept(ctx, t); err != nil {
		return g, err
	}
	known()
	a, err := n.authority(ctx)
	if err != nil {
		return g, err
	}
	e, _, err := n.getExpelled(ctx)
	if err != nil {
		return g, err
	}
	g = grant{Node: random(8), Authority: a.Certificate(), Agreed: n.endpoints(), Expelled: e.List}
	if g.Cert, err = a.Issue(g.Node, p.Request); err == nil {
		err = n.spend(ctx, t)
	}
	return g, err
}

func send(w io.Writer, note any) error {
	text, err := json.Marshal(note)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func receive(r io.Reader, note any) error {
	err := json.NewDecoder(io.LimitReader(r, maxNote)).Decode(note)
	var connection net.Error
	if err != nil && !errors.As(err, &connection) {
		err = fmt.Errorf("expected a JSON object of at most %d bytes: %w", maxNote, err)
	}
	return err
}

// alerted says what it means that the other side has ended a connection by an alert, which
// is all that TLS tells.
func alerted(err error, means string) error {
	var e *net.OpError
	if errors.As(err, &e) && e.Op == "remote error" {
		return fmt.Errorf("%s: %w", means, err)
	}
	return err
}

// noDoor is what is said where something else listens.
const noDoor = "it is not where nodes join, expected the first of the four ports of a node (--cluster-listen)"

// enter joins a cluster.
func (n *Node) enter(ctx context.Context) error {
	if err := n.joinCluster(ctx); err != nil {
		return fmt.Errorf("joining the cluster of %s: %w", n.o.Join, err)
	}
	return nil
}

func (n *Node) joinCluster(ctx context.Context) error {
	t, err := identity.ParseToken(n.o.Token)
	if err != nil {
		return err
	}
	if err := n.begin(ctx); err != nil {
		return err
	}
	request, err := identity.NewRequest()
	if err != nil {
		return err
	}
	g, err := n.ask(ctx, t, request)
	if err != nil {
		return err
	}
	n.is = home.Record{Cluster: t.Cluster, Node: g.Node, Agreed: g.Agreed}
	if err := n.become(request, g.Authority, g.Cert); err != nil {
		return err
	}
	if err := n.cast(expelled{List: g.Expelled}); err != nil {
		return err
	}
	if err := n.makeDisks(ctx); err != nil {
		return err
	}
	if err := n.agree(ctx); err != nil {
		return err
	}
	return n.home.Finish(n.is)
}

// ask gets a certificate.
func (n *Node) ask(ctx context.Context, t identity.Token, request *identity.Request) (g grant, err error) {
	ctx, cancel := context.WithTimeout(ctx, doorTime)
	defer cancel()
	d := tls.Dialer{Config: t.Door()}
	c, err := d.DialContext(ctx, "tcp", n.o.Join)
	var notTLS tls.RecordHeaderError
	if errors.As(err, &notTLS) {
		return g, fmt.Errorf("%s: %w", noDoor, err)
	}
	if err != nil {
		return g, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := send(c, petition{n.o.Token, request.Bytes()}); err != nil {
		return g, alerted(err, noDoor)
	}
	if err := receive(c, &g); err != nil {
		return g, alerted(err, noDoor)
	}
	if g.Refused != "" {
		return g, fmt.Errorf("it is refused: %s", g.Refused)
	}
	return g, t.Fits(g.Authority)
}
