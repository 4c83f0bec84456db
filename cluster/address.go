package cluster

import (
	"errors"
	"fmt"
	"net"
)

// checkAddresses says what is wrong with the addresses of a node.
func (o *Options) checkAddresses() error {
	if (o.Agreed == "") != (o.Door == "") || (o.Agreed == "") != (o.Votes == "") {
		return errors.New("others join, and vote, by the addresses Agreed, Votes and Door, expected all of them or none")
	}
	for what, a := range map[string]string{"Listen": o.Listen, "Agreed": o.Agreed, "Votes": o.Votes, "Door": o.Door} {
		if a == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("the address %s is %.200q, expected host:port: %w", what, a, err)
		}
	}
	return nil
}

// found is where others find what listens at an address, which may be one for all
// addresses of the machine.
func (o *Options) found(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if o.Advertise != "" {
		if h, _, err := net.SplitHostPort(o.Advertise); err == nil {
			return net.JoinHostPort(h, port)
		}
		return net.JoinHostPort(o.Advertise, port)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = outward()
	}
	return net.JoinHostPort(host, port)
}

// outward is an address by which other machines may reach this one, that of this
// machine for itself if there is none.
func outward() string {
	addrs, _ := net.InterfaceAddrs()
	best := "127.0.0.1"
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		if n.IP.To4() != nil {
			return n.IP.String()
		}
		best = n.IP.String()
	}
	return best
}

// bind is an address as etcd wants it to listen to: with an IP.
func bind(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if host == "" {
		return net.JoinHostPort("::", port), nil
	}
	if net.ParseIP(host) != nil {
		return listen, nil
	}
	a, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(a.String(), port), nil
}
