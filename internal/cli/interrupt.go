package cli

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
)

var errInterrupted = errors.New("interrupted")

// interruptible is RunE of a command that a signal cancels; a second one ends
// the process at once.
func (e *Env) interruptible(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithCancelCause(cmd.Context())
		defer cancel(nil)
		go func() {
			for range 2 {
				select {
				case <-e.Signals:
				case <-ctx.Done():
					if !errors.Is(context.Cause(ctx), errInterrupted) {
						return
					}
					<-e.Signals
				}
				if ctx.Err() != nil {
					os.Exit(exitFailure)
				}
				cancel(errInterrupted)
			}
		}()
		err := run(ctx, args)
		if errors.Is(context.Cause(ctx), errInterrupted) {
			return errInterrupted
		}
		return err
	}
}
