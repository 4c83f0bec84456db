package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strata-storage/strata/internal/control"
	"github.com/strata-storage/strata/internal/node"
)

// dataDir is the data directory unless the user says otherwise.
func (e *Env) dataDir() string {
	if dir := e.Getenv("STRATA_DATA"); dir != "" {
		return dir
	}
	if os.Getuid() == 0 {
		return "/var/lib/strata"
	}
	if dir := e.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "strata")
	}
	return filepath.Join(e.Getenv("HOME"), ".local", "state", "strata")
}

// controlName is the name of the control socket in the data directory.
const controlName = "control.sock"

// dataDefault says in the help of flags which data directory it is without them.
const dataDefault = "default $STRATA_DATA, /var/lib/strata for root, else ~/.local/state/strata"

// onNode is a command that asks the node on this machine.
func (e *Env) onNode(cmd *cobra.Command, args cobra.PositionalArgs, run func(context.Context, *node.Client, []string) error) *cobra.Command {
	data := cmd.Flags().String("data", "", "`DIR` of the node on this machine that is asked ("+dataDefault+")")
	path := cmd.Flags().String("control", "", "`PATH` of its control socket (default control.sock in the data directory)")
	cmd.Args = args
	cmd.RunE = e.interruptible(func(ctx context.Context, args []string) error {
		c := e.nodeClient(*data, *path)
		return e.explain(run(ctx, c, args))
	})
	return cmd
}

// nodeClient talks to the node with that data directory or control socket.
func (e *Env) nodeClient(data, path string) *node.Client {
	switch {
	case path != "":
	case data != "":
		path = filepath.Join(data, controlName)
	default:
		path = filepath.Join(e.dataDir(), controlName)
	}
	return node.NewClient(path)
}

// jsonFlag adds the flag to print JSON.
func jsonFlag(cmd *cobra.Command) *bool { return cmd.Flags().Bool("json", false, "print JSON") }

// onNodeShown is onNode for a command that shows what it gets: with --json as it is, else
// as show writes it.
func onNodeShown[T any](e *Env, cmd *cobra.Command, args cobra.PositionalArgs,
	get func(context.Context, *node.Client, []string) (T, error), show func(io.Writer, T, time.Time)) *cobra.Command {
	var asJSON *bool
	cmd = e.onNode(cmd, args, func(ctx context.Context, c *node.Client, args []string) error {
		v, err := get(ctx, c, args)
		switch {
		case err != nil:
			return err
		case *asJSON:
			return writeJSON(e.Stdout, v)
		}
		show(e.Stdout, v, time.Now())
		return nil
	})
	asJSON = jsonFlag(cmd)
	return cmd
}

// yesFlag adds the flag not to ask.
func yesFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("yes", "y", false, "do it without asking, as where nobody is at a terminal")
}

var errNotDone = errors.New("nothing was done")

// onTerminal reports whether somebody can be asked.
func (e *Env) onTerminal() bool { return e.Stdin != nil && term.IsTerminal(int(e.Stdin.Fd())) }

// confirm says what is about to be done, and asks on a terminal whether it should be.
func (e *Env) confirm(yes bool, text string) error {
	if yes || !e.onTerminal() {
		return nil
	}
	if text != "" {
		text += "\n"
	}
	fmt.Fprintf(e.Stderr, "%sGo on? [y/N] ", text)
	answer, _ := bufio.NewReader(e.Stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errNotDone
	}
	return nil
}

// age says for how long something has been there.
func age(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	for _, u := range []struct {
		one  time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d >= 2*u.one || u.name != "d" && d >= u.one {
			return fmt.Sprintf("%d %s", d/u.one, u.name)
		}
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// isNobody reports whether no node is there.
func isNobody(err error) bool {
	var nobody *control.NobodyError
	return errors.As(err, &nobody)
}

// explain adds to an error that no node is there what can be done.
func (e *Env) explain(err error) error {
	if isNobody(err) {
		return fmt.Errorf("%w: is one running on this machine? 'strata node' starts one, and --data DIR or $STRATA_DATA says where it is", err)
	}
	return err
}
