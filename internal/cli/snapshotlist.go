package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/units"
)

func (e *Env) snapshotList() *cobra.Command {
	var asJSON, tree bool
	cmd := e.onSnapshots(&cobra.Command{
		Use:   "ls EXPORT",
		Short: "List the snapshots of a disk",
		Long: "Lists the snapshots of EXPORT, the oldest first: EXCLUSIVE is the space that comes\n" +
			"back when the snapshot is deleted, SHARED what others need as well. Below is the\n" +
			"space of the store, and what is being done in the background.",
	}, arguments(1, 1, "an export"), func(ctx context.Context, c *daemon.Client, args []string) error {
		l, err := c.Snapshots(ctx, args[0])
		switch {
		case err != nil:
			return err
		case asJSON:
			return writeJSON(e.Stdout, l)
		}
		writeSnapshots(e.Stdout, l, tree)
		return nil
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&tree, "tree", false, "show what each snapshot was taken of")
	return cmd
}

func writeSnapshots(w io.Writer, l *daemon.SnapshotList, tree bool) {
	names := make([]string, len(l.Snapshots))
	order := make([]int, 0, len(names))
	for i := range names {
		names[i], order = shown(l.Snapshots[i].Name), append(order, i)
	}
	if tree {
		names, order = asTree(l)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tCREATED\tEXCLUSIVE\tSHARED\tIN USE")
	for n, i := range order {
		s := &l.Snapshots[i]
		created := "-"
		if s.Created != nil {
			created = s.Created.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", names[n], created, space(s.Exclusive), space(s.Shared), yesNo(s.Open))
	}
	t.Flush()
	writeSnapshotStatus(w, &l.Status)
}

// writeSnapshotStatus prints what is true of all snapshots together.
func writeSnapshotStatus(w io.Writer, s *daemon.SnapshotStatus) {
	fmt.Fprintf(w, "\nstore: %s of data and %s of metadata in use, %s free", units.Bytes(s.Data), units.Bytes(s.Meta), units.Bytes(s.Free))
	if s.Pending > 0 {
		fmt.Fprintf(w, ", %s becoming free", units.Bytes(s.Pending))
	}
	fmt.Fprintf(w, "; %d chunks\n", s.Exceptions)
	if line := background(s); line != "" {
		fmt.Fprintln(w, line)
	}
}

// background says what is being done, if anything is.
func background(s *daemon.SnapshotStatus) string {
	suspended := ""
	if s.Suspended {
		suspended = "; suspended"
	}
	switch {
	case s.RollingBack != "":
		return fmt.Sprintf("rolling back to %s: %.0f %%%s", shown(s.RollingBack), 100*s.RollbackDone, suspended)
	case s.Suspended:
		return "suspended"
	case s.Task == "freeing" && s.Total > 0:
		return fmt.Sprintf("freeing the space of deleted snapshots: %d of about %d entries", s.Done, s.Total)
	case s.Task == "freeing":
		return "freeing the space of deleted snapshots"
	case s.Task == "homing":
		return fmt.Sprintf("bringing data home: %d of %d chunks", s.Done, s.Total)
	}
	return ""
}

func space(n *int64) string {
	if n == nil {
		return "-"
	}
	return units.Bytes(*n)
}

// asTree returns the names with lines that show what was taken of what, and
// the order of the snapshots in that.
func asTree(l *daemon.SnapshotList) (names []string, order []int) {
	below := map[string][]int{}
	for i := range l.Snapshots {
		below[l.Snapshots[i].Of] = append(below[l.Snapshots[i].Of], i)
	}
	var walk func(of, indent string)
	walk = func(of, indent string) {
		for n, i := range below[of] {
			branch, next := "├─ ", "│  "
			if n == len(below[of])-1 {
				branch, next = "└─ ", "   "
			}
			names = append(names, indent+branch+shown(l.Snapshots[i].Name))
			order = append(order, i)
			walk(l.Snapshots[i].Name, indent+next)
		}
	}
	walk("", "")
	return names, order
}

// writeStatusOfSnapshots is the part of status that is about snapshots.
func writeStatusOfSnapshots(w io.Writer, st *daemon.Status) {
	for i := range st.Exports {
		x := &st.Exports[i]
		for n := range x.Snapshots {
			s := &x.Snapshots[n]
			line := fmt.Sprintf("export %s: %d snapshots, store %s in use, %s free", shown(x.Name), s.Count, units.Bytes(s.Data+s.Meta), units.Bytes(s.Free))
			if b := background(s); b != "" {
				line += ", " + b
			}
			fmt.Fprintln(w, strings.TrimSpace(line))
		}
	}
}
