package e2e

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/internal/peer"
)

// What a person sees who asks for a server that cannot be: one line, which
// names what is wrong.
func TestServerThatCannotStart(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	pki, old := filepath.Join(dir, "pki"), filepath.Join(dir, "old")
	for path, o := range map[string]cert.Options{
		pki: {},
		old: {Now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Valid: 24 * time.Hour},
	} {
		if _, err := cert.Make(path, o); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("odd.img", strings.Repeat("x", 1000))
	write("big.img", strings.Repeat("x", 2000))
	runIn(t, dir, "strata", "copy", "--progress", "none", `pattern("512")`, `cow("odd.img", "d.cow")`)
	write("bad.pem", "garbage\n")
	write("bad.star", "export(\"a\", mem(\"1M\"))\nexport(\"b\", file(\"odd.img\", drect = True))\n")
	write("twice.star", "export(\"a\", mem(\"1M\"))\nexport(\"a\", mem(\"1M\"))\n")
	write("code.star", "export(\"a\", mem(\"1M\")\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	tls := func(cert, key string, more ...string) []string {
		return append([]string{"--tls-cert", cert, "--tls-key", key, `mem("1M")`}, more...)
	}

	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"missing file", []string{"missing.img"}, "open missing.img: no such file or directory"},
		{"directory", []string{"pki"}, "pki is neither a regular file nor a block device: invalid argument"},
		{"length is no multiple", []string{`blocksize("odd.img", min=4096)`},
			`column 1 of 'blocksize("odd.img", min=4096)': blocksize: the device has 1000 bytes, must be a multiple of min 4096: invalid argument`},
		{"direct wants sectors", []string{`file("odd.img", direct=True)`},
			`column 1 of 'file("odd.img", direct=True)': odd.img has 1000 bytes, direct needs a multiple of 512: invalid argument`},
		{"too short", []string{`slice("odd.img", offset=900, length=200)`},
			`column 1 of 'slice("odd.img", offset=900, length=200)': slice: 200 bytes at offset 900 end beyond the 1000 that there are: out of range of the device`},
		{"size of another base", []string{`cow("big.img", "d.cow")`},
			`column 1 of 'cow("big.img", "d.cow")': cow: d.cow: the difference file belongs to another base: this one has 2000 bytes, that one 1000`},
		{"chunk of another file", []string{`cow("odd.img", "d.cow", chunk="8K")`},
			`column 1 of 'cow("odd.img", "d.cow", chunk="8K")': cow: d.cow: chunk is 8192, the difference file has chunks of 4096 bytes: invalid argument`},
		{"no difference file", []string{`cow("odd.img", "big.img")`},
			`column 1 of 'cow("odd.img", "big.img")': cow: big.img: a file of 2000 bytes: not a difference file, it does not begin with "STRATCOW": invalid argument`},
		{"no server there", []string{`nbd("nbd+unix:///x?socket=none")`},
			`column 1 of 'nbd("nbd+unix:///x?socket=none")': nbd+unix:///x?socket=none: connect: no such file or directory`},

		{"port in use", []string{"--listen", "tcp://" + taken.Addr().String(), `mem("1M")`},
			"listen at tcp://" + taken.Addr().String() + ": address already in use"},
		{"address of another machine", []string{"--listen", "tcp://192.0.2.1:10809", `mem("1M")`},
			"listen at tcp://192.0.2.1:10809: cannot assign requested address"},
		{"no directory for the socket", []string{"--listen", "unix:///none/s", `mem("1M")`},
			"listen at unix:///none/s: no such file or directory"},

		{"no certificate", tls("none.pem", "pki/server-key.pem"), "certificate: open none.pem: no such file or directory"},
		{"certificate is a directory", tls("pki", "pki/server-key.pem"), "certificate: read pki: is a directory"},
		{"no PEM", tls("bad.pem", "pki/server-key.pem"),
			"certificate: bad.pem holds no certificate in PEM form"},
		{"key of another certificate", tls("pki/server-cert.pem", "pki/ca-key.pem"),
			"certificate pki/server-cert.pem with key pki/ca-key.pem: tls: private key does not match public key"},
		{"expired", tls("old/server-cert.pem", "old/server-key.pem"),
			"certificate old/server-cert.pem expired on 2020-01-02 00:00:00"},
		{"no CA", tls("pki/server-cert.pem", "pki/server-key.pem", "--tls-client-ca", "none.pem"),
			"CA certificates: open none.pem: no such file or directory"},
		{"CA without certificates", tls("pki/server-cert.pem", "pki/server-key.pem", "--tls-client-ca", "bad.pem"),
			"CA certificates: bad.pem holds no certificate in PEM form"},

		{"unknown argument", []string{"-c", "bad.star"}, `bad.star:2:29: file: unknown argument "drect"; did you mean "direct"?`},
		{"export twice", []string{"-c", "twice.star"}, `twice.star:2:1: export: the name "a" is taken by the export at twice.star:1:1`},
		{"syntax", []string{"-c", "code.star"}, "code.star:2:1: got end of file, want ')'"},
		{"no configuration", []string{"-c", "none.star"}, "open none.star: no such file or directory"},
		{"unknown layer", []string{`conact("odd.img")`}, `column 1 of 'conact("odd.img")': undefined: conact; did you mean "concat"?`},
	} {
		t.Run(test.name, func(t *testing.T) { // one after the other: they lock the same files
			socket := filepath.Join(shortDir(t), "s")
			cmd := command(t, "strata", append([]string{"serve", "--control", "none", "--listen", "unix://" + socket}, test.args...)...)
			cmd.Dir = dir
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			cmd.Run()
			if got, want := stderr.String(), "strata: "+test.want+"\n"; got != want || stdout.Len() > 0 || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("exit code %d, %q, expected %q", cmd.ProcessState.ExitCode(), got, want)
			}
			if _, err := os.Lstat(socket); err == nil {
				t.Error("the socket is left behind")
			}
		})
	}
}

