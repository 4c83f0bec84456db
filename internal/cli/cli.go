// Package cli is the command line of strata: one file for each command.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strata-storage/strata/internal/spell"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// An Env is what commands have of the world around them.
type Env struct {
	Stdin  *os.File
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	// Program is the name of the program as it was typed.
	Program string
	// Version of the program.
	Version string
	// StdoutFile is standard output as a file, for a client on stdio:. Nil
	// if there is none.
	StdoutFile *os.File
	// Signals delivers SIGINT, SIGTERM and SIGHUP to serve. Nil for none.
	Signals <-chan os.Signal
}

// Main runs the program with the arguments and files of the process and
// returns its exit code. An empty version is the one that the Go tools noted.
func Main(version string) int {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	env := &Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, StdoutFile: os.Stdout,
		Getenv: os.Getenv, Program: os.Args[0], Version: cmp.Or(version, builtVersion()), Signals: signals,
	}
	return env.Run(ctx, os.Args[1:])
}

// Run runs one command line and returns the exit code of the process.
func (e *Env) Run(ctx context.Context, args []string) int {
	root := e.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailure
	case errors.As(err, &usage):
		fmt.Fprintf(e.Stderr, "strata: %v\nSee '%s --help'.\n", err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(e.Stderr, "strata: %v\n", err)
	return exitFailure
}

// errSilent makes the exit code a failure of which enough has been said.
var errSilent = errors.New("failed")

// A usageError is about the command line, not about what it asked for.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// root is the command without a name of its own.
func (e *Env) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "strata",
		Short: "Network block storage: disks made of layers",
		Long: "Strata serves disks over NBD, the network block device protocol. A disk is a\n" +
			"file, a remote disk, or any stack of layers over them.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	onlyCommands(cmd)
	cmd.SetIn(e.Stdin)
	cmd.SetOut(e.Stdout)
	cmd.SetErr(e.Stderr)
	cmd.SetFlagErrorFunc(flagError)
	cmd.AddGroup(
		&cobra.Group{ID: groupServe, Title: "Serve:"},
		&cobra.Group{ID: groupCluster, Title: "Clusters:"},
		&cobra.Group{ID: groupUse, Title: "Use disks:"},
		&cobra.Group{ID: groupHelp, Title: "Prepare and learn:"},
	)
	for _, c := range e.commands() {
		cmd.AddCommand(c)
	}
	cmd.SetHelpCommand(helpCommand())
	cmd.SetHelpCommandGroupID(groupHelp)
	cmd.SetCompletionCommandGroupID(groupHelp)
	cmd.InitDefaultCompletionCmd()
	for _, c := range cmd.Commands() {
		if c.Name() == "completion" {
			onlyCommands(c)
		}
	}
	return cmd
}

// onlyCommands makes a command that does nothing but have others print its
// help, and refuse the name of a command that it does not have.
func onlyCommands(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return noCommand(cmd, args[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return cmd.Help() }
}

// noCommand is the usage error of a command that cmd does not have.
func noCommand(cmd *cobra.Command, name string) error {
	of := ""
	if cmd.HasParent() {
		of = " of " + cmd.Name()
	}
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	hint := spell.DidYouMean(name, known)
	if s := cmd.SuggestionsFor(name); hint == "" && len(s) > 0 { // what begins so
		hint = fmt.Sprintf("; did you mean %q?", s[0])
	}
	return usagef("there is no command %q%s%s", name, of, hint)
}

// helpCommand is help, which fails for what it cannot explain.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Args: func(cmd *cobra.Command, args []string) error {
			if c, rest, err := cmd.Root().Find(args); err != nil || len(rest) > 0 {
				return noCommand(c, rest[0])
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			c, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, sub.Name()+"\t"+sub.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// flagError makes an error of reading flags a usage error, which for a flag
// that there is not says which one may be meant.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		// The flags are those of a command that there is not.
		return noCommand(cmd, cmd.Flags().Arg(0))
	}
	var number *strconv.NumError
	switch {
	case !errors.As(err, &number):
	case errors.Is(number.Err, strconv.ErrSyntax):
		return usagef("%s", strings.ReplaceAll(err.Error(), number.Error(), "not a number"))
	case errors.Is(number.Err, strconv.ErrRange):
		return usagef("%s", strings.ReplaceAll(err.Error(), number.Error(), "out of range"))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return &usageError{err}
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, "--"+f.Name)
		}
	})
	return usagef("%w%s", err, spell.DidYouMean("--"+unknown.GetSpecifiedName(), known))
}

const (
	groupServe   = "serve"
	groupCluster = "cluster"
	groupUse     = "use"
	groupHelp    = "help"
)

// args makes an error of the wrong number of arguments a usage error that
// says what is expected.
func arguments(least, most int, expected string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef("%s takes %s, but %s given", cmd.Name(), expected, count(len(args)))
		}
		return nil
	}
}

func count(n int) string {
	switch n {
	case 0:
		return "nothing was"
	case 1:
		return "one argument was"
	}
	return fmt.Sprintf("%d arguments were", n)
}

// builtVersion is that of the module, and the commit if it was built in a
// work tree.
func builtVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	v := cmp.Or(strings.Trim(info.Main.Version, "()"), "devel")
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && !strings.Contains(v, s.Value[:12]) {
			v += "-" + s.Value[:12]
		}
	}
	return v
}
