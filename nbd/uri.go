package nbd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Transport is the kind of socket that a URI names.
type Transport uint8

const (
	// TCP over IPv4 or IPv6.
	TCP Transport = iota
	// Unix is a stream socket in the file system or, on Linux, in the
	// abstract name space.
	Unix
	// VSock joins virtual machines and their host.
	VSock
)

// hostCID is the address of the host of a virtual machine.
const hostCID = "2"

// A URI names an export on a server, in the form that the NBD project defines
// in doc/uri.md:
//
//	nbd://host:port/export               TCP, the port is 10809 if absent
//	nbd+unix:///export?socket=PATH       Unix socket; PATH %00NAME is abstract
//	nbd+vsock://CID:port/export          vsock; the CID is 2 (the host) if absent
//
// and the same with nbds, which demands TLS. The path without its first slash
// is the export's name, percent-decoded; it may be empty. Parameters for TLS
// are those of libnbd: tls-certificates=DIRECTORY (with ca-cert.pem and, for
// clients that must prove who they are, client-cert.pem and client-key.pem),
// tls-hostname=NAME and tls-verify-peer=false.
type URI struct {
	Transport Transport
	// TLS is set by the schemes that begin with nbds.
	TLS bool
	// Host is a name or address for TCP, without brackets, and the CID in
	// decimal for VSock.
	Host string
	// Port is a decimal number.
	Port string
	// Socket is the path of a Unix socket. The first byte of an abstract
	// name is NUL.
	Socket string
	// Export is the name of the export.
	Export string

	// TLSCertificates is a directory with the files of TLSClientFiles.
	TLSCertificates string
	// TLSHostname is the name that the server's certificate must be for,
	// if it is not Host.
	TLSHostname string
	// TLSSkipVerify accepts any certificate of the server.
	TLSSkipVerify bool
}

// ParseURI parses s. Its errors say what is wrong with which part.
func ParseURI(s string) (*URI, error) {
	u, err := parseURI(s)
	if err != nil {
		return nil, fmt.Errorf("URI %q: %w", s, err)
	}
	return u, nil
}

func parseURI(s string) (*URI, error) {
	raw, err := url.Parse(s)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	u := &URI{}
	if err := u.setScheme(raw.Scheme); err != nil {
		return nil, err
	}
	switch {
	case raw.Opaque != "" || !strings.Contains(s, "://"):
		return nil, fmt.Errorf("must begin with %s://", raw.Scheme)
	case raw.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, errors.New(`has a fragment; write "#" in an export's name as %23`)
	case raw.User != nil:
		return nil, errors.New("a user name is for TLS-PSK, which is not supported")
	}
	u.Export = strings.TrimPrefix(raw.Path, "/")
	if err := checkName(u.Export); err != nil {
		return nil, err
	}
	if err := u.setQuery(raw.RawQuery); err != nil {
		return nil, err
	}
	return u, u.setAddress(raw)
}

func (u *URI) setScheme(scheme string) error {
	base, transport, _ := strings.Cut(scheme, "+")
	switch base {
	case "nbd":
	case "nbds":
		u.TLS = true
	case "":
		return errors.New(`has no scheme; it must begin like "nbd://"`)
	default:
		return fmt.Errorf("scheme %q is not one of nbd, nbds, nbd+unix, nbds+unix, nbd+vsock, nbds+vsock", scheme)
	}
	switch {
	case scheme == base:
	case transport == "unix":
		u.Transport = Unix
	case transport == "vsock":
		u.Transport = VSock
	default:
		return fmt.Errorf("scheme %q is not one of nbd, nbds, nbd+unix, nbds+unix, nbd+vsock, nbds+vsock", scheme)
	}
	return nil
}

// setQuery reads the parameters. Unlike those of HTML forms they have no "+"
// for a space.
func (u *URI) setQuery(raw string) error {
	seen := map[string]bool{}
	for field := range strings.SplitSeq(raw, "&") {
		if field == "" {
			continue
		}
		k, v, _ := strings.Cut(field, "=")
		key, err := url.PathUnescape(k)
		if err != nil {
			return err
		}
		value, err := url.PathUnescape(v)
		if err != nil {
			return fmt.Errorf("parameter %s: %w", key, err)
		}
		if seen[key] {
			return fmt.Errorf("parameter %q is given twice", key)
		}
		seen[key] = true
		if err := u.setParameter(key, value); err != nil {
			return err
		}
	}
	if u.Transport == Unix && u.Socket == "" {
		return errors.New("the unix transport needs the parameter socket=PATH")
	}
	return nil
}

