package nbd

import (
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", maxString)
	for in, want := range map[string]URI{
		"nbd://host":                                     {Host: "host", Port: "10809"},
		"NBD://host/":                                    {Host: "host", Port: "10809"},
		"nbd:///x":                                       {Host: "localhost", Port: "10809", Export: "x"},
		"nbd://host:10810/vm":                            {Host: "host", Port: "10810", Export: "vm"},
		"nbd://[::1]/vm":                                 {Host: "::1", Port: "10809", Export: "vm"},
		"nbd://[fe80::1%25eth0]:7/vm":                    {Host: "fe80::1%eth0", Port: "7", Export: "vm"},
		"nbds://host/a%20b%2Fc%3Fd%23e%25f":              {TLS: true, Host: "host", Port: "10809", Export: "a b/c?d#e%f"},
		"nbd://host//abs/olute":                          {Host: "host", Port: "10809", Export: "/abs/olute"},
		"nbd://host/" + long:                             {Host: "host", Port: "10809", Export: long},
		"nbd://host/%C3%A4":                              {Host: "host", Port: "10809", Export: "ä"},
		"nbd+unix:///?socket=/run/s.sock":                {Transport: Unix, Socket: "/run/s.sock"},
		"nbd+unix://?socket=/run/s.sock":                 {Transport: Unix, Socket: "/run/s.sock"},
		"nbd+unix:///vm?socket=a+b%26c":                  {Transport: Unix, Socket: "a+b&c", Export: "vm"},
		"nbds+unix:///vm?socket=%00name":                 {Transport: Unix, TLS: true, Socket: "\x00name", Export: "vm"},
		"nbd+vsock://":                                   {Transport: VSock, Host: "2", Port: "10809"},
		"nbds+vsock://3:4000000000/x":                    {Transport: VSock, TLS: true, Host: "3", Port: "4000000000", Export: "x"},
		"nbds://h/?tls-certificates=/etc/pki":            {TLS: true, Host: "h", Port: "10809", TLSCertificates: "/etc/pki"},
		"nbds://h/?tls-hostname=x.y&tls-type=x509":       {TLS: true, Host: "h", Port: "10809", TLSHostname: "x.y"},
		"nbds://h/?tls-verify-peer=false":                {TLS: true, Host: "h", Port: "10809", TLSSkipVerify: true},
		"nbds+unix:///?socket=s&tls-verify-peer=true&&&": {Transport: Unix, TLS: true, Socket: "s"},
	} {
		u, err := ParseURI(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if *u != want {
			t.Errorf("%s:\n got %+v\nwant %+v", in, *u, want)
		}
		again, err := ParseURI(u.String())
		if err != nil || *again != *u {
			t.Errorf("%s: String gave %s, which parses to %+v, %v", in, u, again, err)
		}
	}
}

func TestParseURIErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                 "no scheme",
		"/dev/sda":         "no scheme",
		"http://host/":     `scheme "http" is not one of`,
		"nbd+ssh://host/":  `scheme "nbd+ssh" is not one of`,
		"nbd+://host/":     `scheme "nbd+" is not one of`,
		"nbd:host":         "must begin with nbd://",
		"nbd://host/a#b":   "%23",
		"nbd://user@host/": "TLS-PSK",
		"nbd://host/%00":   "NUL",
		"nbd://host/%ff":   "not UTF-8",
		"nbd://host/%zz":   "invalid URL escape",
		"nbd://host/" + strings.Repeat("n", maxString+1): "4097 bytes, at most 4096",
		"nbd://host:99999/":                `port "99999" is not a number below 65536`,
		"nbd://host:x/":                    "invalid port",
		"nbd://::":                         `host ":": an IPv6 address stands in brackets`,
		"nbd://[::1%25\xf2]/":              "the name of an interface",
		"nbd+unix:///vm":                   "needs the parameter socket=PATH",
		"nbd+unix:///vm?socket=":           "is empty",
		"nbd+unix:///vm?socket=%00":        "is empty",
		"nbd+unix://host/vm?socket=s":      "has no host",
		"nbd+unix:///vm?socket=a&socket=b": "given twice",
		"nbd://host/vm?socket=s":           "nbd+unix",
		"nbd+vsock://host/":                `CID "host" is not a 32-bit number`,
		"nbd://host/?tls-hostname=x":       "begins with nbds",
		"nbds://host/?tls-verify-peer=2":   "must be true or false",
		"nbds://host/?tls-type=psk":        "only x509",
		"nbds://host/?sockt=s":             `unknown parameter "sockt"`,
	} {
		u, err := ParseURI(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want an error with %q", in, u, err, want)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"nbd://host/x", "nbds+unix:///a?socket=%00b&tls-hostname=c", "nbd+vsock://2:3/", "nbd://[::1%25x]:1//%3f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil {
			t.Fatalf("%q gave %q: %v", s, u, err)
		}
		if *again != *u {
			t.Fatalf("%q gave %q: %+v, then %+v", s, u, *u, *again)
		}
	})
}
