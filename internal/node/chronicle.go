package node

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/steward"
)

// A chronicle tells in the log what becomes of the cluster.
type chronicle struct {
	log   *slog.Logger
	runs  map[string]string // incarnations of the nodes that live, nil before the first look
	state steward.State
	since time.Time // when it was not healthy any more
}

// nodes says which nodes have come and gone.
func (c *chronicle) nodes(d *describer, own string) {
	runs := map[string]string{}
	for id, e := range d.Runs.All() {
		runs[id] = e.Record.Incarnation
		if was := c.runs[id]; c.runs != nil && id != own && was != e.Record.Incarnation {
			c.log.Info("a node is there", "node", d.node(id).Label, "address", e.Record.Peers)
		}
	}
	for id := range c.runs {
		if _, there := runs[id]; there || id == own {
			continue
		}
		if _, known := d.Nodes.Get(id); known {
			c.log.Warn("a node is away: others go on without its copies, and make new ones if it does not come back", "node", d.node(id).Label)
		} else {
			c.log.Info("a node was forgotten", "node", short(id))
		}
	}
	c.runs = runs
}

// groups says how the cluster is, when that has changed.
func (c *chronicle) groups(r *steward.Report, words *strings.Replacer, now time.Time) {
	worst := steward.Healthy
	for state, count := range r.States {
		if count > 0 {
			worst = steward.State(state) // the later, the worse
		}
	}
	was := c.state
	if c.state = worst; worst == was {
		return
	}
	if was == steward.Healthy {
		c.since = now
	}
	level := slog.LevelInfo
	if worst > was && worst > steward.Moving {
		level = slog.LevelWarn
	}
	text := ""
	if len(r.Unwell) > 0 {
		text = words.Replace(r.Unwell[0].Text)
	}
	switch {
	case worst == steward.Healthy:
		c.log.Log(context.Background(), level, "the cluster is healthy again", "after", now.Sub(c.since).Round(time.Second))
	default:
		c.log.Log(context.Background(), level, "the cluster is "+worst.String(), "groups", r.States[worst], "of", r.Groups, "the worst", text)
	}
}
