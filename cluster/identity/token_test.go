package identity_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/identity"
)

func encode(t testing.TB, token identity.Token) string {
	t.Helper()
	text, err := token.Encode()
	ok(t, err)
	return text
}

func TestToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 5, time.UTC)
	token := authority(t).NewToken(now.Add(time.Hour))
	text := encode(t, token)
	again, err := identity.ParseToken(" " + text + "\n")
	ok(t, err)
	if again != token || again.Digest() != token.Digest() {
		t.Errorf("%+v, want %+v", again, token)
	}
	ok(t, token.Check(now))
	err = token.Check(now.Add(90 * time.Minute))
	if want := "expired at 2026-11-01T13:00:00Z, 30m0s ago by the clock of this machine"; !errors.Is(err, identity.ErrExpired) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	for _, s := range []string{fmt.Sprint(token), token.Digest()} {
		if strings.Contains(s, fmt.Sprintf("%x", token.Secret)) {
			t.Errorf("%s tells the secret", s)
		}
	}

	typo := text[:30] + "A" + text[31:]
	if typo == text {
		typo = text[:30] + "B" + text[31:]
	}
	for want, text := range map[string]string{
		"is empty":                              " ",
		"is something else":                     "hello",
		"is of another version of Strata":       "strata2-" + text[8:],
		"has 109 characters, expected 110: a p": text[:109],
		"111 characters, expected 110: someth":  text + "A",
		`no token has, '*' at 21`:               text[:20] + "*" + text[21:],
		"its end is not possible":               text[:109] + "_",
		"its checksum does not fit":             typo,
		`no token has, '\n' at 21`:              text[:20] + "\n" + text[21:],
	} {
		if _, err := identity.ParseToken(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := (identity.Token{}).Encode(); err == nil {
		t.Error("a token without a cluster is encoded")
	}
}

func FuzzParseToken(f *testing.F) {
	a := authority(f)
	for _, after := range []int64{0, 1, -1, 1 << 62, 1790000000} {
		f.Add(encode(f, a.NewToken(time.Unix(after, 0))))
	}
	f.Add("strata1-")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := identity.ParseToken(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "identity: the token ") || len(err.Error()) > 200 {
				t.Errorf("the error is %q", err)
			}
			return
		}
		_ = token.Check(time.Now())
		if again := encode(t, token); again != strings.TrimSpace(text) {
			t.Errorf("%q becomes %q", text, again)
		}
	})
}
