package main

import "fmt"

// A load is what fio does to a server.
type load struct {
	rw    string // fio's name: read, write, randread, randwrite
	bs    int    // bytes
	depth int
	conns int
}

func (l load) String() string {
	kind := map[string]string{
		"randread": "random read", "randwrite": "random write", "read": "sequential read", "write": "sequential write",
	}[l.rw]
	s := fmt.Sprintf("%s %s, depth %d", byteSize(l.bs), kind, l.depth)
	if l.conns > 1 {
		s += fmt.Sprintf(", %d connections", l.conns)
	}
	return s
}

func byteSize(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// A group is a set of rows that the same servers are measured for.
type group struct {
	title     string
	what      string // one sentence for the report
	transport transport
	servers   []server
	loads     []load
}

// random are the 4 KiB rows.
func random(depths ...int) (loads []load) {
	for _, rw := range []string{"randread", "randwrite"} {
		for _, d := range depths {
			loads = append(loads, load{rw, 4 << 10, d, 1})
		}
	}
	return loads
}

// sequential are the rows of long requests.
func sequential() (loads []load) {
	for _, bs := range []int{64 << 10, 1 << 20} {
		for _, rw := range []string{"read", "write"} {
			loads = append(loads, load{rw, bs, 4, 1})
		}
	}
	return loads
}

func connections(numbers ...int) (loads []load) {
	for _, rw := range []string{"randread", "randwrite"} {
		for _, n := range numbers {
			loads = append(loads, load{rw, 4 << 10, 16, n})
		}
	}
	return loads
}

// groups is the plan of the whole run.
func groups() []group {
	memory := []server{strataMemory, nbdkitMemory}
	files := []server{strataFile, nbdkitFile, qemuNBD, nbdServer}
	return []group{
		{"Memory, Unix socket", "A disk in memory: the cost of the protocol alone.", overUnix, memory,
			append(append(random(1, 16, 64), sequential()...), connections(2, 4)...)},
		{"File, Unix socket", "A raw file in the page cache.", overUnix, files,
			append(append(random(1, 16, 64), sequential()...), connections(2, 4)...)},
		{"File, TCP", "The same over TCP on the loopback interface.", overTCP, files,
			append(append(random(1, 16, 64), sequential()...), connections(4)...)},
		{"File, TLS", "The same over TCP with TLS 1.3 and X.509 certificates. The client is `strata bench`, for all servers: fio cannot be told where certificates are.", overTLS, files,
			append(append(random(1, 16, 64), sequential()...), connections(4)...)},
	}
}
