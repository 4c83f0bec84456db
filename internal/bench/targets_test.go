package main

import (
	"slices"
	"testing"

	"github.com/strata-storage/strata/source"
)

// made is a row with made-up figures: a peer of 100 000 requests a second.
func made(us, limit figure) row {
	return row{load{"randread", 4096, 16, 1}, map[string]figure{
		ours: us, "peer": {iops: 100e3, p99: 400e3, cpu: 10e3, busy: 0.9}, limitName: limit,
	}}
}

func TestThroughputBounds(t *testing.T) {
	t.Parallel()
	overFio, overOurs := group{transport: overUnix}, group{transport: overTLS}
	for _, tt := range []struct {
		what  string
		g     group
		us    figure
		limit figure
		want  []string
	}{
		{"nothing is used up", overFio, figure{iops: 100e3, cpu: 8e3, sys: 6e3, busy: 0.5}, figure{iops: 300e3, cpu: 2e3},
			[]string{"processors: client 25 %, server's system calls 30 %, the rest of it 10 %, idle 35 %"}},
		{"the server's thread is used up", overFio, figure{iops: 120e3, cpu: 8e3, sys: 6e3, busy: 0.5}, figure{iops: 300e3, cpu: 2e3},
			[]string{"server's thread 96 % busy: 1.67x if it made system calls only"}},
		{"its system calls take too long", overFio, figure{iops: 100e3, cpu: 8e3, sys: 8e3, busy: 0.5}, figure{iops: 300e3, cpu: 2e3},
			[]string{"server's thread 80 % busy: 1.25x if it made system calls only"}},
		{"no limit, no client", overFio, figure{iops: 120e3}, figure{}, nil},
		{"the client never waits", overFio, figure{iops: 130e3, cpu: 8e3, busy: 0.975}, figure{iops: 300e3, cpu: 2e3},
			[]string{"client 98 % busy: 1.33x if it never waited"}},
		{"its time would not suffice", overFio, figure{iops: 120e3, cpu: 8e3, busy: 0.8}, figure{iops: 300e3, cpu: 2e3},
			[]string{"client 80 % busy: 1.50x if it never waited"}},
		{"a client of many threads", overOurs, figure{iops: 120e3, cpu: 5e3, busy: 0.8}, figure{iops: 300e3, cpu: 2e3},
			[]string{"processors: client 40 %, server's system calls 0 %, the rest of it 30 %, idle 30 %"}},
		{"the peer is faster with the same client", overFio, figure{iops: 50e3, cpu: 8e3, busy: 0.99}, figure{iops: 300e3, cpu: 2e3},
			[]string{"client 99 % busy: 1.11x if it never waited"}},
		{"the echo is hardly faster", overFio, figure{iops: 120e3, cpu: 8e3, busy: 0.5}, figure{iops: 130e3, cpu: 2e3},
			[]string{"92 % of the bare echo's throughput"}},
		{"the echo is slower, so no limit", overFio, figure{iops: 120e3, cpu: 8e3, busy: 0.5}, figure{iops: 80e3, cpu: 2e3},
			[]string{"processors: client 25 %, server's system calls 0 %, the rest of it 48 %, idle 27 %"}},
		{"two processors are full", overOurs, figure{iops: 120e3, cpu: 8e3, busy: 1.2}, figure{iops: 300e3, cpu: 6e3},
			[]string{"client and bare echo alone fill 2 processors at 1.33x"}},
	} {
		if got := throughputBounds(made(tt.us, tt.limit), tt.g, 1.6, 2); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

func TestOtherBounds(t *testing.T) {
	t.Parallel()
	overFio := group{transport: overUnix}
	us := figure{iops: 120e3, p99: 300e3, cpu: 8e3, busy: 0.5}
	r := made(us, figure{iops: 300e3, p99: 240e3, cpu: 7e3})
	if got := p99Bounds(r, overFio, 0.5, 2); !slices.Equal(got, []string{"bare echo has 0.60x"}) {
		t.Errorf("%q", got)
	}
	if got := cpuBounds(r, 0.55); !slices.Equal(got, []string{"bare echo costs 0.70x"}) {
		t.Errorf("%q", got)
	}
	r = made(figure{iops: 120e3, cpu: 8e3, sys: 6500}, figure{cpu: 2e3})
	if got := cpuBounds(r, 0.6); !slices.Equal(got, []string{"0.65x in system calls alone"}) {
		t.Errorf("%q", got)
	}
	c := copyRow{times: map[string]copyTime{ours: {took: 100}, "peer": {took: 110}, limitName: {took: 96}}}
	if got := copyBounds(c, 1.2, 2); !slices.Equal(got, []string{"1.15x with nothing at the other end"}) || copyBounds(c, 1.1, 2) != nil {
		t.Errorf("%q", got)
	}
	c = copyRow{times: map[string]copyTime{ours: {100, 80, 70}, "peer": {110, 100, 80}}}
	if got := copyBounds(c, 1.2, 2); !slices.Equal(got, []string{"1.38x if the least processor time of both tools filled 2 processors; ours idled 25 %, the peer's 18 %"}) {
		t.Errorf("%q", got)
	}
	r = made(us, figure{iops: 300e3, p99: 240e3, cpu: 7e3})
	got := append(p99Bounds(r, overFio, 0.6, 2), cpuBounds(r, 0.9)...)
	if want := r.spent(2); !slices.Equal(got, want) {
		t.Errorf("a floor below the number is a bound: %q, want %q", got, want)
	}
	r.load.conns = 2
	if got := p99Bounds(r, overFio, 0.6, 2); !slices.Equal(got, []string{"4 threads of client and server on 2 processors; the median is 0.00x"}) {
		t.Errorf("%q", got)
	}
	r.load.conns = 1
	// 64 in flight at 5 µs each of the client are 320 µs.
	r.load.depth = 64
	r.figures[ours] = figure{iops: 200e3, p99: 360e3, cpu: 6e3, busy: 1}
	if got := p99Bounds(r, overFio, 0.7, 2); !slices.Equal(got, []string{"the mean alone is 0.80x if the client never waited"}) {
		t.Errorf("%q", got)
	}
	if got := cpuBounds(r, 0.55); got != nil {
		t.Errorf("the echo costs more than we do and is a bound: %q", got)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	of := func(values ...float64) func(*report, float64) []outcome {
		return func(*report, float64) (all []outcome) {
			for _, v := range values {
				all = append(all, outcome{value: v})
			}
			return all
		}
	}
	for _, tt := range []struct {
		t     target
		share string
		worst float64
	}{
		{target{want: 1.1, of: of(1.2, 1.05, 1.1, 0.9)}, "2 of 4", 0.9},
		{target{want: 0.5, atMost: true, of: of(0.5, 0.6, 0.4)}, "2 of 3", 0.6},
		{target{want: 0, atMost: true, of: of(0, 0)}, "**2 of 2**", 0},
	} {
		if v := tt.t.verdict(newReport(options{})); v.share() != tt.share || v.worst.value != tt.worst {
			t.Errorf("%s with the worst %v, want %s with %v", v.share(), v.worst.value, tt.share, tt.worst)
		}
	}
}

// Every row of the plan is asked for its throughput by one number of its own
// and by the one for all, and for its CPU time by one.
func TestTargetsCoverThePlan(t *testing.T) {
	t.Parallel()
	r := newReport(options{})
	rows := 0
	for _, g := range groups() {
		s := r.section(g)
		for _, ld := range g.loads {
			rows++
			s.rows = append(s.rows, row{ld, map[string]figure{ours: {iops: 1, cpu: 1, p99: 1}, "peer": {iops: 1, cpu: 1, p99: 1}}})
		}
	}
	asked := map[string]int{}
	for _, target := range targets {
		for _, o := range target.of(r, target.want) {
			asked[target.what[:10]+o.where]++
		}
	}
	for _, s := range r.sections {
		for _, row := range s.rows {
			where := s.group.title + ": " + row.load.String()
			if a, b := asked["Throughput"+where], asked["Server CPU"+where]; a != 2 || b != 1 {
				t.Errorf("%s: %d numbers for its throughput, %d for its CPU time", where, a, b)
			}
		}
	}
	if rows < 40 {
		t.Errorf("a plan of %d rows", rows)
	}
}

// Each layer of the table can be measured.
func TestPassings(t *testing.T) {
	t.Parallel()
	bare, err := source.Null(t.Context(), source.NullOptions{Size: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range passings() {
		dev, err := p.make(bare)
		if err == nil {
			err = passes(t.Context(), p, dev)
		}
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}
