package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseFio(t *testing.T) {
	t.Parallel()
	const good = `note: both iodepth >= 1 and synchronous I/O engine are selected
{"jobs":[{"error":0,"usr_cpu":12.5,"sys_cpu":50,"read":{"iops":0,"total_ios":0},"write":{"iops":1000.5,"total_ios":2001,
"clat_ns":{"percentile":{"50.000000":1000,"99.000000":5000}}}}]}`
	f, total, err := parseFio([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if want := (figure{iops: 1000.5, p50: 1000, p99: 5000, busy: 0.625}); f != want || total != 2001 {
		t.Errorf("%+v of %d requests", f, total)
	}
	for _, bad := range []string{"", "no", "{", `{"jobs":[]}`, `{"jobs":[{"error":5}]}`} {
		if _, _, err := parseFio([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestParseGenerator(t *testing.T) {
	t.Parallel()
	f, total, elapsed, err := parseGenerator([]byte(`{"elapsed_ns":1,"write":{"requests":7,"requests_per_second":3.5,"latency_ns":{"p50":10,"p99":20}}}`))
	if err != nil || total != 7 || elapsed != 1 || f != (figure{iops: 3.5, p50: 10, p99: 20}) {
		t.Errorf("%+v of %d requests: %v", f, total, err)
	}
	for _, bad := range []string{"", "{}", `{"read":{"requests":0}}`, `{"read":{"requests":5}}`} {
		if _, _, _, err := parseGenerator([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	all := []figure{{iops: 3, p50: 1, p99: 9, cpu: 4, peak: 1, busy: 0.5}, {iops: 1, p50: 3, p99: 7, cpu: 6, peak: 5}, {iops: 2, p50: 2, p99: 8, cpu: 5, peak: 3, busy: 0.75}}
	if got := median(all); got != (figure{iops: 2, p50: 2, p99: 8, cpu: 5, peak: 3, busy: 0.5}) {
		t.Errorf("%+v", got)
	}
	if got := median(all[:2]); got.iops != 2 || got.p50 != 2 {
		t.Errorf("%+v", got)
	}
}

// Each ratio is to the peer that is best in that respect, and never to the
// limit.
func TestRatios(t *testing.T) {
	t.Parallel()
	r := row{load{"randread", 4096, 1, 1}, map[string]figure{
		ours:      {iops: 300, p99: 10, cpu: 4},
		"a":       {iops: 200, p99: 40, cpu: 8},
		"b":       {iops: 100, p99: 20, cpu: 16},
		limitName: {iops: 900, p99: 1, cpu: 1},
	}}
	if got, want := r.ratios(), (ratios{peer: "a", value: 1.5, throughput: "1.50", p99: "0.50", cpu: "0.50"}); got != want {
		t.Errorf("%+v", got)
	}
	delete(r.figures, "a")
	delete(r.figures, "b")
	if got := r.ratios(); got.peer != "none" {
		t.Errorf("%+v", got)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newReport(options{rounds: 3, seconds: 1, size: 256, where: "in memory (tmpfs)"})
	g := groups()[0]
	figures := map[string][]figure{ours: {{iops: 3000, p99: 10, cpu: 4, busy: 0.96}}, "nbdkit": {{iops: 2000, p99: 20, cpu: 8}}}
	section := r.section(g)
	for _, ld := range g.loads {
		section.add(ld, figures)
	}
	r.copySection().add(copyCases[0], map[string][]copyTime{ours: {{took: time.Second}}, "nbdcopy": {{took: 2 * time.Second}}, "qemu-img": {{took: 3 * time.Second}}})
	r.idle = &idle{alone: 14e6, perConn: 9 << 10, conns: 10}
	r.layers = []passCost{{"slice", 5, 6, 0}}
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 4 KiB random read, depth 1 | **1.50** | 0.50 | 0.50 | 3.0 k/s |",
		"| file to server | **2.00** | 1.000 | 2.000 | 3.000 |",
		"| Copy | ≥ 1.20x | **1 of 1** | 2.00x | file to server | - |",
		"| Server CPU per request, all others | ≤ 0.90x | **9 of 9** | 0.50x |",
		"| Throughput, 4 KiB reads at depth 1 | ≥ 1.40x | **1 of 1** | 1.50x |",
		"| Throughput, 4 KiB reads at depth 16 and more | ≥ 1.60x | 0 of 4 | 1.50x | Memory, Unix socket: 4 KiB random read, depth 16 | client 96 % busy: 1.56x if it never waited |",
		"| Throughput, all over TLS | ≥ 1.50x | not measured |",
		"| slice | 5 ns | 6 ns | 0 |",
		"| A layer that passes a request through | ≤ 50 ns | **1 of 1** | 6 ns | slice | - |",
		"14.0 MB resident. Each of 10 connections that have made a request and wait adds 9.0 KiB",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if picture, err := os.ReadFile(filepath.Join(dir, "benchmarks.svg")); err != nil || !strings.Contains(string(picture), "<svg") {
		t.Errorf("no picture: %v", err)
	}
}

// Our own usage can be told from /proc.
func TestGroupUsage(t *testing.T) {
	t.Parallel()
	if _, err := groupUsage(1 << 30); err == nil {
		t.Error("a group that does not exist has usage")
	}
	if n, err := resident(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("%d bytes resident: %v", n, err)
	}
}
