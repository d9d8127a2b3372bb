package ucloud

import (
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

// Whoever forges a token sees nothing, and Core is let in whatever its
// generation.
func TestTokens(t *testing.T) {
	for name, w := range map[string]world{"current": newWorld(t), "classic": classicWorld(t)} {
		forged, err := w.core.Forged()
		if err != nil || len(forged) < 25 {
			t.Fatal(err, len(forged))
		}
		for _, s := range forged {
			err := w.Verify(s.Token)
			if flavor.CodeOf(err) != flavor.CodeUnauthorized {
				t.Errorf("%s: %s: %v", name, s.Name, err)
			}
			if err != nil && len(s.Token) > 9 && strings.Contains(err.Error(), s.Token[:9]) {
				t.Errorf("%s: %s: the error holds the token", name, s.Name)
			}
		}
		accepted, err := w.core.Accepted()
		if err != nil || len(accepted) < 4 {
			t.Fatal(err, len(accepted))
		}
		good := map[string]bool{}
		for _, s := range accepted {
			good[s.Token] = true
			if err := w.Verify(s.Token); err != nil {
				t.Errorf("%s: %s: %v", name, s.Name, err)
			}
		}
		if w.verified.Len() != len(good) {
			t.Errorf("%s: %d tokens are remembered; only the %d good ones may be", name, w.verified.Len(), len(good))
		}
	}
	w := newWorld(t)
	long, err := w.core.Token(coretest.Claims{"padding": strings.Repeat("x", maxToken)})
	if err != nil {
		t.Fatal(err)
	}
	expectCode(t, w.Verify(long), flavor.CodeUnauthorized)
	var none *Provider
	expectCode(t, none.Verify("x"), flavor.CodeUnauthorized)
}

// A Core whose clock is a little ahead of ours must not be locked out.
func TestClocks(t *testing.T) {
	w := newWorld(t)
	for ahead, want := range map[time.Duration]flavor.Code{skew: "", skew + time.Second: flavor.CodeUnauthorized} {
		token, err := w.core.Token(coretest.Claims{"iat": w.clock.now().Add(ahead).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		expectCode(t, w.Verify(token), want)
	}
}

// Core asks every ten seconds with one token: its signature is checked once, and
// the token still ends when it ends.
func TestVerifiedTokensAreRemembered(t *testing.T) {
	w := newWorld(t)
	seen, err1 := w.core.Token(nil)
	other, err2 := w.core.Token(coretest.Claims{"jti": "other"})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := w.Verify(seen); err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w.key = &key.PublicKey // nothing verifies any more
	if err := w.Verify(seen); err != nil {
		t.Errorf("a verified token was verified again: %v", err)
	}
	expectCode(t, w.Verify(other), flavor.CodeUnauthorized)
	w.clock.advance(10 * time.Minute)
	expectCode(t, w.Verify(seen), flavor.CodeUnauthorized)
}
