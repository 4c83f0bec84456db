package cli

import (
	"os"

	"github.com/spf13/cobra"
)

//go:generate go run ./gen ../..

// Tree is the tree of commands, for what is generated from it: reference
// pages, manual pages and completions. Its commands must not be run.
func Tree() *cobra.Command {
	env := &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: func(string) string { return "" }}
	root := env.root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}