func (u *URI) setParameter(key, value string) error {
	if strings.HasPrefix(key, "tls-") && !u.TLS {
		return fmt.Errorf("parameter %q needs a scheme that begins with nbds", key)
	}
	switch key {
	case "socket":
		if u.Transport != Unix {
			return errors.New("parameter \"socket\" needs the scheme nbd+unix or nbds+unix")
		}
		if value == "" || value == "\x00" {
			return errors.New("parameter \"socket\" is empty")
		}
		u.Socket = value
	case "tls-certificates":
		u.TLSCertificates = value
	case "tls-hostname":
		u.TLSHostname = value
	case "tls-verify-peer":
		verify, err := parseBool(value)
		if err != nil {
			return fmt.Errorf("parameter %q is %q, must be true or false", key, value)
		}
		u.TLSSkipVerify = !verify
	case "tls-type":
		if value != "x509" {
			return fmt.Errorf("parameter %q is %q, only x509 is supported", key, value)
		}
	default:
		return fmt.Errorf("unknown parameter %q; known are socket, tls-certificates, tls-hostname, tls-verify-peer", key)
	}
	return nil
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, strconv.ErrSyntax
}

const zoneCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"

func (u *URI) setAddress(raw *url.URL) error {
	host, port := raw.Hostname(), raw.Port()
	if u.Transport == Unix {
		if raw.Host != "" {
			return fmt.Errorf("the unix transport has no host, found %q; write three slashes", raw.Host)
		}
		return nil
	}
	if port == "" {
		port = defaultPort
	}
	bits := 16
	if u.Transport == VSock {
		bits = 32
	}
	n, err := strconv.ParseUint(port, 10, bits)
	if err != nil {
		return fmt.Errorf("port %q is not a number below %d", port, uint64(1)<<bits)
	}
	u.Port = strconv.FormatUint(n, 10)
	switch {
	case u.Transport == VSock && host == "":
		host = hostCID
	case u.Transport == VSock:
		cid, err := strconv.ParseUint(host, 10, 32)
		if err != nil {
			return fmt.Errorf("vsock CID %q is not a 32-bit number", host)
		}
		host = strconv.FormatUint(cid, 10)
	case host == "":
		host = "localhost"
	case strings.Contains(host, ":") && !strings.HasPrefix(raw.Host, "["):
		return fmt.Errorf("host %q: an IPv6 address stands in brackets", host)
	}
	// A zone has nothing else in a URI, escaped or not.
	if _, zone, _ := strings.Cut(host, "%"); strings.ContainsFunc(zone, func(r rune) bool { return !strings.ContainsRune(zoneCharacters, r) }) {
		return fmt.Errorf("zone %q of an IPv6 address: it is the name of an interface, of letters, digits and any of -._~", zone)
	}
	u.Host = host
	return nil
}

// checkName is the rule for the name of an export.
func checkName(name string) error {
	switch {
	case len(name) > maxString:
		return fmt.Errorf("export name has %d bytes, at most %d are allowed", len(name), maxString)
	case strings.Contains(name, "\x00"):
		return errors.New("export name contains a NUL byte")
	case !utf8.ValidString(name):
		return errors.New("export name is not UTF-8")
	}
	return nil
}

// String returns the canonical form of u. ParseURI gives u back.
func (u *URI) String() string {
	var b strings.Builder
	b.WriteString("nbd")
	if u.TLS {
		b.WriteByte('s')
	}
	switch u.Transport {
	case Unix:
		b.WriteString("+unix")
	case VSock:
		b.WriteString("+vsock")
	}
	b.WriteString("://")
	if u.Transport != Unix {
		b.WriteString(u.authority())
	}
	b.WriteByte('/')
	b.WriteString(strings.ReplaceAll(url.PathEscape(u.Export), "%2F", "/"))
	sep := byte('?')
	param := func(key, value string) {
		b.WriteByte(sep)
		b.WriteString(key + "=" + escapeValue(value))
		sep = '&'
	}
	if u.Transport == Unix {
		param("socket", u.Socket)
	}
	if u.TLSCertificates != "" {
		param("tls-certificates", u.TLSCertificates)
	}
	if u.TLSHostname != "" {
		param("tls-hostname", u.TLSHostname)
	}
	if u.TLSSkipVerify {
		param("tls-verify-peer", "false")
	}
	return b.String()
}

func (u *URI) authority() string {
	port := u.Port
	if port == defaultPort {
		port = ""
	}
	// The url package knows which characters of a host need escaping, and
	// brackets go with a colon.
	host := u.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" {
		host += ":" + port
	}
	return strings.TrimPrefix((&url.URL{Host: host}).String(), "//")
}

// escapeValue is for parameters. It leaves the slashes of a path readable.
func escapeValue(s string) string {
	return strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(s))
}

// address is what net.Dial takes.
func (u *URI) address() (network, addr string) {
	if u.Transport == Unix {
		if strings.HasPrefix(u.Socket, "\x00") {
			return "unix", "@" + u.Socket[1:]
		}
		return "unix", u.Socket
	}
	return "tcp", net.JoinHostPort(u.Host, u.Port)
}
