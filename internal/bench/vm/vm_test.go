package vm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
)

func TestRowsAreRead(t *testing.T) {
	t.Parallel()
	want := Row{Site: InRAM, Kind: Create, Snapshots: 1, Over: map[string]float64{"a": 1.5}, Ended: map[string]float64{"a": 2}}
	got, ok, err := parseRow(want.line())
	if err != nil || !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	if _, ok, err := parseRow("[ 1.0] something of the kernel"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if _, ok, err := parseRow(rowMark + "{"); !ok || err == nil {
		t.Errorf("a row that is cut off: %v, %v", ok, err)
	}
}

// Rows that came before something went wrong are kept.
func TestListen(t *testing.T) {
	t.Parallel()
	row := Row{Site: InRAM, Kind: Reads}.line()
	for _, tt := range []struct{ said, want string }{
		{row + "\r\n\r\nkernel\r\n" + doneMark + "\r\n", ""},
		{row + "\n" + failedMark + "module brd: no\n", "in the guest: module brd: no"},
		{row + "\nKernel panic\n", `the guest has ended before it was done, after "Kernel panic"`},
		{row + "\n" + rowMark + "[]\n", "the guest says"},
	} {
		rows, err := Options{Progress: func(string) {}}.listen(bufio.NewScanner(strings.NewReader(tt.said)))
		if len(rows) != 1 || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %d rows, %v, expected %q", tt.said, len(rows), err, tt.want)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	if used, meta, err := snapshotUse([]string{"48/16384", "16"}); used != 48 || meta != 16 || err != nil {
		t.Errorf("%d, %d, %v", used, meta, err)
	}
	for _, bad := range [][]string{{"Invalid"}, nil, {"x/1", "2"}, {"1/1", "y"}} {
		if _, _, err := snapshotUse(bad); err == nil {
			t.Errorf("%q is no use of space", bad)
		}
	}
	if n, err := poolUse(strings.Fields("1 173/8192 1024/3328 - rw discard_passdown queue_if_no_space - 1024")); n != 1024 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range [][]string{{"Fail"}, nil, {"0", "1/2", "?/3"}} {
		if _, err := poolUse(bad); err == nil {
			t.Errorf("%q is no use of a pool", bad)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	p := dmTable(2048, "linear", "/dev/ram0 0")
	if len(p)%8 != 0 || binary.NativeEndian.Uint64(p[8:]) != 2048 || int(binary.NativeEndian.Uint32(p[20:])) != len(p) ||
		!bytes.HasPrefix(p[24:], []byte("linear\x00")) || !bytes.HasPrefix(p[dmSpec:], []byte("/dev/ram0 0\x00")) {
		t.Errorf("%q", p)
	}
	if _, err := dmRequest(strings.Repeat("x", dmNameSize), 0, nil); err == nil {
		t.Error("a name without an end is sent")
	}
	if _, err := dmRequest("x", 0, make([]byte, dmBuffer)); err == nil {
		t.Error("more is sent than the buffer holds")
	}
	if p, err := dmRequest("x", 3, []byte("data")); err != nil || len(p) != dmBuffer || binary.NativeEndian.Uint32(p[dmFlags:]) != 3 ||
		string(p[dmHeader:dmHeader+4]) != "data" {
		t.Errorf("%v", err)
	}
}

// cpio can read what is packed.
func TestArchive(t *testing.T) {
	t.Parallel()
	peer.Need(t, "cpio")
	var b bytes.Buffer
	a := newArchive(&b)
	a.file("init", []byte("12345"))
	a.file("lib/x/y.so", nil)
	a.file("lib/x/y.so", []byte("twice"))
	a.file("lib/z", []byte("1234"))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "cpio", "-i", "--quiet")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{"init": "12345", "lib/x/y.so": "", "lib/z": "1234"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, expected %q", name, got, err, want)
		}
	}
	a = newArchive(&b)
	a.copy("x", filepath.Join(dir, "nothing"))
	if a.close() == nil {
		t.Error("a file that is not there is packed")
	}
}

// What is missing is named, before anything is done.
func TestMissing(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Options{Kernel: t.TempDir(), Dir: t.TempDir()})
	if !errors.Is(err, ErrMissing) {
		t.Errorf("%v, expected %v", err, ErrMissing)
	}
}

// The client makes the requests that it is told to, of a file in place of a
// block device.
func TestClient(t *testing.T) {
	t.Parallel()
	g := &guest{plan: Plan{MiB: 1}}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := on(path, func(c *client) error {
		order := g.order(1)[:g.firstChunks()]
		for _, every := range []int{0, 3} {
			if _, err := c.writes(order, every); err != nil {
				return err
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, n := range order {
			if from := got[n*chunk:]; !bytes.Equal(from[:chunk], c.data[i%inFlight*chunk:][:chunk]) && !bytes.Equal(from[:chunk], c.data[i%3*chunk:][:chunk]) {
				t.Errorf("chunk %d was not written", n)
			}
		}
		if err := c.fill(g.size()); err != nil {
			return err
		}
		rate, err := c.random(false, g.size()/chunk, 1)
		if rate < 0 {
			t.Errorf("%v reads a second", rate)
		}
		return err
	})
	if errors.Is(err, os.ErrInvalid) || err != nil && strings.Contains(err.Error(), "invalid argument") {
		peer.Cannot(t, "this file system has no O_DIRECT")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	if median(nil) != 0 || median([]float64{3, 1, 2}) != 2 || median([]float64{1, 4, 2, 3}) != 2.5 {
		t.Error("not in the middle")
	}
}

// The raw devices suffice for every family, and modules come after what they
// need.
func TestPlan(t *testing.T) {
	t.Parallel()
	for _, f := range families() {
		n := 0
		for _, c := range slices.Concat(f.raw, f.contenders) {
			n += c.devices
		}
		if n > rawDevices || n > len(devices(OnDisk)) {
			t.Errorf("%d devices are wanted, there are %d", n, rawDevices)
		}
	}
	all := modules()
	if slices.Index(all, "dm-mod") > slices.Index(all, "dm-thin-pool") || slices.Index(all, "dm-persistent-data") > slices.Index(all, "dm-thin-pool") {
		t.Errorf("%q", all)
	}
}