// Nobody but root is kept from files by their modes, so that a file that may
// not be written is one of a file system that may not.
func TestReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=4m")
	path := filepath.Join(dir, "disk.img")
	// Another process makes the file, since of what was open in this one a child
	// that another test forks, or a look at /proc, may hold on to a descriptor, and
	// the file system is busy.
	run(t, "truncate", "--size", "1M", path)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	refuse(t, "strata: open "+path+" for writing: read-only file system\n", "strata",
		"serve", "--control", "none", "--listen", "unix://"+filepath.Join(shortDir(t), "s"), path)
	s := serve(t, "", "--read-only", path)
	want(t, run(t, "nbdinfo", s.uri("")), "is_read_only: true")

	// What only reads needs no more, not even of files in an expression.
	disk := `concat("` + path + `")`
	want(t, run(t, "strata", "info", disk), "1 MiB")
	want(t, run(t, "strata", "bench", "--requests", "10", "--duration", "0", disk), "read")
	run(t, "strata", "copy", "--progress", "none", disk, filepath.Join(t.TempDir(), "copy.img"))
}

// A file system that is full is an error of the one write; what is there stays
// intact, and when there is room again all goes well.
func TestFullFileSystem(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=4m")
	s := serve(t, dir, `d=file("disk.img", create=True, size="16M")`)
	io := func(commands ...string) []string {
		args := []string{"-f", "raw", s.uri("d")}
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		return args
	}
	run(t, "qemu-io", io("write -P 0x11 0 1M", "flush")...)
	refuse(t, "No space left on device", "qemu-io", io("write -P 0x22 8M 8M")...)
	run(t, "qemu-io", io("read -P 0x11 0 1M")...)
	out, err := try(t, "strata", "copy", "--progress", "none", `pattern("16M")`, s.uri("d"))
	if !regexp.MustCompile(`^strata: .*the destination: nbd: WRITE of 1048576 bytes at offset \d+: no space left on device\n$`).MatchString(out) || err == nil {
		t.Errorf("strata copy: %v: %s", err, out)
	}
	run(t, "qemu-io", io("discard 1M 15M", "write -P 0x33 8M 1M", "flush", "read -P 0x33 8M 1M")...)
	run(t, "cmp", "-n", "1048576", "-i", "8388608", filepath.Join(dir, "disk.img"), patternFile(t, 0x33))
}

// patternFile is a file that starts with 9 MiB of one byte.
func patternFile(t testing.TB, b byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pattern")
	if err := os.WriteFile(path, bytes.Repeat([]byte{b}, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file that somebody cuts off gives errors, no zeros and no growth.
func TestFileShrinksWhileServed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte{7}, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "", path, `other=mem("1M")`)
	uri := s.uri("disk.img")
	run(t, "qemu-io", "-f", "raw", uri, "-c", "read -P 7 0 4M")
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	refuse(t, "Input/output error", "qemu-io", "-f", "raw", uri, "-c", "read 3M 64k")
	refuse(t, "Input/output error", "qemu-io", "-f", "raw", uri, "-c", "write 3M 64k")
	refuse(t, "READ of 1048576 bytes at offset 1048576: input/output error\n", "strata", "bench", "--size", "1M", "--sequential", "--depth", "1", "--requests", "4", uri)
	want(t, s.log.String(), "file "+path+" is shorter than when it was opened, 4194304 bytes: input/output error")
	run(t, "qemu-io", "-f", "raw", uri, "-c", "read -P 7 0 1M")
	run(t, "qemu-io", "-f", "raw", s.uri("other"), "-c", "write 0 1M")
	if info, err := os.Stat(path); err != nil || info.Size() != 1<<20 {
		t.Errorf("the file has changed: %v, %v", info, err)
	}
}

// tmpfs mounts a small file system for the test.
func tmpfs(t testing.TB, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		peer.Cannot(t, "mount a tmpfs: %v; it takes root", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
