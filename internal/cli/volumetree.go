package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) volumeTree() *cobra.Command {
	return onNodeShown(e, &cobra.Command{
		Use:   "tree [VOLUME]",
		Short: "Show what snapshots and clones descend from",
		Long: "Shows all snapshots and clones of the family that VOLUME is of, or of all volumes,\n" +
			"under what they descend from. What is below each other without an indent follows\n" +
			"each other: the snapshots of a volume, and at the end what is written now. What was\n" +
			"deleted is shown for as long as others need it or its space is not free.",
	}, arguments(0, 1, "the name of a volume or nothing"), func(ctx context.Context, c *node.Client, args []string) (*node.Tree, error) {
		if len(args) == 0 {
			return c.Tree(ctx, "")
		}
		name, err := volumeArg(args[0])
		if err != nil {
			return nil, err
		}
		return c.Tree(ctx, name)
	}, writeTree)
}

// versionKey names a version in the whole cluster.
type versionKey struct{ family, id uint64 }

// A treeWriter draws versions.
type treeWriter struct {
	*tabwriter.Writer
	children map[versionKey][]*node.Version
	now      time.Time
}

func writeTree(w io.Writer, t *node.Tree, now time.Time) {
	d := treeWriter{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0), map[versionKey][]*node.Version{}, now}
	var roots []*node.Version
	for i := range t.Versions {
		v := &t.Versions[i]
		parent := versionKey{v.Family, v.Parent}
		d.children[parent] = append(d.children[parent], v)
		if v.Parent == 0 {
			roots = append(roots, v)
		}
	}
	for i, v := range roots {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(d, "VERSION\tSIZE\tAGE\tSERVED BY")
		d.chain(v, "", "")
		d.Flush()
	}
}

// chain draws a version with that before it, what branches off from it below, and what
// continues it at the same level, with the indent before all that.
func (d treeWriter) chain(v *node.Version, mark, indent string) {
	for ; v != nil; mark = indent {
		d.row(mark, v)
		next, branches := d.next(v)
		for i, b := range branches {
			if i < len(branches)-1 {
				d.chain(b, indent+"├─ ", indent+"│  ")
			} else {
				d.chain(b, indent+"└─ ", indent+"   ")
			}
		}
		v = next
	}
}

// next is the version by which a volume goes on after v, and what else descends from it.
func (d treeWriter) next(v *node.Version) (next *node.Version, branches []*node.Version) {
	children := d.children[versionKey{v.Family, v.ID}]
	for _, c := range children { // the one that was begun last, if it was rolled back
		if c.Line == v.Line {
			next = c
		}
	}
	if next == nil && len(children) == 1 && v.Deleted {
		next = children[0]
	}
	for _, c := range children {
		if c != next {
			branches = append(branches, c)
		}
	}
	return next, branches
}

func (d treeWriter) row(mark string, v *node.Version) {
	name, size, served := v.Volume, units.Bytes(v.Size), servedBy(v.Attached)
	switch {
	case v.Deleted:
		name, size = "(deleted)", "-"
	case v.Snapshot != "":
		name += "@" + v.Snapshot
	}
	fmt.Fprintf(d, "%s%s\t%s\t%s\t%s\n", mark, name, size, age(d.now, v.Created), served)
}
