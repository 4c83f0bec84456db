package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/lock"
)

func (e *Env) lockServer() *cobra.Command {
	var address string
	var o lock.ServerOptions
	cmd := &cobra.Command{
		Use:   "lock-server",
		Short: "Grant the locks of servers that share a disk",
		Long: "Grants locks at tcp://HOST:PORT/NAME to the servers of snapshots(..., lock=...) that\n" +
			"share origin and store. A server that is not heard of loses its lock after the\n" +
			"lease. FILE keeps what must survive a restart; without it a restart waits for\n" +
			"nothing and is safe only when no server holds a lock. Everyone who reaches the\n" +
			"address can take locks: the protocol has no protection of its own.",
		Example: "  strata lock-server --listen 10.0.0.1:10810 --state /var/lib/strata/locks",
		GroupID: groupServe,
		Args:    arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Log = slog.New(slog.NewTextHandler(e.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			return e.serveLocks(cmd.Context(), address, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&address, "listen", "localhost:10810", "`ADDRESS` to listen at, HOST:PORT")
	f.StringVar(&o.State, "state", "", "`FILE` with the state, made if it is missing")
	f.DurationVar(&o.Lease, "lease", lock.DefaultLease, "how long a server that is not heard of keeps a lock")
	return cmd
}

// serveLocks grants locks until a signal ends it. SIGHUP is none of those.
func (e *Env) serveLocks(ctx context.Context, address string, o lock.ServerOptions) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	s, err := lock.NewServer(o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Fprintf(e.Stdout, "locks at tcp://%s/NAME, lease %s\n", l.Addr(), o.Lease.Round(time.Millisecond))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	for {
		select {
		case err := <-ended:
			return errors.Join(err, s.Close())
		case <-ctx.Done():
		case signal := <-e.Signals:
			if signal == syscall.SIGHUP {
				continue
			}
		}
		err := s.Close()
		<-ended
		return err
	}
}
