package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// fio writes at random, with flushes and trims in between, and finds what it
// has written.
func TestFioVerify(t *testing.T) {
	t.Parallel()
	s := serve(t, "", twoKinds(t, "16M")...)
	for _, export := range []string{"mem", "file"} {
		t.Run(export, func(t *testing.T) {
			t.Parallel()
			run(t, "fio", "--ioengine=nbd", "--uri="+s.uri(export), "--thread", "--name=v", "--output-format=terse",
				"--rw=randwrite", "--bsrange=512-64k", "--blockalign=512", "--size=16M", "--io_size=12M", "--iodepth=16",
				"--fsync=64", "--randseed=7", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--verify_backlog=256")
			run(t, "fio", "--ioengine=nbd", "--uri="+s.uri(export), "--thread", "--name=t", "--output-format=terse",
				"--rw=randtrimwrite", "--bs=4k", "--size=16M", "--io_size=4M", "--iodepth=8")
		})
	}
}

// nbd-client asks over TCP what there is.
func TestNBDClientLists(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--listen", "tcp://127.0.0.1:0", `one=mem("1M")`, `two=mem("2M")`)
	want(t, run(t, "nbd-client", "-l", "127.0.0.1", s.port), "one\n", "two\n")
}

// A proxy passes everything on: requests come to this server as nbdkit makes
// them.
func TestNbdkitProxy(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, "", twoKinds(t, "24M")...)
	image, back := sparse(t, 24<<20), filepath.Join(t.TempDir(), "back.img")
	cmd := command(t, "nbdkit", "-U", "-", "nbd", "hostname=localhost", "port="+s.port, "export=file",
		"tls=require", "tls-certificates="+s.tls, "tls-verify=true",
		"--run", `nbdinfo --can=fua "$uri" && nbdcopy --flush "$IMAGE" "$uri" && nbdcopy "$uri" "$BACK" && nbdinfo --map "$uri"`)
	cmd.Env = append(os.Environ(), "IMAGE="+image, "BACK="+back)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run(t, "cmp", image, back)
}
