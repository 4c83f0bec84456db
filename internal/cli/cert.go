package cli

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/internal/cert"
)

func (e *Env) cert() *cobra.Command {
	var o cert.Options
	var days int
	cmd := &cobra.Command{
		Use:   "cert DIR [flags]",
		Short: "Make certificates for a lab",
		Long: "Makes a certificate authority, a certificate for a server and one for each\n" +
			"client, in the files in which libnbd and QEMU look for them. The server's is\n" +
			"valid for localhost and the given hosts. Guard ca-key.pem: whoever has it can\n" +
			"make more.",
		Example: "  strata cert pki --host nas.example --client vm1\n" +
			"  strata serve --tls required --tls-cert pki/server-cert.pem --tls-key pki/server-key.pem \\\n" +
			"      --tls-client-ca pki/ca-cert.pem disk.img\n" +
			"  strata info 'nbds://localhost/?tls-certificates=pki'",
		GroupID: groupHelp,
		Args:    arguments(1, 1, "one directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 1 || days > 36500 {
				return usagef("--days %d: want 1 to 36500", days)
			}
			o.Valid = time.Duration(days) * 24 * time.Hour
			files, err := cert.Make(args[0], o)
			if err != nil {
				return err
			}
			for _, f := range files {
				fmt.Fprintf(e.Stdout, "%-28s %s\n", filepath.Join(args[0], f.Name), f.Use)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Hosts, "host", nil, "`NAME` or IP address of the server, besides localhost (repeatable)")
	f.StringArrayVar(&o.Clients, "client", nil, "`NAME` of a client (repeatable; default client)")
	f.IntVar(&days, "days", 3650, "how long the certificates are valid")
	f.BoolVar(&o.Force, "force", false, "replace files that exist")
	return cmd
}
