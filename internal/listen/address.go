// Package listen opens the places where a server waits for clients: TCP, Unix
// and vsock sockets, sockets that systemd passes on, and one connection on
// standard input and output.
package listen

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// DefaultPort is the TCP and vsock port of NBD.
const DefaultPort = 10809

// Default is the address of a server that is not told another one.
var Default = Address{Kind: TCP, Host: "localhost", Port: DefaultPort}

// A Kind of address; its text is the scheme.
type Kind string

// The kinds of address.
const (
	TCP     Kind = "tcp"
	Unix    Kind = "unix"
	Vsock   Kind = "vsock"
	Systemd Kind = "systemd"
	Stdio   Kind = "stdio"
)

// AnyCID is the vsock context that stands for all of this machine's.
const AnyCID = math.MaxUint32

// An Address says where to listen.
type Address struct {
	Kind Kind
	// Host of a TCP address: a name, an IP address, or empty for all
	// interfaces. "localhost" means the loopback of both IP versions.
	Host string
	// Port of a TCP or vsock address. A TCP port of 0 lets the system
	// choose.
	Port uint32
	// CID is the context of a vsock address.
	CID uint32
	// Path of a Unix socket.
	Path string
	// Mode of a Unix socket, 0 for what the umask leaves.
	Mode fs.FileMode
	// Name of the sockets of systemd that are meant; empty for all.
	Name string
}

// Parse reads an address: tcp://HOST:PORT, unix:///PATH?mode=0660,
// vsock://CID:PORT, systemd:NAME or stdio:.
func Parse(s string) (Address, error) {
	kind, rest, ok := strings.Cut(s, ":")
	var a Address
	var err error
	switch Kind(kind) {
	case TCP:
		a, err = parseTCP(rest)
	case Unix:
		a, err = parseUnix(rest)
	case Vsock:
		a, err = parseVsock(rest)
	case Systemd:
		a = Address{Kind: Systemd, Name: strings.TrimPrefix(rest, "//")}
	case Stdio:
		if a.Kind = Stdio; strings.Trim(rest, "/") != "" {
			err = fmt.Errorf("stdio: with nothing behind it is the whole address")
		}
	default:
		ok = false
	}
	if !ok {
		return Address{}, fmt.Errorf("listen address %q: want tcp://HOST:PORT, unix:///PATH, vsock://CID:PORT, stdio: or systemd:NAME", s)
	}
	if err != nil {
		return Address{}, fmt.Errorf("listen address %q: %w", s, err)
	}
	return a, nil
}

func parseTCP(rest string) (Address, error) {
	rest, err := authority(rest)
	if err != nil {
		return Address{}, err
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]"), strconv.Itoa(DefaultPort)
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return Address{}, fmt.Errorf("want tcp://HOST:PORT, an IPv6 address in brackets")
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Address{}, fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return Address{Kind: TCP, Host: host, Port: uint32(n)}, nil
}

func parseVsock(rest string) (Address, error) {
	rest, err := authority(rest)
	if err != nil {
		return Address{}, err
	}
	a := Address{Kind: Vsock, CID: AnyCID, Port: DefaultPort}
	cid, port, hasPort := strings.Cut(rest, ":")
	if cid != "" && cid != "any" {
		n, err := strconv.ParseUint(cid, 10, 32)
		if err != nil {
			return Address{}, fmt.Errorf("context %q is neither a number nor any", cid)
		}
		a.CID = uint32(n)
	}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 32)
		if err != nil {
			return Address{}, fmt.Errorf("port %q is not a number", port)
		}
		a.Port = uint32(n)
	}
	return a, nil
}

// authority strips the slashes around what stands between them.
func authority(rest string) (string, error) {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "", fmt.Errorf("// is missing after the scheme")
	}
	rest = strings.TrimSuffix(rest, "/")
	if strings.ContainsAny(rest, "/?#@") {
		return "", fmt.Errorf("only a host and a port may follow the scheme")
	}
	return rest, nil
}

func parseUnix(rest string) (Address, error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
	path, err := url.PathUnescape(path)
	if err != nil {
		return Address{}, err
	}
	if !filepath.IsAbs(path) {
		return Address{}, fmt.Errorf("the path must be absolute: unix:///run/strata.sock")
	}
	if len(path) > maxUnixPath {
		return Address{}, fmt.Errorf("the path has %d bytes, the system allows %d", len(path), maxUnixPath)
	}
	a := Address{Kind: Unix, Path: path}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Address{}, err
	}
	for name, v := range values {
		if name != "mode" {
			return Address{}, fmt.Errorf("unknown parameter %q; there is only mode", name)
		}
		n, err := strconv.ParseUint(v[len(v)-1], 8, 32)
		if err != nil || n == 0 || n > 0o777 {
			return Address{}, fmt.Errorf("mode %q is not a number in octal from 0001 to 0777", v[len(v)-1])
		}
		a.Mode = fs.FileMode(n)
	}
	return a, nil
}

// maxUnixPath is the size of sun_path less its final NUL.
const maxUnixPath = 107

// String is the address in the form that Parse reads.
func (a Address) String() string {
	switch a.Kind {
	case TCP:
		return "tcp://" + net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
	case Unix:
		s := "unix://" + (&url.URL{Path: a.Path}).EscapedPath()
		if a.Mode != 0 {
			s += fmt.Sprintf("?mode=%04o", a.Mode)
		}
		return s
	case Vsock:
		cid := "any"
		if a.CID != AnyCID {
			cid = strconv.FormatUint(uint64(a.CID), 10)
		}
		return fmt.Sprintf("vsock://%s:%d", cid, a.Port)
	}
	return string(a.Kind) + ":" + a.Name
}

// URI is the NBD URI under which clients on this machine find the export of
// that name, empty if there is none because the address is systemd: or
// stdio:.
func (a Address) URI(export string, tls bool) string {
	scheme := "nbd"
	if tls {
		scheme = "nbds"
	}
	path := "/" + url.PathEscape(export)
	switch a.Kind {
	case TCP:
		host := a.Host
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if a.Port != DefaultPort {
			host += ":" + strconv.Itoa(int(a.Port))
		}
		return scheme + "://" + host + path
	case Unix:
		return scheme + "+unix://" + path + "?socket=" + strings.ReplaceAll(url.QueryEscape(a.Path), "%2F", "/")
	case Vsock:
		cid := a.CID
		if cid == AnyCID {
			cid = 1
		}
		return fmt.Sprintf("%s+vsock://%d:%d%s", scheme, cid, a.Port, path)
	}
	return ""
}
