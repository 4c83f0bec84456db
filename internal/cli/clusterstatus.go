package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

// watchEvery is between two looks of cluster status --watch.
const watchEvery = time.Second

func (e *Env) clusterStatus() *cobra.Command {
	var asJSON *bool
	var watch bool
	cmd := e.onNode(&cobra.Command{
		Use:   "status",
		Short: "Show nodes, disks and placement groups, what is recovered, and what is at risk",
		Long: "Shows how the cluster is, as the node that is asked sees it.\n\n" +
			"Volumes are spread over placement groups, each of which has copies on disks of\n" +
			"different nodes. A group is healthy; moving, if it has all copies and is to be\n" +
			"elsewhere; degraded, if copies are missing; at risk, if one is left of several;\n" +
			"waiting, if too few are left for writes; or unavailable, if none is. A node is\n" +
			"away when its lease has ended, and silent if it does not answer before that.",
		Example: "  strata cluster status --watch",
	}, arguments(0, 0, "no arguments"), func(ctx context.Context, c *node.Client, _ []string) error {
		for {
			st, err := c.ClusterStatus(ctx)
			if err != nil {
				return err
			}
			if err := e.showCluster(st, *asJSON, watch); err != nil || !watch {
				return err
			}
			select {
			case <-time.After(watchEvery):
			case <-ctx.Done():
				return nil
			}
		}
	})
	asJSON = jsonFlag(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second")
	return cmd
}

// showCluster prints a status once, or over the one before.
func (e *Env) showCluster(st *node.ClusterStatus, asJSON, again bool) error {
	if asJSON {
		return writeJSON(e.Stdout, st)
	}
	var text strings.Builder
	writeCluster(&text, st)
	if _, onTerminal := terminalWidth(e.Stdout); again && onTerminal {
		// Home, each line to its end, and what is below: it does not flicker.
		fmt.Fprint(e.Stdout, "\x1b[H", strings.ReplaceAll(text.String(), "\n", "\x1b[K\n"), "\x1b[J")
		return nil
	}
	if again {
		text.WriteString("\n")
	}
	_, err := io.WriteString(e.Stdout, text.String())
	return err
}

func writeCluster(w io.Writer, st *node.ClusterStatus) {
	fmt.Fprintf(w, "cluster %s is %s%s: %s, %s, %s, %s\n", st.Cluster, st.State, unheard(st), units.Plural(len(st.Nodes), "node"),
		units.Plural(len(st.Disks), "disk"), units.Plural(st.Groups, "placement group"), units.Plural(st.Volumes, "volume"))
	writeGroups(w, st)
	writeWork(w, st)
	for _, text := range st.Risks {
		fmt.Fprintf(w, "! %s\n", text)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nNODE\tSTATE\tZONE\tDISKS\tGROUPS\tSERVES\tADDRESS\tVERSION")
	for _, n := range st.Nodes {
		label := n.Label
		if n.ID == st.Asked.ID {
			label += " *"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", label, n.State, orDash(n.Zone), n.Disks, n.Groups,
			orDash(serves(st, n.ID)), orDash(n.Address), orDash(n.Version))
	}
	t.Flush()
	fmt.Fprintln(t, "\nDISK\tNODE\tSTATE\tSIZE\tUSED\tWEIGHT\tGROUPS\tJOINING")
	away := map[string]bool{}
	for _, n := range st.Nodes {
		away[n.ID] = n.State == "away"
	}
	for i := range st.Disks {
		d := &st.Disks[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", shortID(d.ID), d.Node.Label, diskState(d, away[d.Node.ID]),
			units.Bytes(d.Size), used(d), weight(d), d.Groups, d.Joining)
	}
	t.Flush()
}

// unheard says that nodes have not answered, as the state does not know of it before their
// leases have ended: after a quorum was recovered, for example.
func unheard(st *node.ClusterStatus) string {
	count := 0
	for _, n := range st.Nodes {
		if n.State == "silent" {
			count++
		}
	}
	switch count {
	case 0:
		return ""
	case 1:
		return " as far as is known, but a node does not answer"
	}
	return fmt.Sprintf(" as far as is known, but %d nodes do not answer", count)
}

// writeGroups says how the groups are, and how far recovery has come.
func writeGroups(w io.Writer, st *node.ClusterStatus) {
	var parts []string
	for _, state := range []string{"healthy", "moving", "degraded", "at risk", "waiting", "unavailable"} {
		if n := st.States[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(parts) > 1 {
		fmt.Fprintf(w, "groups: %s\n", strings.Join(parts, ", "))
	}
	r := st.Recovery
	if r == nil {
		return
	}
	fmt.Fprintf(w, "recovery: %d of %s made", r.Done, units.Plural(r.Total, "copy"))
	if r.SecondsLeft != nil {
		left := time.Duration(*r.SecondsLeft * float64(time.Second))
		fmt.Fprintf(w, ", %.1f/s, %s left", r.PerSecond, units.Clock(left))
	}
	fmt.Fprintf(w, ", for %s now\n", units.Clock(st.Time.Sub(r.Since)))
}

// writeWork says what is done in the background.
func writeWork(w io.Writer, st *node.ClusterStatus) {
	names := map[string]string{
		"join": "copying", "delete": "freeing what was deleted", "clean": "removing what is elsewhere now",
		"digests": "comparing copies", "data": "reading and verifying", "tidy": "taking marks of writes back",
	}
	for i := range st.Work {
		k := &st.Work[i]
		line := fmt.Sprintf("%s (%s):", names[k.Kind], k.Kind)
		if k.Jobs > 0 {
			j := node.JobStatus{Done: k.Done, Total: k.Total}
			j.Unit = k.Unit
			line += " " + units.Plural(k.Jobs, "job")
			if k.Disks > 0 {
				line += " on " + units.Plural(k.Disks, "disk")
			}
			line += ", " + doneOf(&j)
			if k.Unit == "bytes" {
				line += ", " + units.Rate(k.PerSecond)
			} else if k.PerSecond > 0 && k.Unit != "permille" {
				line += fmt.Sprintf(", %s/s", units.Count(k.PerSecond))
			}
			if k.SecondsLeft != nil {
				line += ", " + left(k.SecondsLeft) + " left"
			}
		}
		if k.Suspended {
			line += " suspended"
		}
		fmt.Fprintln(w, line)
	}
	if st.Silent != "" {
		fmt.Fprintf(w, "! Not all nodes told what they do: %s\n", st.Silent)
	}
}

// serves names some of the volumes that a node serves.
func serves(st *node.ClusterStatus, id string) string {
	const most = 3
	var names []string
	for _, a := range st.Attached {
		if a.Node.ID == id {
			names = append(names, a.Volume)
		}
	}
	slices.Sort(names)
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// diskState is a word for how a disk is whose node may be away.
func diskState(d *node.DiskStatus, away bool) string {
	switch {
	case d.Failed != "":
		return "failed"
	case away:
		return "away"
	case d.Full:
		return "full"
	case d.Weight == 0:
		return "to be empty"
	}
	return "well"
}

func used(d *node.DiskStatus) string {
	if d.Used == nil {
		return "-"
	}
	return units.Bytes(*d.Used)
}

// weight is shown where it is not what it is by itself.
func weight(d *node.DiskStatus) string {
	if d.Weight == d.Size {
		return "-"
	}
	return units.Bytes(d.Weight)
}
