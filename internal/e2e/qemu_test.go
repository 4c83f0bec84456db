package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
)

// qemuObject is what QEMU's tools need to be told besides the disk.
func (s *server) qemuObject(priority string) []string {
	if s.tls == "" {
		return nil
	}
	return []string{"--object", "tls-creds-x509,id=t,endpoint=client,dir=" + s.tls + ",priority=" + priority}
}

// qemuDisk names an export for QEMU's tools.
func (s *server) qemuDisk(export string) string {
	disk := fmt.Sprintf("driver=nbd,server.type=unix,server.path=%s,export=%s", s.socket, export)
	if s.tls != "" {
		disk += ",tls-creds=t,tls-hostname=localhost"
	}
	return disk
}

// qemu runs one of QEMU's tools with arguments that name disks by options.
func (s *server) qemu(t testing.TB, tool, verb string, args ...string) string {
	t.Helper()
	all := append([]string{verb}, s.qemuObject("NORMAL")...)
	return run(t, tool, append(all, args...)...)
}

func rawFile(path string) string { return "driver=raw,file.driver=file,file.filename=" + path }

func TestQemuImg(t *testing.T) {
	t.Parallel()
	eachServer(t, "24M", func(t *testing.T, s *server, export string) {
		disk := s.qemuDisk(export)
		var info struct {
			Size   int64 `json:"virtual-size"`
			Format string
		}
		if err := json.Unmarshal([]byte(s.qemu(t, "qemu-img", "info", "--output=json", "--image-opts", disk)), &info); err != nil {
			t.Fatal(err)
		}
		if info.Size != 24<<20 {
			t.Errorf("qemu-img info says %+v", info)
		}

		image, back := sparse(t, 24<<20), filepath.Join(t.TempDir(), "back.img")
		s.qemu(t, "qemu-img", "convert", "-n", "--target-image-opts", "-f", "raw", image, disk)
		want(t, s.qemu(t, "qemu-img", "compare", "--image-opts", disk, rawFile(image)), "Images are identical.")
		s.qemu(t, "qemu-img", "convert", "--image-opts", disk, "-O", "raw", back)
		run(t, "cmp", image, back)

		var extents []struct {
			Start, Length int64
			Data, Zero    bool
		}
		if err := json.Unmarshal([]byte(s.qemu(t, "qemu-img", "map", "--output=json", "--image-opts", disk)), &extents); err != nil {
			t.Fatal(err)
		}
		end, holes := int64(0), int64(0)
		for _, e := range extents {
			if e.Start != end {
				t.Fatalf("the map has a gap: %+v", extents)
			}
			if end += e.Length; e.Zero && !e.Data {
				holes += e.Length
			}
		}
		if end != 24<<20 || holes < 16<<20 {
			t.Errorf("the map ends at %d and has %d bytes of holes: %+v", end, holes, extents)
		}
	})
}

func TestQemuIO(t *testing.T) {
	t.Parallel()
	eachServer(t, "24M", func(t *testing.T, s *server, export string) {
		args := append(s.qemuObject("NORMAL"), "--image-opts", "-d", "unmap", s.qemuDisk(export))
		for _, c := range []string{
			"write -P 0x11 0 1M",
			"write -P 0x22 -f 1M 64k", // FUA
			"writev -P 0x33 2M 4k 512 8k",
			"aio_write -P 0x44 3M 2M",
			"aio_write -P 0x55 7M 513",
			"aio_flush",
			"flush",
			"read -P 0x11 0 1M",
			"read -P 0x22 1M 64k",
			"read -P 0x33 2M 12800",
			"read -P 0x44 3M 2M",
			"read -P 0x55 7M 513",
			"read -P 0 5M 2M",
			"write -z 64k 64k",
			"write -z -u 3M 1M",
			"write -z -n -u 128k 64k", // fast, may be refused
			"discard 4M 512k",
			"flush",
			"read -P 0x11 0 64k",
			"read -P 0 64k 64k",
			"read -P 0 3M 1M",
			"read -P 0x44 4608k 512k",
			"length",
			"map",
		} {
			args = append(args, "-c", c)
		}
		out := run(t, "qemu-io", args...)
		if strings.Contains(strings.ToLower(out), "failed") {
			t.Error(out)
		}
		want(t, out, "24 MiB")

		// Behind the end, and what cannot be written.
		refuse(t, "Input/output error", "qemu-io", append(s.qemuObject("NORMAL"), "--image-opts", s.qemuDisk(export), "-c", "read 24M 512")...)
	})
	ro := serve(t, "", "--read-only", `d=mem("1M")`)
	refuse(t, "Permission denied", "qemu-io", "-f", "raw", ro.uri("d"), "-c", "write 0 512")
	run(t, "qemu-io", "-r", "-f", "raw", ro.uri("d"), "-c", "read -P 0 0 1M")
}

// qemu-nbd as a client serves what it gets from this server: what is written
// through it arrives, flushed, and what is written past it is seen through it.
func TestQemuNBDProxy(t *testing.T) {
	t.Parallel()
	eachServer(t, "24M", func(t *testing.T, s *server, export string) {
		args := append([]string{"-t", "-e", "8", "--cache=none", "--discard=unmap", "-k", "SOCKET", "-x", "through"}, s.qemuObject("NORMAL")...)
		socket := peer.Start(t, "qemu-nbd", append(args, "--image-opts", "driver=raw,"+strings.ReplaceAll(","+s.qemuDisk(export), ",", ",file.")[1:])...)
		through := "nbd+unix:///through?socket=" + socket
		image, back := sparse(t, 24<<20), filepath.Join(t.TempDir(), "back.img")
		run(t, "strata", "copy", "--progress", "none", image, through)
		run(t, "strata", "copy", "--progress", "none", s.uri(export), back)
		run(t, "cmp", image, back)
		run(t, "qemu-io", "-f", "raw", through, "-c", "write -P 0x66 5M 64k", "-c", "discard 6M 1M", "-c", "flush")
		run(t, "strata", "copy", "--progress", "none", through, back)
		run(t, "strata", "copy", "--progress", "none", s.uri(export), image)
		run(t, "cmp", image, back)
		run(t, "qemu-io", "-f", "raw", "-r", image, "-c", "read -P 0x66 5M 64k", "-c", "read -P 0 6M 1M")
		want(t, run(t, "nbdinfo", "--map", "--totals", through), "hole,zero")
		refuse(t, "strata", "strata", "info", "nbd+unix:///other?socket="+socket)
	})
}
