package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/internal/peer"
)

// What "strata info --json" prints.
type diskInfo struct {
	Size   int64
	Remote struct {
		Name, Description, Protocol, Replies, TLS string
		Flags                                     []string
	}
	ReadOnly       bool     `json:"read_only"`
	MinBlock       int      `json:"min_block"`
	PreferredBlock int      `json:"preferred_block"`
	MaxBlock       int      `json:"max_block"`
	Contexts       []string `json:"contexts"`
	Totals         []struct {
		Type  string
		Bytes int64
	}
}

func infoOf(t testing.TB, uri string) (d diskInfo) {
	t.Helper()
	if err := json.Unmarshal([]byte(run(t, "strata", "info", "--json", "--map", uri)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Every server tells what it has, takes a copy and gives it back, and stands
// a load that is verified.
func TestForeignServers(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	for _, test := range []struct {
		name    string
		program string
		args    []string // FILE is a raw image, QCOW2 one of QEMU's
		export  string
		replies string
		sparse  bool // it tells where the holes are
	}{
		{"nbdkit memory", "nbdkit", []string{"-f", "-U", "SOCKET", "memory", "24M"}, "", "structured", true},
		{"nbdkit file", "nbdkit", []string{"-f", "-U", "SOCKET", "file", "FILE"}, "", "structured", true},
		{"nbdkit without structured replies", "nbdkit", []string{"-f", "-U", "SOCKET", "--no-sr", "memory", "24M"}, "", "simple", false},
		{"nbdkit with block sizes", "nbdkit", []string{"-f", "-U", "SOCKET", "--filter=blocksize-policy", "memory", "24M",
			"blocksize-minimum=4096", "blocksize-preferred=65536", "blocksize-maximum=131072", "blocksize-error-policy=error"}, "", "structured", true},
		{"qemu-nbd raw", "qemu-nbd", []string{"-f", "raw", "-t", "-e", "8", "-x", "disk", "-D", "a raw disk", "-k", "SOCKET", "FILE"}, "disk", "structured", true},
		{"qemu-nbd qcow2", "qemu-nbd", []string{"-f", "qcow2", "-t", "-e", "8", "-A", "-x", "disk", "-k", "SOCKET", "QCOW2"}, "disk", "structured", true},
		{"nbd-server", "nbd-server", nil, "vm", "simple", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			peer.Need(t, test.program, "qemu-img")
			dir := t.TempDir()
			raw, qcow := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
			run(t, "qemu-img", "create", "-q", "-f", "raw", raw, "24M")
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", qcow, "24M")
			var socket string
			if test.program == "nbd-server" {
				socket = peer.StartNBDServer(t, raw)
			} else {
				for i, arg := range test.args {
					test.args[i] = strings.NewReplacer("FILE", raw, "QCOW2", qcow).Replace(arg)
				}
				socket = peer.Start(t, test.program, test.args...)
			}
			uri := "nbd+unix:///" + test.export + "?socket=" + socket

			image, back := sparse(t, size), filepath.Join(dir, "back")
			run(t, "strata", "copy", "--verify", image, uri)
			run(t, "strata", "copy", uri, back)
			if !bytes.Equal(readFile(t, image), readFile(t, back)) {
				t.Error("the copy is not correct")
			}
			d := infoOf(t, uri)
			if d.Size != size || d.ReadOnly || d.Remote.Replies != test.replies || d.Remote.Name != test.export {
				t.Errorf("strata info says %+v", d)
			}
			holes := int64(0)
			for _, total := range d.Totals {
				if total.Type == "hole,zero" {
					holes += total.Bytes
				}
			}
			if (holes > size/2) != test.sparse {
				t.Errorf("strata info says %d bytes are holes", holes)
			}
			want(t, run(t, "strata", "bench", "--reads", "50", "--overwrite", "--verify", "--size", "8k", "--connections", "2",
				"--requests", "2000", "--duration", "0", uri), "read", "write")
		})
	}
}

// What particular servers have to say about their disks.
func TestForeignDetails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	qcow := filepath.Join(dir, "qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", qcow, "8M")
	run(t, "qemu-img", "bitmap", "--add", qcow, "b0")
	socket := peer.Start(t, "qemu-nbd", "-f", "qcow2", "-t", "-x", "disk", "-D", "the first disk", "-A", "-B", "b0", "-k", "SOCKET", qcow)
	uri := "nbd+unix:///disk?socket=" + socket
	if d := infoOf(t, uri); d.Remote.Description != "the first disk" {
		t.Errorf("strata info says %+v", d)
	}
	list := run(t, "strata", "list", "--json", "nbd+unix:///?socket="+socket)
	want(t, list, `"disk"`, "the first disk", "qemu:dirty-bitmap:b0", "qemu:allocation-depth")
	refuse(t, "nothing", "strata", "info", "nbd+unix:///nothing?socket="+socket)

	socket = peer.Start(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=blocksize-policy", "memory", "8M",
		"blocksize-minimum=512", "blocksize-preferred=8192", "blocksize-maximum=65536")
	if d := infoOf(t, "nbd+unix:///?socket="+socket); d.MinBlock != 512 || d.PreferredBlock != 8192 || d.Size != 8<<20 {
		t.Errorf("strata info says %+v", d)
	}

	socket = peer.Start(t, "nbdkit", "-f", "-r", "-U", "SOCKET", "pattern", "8M")
	uri = "nbd+unix:///?socket=" + socket
	if d := infoOf(t, uri); !d.ReadOnly {
		t.Errorf("strata info says %+v", d)
	}
	// The patterns are those of ours.
	run(t, "strata", "copy", uri, filepath.Join(dir, "theirs"))
	run(t, "strata", "copy", `pattern("8M")`, filepath.Join(dir, "ours"))
	run(t, "cmp", filepath.Join(dir, "theirs"), filepath.Join(dir, "ours"))
	refuse(t, "strata: the destination: read-only file system\n", "strata", "copy", "--progress", "none", filepath.Join(dir, "ours"), uri)

	socket = peer.Start(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=error", "memory", "8M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
	refuse(t, "no space left on device", "strata", "copy", "--progress", "none", filepath.Join(dir, "ours"), "nbd+unix:///?socket="+socket)
}

// Stacks over foreign disks: a remote disk, and a program as a child.
func TestForeignInStacks(t *testing.T) {
	t.Parallel()
	pki := certificates(t, cert.Options{})
	socket := peer.Start(t, "nbdkit", "-f", "-U", "SOCKET", "--tls=require", "--tls-verify-peer", "--tls-certificates="+pki, "memory", "4M")
	remote := "nbds+unix:///?socket=" + socket + "&tls-certificates=" + pki + "&tls-hostname=localhost"
	s := serve(t, t.TempDir(), fmt.Sprintf(`vm=concat(nbd(%q), exec("nbdkit", "-s", "pattern", "4M"))`, remote))
	run(t, "qemu-io", "-f", "raw", "-r", s.uri("vm"), "-c", "read -P 0 0 4M")
	back := filepath.Join(t.TempDir(), "back")
	run(t, "nbdcopy", s.uri("vm"), back)
	ours := filepath.Join(t.TempDir(), "ours")
	run(t, "strata", "copy", `concat(mem("4M"), pattern("4M"))`, ours)
	run(t, "cmp", back, ours)
	refuse(t, "TLS", "strata", "info", "nbd+unix:///?socket="+socket)

	// A disk with errors, and a layer that does not mind.
	socket = peer.Start(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=error", "memory", "8M", "error=EIO", "error-rate=20%")
	image := sparse(t, 8<<20)
	stack := fmt.Sprintf(`retry(nbd("nbd+unix:///?socket=%s"), retries=50, delay="1ms", max_delay="2ms", flush=True)`, socket)
	run(t, "strata", "copy", "--verify", image, stack)
	run(t, "strata", "copy", stack, back)
	run(t, "cmp", image, back)
}
