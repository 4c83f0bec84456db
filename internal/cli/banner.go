package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/listen"
	"github.com/strata-storage/strata/internal/units"
)

// maxBanner bounds the exports that are shown.
const maxBanner = 20

// command is the program as it was started, so that the commands which are
// shown to people work as they are: with its path if it was given with one.
func (e *Env) command() string {
	switch {
	case !strings.Contains(e.Program, "/"):
		return "strata"
	}
	return quoted(e.Program)
}

// quoted is a word for a shell.
func quoted(word string) string {
	if plainPath.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// plainPath matches what needs no quotes in a shell.
var plainPath = regexp.MustCompile(`^[\w./+,:@%-]+$`)

// writeBanner tells what is served, under which URIs, and what to try with
// the command of that name.
func writeBanner(w io.Writer, command string, st *daemon.Status, addresses []listen.Address) {
	tls := st.TLS != config.TLSOff
	var first string
	for i, x := range st.Exports {
		if i == maxBanner {
			fmt.Fprintf(w, "and %d more; '%s list' shows them all\n", len(st.Exports)-i, command)
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
	fmt.Fprintf(w, "\nTry:\n  %[1]s info --map '%[2]s'\n  %[1]s bench '%[2]s'\n  %[1]s copy '%[2]s' copy.img\n", command, first)
}
