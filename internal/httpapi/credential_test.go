package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
)

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// The first credential present decides, in every form that clients send.
func TestCredentials(t *testing.T) {
	token := func(t string) identity.Credential {
		return identity.Credential{Kind: identity.Token, Token: flavor.Secret(t)}
	}
	account := func(user, password string) identity.Credential {
		return identity.Credential{Kind: identity.Basic, User: user, Password: flavor.Secret(password)}
	}
	for _, row := range []struct {
		name    string
		query   string
		headers []string
		want    identity.Credential
	}{
		{"none", "", nil, identity.Credential{}},
		{"X-Auth-Token", "", []string{"X-Auth-Token: a"}, token("a")},
		{"Bearer", "", []string{"Authorization: Bearer a"}, token("a")},
		{"bearer in small letters", "", []string{"Authorization: bearer  a "}, token("a")},
		{"access_token", "?access_token=a", nil, token("a")},
		{"access_token, escaped name and value", "?x=1&access%5Ftoken=a%2Bb", nil, token("a+b")},
		{"Basic", "", []string{basic("ann", "r:ght é")}, account("ann", "r:ght é")},
		{"header pair", "", []string{"user: ann", "password: right"}, account("ann", "right")},
		{"all: X-Auth-Token", "?access_token=c", []string{"X-Auth-Token: a", "Authorization: Bearer b", basic("d", "d"), "user: e", "password: e"}, token("a")},
		{"all but the first: Bearer", "?access_token=c", []string{"Authorization: Bearer b", basic("d", "d"), "user: e", "password: e"}, token("b")},
		{"Bearer after Basic", "", []string{basic("d", "d"), "Authorization: Bearer b"}, token("b")},
		{"access_token before Basic", "?access_token=c", []string{basic("d", "d"), "user: e", "password: e"}, token("c")},
		{"Basic before the pair", "", []string{basic("d", "d"), "user: e", "password: e"}, account("d", "d")},
		{"an empty one is none", "?access_token=", []string{"Authorization: Bearer ", "user: e", "password: e"}, account("e", "e")},
		{"another scheme is none", "", []string{"Authorization: Negotiate abc", "user: e", "password: e"}, account("e", "e")},
		{"a user without a password is none", "", []string{"user: e"}, identity.Credential{}},
		{"cookies are none", "", []string{"Cookie: X-Auth-Token=a; access_token=a"}, identity.Credential{}},
		{"a Keystone token is none", "", []string{"X-Auth-Token-KeyStone: a"}, identity.Credential{}},
		{"the same token twice", "?access_token=a&access_token=a", nil, token("a")},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSetup(t)
			s.do(t, "GET /v1/whoami"+row.query, "", append(row.headers, "anonymous")...)
			if s.people.seen != row.want {
				t.Errorf("%+v, token %q, password %q", s.people.seen, string(s.people.seen.Token), string(s.people.seen.Password))
			}
		})
	}
}

