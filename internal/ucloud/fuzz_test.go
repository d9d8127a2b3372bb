package ucloud

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// FuzzToken: whatever is signed with Core's own key, it opens nothing unless it is
// what Core makes for calling a provider.
func FuzzToken(f *testing.F) {
	clock := newClock()
	public, err := x509.MarshalPKIXPublicKey(key().Public())
	if err != nil {
		f.Fatal(err)
	}
	p, err := New(Config{ProviderID: "aau", PublicKey: base64.StdEncoding.EncodeToString(public), Log: slog.New(slog.DiscardHandler), Now: clock.now})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, payload string, bad bool) {
		raw := base64.RawURLEncoding
		token := raw.EncodeToString([]byte(header)) + "." + raw.EncodeToString([]byte(payload))
		sum := sha256.Sum256([]byte(token))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key(), crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		if bad {
			signature[0] ^= 1
		}
		token += "." + raw.EncodeToString(signature)
		if err := p.Verify(token); err != nil {
			expectCode(t, err, flavor.CodeUnauthorized)
			if strings.Contains(err.Error(), token) {
				t.Error("the error holds the token")
			}
			return
		}
		var h, c map[string]any
		if json.Unmarshal([]byte(header), &h) != nil || json.Unmarshal([]byte(payload), &c) != nil {
			t.Fatalf("%q %q is taken for a token", header, payload)
		}
		exp, _ := c["exp"].(float64)
		iat, _ := c["iat"].(float64)
		now := float64(clock.now().Unix())
		if bad || h["alg"] != "RS256" || c["iss"] != issuer || c["sub"] != coreSubject || c["role"] != coreRole || exp < now || iat > now+skew.Seconds()+1 || len(token) > maxToken {
			t.Errorf("%q %q, signed badly: %t, lets in", header, payload, bad)
		}
	})
}

// FuzzWhy: of what Core says of an error no piece of our tokens gets through, and
// nothing that a terminal or a log would act on.
func FuzzWhy(f *testing.F) {
	const secret = flavor.Secret("0123456789abcdefghijklmnopqrstuvwxyz")
	f.Fuzz(func(t *testing.T, said string, raw []byte) {
		// The fuzzer need not find out what the secret is.
		said = strings.ReplaceAll(strings.ReplaceAll(said, "~", string(secret)), "^", string(secret[3:20]))
		body, err := json.Marshal(map[string]string{"why": said})
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range [][]byte{body, raw} {
			quote := why(body, []flavor.Secret{secret, ""})
			if quote == "" {
				continue
			}
			told, err := strconv.Unquote(quote)
			if err != nil || len([]rune(told)) > maxWhy || strings.ContainsFunc(told, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is told as %s, %v", said, quote, err)
			}
			for i := range len(secret) - minPiece + 1 {
				if strings.Contains(told, string(secret[i:i+minPiece])) {
					t.Errorf("%q tells a piece of the secret: %s", said, quote)
				}
			}
		}
	})
}

// FuzzCore: whatever Core answers, its definitions are read and compared with ours,
// or it is a failure of Core's.
func FuzzCore(f *testing.F) {
	var answer []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }))
	f.Cleanup(server.Close)
	c := newCore(Config{CoreURL: server.URL, ProviderID: "aau", AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Now: newClock().now}.withDefaults())
	f.Cleanup(c.client.CloseIdleConnections)
	c.access, c.expiry = "token", c.now().AddDate(1, 0, 0)
	offers := []flavor.Offer{offer("a", "uc-general", 400), offer("b", "uc-gpu", 1)}
	f.Fuzz(func(t *testing.T, body []byte) {
		answer = body
		for mode, g := range generations {
			items, err := (&session{core: c}).browse(t.Context(), g.browse, g.perPage)
			if err != nil {
				if failure, _ := failureOf(err); failure == nil {
					t.Fatal(err)
				}
				continue
			}
			found, err := g.found("aau", items)
			if err != nil {
				continue
			}
			for _, p := range found {
				if p.Provider != "aau" {
					t.Errorf("%s: another's product is taken for ours: %+v", mode, p)
				}
			}
			if _, err := newPlanner(g, "aau", found, nil).compare(offers); err != nil {
				if failure, _ := failureOf(err); failure == nil {
					t.Fatal(err)
				}
			}
		}
	})
}
