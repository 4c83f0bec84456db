package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A Config says what is to be served, and how. It is data: nothing of it has
// been opened or created.
type Config struct {
	// Listeners are where to wait for clients, in order.
	Listeners []Listener
	// TLS is nil if the configuration has no tls().
	TLS *TLS
	// Limits are those that the configuration sets; the others are 0.
	Limits Limits
	// Control is the path of the control socket, empty for none.
	Control string
	// Exports in the order of the configuration. Their names differ.
	Exports []*Export
	// Files are the paths of the files that were read.
	Files []string
}

// A Listener is an address to listen at, in the form scheme://rest.
type Listener struct {
	Address string
	Pos     Position
}

// Modes of TLS.
const (
	TLSOff      = "off"      // clear text only
	TLSOptional = "optional" // clients may use it
	TLSRequired = "required" // clients must use it
)

// TLS says how connections are encrypted.
type TLS struct {
	// Mode is TLSOff, TLSOptional or TLSRequired.
	Mode string
	// Cert and Key are PEM files, the server's certificate chain and its
	// key. ClientCA is a PEM file with the authorities that certificates
	// of clients must come from; empty if clients need no certificate.
	Cert, Key, ClientCA string
	Pos                 Position
}

// An Export is a device under a name, with the rules for its use.
type Export struct {
	Name        string
	Description string
	Device      *Spec
	// ReadOnly exports a device read-only that could be written.
	ReadOnly bool
	// RequireTLS hides the export from clients in clear text.
	RequireTLS bool
	// Allow says who may connect.
	Allow Rules
	// MaxConnections bounds the connections at one time; 0 is no bound.
	MaxConnections int
	// Prerun is a command, a program and its arguments, that runs before a
	// connection to the export is allowed, and forbids it by failing.
	// Postrun runs when the connection has ended.
	Prerun, Postrun []string
	// RunTimeout bounds the time of either command.
	RunTimeout time.Duration
	Pos        Position
}

// maxName is the longest name that the NBD protocol allows, in bytes.
const maxName = 4096

func (x *Export) checkName() error {
	switch {
	case len(x.Name) > maxName:
		return fmt.Errorf("the export name has %d bytes, at most %d are allowed", len(x.Name), maxName)
	case !utf8.ValidString(x.Name):
		return fmt.Errorf("the export name %q is not UTF-8", shorten(x.Name))
	case strings.ContainsRune(x.Name, 0):
		return fmt.Errorf("the export name %q contains a NUL character", shorten(x.Name))
	case len(x.Description) > maxName:
		return fmt.Errorf("the description has %d bytes, at most %d are allowed", len(x.Description), maxName)
	}
	return nil
}

// find returns the export of that name, or nil.
func (c *Config) find(name string) *Export {
	for _, x := range c.Exports {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// validate looks for exports that nobody could ever reach.
func (c *Config) validate() error {
	mode, clientCA := TLSOff, ""
	if c.TLS != nil {
		mode, clientCA = c.TLS.Mode, c.TLS.ClientCA
	}
	var errs []error
	for _, x := range c.Exports {
		if x.RequireTLS && mode == TLSOff {
			errs = append(errs, errorAt(x.Pos, "export %q requires TLS, but the configuration has no tls(), or one whose mode is off", x.Name))
		}
		if rule := x.Allow.needCertificate(); rule != "" && (mode == TLSOff || clientCA == "") {
			errs = append(errs, errorAt(x.Pos, "export %q: rule %q admits nobody: the configuration has no tls(client_ca=...) to verify certificates with", x.Name, rule))
		}
	}
	return errors.Join(errs...)
}

// Summary describes the configuration for people: one line for each fact.
func (c *Config) Summary() string {
	var b strings.Builder
	for _, l := range c.Listeners {
		fmt.Fprintf(&b, "listen   %s\n", l.Address)
	}
	if t := c.TLS; t != nil {
		fmt.Fprintf(&b, "tls      %s", t.Mode)
		for _, f := range [][2]string{{"cert", t.Cert}, {"key", t.Key}, {"client_ca", t.ClientCA}} {
			if f[1] != "" {
				fmt.Fprintf(&b, " %s=%s", f[0], f[1])
			}
		}
		b.WriteString("\n")
	}
	if s := c.Limits.String(); s != "" {
		fmt.Fprintf(&b, "limits   %s\n", s)
	}
	if c.Control != "" {
		fmt.Fprintf(&b, "control  %s\n", c.Control)
	}
	for _, x := range c.Exports {
		fmt.Fprintf(&b, "export   %q = %s\n", x.Name, x.Device)
		if s := x.rules(); s != "" {
			fmt.Fprintf(&b, "         %s\n", s)
		}
	}
	return b.String()
}

// rules lists what is special about the export.
func (x *Export) rules() string {
	var parts []string
	note := func(on bool, format string, args ...any) {
		if on {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	note(x.Description != "", "description=%q", x.Description)
	note(x.ReadOnly, "read-only")
	note(x.RequireTLS, "TLS required")
	note(!x.Allow.everyone(), "allow %s", x.Allow)
	note(x.MaxConnections > 0, "at most %d connections", x.MaxConnections)
	note(len(x.Prerun) > 0, "prerun %q", x.Prerun)
	note(len(x.Postrun) > 0, "postrun %q", x.Postrun)
	return strings.Join(parts, ", ")
}
