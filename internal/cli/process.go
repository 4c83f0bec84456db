package cli

import (
	"context"
	"os"
	"syscall"
)

// A process is what runs until it is told to end.
type process interface {
	// Stop begins to end it, Abort does so without waiting for anything.
	Stop()
	Abort()
	Done() <-chan struct{}
	Wait() error
}

// startProcess starts a process. It obeys signals meanwhile, because a remote disk or
// other nodes may take their time: SIGINT and SIGTERM give up, a second one at once, and
// SIGHUP waits until there is something to reload.
func startProcess[P process](ctx context.Context, e *Env, start func(context.Context) (P, error), reload func(context.Context, P)) (p P, err error) {
	starting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	started := make(chan struct{})
	go func() {
		defer close(started)
		p, err = start(starting)
	}()
	for again := false; ; {
		select {
		case <-started:
			switch {
			case err != nil && starting.Err() != nil:
				err = context.Cause(starting)
			case starting.Err() != nil:
				p.Stop()
			case again && err == nil:
				reload(ctx, p)
			}
			return p, err
		case signal := <-e.Signals:
			switch {
			case signal == syscall.SIGHUP:
				again = true
			case starting.Err() != nil:
				os.Exit(exitFailure)
			default:
				giveUp(errInterrupted)
			}
		}
	}
}

// waitProcess obeys signals until a process has ended.
func waitProcess[P process](ctx context.Context, e *Env, p P, reload func(context.Context, P)) error {
	cancelled, stopping := ctx.Done(), false
	for {
		select {
		case <-p.Done():
			return p.Wait()
		case <-cancelled:
			cancelled = nil
			p.Stop()
		case signal := <-e.Signals:
			switch {
			case signal == syscall.SIGHUP:
				reload(ctx, p)
			case stopping:
				p.Abort()
			default:
				stopping = true
				p.Stop()
			}
		}
	}
}
