package config

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-storage/strata/nbd"
)

// Rules say who may use an export. The zero value admits everyone; a list
// that is empty but not nil admits nobody; otherwise one rule that fits is
// enough.
type Rules []Rule

// A Rule admits some clients. It is written as one of
//
//	any                everyone
//	10.0.0.7           this IP address; 10.0.0.0/8 this network
//	uid:1000           processes of this user on a Unix socket
//	cn:NAME            the common name of the client's certificate
//	subject:DN         the whole subject of the certificate, in the form of RFC 2253
//	san:dns:NAME       an alternative name of the certificate; also san:uri:,
//	                   san:email: and san:ip:
//
// Rules about certificates rely on the server to verify them, as the
// configuration that nbd.TLSFiles makes does.
type Rule struct {
	text  string
	admit func(*nbd.Peer) bool
	cert  bool
}

// ParseRule reads a rule.
func ParseRule(s string) (Rule, error) {
	r := Rule{text: s}
	kind, value, _ := strings.Cut(s, ":")
	switch {
	case s == "any":
		r.admit = func(*nbd.Peer) bool { return true }
		return r, nil
	case kind == "uid":
		uid, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return r, fmt.Errorf("rule %q: the user must be a number from 0 to 4294967295", s)
		}
		r.admit = func(p *nbd.Peer) bool { return p.Cred != nil && p.Cred.UID == uint32(uid) }
		return r, nil
	case kind == "cn" || kind == "subject" || kind == "san":
		match, err := certificateRule(kind, value)
		if err != nil {
			return r, fmt.Errorf("rule %q: %w", s, err)
		}
		r.cert = true
		r.admit = func(p *nbd.Peer) bool {
			c := verified(p)
			return c != nil && match(c)
		}
		return r, nil
	}
	network, err := parseNetwork(s)
	if err != nil {
		return r, err
	}
	r.admit = func(p *nbd.Peer) bool {
		ip, ok := addressOf(p.Addr)
		return ok && network.Contains(ip)
	}
	return r, nil
}

// parseNetwork reads an address or a network.
func parseNetwork(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	n, err := netip.ParsePrefix(s)
	if err != nil {
		return n, fmt.Errorf("rule %q is not one of any, an IP address, a network such as 10.0.0.0/8, uid:N, cn:NAME, subject:DN, san:dns:NAME, san:uri:URI, san:email:ADDRESS, san:ip:ADDRESS", shorten(s))
	}
	if n.Addr().Is4In6() && n.Bits() >= 96 {
		n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	if n != n.Masked() {
		return n, fmt.Errorf("rule %q has bits set outside of its network; did you mean %q or %q?", s, n.Masked(), n.Addr())
	}
	return n, nil
}

// certificateRule reads what must be true of a certificate.
func certificateRule(kind, value string) (func(*x509.Certificate) bool, error) {
	want := ""
	switch kind {
	case "cn":
		want = "cn:" + value
	case "subject":
		want = "dn:" + value
	case "san":
		sort, name, _ := strings.Cut(value, ":")
		if name == "" {
			return nil, fmt.Errorf("want san:dns:NAME, san:uri:URI, san:email:ADDRESS or san:ip:ADDRESS")
		}
		switch sort {
		case "dns", "uri", "email":
		case "ip":
			ip := net.ParseIP(name)
			if ip == nil {
				return nil, fmt.Errorf("%q is not an IP address", name)
			}
			value = "ip:" + ip.String()
		default:
			return nil, fmt.Errorf("%q is not one of dns, uri, email and ip", sort)
		}
		want = value
	}
	if value == "" {
		return nil, fmt.Errorf("nothing follows the colon")
	}
	equal := func(name string) bool { return name == want }
	if strings.HasPrefix(want, "dns:") {
		equal = func(name string) bool { return strings.EqualFold(name, want) }
	}
	return func(c *x509.Certificate) bool { return slices.ContainsFunc(nbd.CertificateNames(c), equal) }, nil
}

// verified is the client's certificate, or nil. The server has verified it,
// see nbd.Peer; that leaves VerifiedChains empty if it is not package
// crypto/tls that did.
func verified(p *nbd.Peer) *x509.Certificate {
	if p.TLS == nil || len(p.TLS.PeerCertificates) == 0 {
		return nil
	}
	return p.TLS.PeerCertificates[0]
}

// addressOf is the IP address of a client, if it has one.
func addressOf(a net.Addr) (netip.Addr, bool) {
	if t, ok := a.(*net.TCPAddr); ok {
		ip := t.AddrPort().Addr().Unmap().WithZone("")
		return ip, ip.IsValid()
	}
	return netip.Addr{}, false
}

// Admit reports whether p may connect.
func (rs Rules) Admit(p *nbd.Peer) bool {
	return rs == nil || slices.ContainsFunc(rs, func(r Rule) bool { return r.admit(p) })
}

// String lists the rules as they were written.
func (rs Rules) String() string {
	switch {
	case rs == nil:
		return "any"
	case len(rs) == 0:
		return "nobody"
	}
	texts := make([]string, len(rs))
	for i, r := range rs {
		texts[i] = r.text
	}
	return strings.Join(texts, ", ")
}

func (rs Rules) everyone() bool {
	return rs == nil || slices.ContainsFunc(rs, func(r Rule) bool { return r.text == "any" })
}

// needCertificate returns the first rule about certificates, or "".
func (rs Rules) needCertificate() string {
	for _, r := range rs {
		if r.cert {
			return r.text
		}
	}
	return ""
}

// parseRules reads a list that was given; nil if none was.
func parseRules(texts []string) (Rules, error) {
	if texts == nil {
		return nil, nil
	}
	rs := Rules{}
	for _, s := range texts {
		r, err := ParseRule(s)
		if err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}
