package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/strata-storage/strata/cluster"
)

// clusterPort is where nodes join unless they are told another port. The ports after it
// are for nodes that have joined.
const clusterPort = 10810

// withPort is an address with the port where nodes join if it has none.
func withPort(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, strconv.Itoa(clusterPort)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "[]/ ") {
		return "", fmt.Errorf("%s: want HOST or HOST:PORT, an IPv6 address in brackets", address)
	}
	return net.JoinHostPort(host, port), nil
}

// places decides at which addresses the node is there for others.
func (s *noding) places() error {
	c := &s.o.Cluster
	if s.clusterListen == "" {
		s.clusterListen = net.JoinHostPort(cmp.Or(c.Advertise, ownHost(c.Join)), strconv.Itoa(clusterPort))
	}
	host, port, err := net.SplitHostPort(s.clusterListen)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 || n > 65532 {
		return usagef("--cluster-listen %s: want HOST:PORT or :PORT, with a port from 1 to 65532", s.clusterListen)
	}
	if ip := net.ParseIP(host); (host == "" || ip != nil && ip.IsUnspecified()) && c.Advertise == "" {
		c.Advertise = ownHost(c.Join)
	}
	if _, _, err := net.SplitHostPort(c.Advertise); err == nil {
		return usagef("--advertise %s: want a HOST, the ports are those of --cluster-listen", c.Advertise)
	}
	at := func(i uint64) string { return net.JoinHostPort(host, strconv.FormatUint(n+i, 10)) }
	c.Door, c.Listen, c.Agreed, c.Votes = at(0), at(1), at(2), at(3)
	s.o.Join = net.JoinHostPort(cmp.Or(c.Advertise, host), port)
	return nil
}

// ownHost is the address by which this machine reaches another one, or most others.
func ownHost(other string) string {
	for _, to := range []string{other, "192.0.2.1:9", "[2001:db8::1]:9"} { // the last two are nobody's
		if to == "" {
			continue
		}
		c, err := net.Dial("udp", to) // sends nothing
		if err != nil {
			continue
		}
		defer c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsUnspecified() {
			return a.IP.String()
		}
	}
	return "127.0.0.1"
}

// offline is how the cluster goes on with what the node knows that has a data directory, if
// it does not run.
func (s *noding) offline(dir string) (func(ctx context.Context, really bool) ([]string, error), error) {
	c := &s.o.Cluster
	c.Dir, c.Log = dir, s.logger()
	if err := s.places(); err != nil {
		return nil, err
	}
	return func(ctx context.Context, really bool) ([]string, error) {
		return cluster.RecoverQuorum(ctx, *c, really)
	}, nil
}
