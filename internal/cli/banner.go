package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/internal/units"
)

// maxBanner bounds the exports that are shown.
const maxBanner = 20

// writeBanner tells what is served, under which URIs, and what to try.
func writeBanner(w io.Writer, st *daemon.Status, addresses []listen.Address) {
	tls := st.TLS != config.TLSOff
	var first string
	for i, x := range st.Exports {
		if i == maxBanner {
			fmt.Fprintf(w, "and %d more; 'strata list' shows them all\n", len(st.Exports)-i)
			break
		}
		notes := ""
		if x.ReadOnly {
			notes = ", read-only"
		}
		fmt.Fprintf(w, "%s, %s%s: %s\n", shown(x.Name), units.Bytes(x.Size), notes, x.Device)
		for _, a := range addresses {
			if uri := a.URI(x.Name, tls); uri != "" {
				fmt.Fprintf(w, "  %s\n", uri)
				if first == "" {
					first = uri
				}
			}
		}
	}
	if first == "" {
		return
	}
	if tls {
		first += map[bool]string{true: "&", false: "?"}[strings.Contains(first, "?")] + "tls-certificates=DIR"
	}
	fmt.Fprintf(w, "\nTry:\n  strata info --map '%s'\n  strata bench '%s'\n  strata copy '%s' copy.img\n", first, first, first)
}
