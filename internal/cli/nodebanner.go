package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/strata-storage/strata/internal/node"
	"github.com/strata-storage/strata/nbd"
)

// demoVolume is the name of the volume to try things out.
const demoVolume = "demo"

// clean removes what is only for trying things out.
func (s *noding) clean() {
	if s.fresh != "" {
		os.RemoveAll(s.fresh)
	}
}

// banner tells what there is, and what to try.
func (s *noding) banner(w io.Writer, n *node.Node) {
	c := &s.o.Cluster
	fmt.Fprintf(w, "node %s of the cluster %s, in %s\n", n.Cluster().ID(), n.Cluster().Cluster(), c.Dir)
	volume := "NAME"
	if s.demo {
		volume = demoVolume
	}
	var first string
	for _, a := range n.Addresses() {
		if uri := a.URI(volume, s.o.TLS != nbd.TLSOff); uri != "" {
			fmt.Fprintf(w, "  volumes are served as %s, snapshots as %s\n", a.URI("NAME", s.o.TLS != nbd.TLSOff), "NAME@SNAPSHOT")
			first = cmp.Or(first, uri)
		}
	}
	fmt.Fprintf(w, "  other nodes join at %s\n\nTry:\n", s.o.Join)
	data := ""
	if c.Dir != s.env.dataDir() {
		data = " --data " + quoted(c.Dir)
	}
	if s.o.Control != filepath.Join(c.Dir, controlName) {
		data = " --control " + quoted(s.o.Control)
	}
	command := s.env.command()
	try := func(format string, args ...any) { fmt.Fprintf(w, "  "+command+" "+format+"\n", args...) }
	if !s.demo {
		try("volume create%s vm1 20G", data)
		try("cluster status%s", data)
		try("cluster token%s", data)
		return
	}
	try("info '%s'", first)
	try("bench '%s'", first)
	try("volume snapshot%s %s monday", data, demoVolume)
	try("copy '%s@monday' copy.img", first)
	try("volume clone%s %s@monday clone", data, demoVolume)
	try("volume tree%s", data)
	try("cluster status%s", data)
	try("cluster token%s", data)
	fmt.Fprintf(w, "A stack of layers, without a cluster:\n")
	try("serve --listen tcp://localhost:10819 'stack=concat(mem(\"64M\"), slice(pattern(\"1G\"), length=\"32M\"))'")
}
