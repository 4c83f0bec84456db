package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/listen"
	daemon "github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

// agentVar names the variable with the configuration that makes this program a node.
const agentVar = "STRATA_E2E_NODE"

// logsVar names the variable that keeps the logs of nodes after a success, too. With
// "operator" they have what an operator sees, and nothing else.
const logsVar = "STRATA_E2E_LOGS"

// An agentConfig is what a node is told at its start.
type agentConfig struct {
	cluster.Options
	Sockets string // the directory of the sockets "nbd" and "orders"
	NBD     string // host:port for clients
}

// agent is a node.
func agent(config string) int {
	if err := serveNode(config); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	}
	return 0
}

func serveNode(config string) error {
	var c agentConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if os.Getenv(logsVar) == "operator" {
		c.Log = slog.New(daemon.ForOperators(slog.NewTextHandler(os.Stderr, nil)))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	o := daemon.Options{Cluster: c.Options, Grace: 20 * time.Second, Control: filepath.Join(c.Sockets, "control")}
	for _, text := range []string{"unix://" + filepath.Join(c.Sockets, "nbd"), "tcp://" + c.NBD} {
		a, err := listen.Parse(text)
		if err != nil {
			return err
		}
		o.Listen = append(o.Listen, a)
	}
	n, err := daemon.Start(ctx, o)
	if err != nil {
		return err
	}
	orders := rpc.NewServer()
	if err := orders.Register(&Orders{n.Cluster()}); err != nil {
		return err
	}
	path := filepath.Join(c.Sockets, "orders")
	os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go orders.Accept(l)
	select {
	case <-ctx.Done():
		c.Log.Info("the node was told to stop")
	case <-n.Done():
	}
	n.Stop()
	return n.Wait()
}

// Orders are what a node does on request.
type Orders struct{ node *cluster.Node }

// A Health is how the groups are.
type Health struct {
	Groups, Healthy int
	Risks           []string
}

// Status says how the groups are.
func (o *Orders) Status(_ struct{}, h *Health) error {
	r, err := o.node.Status()
	if err != nil {
		return err
	}
	*h = Health{Groups: r.Groups, Healthy: r.States[0], Risks: r.Risks}
	for _, g := range r.Unwell {
		h.Risks = append(h.Risks, fmt.Sprintf("group %d: %s", g.Number, g.Text))
	}
	return nil
}

// Nodes are the IDs of those that run.
func (o *Orders) Nodes(_ struct{}, ids *[]string) error {
	for id := range o.node.View().Runs.All() {
		*ids = append(*ids, id)
	}
	slices.Sort(*ids)
	return nil
}

// Families is how many families of volumes there are, deleted ones too until the last
// disk has nothing of them.
func (o *Orders) Families(_ struct{}, count *int) error {
	*count = o.node.View().Families.Len()
	return nil
}

// A Series is snapshots to be made of a volume, called s and a number.
type Series struct {
	Volume      string
	From, Count int
}

// Snapshots makes snapshots, and says how long each took.
func (o *Orders) Snapshots(s Series, took *[]time.Duration) error {
	for i := range s.Count {
		began := time.Now()
		if err := o.node.Snapshot(context.Background(), s.Volume, fmt.Sprintf("s%d", s.From+i)); err != nil {
			return err
		}
		*took = append(*took, time.Since(began))
	}
	return nil
}

// Do carries out one of the commands below, and replies with what there is to say.
func (o *Orders) Do(words []string, reply *string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := o.do(ctx, words, reply)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(words, " "), err)
	}
	return nil
}

func (o *Orders) do(ctx context.Context, words []string, reply *string) (err error) {
	n := o.node
	switch len(words) {
	case 1:
		switch words[0] {
		case "token":
			*reply, err = n.NewToken(ctx, time.Hour, false)
			return err
		case "expired":
			*reply, err = n.NewToken(ctx, -time.Hour, false)
			return err
		case "id":
			*reply = n.ID()
			return nil
		}
	case 2:
		if words[0] == "delete" {
			return n.Delete(ctx, words[1])
		}
	case 3:
		switch words[0] {
		case "create":
			size, err := units.ParseBytes(words[2])
			if err != nil {
				return err
			}
			return n.Create(ctx, words[1], record.Spec{Size: size, ObjectSize: record.MinObjectSize * 4})
		case "rollback":
			return n.Rollback(ctx, words[1], words[2], "")
		case "snapshot":
			return n.Snapshot(ctx, words[1], words[2])
		}
	case 4:
		if words[0] == "clone" {
			return n.Clone(ctx, words[1], words[2], words[3])
		}
	}
	return errors.New("no such order")
}
