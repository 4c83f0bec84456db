package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// sparse writes a file of some size with data here and there, and returns it.
func sparse(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(size), 1))
	for range 12 {
		p := make([]byte, r.IntN(300_000)+1)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		if _, err := f.WriteAt(p, r.Int64N(size-int64(len(p)))); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// twoKinds are the sources that foreign clients meet: memory and a file.
func twoKinds(t testing.TB, size string) []string {
	t.Helper()
	return []string{
		fmt.Sprintf(`mem=mem(%q)`, size),
		fmt.Sprintf(`file=file(%q, create=True, size=%q)`, filepath.Join(t.TempDir(), "f.img"), size),
	}
}

// eachServer runs a test in clear text and with TLS, on memory and on a file.
func eachServer(t *testing.T, size string, f func(t *testing.T, s *server, export string)) {
	for _, secure := range []bool{false, true} {
		start, word := serve, "plain"
		if secure {
			start, word = serveTLS, "TLS"
		}
		for _, export := range []string{"mem", "file"} {
			t.Run(word+" "+export, func(t *testing.T) {
				t.Parallel()
				f(t, start(t, "", twoKinds(t, size)...), export)
			})
		}
	}
}

type nbdinfo struct {
	Protocol   string
	TLS        bool `json:"TLS"`
	Structured bool `json:"structured"`
	Exports    []struct {
		Name        string   `json:"export-name"`
		Size        int64    `json:"export-size"`
		Contexts    []string `json:"contexts"`
		ReadOnly    bool     `json:"is_read_only"`
		MultiConn   bool     `json:"can_multi_conn"`
		FUA         bool     `json:"can_fua"`
		DF          bool     `json:"can_df"`
		Flush       bool     `json:"can_flush"`
		Trim        bool     `json:"can_trim"`
		Zero        bool     `json:"can_zero"`
		FastZero    bool     `json:"can_fast_zero"`
		Cache       bool     `json:"can_cache"`
		BlockMin    int64    `json:"block_size_minimum"`
		BlockMax    int64    `json:"block_size_maximum"`
		Description string   `json:"description"`
	}
}

func TestNbdinfo(t *testing.T) {
	t.Parallel()
	eachServer(t, "8M", func(t *testing.T, s *server, export string) {
		var info nbdinfo
		if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--json", s.uri(export))), &info); err != nil {
			t.Fatal(err)
		}
		if info.Protocol != "newstyle-fixed" || info.TLS != (s.tls != "") || !info.Structured || len(info.Exports) != 1 {
			t.Fatalf("nbdinfo says %+v", info)
		}
		x := info.Exports[0]
		if x.Size != 8<<20 || x.ReadOnly || !x.MultiConn || !x.FUA || !x.DF || !x.Flush || !x.Trim || !x.Zero ||
			x.BlockMin != 1 || x.BlockMax != 32<<20 || len(x.Contexts) != 1 || x.Contexts[0] != "base:allocation" {
			t.Errorf("nbdinfo says %+v", x)
		}

		var list nbdinfo
		if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--list", "--json", s.uri(""))), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Exports) != 2 || list.Exports[0].Name != "mem" || list.Exports[1].Name != "file" || list.Exports[1].Size != 8<<20 {
			t.Errorf("nbdinfo --list says %+v", list)
		}
		for _, is := range []string{"--can=write", "--can=connect", "--can=multi-conn", "--can=trim", "--can=structured-reply"} {
			run(t, "nbdinfo", is, s.uri(export))
		}
		refuse(t, "No such file or directory for export: nothing", "nbdinfo", s.uri("nothing"))
		if s.tls != "" {
			refuse(t, "TLS", "nbdinfo", "nbd+unix:///"+export+"?socket="+s.socket)
		}
	})
}

// A sparse file goes there and back, and stays sparse.
func TestNbdcopy(t *testing.T) {
	t.Parallel()
	eachServer(t, "24M", func(t *testing.T, s *server, export string) {
		image, back := sparse(t, 24<<20), filepath.Join(t.TempDir(), "back.img")
		run(t, "nbdcopy", "--flush", image, s.uri(export))
		run(t, "nbdcopy", s.uri(export), back)
		run(t, "cmp", image, back)
		if got, of := allocated(t, back), allocated(t, image); got > 2*of {
			t.Errorf("the copy has %d bytes on disk, the original %d", got, of)
		}

		var extents []struct {
			Offset, Length int64
			Type           int
		}
		if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--map", "--json", s.uri(export))), &extents); err != nil {
			t.Fatal(err)
		}
		end, holes := int64(0), int64(0)
		for _, e := range extents {
			if e.Offset != end {
				t.Fatalf("the map has a gap: %+v", extents)
			}
			if end += e.Length; e.Type == 3 {
				holes += e.Length
			}
		}
		if end != 24<<20 || holes < 16<<20 {
			t.Errorf("the map ends at %d and has %d bytes of holes: %+v", end, holes, extents)
		}
		want(t, run(t, "nbdinfo", "--map", "--totals", s.uri(export)), "data", "hole,zero")

		// One connection, one request, and simple reading.
		run(t, "nbdcopy", "--synchronous", "--connections=1", "--no-extents", s.uri(export), back)
		run(t, "cmp", image, back)
	})
}

// allocated is how much storage a file takes.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	var blocks int64
	if _, err := fmt.Sscan(run(t, "stat", "-c", "%b", path), &blocks); err != nil {
		t.Fatal(err)
	}
	return blocks * 512
}

// Commands and flags that the tools do not use, one by one.
func TestNbdsh(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("testdata/corners.py")
	if err != nil {
		t.Fatal(err)
	}
	eachServer(t, "8M", func(t *testing.T, s *server, export string) {
		cmd := command(t, "nbdsh", "-c", "-")
		cmd.Stdin = bytes.NewReader(script)
		// Debian's Python, the one that has the module, comes first.
		cmd.Env = append(cmd.Env, "URI="+s.uri(export), "PATH=/usr/bin:/bin")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "done\n" {
			t.Errorf("%v: %s", err, out)
		}
	})
}
