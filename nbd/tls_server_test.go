package nbd

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// testTLS is a configuration with a certificate for localhost that nobody
// has signed.
func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// startTLS goes on in TLS.
func (p *rawPeer) startTLS() *rawPeer {
	p.t.Helper()
	p.expect(repAck, optStartTLS, nil)
	conn := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.conn = conn
	return p
}

// Where TLS is required nothing is told in clear text, not even whether an
// export exists.
func TestTLSRequired(t *testing.T) {
	t.Parallel()
	s := memServer(4096)
	s.TLS, s.TLSConfig = TLSRequired, testTLS(t)
	p := connect(t, s).hello()
	for opt, data := range map[option][]byte{
		optList: nil, optInfo: infoData("disk"), optGo: infoData("nobody"), optStructuredReply: nil, optExtendedHeaders: nil,
		optListMetaContext: queryData("disk"), optSetMetaContext: queryData("disk"), 99: []byte("x"),
	} {
		all := p.expect(repErrTLSRequired, opt, data)
		if len(all) != 1 || string(all[0].data) != "TLS is required" {
			t.Errorf("%v: %v", opt, all)
		}
	}
	p.startTLS()
	if r := p.expect(repErrInvalid, optStartTLS, nil); string(r[0].data) != "TLS is in use already" {
		t.Errorf("a second STARTTLS is answered with %q", r[0].data)
	}
	p.expect(repAck, optGo, infoData(""))
	p.alive()
	p.send(cmdDisc, 0, 0, 0, 0, nil)
	if n, err := p.conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("TLS does not end cleanly: %v", err)
	}

	cut := connect(t, s).hello()
	cut.write(optionBytes(optExportName, []byte("disk")))
	cut.gone()
	cut = connect(t, s).greet(0)
	cut.write(optionBytes(optExportName, []byte("disk")))
	cut.gone()
}

func TestTLSOptionalPerExport(t *testing.T) {
	t.Parallel()
	s := memServer(4096)
	open := s.Exports.(Exports)[0]
	secret := *open
	secret.Name, secret.RequireTLS = "secret", true
	s.Exports = Exports{open, &secret}
	s.TLS, s.TLSConfig = TLSOptional, testTLS(t)
	p := connect(t, s).hello()
	if all := p.expect(repAck, optList, nil); len(all) != 2 {
		t.Errorf("LIST in clear text gives %d exports", len(all)-1)
	}
	p.expect(repErrTLSRequired, optGo, infoData("secret"))
	p.expect(repAck, optInfo, infoData("disk"))
	p.startTLS()
	if all := p.expect(repAck, optList, nil); len(all) != 3 {
		t.Errorf("LIST gives %d exports", len(all)-1)
	}
	p.expect(repAck, optGo, infoData("secret"))
	p.alive()
}

func TestTLSOff(t *testing.T) {
	t.Parallel()
	p := connect(t, memServer(4096)).hello()
	p.expect(repErrPolicy, optStartTLS, nil)
	p.expect(repAck, optGo, infoData(""))
	p.alive()
}

// All that was agreed on in clear text is forgotten.
func TestStartTLSForgets(t *testing.T) {
	t.Parallel()
	s := memServer(4096)
	s.TLS, s.TLSConfig = TLSOptional, testTLS(t)
	p := connect(t, s).hello()
	p.expect(repAck, optStructuredReply, nil)
	p.expect(repAck, optSetMetaContext, queryData("", "base:allocation"))
	p.startTLS()
	p.expect(repErrInvalid, optSetMetaContext, queryData("", "base:allocation"))
	p.expect(repAck, optGo, infoData(""))
	if code := p.status(false, cmdRead, 0, 0, 512); code != 0 {
		t.Errorf("READ: %d", code)
	}
	if code, _ := func() (uint32, []byte) {
		p.send(cmdBlockStatus, 0, 9, 0, 512, nil)
		return p.simple(9, 0)
	}(); code != wireEINVAL {
		t.Errorf("BLOCK_STATUS: %d", code)
	}
}

// Bytes that follow STARTTLS in clear text are never taken for options that
// came through TLS (CVE-2021-3716).
func TestNothingInClearTextBehindStartTLS(t *testing.T) {
	t.Parallel()
	s := memServer(4096)
	s.TLS, s.TLSConfig = TLSRequired, testTLS(t)
	p := connect(t, s).hello()
	p.write(append(optionBytes(optStartTLS, nil), optionBytes(optList, nil)...))
	if r := p.reply(optStartTLS); r.code != repAck {
		t.Fatal(r)
	}
	p.gone2()
	if err := p.result(); err == nil {
		t.Error("injected bytes were accepted")
	}
}

// gone2 is gone for a server that may still send a TLS alert.
func (p *rawPeer) gone2() {
	rest, _ := io.ReadAll(p.conn)
	if len(rest) > 0 && rest[0] != 21 {
		p.t.Fatalf("server says %x", rest)
	}
}

// A talker sends a record without data behind each of those with data.
type talker struct {
	net.Conn
	on bool
}

func (c *talker) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(append(bytes.Clone(p), 20, 3, 3, 0, 1, 1)) // change_cipher_spec
	return min(n, len(p)), err
}

// Replies do not wait for more where records without data were received behind the
// request, and part of another one.
func TestRecordsWithoutData(t *testing.T) {
	t.Parallel()
	s := memServer(1 << 20)
	s.TLS, s.TLSConfig = TLSRequired, testTLS(t)
	p := connect(t, s).hello()
	chatty := &talker{Conn: p.conn}
	p.conn = chatty
	p.startTLS()
	p.expect(repAck, optGo, infoData(""))
	chatty.on = true
	for range 3 {
		p.status(false, cmdRead, 0, 0, 4096)
	}
}

// An idle TLS connection holds what TLS itself needs, however much has been
// sent and received.
func TestIdleTLSConnections(t *testing.T) {
	const n = 40
	s := memServer(4 << 20)
	s.TLS, s.TLSConfig = TLSRequired, testTLS(t)
	before := memoryInUse()
	for range n {
		p := connect(t, s).hello().startTLS()
		p.expect(repAck, optGo, infoData(""))
		p.status(false, cmdRead, 0, 0, 4<<20)
		p.send(cmdWrite, 0, 1, 0, 1<<20, make([]byte, 1<<20))
		p.simple(1, 0)
	}
	per := (memoryInUse() - before) / n
	t.Logf("%d bytes per idle connection, the client's end included", per)
	if per > 256<<10 {
		t.Errorf("%d bytes per idle connection", per)
	}
}
