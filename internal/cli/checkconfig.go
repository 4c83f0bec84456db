package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/config"
)

func (e *Env) checkConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Show what a configuration would serve",
		Long: "Evaluates a configuration and shows what it would serve, or the place and the\n" +
			"reason of its error. Nothing is opened.",
		GroupID: groupServe,
		Args:    arguments(1, 1, "one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := e.loader().Load(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if len(cfg.Exports) == 0 {
				return nothingServed(args[0])
			}
			_, err = fmt.Fprint(e.Stdout, cfg.Summary())
			return err
		},
	}
}

// nothingServed is the error of a configuration without exports.
func nothingServed(file string) error {
	return fmt.Errorf("%s: there is no export() in it, so it serves nothing", file)
}

// loader evaluates what the user writes; what it prints goes to standard
// error.
func (e *Env) loader() *config.Loader {
	return &config.Loader{Print: func(pos config.Position, text string) {
		fmt.Fprintf(e.Stderr, "%s: %s\n", pos, text)
	}}
}
