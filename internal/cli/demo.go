package cli

import (
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/listen"
)

func (e *Env) demo() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve a disk of 1 GiB in memory, to try things out",
		Long: "Serves a disk of 1 GiB in memory on localhost and on a Unix socket, and prints\n" +
			"what to try. Ctrl-C ends it, and the disk is gone.",
		GroupID: groupServe,
		Args:    arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := os.MkdirTemp("", "strata-demo-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			socket := listen.Address{Kind: listen.Unix, Path: filepath.Join(dir, "demo.sock"), Mode: 0o600}
			s := &serving{
				env: e, args: []string{`demo=mem("1G")`}, listen: []string{address, socket.String()},
				tls: config.TLS{Mode: config.TLSOff}, grace: 5 * time.Second, logFormat: "text",
			}
			return s.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&address, "listen", listen.Default.String(), "`ADDRESS` to listen at besides the Unix socket")
	return cmd
}
