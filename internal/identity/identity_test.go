package identity

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// Another system's token, shown to KeyRock, would be a gift to whoever reads
// its log: what looks like one is shown to nobody.
func TestTokensShownToNobody(t *testing.T) {
	signed := b64(`{"alg":"RS256","kid":"1"}`) + "." + b64(`{"iss":"https://aai.example.org"}`) + "."
	for _, c := range []struct {
		name  string
		token string
		shown bool
	}{
		{"an opaque token", "kJ7cH2", true},
		{"of KeyRock, 40 hex digits", "5b3f0dc4e1b2a6978f00c0ffee1234567890abcd", true},
		{"of 16 KiB", strings.Repeat("a", 16<<10), true},
		{"with dots, but no JWT", "a.b.c", true},
		{"a header without alg", b64(`{"typ":"x"}`) + ".e30.c2ln", true},
		{"a header that is no object", b64(`["alg"]`) + ".e30.c2ln", true},
		{"two parts", b64(`{"alg":"none"}`) + ".e30", true},
		{"a part that is not base64url", b64(`{"alg":"none"}`) + ".e3+0.c2ln", true},
		{"a JWT", signed + "c2ln", false},
		{"a JWT with padding", b64(`{"alg":"RS256"} `) + "==.e30=.c2ln", false},
		{"an unsecured JWT", signed, false},
		{"a Fernet token of Keystone", "gAAAAABm1234", false},
		{"empty", "", false},
		{"over 16 KiB", strings.Repeat("a", 16<<10+1), false},
		{"with a blank", "a b", false},
		{"with a trailing newline", "a\n", false},
		{"with NUL", "a\x00b", false},
		{"with DEL", "a\x7fb", false},
		{"not ASCII", "tökén", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newIDM(t, text(200, ownerOfTrento))
			_, err := token(newChain(t, new(clock), keyrock(s)), flavor.Secret(c.token))
			if c.shown {
				if err != nil {
					t.Error(err)
				}
				s.expect(t, 1)
				return
			}
			expectCode(t, err, flavor.CodeUnauthorized)
			s.expect(t, 0)
			if c.token != "" && len(c.token) < 1000 && strings.Contains(err.Error(), c.token) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

// The order of providers, and what one of them being down means.
func TestProvidersInOrder(t *testing.T) {
	const other = `{"id": "u9"}`
	for _, c := range []struct {
		name          string
		first, second int
		want          flavor.Code
		who           string
		asked         [2]int64
	}{
		{"the first knows", 200, 200, "", "u1", [2]int64{1, 0}},
		{"the second knows", 401, 200, "", "u9", [2]int64{1, 1}},
		{"the first is down, the second knows", 500, 200, "", "u9", [2]int64{1, 1}},
		{"nobody knows", 401, 401, flavor.CodeUnauthorized, "", [2]int64{1, 1}},
		{"the first is down, the second does not know", 500, 401, flavor.CodeUnavailable, "", [2]int64{1, 1}},
		{"the second is down, the first does not know", 401, 500, flavor.CodeUnavailable, "", [2]int64{1, 1}},
		{"both are down", 500, 500, flavor.CodeUnavailable, "", [2]int64{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := newIDM(t, text(c.first, ownerOfTrento)), newIDM(t, text(c.second, other))
			who, err := token(newChain(t, new(clock), keyrock(first), keyrock(second)), "t")
			expectCode(t, err, c.want)
			if who.ID != c.who {
				t.Errorf("it is %q, want %q", who.ID, c.who)
			}
			first.expect(t, c.asked[0])
			second.expect(t, c.asked[1])
		})
	}
}

// What nobody configured can answer is a 401, with or without a credential.
func TestNobodyToAsk(t *testing.T) {
	s := newIDM(t, text(200, ownerOfTrento))
	idmOnly := newChain(t, new(clock), keyrock(s))
	accountsOnly := newChain(t, new(clock), ProviderConfig{Type: TypeAccounts, Users: []Account{{Name: "a", PasswordHash: hashOf(t, "p", 4)}}})
	nobody := newChain(t, new(clock))
	for _, c := range []struct {
		chain *Chain
		cred  Credential
	}{
		{idmOnly, Credential{}},
		{idmOnly, Credential{Kind: Basic, User: "a", Password: "p"}},
		{accountsOnly, Credential{}},
		{accountsOnly, Credential{Kind: Token, Token: "p"}},
		{nobody, Credential{Kind: Token, Token: "t"}},
		{nobody, Credential{Kind: Basic, User: "a", Password: "p"}},
	} {
		_, err := c.chain.Authenticate(context.Background(), c.cred)
		expectCode(t, err, flavor.CodeUnauthorized)
	}
	s.expect(t, 0)
}

// New tells all that is wrong, and builds nothing that does not exist.
func TestNewRefuses(t *testing.T) {
	_, err := New([]ProviderConfig{{Type: "oidc"}, {Type: TypeKeyRock, URL: "x", Timeout: -time.Second}, {Type: TypeAccounts}})
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, want := range []string{"issuer: is missing", "url: must be", "timeout: must be above 0", "users: is missing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error: %v", want, err)
		}
	}
}

// A pattern is for the whole name: whoever may call an organisation
// "x Trento FIDASH y" must not own Trento.
func TestWholePattern(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          string
	}{
		{"(?P<region>[a-z]+) FIDASH", "trento FIDASH", "trento"},
		{"(?P<region>[a-z]+) FIDASH", "x trento FIDASH", ""},
		{"(?P<region>[a-z]+) FIDASH", "trento FIDASH y", ""},
		{"(?P<region>[a-z]+) FIDASH", "trento FIDASH\n", ""},
		{"x|(?P<region>[a-z]+) FIDASH", "trento FIDASH", "trento"},
		{"^(?P<region>[a-z]+) FIDASH$", "trento FIDASH", "trento"},
	} {
		re, err := wholePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if m := re.FindStringSubmatch(c.name); m != nil {
			got = m[re.SubexpIndex("region")]
		}
		if got != c.want {
			t.Errorf("%s finds %q in %q, want %q", c.pattern, got, c.name, c.want)
		}
	}
	if _, err := wholePattern("a)|(?P<region>b"); err == nil {
		t.Error("a pattern that closes our group was accepted")
	}
}

func FuzzShape(f *testing.F) {
	f.Add("gAAAAA")
	f.Add(b64(`{"alg":1}`) + ".e30.")
	f.Fuzz(func(t *testing.T, s string) {
		if shape := shapeOf(flavor.Secret(s)); shape != malformed && (s == "" || strings.ContainsAny(s, " \t\r\n\x00")) {
			t.Errorf("%q has shape %d", s, shape)
		}
	})
}