func TestUnauthorized(t *testing.T) {
	for _, row := range []struct {
		name      string
		query     string
		headers   []string
		challenge string
	}{
		{"none", "", []string{"anonymous"}, `Bearer realm="flavorsync"`},
		{"bad token", "", []string{"X-Auth-Token: bad"}, `Bearer realm="flavorsync", error="invalid_token"`},
		{"bad access_token", "?access_token=bad", nil, `Bearer realm="flavorsync", error="invalid_token"`},
		{"two tokens", "?access_token=bad&access_token=good", nil, `Bearer realm="flavorsync"`},
		{"a token with a blank", "?access_token=go%20od", nil, `Bearer realm="flavorsync"`},
		{"a token with a line", "?access_token=good%0a", nil, `Bearer realm="flavorsync"`},
		{"a token of broken escapes", "?access_token=%zz", nil, `Bearer realm="flavorsync", error="invalid_token"`},
		{"bad password", "", []string{basic("ann", "wrong")}, `Basic realm="flavorsync", charset="UTF-8"|Bearer realm="flavorsync"`},
		{"broken basic", "", []string{"Authorization: Basic %%%"}, `Basic realm="flavorsync", charset="UTF-8"|Bearer realm="flavorsync"`},
		{"basic without a colon", "", []string{"Authorization: Basic YW5u"}, `Basic realm="flavorsync", charset="UTF-8"|Bearer realm="flavorsync"`},
		// A browser would show its login window for a widget's request.
		{"bad header pair", "", []string{"user: ann", "password: wrong"}, `Bearer realm="flavorsync"`},
		{"bad token before a good password", "", []string{"X-Auth-Token: bad", basic("ann", "right")}, `Bearer realm="flavorsync", error="invalid_token"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSetup(t)
			w := s.do(t, "GET /v1/flavors"+row.query, "", append(row.headers, "Accept: application/xml")...)
			wantStatus(t, w, 401)
			if w.Body.String() != unauthorizedText || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s: %s", w.Header().Get("Content-Type"), w.Body)
			}
			if got := strings.Join(w.Header()["Www-Authenticate"], "|"); got != row.challenge {
				t.Errorf("WWW-Authenticate %s, want %s", got, row.challenge)
			}
			if s.market.called() != "" {
				t.Errorf("did %s", s.market.called())
			}
		})
	}
	// A 401 that is no matter of the login has a message.
	for _, code := range []flavor.Code{flavor.CodeKeystone, flavor.CodePromote} {
		s := newSetup(t)
		s.market.err = flavor.Errorf(code, "because")
		w := s.do(t, "GET /v1/flavors", "")
		wantStatus(t, w, 401)
		if w.Body.String() != `{"error": {"message": "because"}}` || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%v %s", w.Header(), w.Body)
		}
	}
}

func TestUnavailableProvider(t *testing.T) {
	s := newSetup(t)
	s.people.err = &flavor.Error{Code: flavor.CodeUnavailable, Message: "KeyRock cannot be reached: try again", RetryAfter: 4200e6}
	w := s.do(t, "GET /v1/flavors", "")
	wantStatus(t, w, 503)
	if got := w.Header().Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After %q", got)
	}
	if id := w.Header().Get("X-Request-Id"); !strings.Contains(w.Body.String(), "(request id "+id+")") {
		t.Errorf("no request id in %s", w.Body)
	}
}

// After so long as Retry-After says the caller is let in, and not much before.
func TestRequestsPerSecond(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.RequestsPerSecond = 1 })
	now := time.Now()
	s.callers.now = func() time.Time { return now }
	for _, row := range []struct{ accept, message string }{
		{"application/json", `{"error": {"message": "more than 1 requests in a second: wait a moment"}}`},
		{"application/xml", xmlDeclaration + "<error><message>more than 1 requests in a second: wait a moment</message></error>"},
	} {
		wantStatus(t, s.do(t, "GET /v1/whoami", ""), 200)
		w := s.do(t, "GET /v1/whoami", "", "Accept: "+row.accept)
		wantStatus(t, w, 429)
		if w.Body.String() != row.message {
			t.Errorf("%s: %s", row.accept, w.Body)
		}
		now = now.Add(seconds(t, w))
	}
	wantStatus(t, s.do(t, "GET /v1/whoami", ""), 200)
	wantStatus(t, s.do(t, "GET /healthz", "", "anonymous"), 200)
}

// seconds is how long w says to wait.
func seconds(t *testing.T, w *httptest.ResponseRecorder) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if err != nil || n < 1 {
		t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

// A flood of made-up tokens asks an identity provider no more often than its
// address may; others, and who comes with a password, are not in the way.
func TestFailedTokens(t *testing.T) {
	s := newSetup(t, func(c *Config) {
		c.FailedTokensPerMinute = 3
		c.TrustedProxies = networks("192.0.2.1/32")
	})
	now := time.Now()
	s.tokens.now = func() time.Time { return now }
	const here, elsewhere = "X-Forwarded-For: 203.0.113.5", "X-Forwarded-For: 203.0.113.6"
	for range 10 {
		wantStatus(t, s.do(t, "GET /v1/whoami", "", here), 200)
	}
	for i := range 3 {
		wantStatus(t, s.do(t, "GET /v1/whoami", "", fmt.Sprint("X-Auth-Token: made-up-", i), here), 401)
	}
	s.people.seen = identity.Credential{}
	for _, header := range []string{"X-Auth-Token: made-up", "Authorization: Bearer made-up"} {
		wantStatus(t, s.do(t, "GET /v1/whoami", "", header, here), 429)
	}
	w := s.do(t, "GET /v1/whoami?access_token=made-up", "", here)
	wantStatus(t, w, 429)
	if s.people.seen.Kind != identity.None {
		t.Errorf("a provider was asked: %+v", s.people.seen)
	}
	wantStatus(t, s.do(t, "GET /v1/whoami", "", elsewhere), 200)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", basic("ann", "right"), here), 200)
	wait := seconds(t, w)
	now = now.Add(wait - time.Second)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", here), 429)
	now = now.Add(time.Second)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", here), 200)
}

// Guessing is limited for each address, by failures alone; whoever comes with a
// token from there, or from elsewhere, is not in the way.
func TestFailedLogins(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.FailedLoginsPerMinute = 2 })
	now := time.Now()
	s.logins.now = func() time.Time { return now }
	for range 10 {
		wantStatus(t, s.do(t, "GET /v1/whoami", "", basic("ann", "right")), 200)
	}
	wantStatus(t, s.do(t, "GET /v1/whoami", "", basic("ann", "wrong")), 401)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", "user: ann", "password: wrong"), 401)
	w := s.do(t, "GET /v1/whoami", "", basic("ann", "right"))
	wantStatus(t, w, 429)
	if got := w.Header().Get("Retry-After"); got != "30" {
		t.Errorf("Retry-After %q, want 30", got)
	}
	now = now.Add(29 * time.Second)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", basic("ann", "right")), 429)
	now = now.Add(time.Second)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", basic("ann", "wrong")), 401)
	wantStatus(t, s.do(t, "GET /v1/whoami", ""), 200)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", basic("ann", "right"), "X-Forwarded-For: 203.0.113.9"), 429)

	if done, err := s.logins.begin("198.51.100.1"); err != nil {
		t.Errorf("another address is limited too: %v", err)
	} else {
		done(false)
	}
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1": "2001:db8::/64", "nonsense": "nonsense",
	} {
		if got := network(address); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}
