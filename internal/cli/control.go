package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/units"
)

// controlPath is where the control socket is unless the user says otherwise.
func (e *Env) controlPath() string {
	if dir := e.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "strata", "control.sock")
	}
	if uid := os.Getuid(); uid != 0 {
		return filepath.Join(os.TempDir(), "strata-"+strconv.Itoa(uid), "control.sock")
	}
	return "/run/strata/control.sock"
}

// controlCommand is a command that talks to a running server.
func (e *Env) controlCommand(cmd *cobra.Command, run func(context.Context, *daemon.Client) error) *cobra.Command {
	path := controlFlag(cmd)
	cmd.GroupID = groupServe
	cmd.Args = arguments(0, 0, "no arguments")
	cmd.RunE = e.interruptible(func(ctx context.Context, args []string) error {
		err := run(ctx, e.controlClient(*path))
		if *path == "" && isNobody(err) {
			return fmt.Errorf("%w; that of a node of a cluster is in its data directory, as in --control %s", err, filepath.Join(e.dataDir(), controlName))
		}
		return err
	})
	return cmd
}

// controlFlag adds the flag with the path of the control socket.
func controlFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("control", "", "`PATH` of the control socket (default $XDG_RUNTIME_DIR/strata/control.sock, or /run/strata/control.sock)")
}

// controlClient talks to the control socket at path, or at the usual place.
func (e *Env) controlClient(path string) *daemon.Client {
	if path == "" {
		path = e.controlPath()
	}
	return daemon.NewClient(path)
}

func (e *Env) status() *cobra.Command {
	var asJSON bool
	cmd := e.controlCommand(&cobra.Command{
		Use:   "status",
		Short: "Show the exports, connections and counters of the running server",
	}, func(ctx context.Context, c *daemon.Client) error {
		st, err := c.Status(ctx)
		switch {
		case err != nil:
			return err
		case asJSON:
			return writeJSON(e.Stdout, st)
		}
		writeStatus(e.Stdout, st, time.Now())
		return nil
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func writeStatus(w io.Writer, st *daemon.Status, now time.Time) {
	fmt.Fprintf(w, "strata %s, process %d, up %s, TLS %s, %d reloads\n", st.Version, st.PID, ago(now, st.Started), st.TLS, st.Reloads)
	for _, l := range st.Listeners {
		fmt.Fprintf(w, "listening at %s\n", l)
	}
	writeFailedSides(w, st)
	writeStatusOfSnapshots(w, st)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nEXPORT\tSIZE\tCONNECTIONS\tREQUESTS\tERRORS\tREAD\tWRITTEN\tDEVICE")
	for i := range st.Exports {
		x := &st.Exports[i]
		size, device := units.Bytes(x.Size), x.Device
		if device == "" {
			size, device = "-", "(removed; its last connections are ending)"
		}
		if x.ReadOnly {
			device += " read-only"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", shown(x.Name), size, x.Connections, x.Requests, x.Errors,
			units.Bytes(int64(x.BytesRead)), units.Bytes(int64(x.BytesWritten)), device)
	}
	if len(st.Connections) > 0 {
		fmt.Fprintln(t, "\nCONNECTION\tEXPORT\tSINCE\tTLS\tREQUESTS\tERRORS\tREAD\tWRITTEN\tIN FLIGHT")
	}
	for i := range st.Connections {
		c := &st.Connections[i]
		export := shown(c.Export)
		if !c.Ready {
			export = "(negotiating)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%d\n", c.Peer, export, ago(now, c.Since), yesNo(c.TLS), c.Requests, c.Errors,
			units.Bytes(int64(c.BytesRead)), units.Bytes(int64(c.BytesWritten)), c.InFlight)
	}
	t.Flush()
}

// writeFailedSides warns of mirrors that hold fewer copies than they should.
func writeFailedSides(w io.Writer, st *daemon.Status) {
	for i := range st.Exports {
		x := &st.Exports[i]
		for _, m := range x.Mirrors {
			for n, s := range m.Sides {
				if s.Error != "" {
					fmt.Fprintf(w, "export %s: side %d of a mirror, %s, has failed and is not used any more: %s\n", shown(x.Name), n+1, s.Device, s.Error)
				}
			}
		}
	}
}

// shown is an export's name as people see it: quoted if it is empty or holds
// more than plain characters.
func shown(name string) string {
	if q := strconv.Quote(name); name == "" || q != `"`+name+`"` || strings.ContainsAny(name, " \t") {
		return q
	}
	return name
}

func ago(now, then time.Time) string {
	return units.Clock(max(now.Sub(then), 0))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (e *Env) reload() *cobra.Command {
	return e.controlCommand(&cobra.Command{
		Use:   "reload",
		Short: "Make the running server read its configuration again",
		Long: "Makes the running server read its configuration again and apply the\n" +
			"difference: exports that did not change keep their connections. If the new\n" +
			"configuration has an error nothing changes. The signal SIGHUP does the same.",
	}, func(ctx context.Context, c *daemon.Client) error {
		change, err := c.Reload(ctx)
		if err != nil {
			return err
		}
		writeChange(e.Stdout, change)
		return nil
	})
}

func writeChange(w io.Writer, c *daemon.Change) {
	some := false
	for _, l := range []struct {
		what  string
		names []string
	}{
		{"added export", c.Added}, {"changed export", c.Changed}, {"removed export", c.Removed},
		{"opened", c.Opened}, {"closed", c.Closed},
	} {
		for _, name := range l.names {
			if strings.HasSuffix(l.what, "export") {
				name = shown(name)
			}
			fmt.Fprintf(w, "%s %s\n", l.what, name)
			some = true
		}
	}
	if c.Server {
		fmt.Fprintln(w, "new limits or TLS settings for new connections")
		some = true
	}
	if !some {
		fmt.Fprintln(w, "nothing to change")
	}
}

func (e *Env) stop() *cobra.Command {
	return e.controlCommand(&cobra.Command{
		Use:   "stop",
		Short: "End the running server",
		Long: "Ends the running server when it has answered the requests in flight, and waits\n" +
			"for that. The signals SIGTERM and SIGINT do the same.",
	}, func(ctx context.Context, c *daemon.Client) error { return c.Stop(ctx) })
}
