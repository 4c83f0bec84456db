package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
)

// A Token lets a node join a cluster. Whoever has it can do so until it expires.
type Token struct {
	// Cluster is the name of the cluster.
	Cluster string
	// Authority is the SHA-256 of its certificate.
	Authority [sha256.Size]byte
	// Secret is worth a certificate.
	Secret [secretBytes]byte
	// Expires is when that ends, in whole seconds.
	Expires time.Time
}

// The text of a token is the prefix and base64 of cluster, authority, secret, seconds
// since 1970, and the CRC-32C of all that, for errors of those who type.
const (
	tokenPrefix = "strata1-"
	secretBytes = 16
	tokenBytes  = clusterBytes + sha256.Size + secretBytes + 8 + 4
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	encoding   = base64.RawURLEncoding.Strict()
)

// ErrExpired: the token was valid once.
var ErrExpired = errors.New("the token has expired")

// NewToken makes a token for the cluster of an authority that is valid until then.
func (a *Authority) NewToken(expires time.Time) Token {
	t := Token{Cluster: a.cluster, Authority: fingerprint(a.cert), Expires: expires.Truncate(time.Second).UTC()}
	rand.Read(t.Secret[:])
	return t
}

// Digest is by what a cluster knows the token. It tells nothing of the secret.
func (t Token) Digest() string {
	sum := sha256.Sum256(append([]byte(t.Cluster), t.Secret[:]...))
	return hex.EncodeToString(sum[:])
}

// Encode is the token as people pass it on.
func (t Token) Encode() (string, error) {
	if err := checkCluster(t.Cluster); err != nil {
		return "", err
	}
	b, err := hex.DecodeString(t.Cluster)
	if err != nil {
		return "", err
	}
	b = append(append(b, t.Authority[:]...), t.Secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return tokenPrefix + encoding.EncodeToString(b), nil
}

// String hides the secret, for logs.
func (t Token) String() string {
	return fmt.Sprintf("token for cluster %s until %s", t.Cluster, t.Expires.Format(time.RFC3339))
}

// ParseToken returns the token of a text. Space around it is no matter. That it is not
// of this cluster, or has expired, is for its user to see.
func ParseToken(text string) (Token, error) {
	t, err := parseToken(strings.TrimSpace(text))
	if err != nil {
		return Token{}, fmt.Errorf("identity: the token %w", err)
	}
	return t, nil
}

func parseToken(text string) (t Token, err error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	want := encoding.EncodedLen(tokenBytes)
	switch {
	case text == "":
		return t, errors.New("is empty")
	case !ok && strings.HasPrefix(text, "strata"):
		return t, fmt.Errorf("begins with %.16q, expected %q: it is of another version of Strata, or its beginning is wrong", text, tokenPrefix)
	case !ok:
		return t, fmt.Errorf("begins with %.16q, expected %q: it is something else", text, tokenPrefix)
	case len(rest) < want:
		return t, fmt.Errorf("has %d characters, expected %d: a part is missing", len(text), len(tokenPrefix)+want)
	case len(rest) > want:
		return t, fmt.Errorf("has %d characters, expected %d: something was added", len(text), len(tokenPrefix)+want)
	}
	if at := strings.IndexFunc(rest, strange); at >= 0 {
		return t, fmt.Errorf("has a character that no token has, %q at %d", rest[at], at+len(tokenPrefix)+1)
	}
	b, err := encoding.DecodeString(rest)
	if err != nil {
		return t, errors.New("was changed on its way: its end is not possible")
	}
	body, sum := b[:tokenBytes-4], binary.BigEndian.Uint32(b[tokenBytes-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return t, errors.New("was changed on its way: its checksum does not fit")
	}
	t.Cluster = hex.EncodeToString(body[:clusterBytes])
	r := bytes.NewReader(body[clusterBytes:])
	r.Read(t.Authority[:])
	r.Read(t.Secret[:])
	t.Expires = time.Unix(int64(binary.BigEndian.Uint64(body[len(body)-8:])), 0).UTC()
	return t, nil
}

// strange tells whether a character is not one of base64.
func strange(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// Check returns an error that wraps ErrExpired if the token is not valid any more.
func (t Token) Check(now time.Time) error {
	if late := now.Sub(t.Expires); late >= 0 {
		return fmt.Errorf("identity: %w at %s, %v ago by the clock of this machine; make a new one", ErrExpired, t.Expires.Format(time.RFC3339), late.Round(time.Second))
	}
	return nil
}
