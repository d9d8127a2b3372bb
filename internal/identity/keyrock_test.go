package identity

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// clock is a clock that stands still until it is told.
type clock struct{ passed atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_700_000_000, c.passed.Load()) }
func (c *clock) advance(d time.Duration) { c.passed.Add(int64(d)) }

// idm is a KeyRock whose answers a test decides; it counts the look-ups.
type idm struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func newIDM(t *testing.T, answer http.HandlerFunc) *idm {
	t.Helper()
	s := new(idm)
	s.says(answer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *idm) says(answer http.HandlerFunc) { s.answer.Store(&answer) }

func (s *idm) expect(t *testing.T, asked int64) {
	t.Helper()
	if n := s.asked.Load(); n != asked {
		t.Errorf("KeyRock was asked %d times, want %d", n, asked)
	}
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

const ownerOfTrento = `{"id": "u1", "displayName": "Ada", "app_id": "app", "roles": [{"id": "r", "name": "user"}], "isGravatarEnabled": false,
	"organizations": [{"id": "o1", "name": "Trento FIDASH", "roles": [{"id": "x", "name": "InfrastructureOwner"}]}]}`

var ada = flavor.Principal{ID: "u1", Name: "Ada", Provider: "keyrock", Roles: []string{"InfrastructureOwner", "user"}, Regions: []string{"Trento"}}

// onLoopback lets the servers of tests be asked.
var onLoopback = WithOutgoing(outgoing.Config{AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})

func newChain(t *testing.T, c *clock, cfg ...ProviderConfig) *Chain {
	t.Helper()
	chain, err := New(cfg, WithClock(c.now), onLoopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(chain.Close)
	return chain
}

func keyrock(s *idm) ProviderConfig {
	return ProviderConfig{Type: TypeKeyRock, URL: s.URL + "/user"}
}

func token(c *Chain, token flavor.Secret) (flavor.Principal, error) {
	return c.Authenticate(context.Background(), Credential{Kind: Token, Token: token})
}

func expectCode(t *testing.T, err error, want flavor.Code) {
	t.Helper()
	if got := flavor.CodeOf(err); got != want {
		t.Fatalf("the error is %q (%v), want %q", got, err, want)
	}
	if e, ok := errors.AsType[*flavor.Error](err); ok && want == flavor.CodeUnavailable && e.RetryAfter <= 0 {
		t.Error("a 503 needs a Retry-After")
	}
}

// What KeyRock says of a user decides about managers and owners.
func TestKeyRockPrincipal(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		change       func(*ProviderConfig)
		want         flavor.Principal
	}{
		{"owner", ownerOfTrento, nil, ada},
		{"plain user, nothing but an id", `{"id": "u2"}`, nil, flavor.Principal{ID: "u2", Name: "u2", Provider: "keyrock"}},
		{"nulls", `{"id": "u2", "displayName": null, "app_id": null, "roles": null, "organizations": null}`, nil, flavor.Principal{ID: "u2", Name: "u2", Provider: "keyrock"}},
		{"later KeyRocks' fields", `{"id": "u3", "displayName": "", "username": "bob", "email": "b@x", "attributes": {"a": [1]}, "shared_attributes": "", "trusted_apps": [], "extra": null, "roles": [], "organizations": []}`, nil, flavor.Principal{ID: "u3", Name: "bob", Provider: "keyrock"}},
		{"manager", `{"id": "m", "displayName": "M", "roles": [{"name": "InfrastructureManager"}]}`, nil, flavor.Principal{ID: "m", Name: "M", Provider: "keyrock", Roles: []string{"InfrastructureManager"}, Manager: true}},
		{"a manager of an organisation is none here", `{"id": "m", "organizations": [{"name": "Trento FIDASH", "roles": [{"name": "InfrastructureManager"}]}]}`, nil, flavor.Principal{ID: "m", Name: "m", Provider: "keyrock"}},
		{"an owner by name alone is none", `{"id": "m", "roles": [{"name": "InfrastructureOwner"}], "organizations": [{"name": "Trento FIDASH", "roles": [{"name": "member"}]}, {"name": "Spain2 FIDASH"}]}`, nil,
			flavor.Principal{ID: "m", Name: "m", Provider: "keyrock", Roles: []string{"InfrastructureOwner"}}},
		{
			"several, out of order, twice, and names that are no region's",
			`{"id": "m", "organizations": [` + owned("Trento FIDASH", "Spain2 FIDASH", "Trento FIDASH", "FIDASH", " FIDASH", "a b FIDASH", "x/y FIDASH", "Spain FIDASH 2", "My Prague FIDASH", "Prague fidash", ".. FIDASH") + `]}`, nil,
			flavor.Principal{ID: "m", Name: "m", Provider: "keyrock", Roles: []string{"InfrastructureOwner"}, Regions: []string{"Spain2", "Trento"}},
		},
		{
			"names and patterns of another federation",
			`{"id": "m", "roles": [{"name": "boss"}], "organizations": [{"name": "region-Trento", "roles": [{"name": "ops"}]}, {"name": "a region-Spain2", "roles": [{"name": "ops"}]}, {"name": "region-Prague", "roles": [{"name": "InfrastructureOwner"}]}]}`,
			func(c *ProviderConfig) {
				c.ManagerRole, c.OwnerRole, c.OrganizationPattern = "boss", "ops", "region-(?P<region>[A-Za-z]+)"
			},
			flavor.Principal{ID: "m", Name: "m", Provider: "keyrock", Roles: []string{"boss", "ops"}, Manager: true, Regions: []string{"Trento"}},
		},
		{
			"only the organisations that are configured, by their id, whatever their name",
			`{"id": "m", "organizations": [{"id": "o1", "name": "Some Ltd", "roles": [{"name": "InfrastructureOwner"}]}, {"id": "o2", "name": "Spain2 FIDASH", "roles": [{"name": "InfrastructureOwner"}]}, {"id": "o3", "name": "Prague FIDASH", "roles": []}]}`,
			func(c *ProviderConfig) { c.Organizations = map[string]string{"o1": "Trento", "o3": "Prague"} },
			flavor.Principal{ID: "m", Name: "m", Provider: "keyrock", Roles: []string{"InfrastructureOwner"}, Regions: []string{"Trento"}},
		},
		{"the application that is configured", ownerOfTrento, func(c *ProviderConfig) { c.AppID = "app" }, ada},
		{
			"the Keystone user, where KeyRock tells", `{"id": "m", "attributes": {"keystone_user": "5f7e"}}`,
			func(c *ProviderConfig) { c.KeystoneUserClaim = "attributes.keystone_user" }, flavor.Principal{ID: "m", Name: "m", Provider: "keyrock", KeystoneUser: "5f7e"},
		},
		{
			"the Keystone user, where KeyRock tells several", `{"id": "m", "keystone_user": ["5f7e", "6a8f"]}`,
			func(c *ProviderConfig) { c.KeystoneUserClaim = "keystone_user" }, flavor.Principal{ID: "m", Name: "m", Provider: "keyrock"},
		},
		{"what XML cannot carry", `{"id": "m", "displayName": "a\u0000b\uffff", "roles": [{"name": "x\u0007"}]}`, nil, flavor.Principal{ID: "m", Name: "a\ufffdb\ufffd", Provider: "keyrock", Roles: []string{"x\ufffd"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen *http.Request
			s := newIDM(t, func(w http.ResponseWriter, r *http.Request) {
				seen = r
				io.WriteString(w, c.answer)
			})
			cfg := keyrock(s)
			if c.change != nil {
				c.change(&cfg)
			}
			got, err := token(newChain(t, new(clock), cfg), "a+b/c=&%20?")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if seen.Method != http.MethodGet || seen.URL.Path != "/user" || seen.URL.Query().Get("access_token") != "a+b/c=&%20?" {
				t.Errorf("KeyRock was asked %s %s", seen.Method, seen.URL)
			}
		})
	}
}

func owned(names ...string) string {
	var all []string
	for _, name := range names {
		all = append(all, fmt.Sprintf(`{"id": "x", "name": %q, "roles": [{"name": "InfrastructureOwner"}]}`, name))
	}
	return strings.Join(all, ",")
}

// What KeyRock refuses is the caller's fault, 401; what cannot be told is not,
// 503. Neither shows the token, in any spelling.
func TestKeyRockFailures(t *testing.T) {
	const bearer = `s3cret/"tok\en"+=&%20`
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"%s": %q, "id": [%q]}`, r.FormValue("access_token"), r.FormValue("access_token"), r.RequestURI)
		}
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		appID  string
		want   flavor.Code
	}{
		{"401", text(401, `{"error": "invalid_token"}`), "", flavor.CodeUnauthorized},
		{"403", text(403, ""), "", flavor.CodeUnauthorized},
		{"404 in HTML", text(404, "<html>"), "", flavor.CodeUnauthorized},
		{"another application's token", text(200, ownerOfTrento), "other", flavor.CodeUnauthorized},
		{"nobody's application's token", text(200, `{"id": "u"}`), "other", flavor.CodeUnauthorized},
		{"500", text(500, `{"id": "u"}`), "", flavor.CodeUnavailable},
		{"500 with the token in it", echo(500), "", flavor.CodeUnavailable},
		{"503", text(503, ""), "", flavor.CodeUnavailable},
		{"429", text(429, ""), "", flavor.CodeUnavailable},
		{"400", text(400, ""), "", flavor.CodeUnavailable},
		{"201", text(201, `{"id": "u"}`), "", flavor.CodeUnavailable},
		{"empty", text(200, ""), "", flavor.CodeUnavailable},
		{"HTML", text(200, "<html>login</html>"), "", flavor.CodeUnavailable},
		{"null", text(200, "null"), "", flavor.CodeUnavailable},
		{"a list", text(200, "[]"), "", flavor.CodeUnavailable},
		{"no user", text(200, `{"hello": 1}`), "", flavor.CodeUnavailable},
		{"other spelling", text(200, `{"ID": "u"}`), "", flavor.CodeUnavailable},
		{"an id that is none", text(200, `{"id": "a\nb"}`), "", flavor.CodeUnavailable},
		{"roles of another shape", text(200, `{"id": "u", "roles": ["InfrastructureManager"]}`), "", flavor.CodeUnavailable},
		{"roles twice", text(200, `{"id": "u", "roles": [], "roles": [{"name": "InfrastructureManager"}]}`), "", flavor.CodeUnavailable},
		{"cut short", text(200, `{"id": "u", "roles": [`), "", flavor.CodeUnavailable},
		{"two answers", text(200, `{"id": "u"}{"id": "v"}`), "", flavor.CodeUnavailable},
		{"wrong shape with the token in it", echo(200), "", flavor.CodeUnavailable},
		{"2 MiB", text(200, `{"id": "u", "x": "`+strings.Repeat("x", 2<<20)+`"}`), "", flavor.CodeUnavailable},
		{"deeply nested", text(200, `{"id": "u", "x": `+strings.Repeat("[", 200_000)), "", flavor.CodeUnavailable},
		{"broken off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"id": "u"`)
		}, "", flavor.CodeUnavailable},
		{"connection cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", flavor.CodeUnavailable},
		{"no HTTP, and the request's own line", func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(conn, "GET %s %s\r\n\r\n", r.RequestURI, r.FormValue("access_token"))
				conn.Close()
			}
		}, "", flavor.CodeUnavailable},
		{"hangs", hang, "", flavor.CodeUnavailable},
		{"hangs in the body", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"id": `)
			http.NewResponseController(w).Flush()
			hang(w, r)
		}, "", flavor.CodeUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newIDM(t, c.answer)
			cfg := keyrock(s)
			cfg.AppID = c.appID
			if strings.HasPrefix(c.name, "hangs") {
				cfg.Timeout = 30 * time.Millisecond
			}
			_, err := token(newChain(t, new(clock), cfg), bearer)
			expectCode(t, err, c.want)
			expectNo(t, err, bearer)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		s := newIDM(t, text(200, ""))
		s.Close()
		_, err := token(newChain(t, new(clock), keyrock(s)), bearer)
		expectCode(t, err, flavor.CodeUnavailable)
		expectNo(t, err, bearer)
	})
	t.Run("a certificate nobody knows", func(t *testing.T) {
		s := httptest.NewUnstartedServer(text(200, ownerOfTrento))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		defer s.Close()
		_, err := token(newChain(t, new(clock), ProviderConfig{Type: TypeKeyRock, URL: s.URL}), bearer)
		expectCode(t, err, flavor.CodeUnavailable)
		expectNo(t, err, bearer)
	})
	t.Run("no HTTP at all", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				line, _ := bufio.NewReader(conn).ReadString('\n')
				io.WriteString(conn, line)
				conn.Close()
			}
		}()
		_, err = token(newChain(t, new(clock), ProviderConfig{Type: TypeKeyRock, URL: "http://" + l.Addr().String()}), bearer)
		expectCode(t, err, flavor.CodeUnavailable)
		expectNo(t, err, bearer)
	})
}

func expectNo(t *testing.T, err error, secret string) {
	t.Helper()
	for _, printed := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err)} {
		for _, spelling := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), fmt.Sprintf("%q", secret), "s3cret"} {
			if strings.Contains(printed, spelling) {
				t.Fatalf("the error shows the token: %s", printed)
			}
		}
	}
}

// A redirect would carry the token to whoever it points at.
func TestKeyRockRedirect(t *testing.T) {
	other := newIDM(t, text(200, ownerOfTrento))
	for _, status := range []int{301, 302, 307, 308} {
		s := newIDM(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/?"+r.URL.RawQuery, status)
		})
		_, err := token(newChain(t, new(clock), keyrock(s)), "s3cret")
		expectCode(t, err, flavor.CodeUnavailable)
		expectNo(t, err, "s3cret")
	}
	other.expect(t, 0)
}

// A good token is asked about every 30 s, a refused one every 5 s, and one that
// could not be asked about at once again.
func TestKeyRockMemory(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   flavor.Code
		lasts  time.Duration
	}{
		{"accepted", text(200, ownerOfTrento), "", 30 * time.Second},
		{"refused", text(401, ""), flavor.CodeUnauthorized, 5 * time.Second},
		{"unavailable", text(500, ""), flavor.CodeUnavailable, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := new(clock)
			s := newIDM(t, c.answer)
			chain := newChain(t, now, keyrock(s))
			ask := func(asked int64) {
				t.Helper()
				who, err := token(chain, "t")
				expectCode(t, err, c.want)
				if err == nil && who.ID != "u1" {
					t.Errorf("it is %+v", who)
				}
				s.expect(t, asked)
			}
			ask(1)
			if c.lasts > 0 {
				ask(1)
				now.advance(c.lasts - 1)
				ask(1)
				now.advance(1)
			}
			ask(2)
			// Another token is another question.
			_, err := token(chain, "T")
			expectCode(t, err, c.want)
			s.expect(t, 3)
		})
	}
}

// What KeyRock changes its mind about is believed after that time: a revoked
// token ends, and one that was too early begins.
func TestKeyRockChangesItsMind(t *testing.T) {
	now := new(clock)
	s := newIDM(t, text(401, ""))
	chain := newChain(t, now, keyrock(s))
	_, err := token(chain, "t")
	expectCode(t, err, flavor.CodeUnauthorized)
	s.says(text(200, ownerOfTrento))
	now.advance(refusedFor)
	if _, err := token(chain, "t"); err != nil {
		t.Fatal(err)
	}
	s.says(text(500, ""))
	now.advance(goodFor - 1)
	if _, err := token(chain, "t"); err != nil {
		t.Fatal("KeyRock is down, and a token it accepted 30 s ago is not believed:", err)
	}
	now.advance(1)
	_, err = token(chain, "t")
	expectCode(t, err, flavor.CodeUnavailable)
	s.says(text(401, ""))
	_, err = token(chain, "t")
	expectCode(t, err, flavor.CodeUnauthorized)
}

// The time counts from the question, so that a slow answer is not believed longer.
func TestKeyRockSlowAnswer(t *testing.T) {
	now := new(clock)
	s := newIDM(t, func(w http.ResponseWriter, r *http.Request) {
		now.advance(20 * time.Second)
		text(200, ownerOfTrento)(w, r)
	})
	chain := newChain(t, now, keyrock(s))
	for range 2 {
		if _, err := token(chain, "t"); err != nil {
			t.Fatal(err)
		}
	}
	s.expect(t, 1)
	now.advance(10 * time.Second)
	if _, err := token(chain, "t"); err != nil {
		t.Fatal(err)
	}
	s.expect(t, 2)
}

// A thousand callers with one token, good or bad, are one look-up.
func TestKeyRockCrowd(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   flavor.Code
	}{{"accepted", text(200, ownerOfTrento), ""}, {"refused", text(401, ""), flavor.CodeUnauthorized}} {
		t.Run(c.name, func(t *testing.T) {
			release := make(chan struct{})
			s := newIDM(t, func(w http.ResponseWriter, r *http.Request) {
				<-release
				c.answer(w, r)
			})
			cfg := keyrock(s)
			cfg.Timeout = time.Minute
			chain := newChain(t, new(clock), cfg)
			var started, done sync.WaitGroup
			for range 1000 {
				started.Add(1)
				done.Go(func() {
					started.Done()
					if _, err := token(chain, "t"); flavor.CodeOf(err) != c.want {
						t.Errorf("one of the crowd got %v", err)
					}
				})
			}
			started.Wait()
			close(release)
			done.Wait()
			s.expect(t, 1)
		})
	}
}

// The first of a crowd hangs up: the others must not be refused for it.
func TestKeyRockFirstCallerLeaves(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := newIDM(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		text(200, ownerOfTrento)(w, r)
	})
	cfg := keyrock(s)
	cfg.Timeout = time.Minute
	chain := newChain(t, new(clock), cfg)
	first, leave := context.WithCancel(context.Background())
	left := make(chan error)
	go func() {
		_, err := chain.Authenticate(first, Credential{Kind: Token, Token: "t"})
		left <- err
	}()
	<-arrived
	leave()
	expectCode(t, <-left, flavor.CodeUnavailable) // and it did not wait for KeyRock
	second := make(chan error)
	go func() {
		_, err := token(chain, "t")
		second <- err
	}()
	close(release)
	if err := <-second; err != nil {
		t.Error(err)
	}
	s.expect(t, 1)
	// A caller who is gone already still gets what is known, at no cost.
	if _, err := chain.Authenticate(first, Credential{Kind: Token, Token: "t"}); err != nil {
		t.Error(err)
	}
}

// Fifty different tokens are looked up side by side, over connections that are
// kept for the next fifty.
func TestKeyRockSideBySide(t *testing.T) {
	const crowd, rounds = 50, 10
	var together sync.WaitGroup
	var conns sync.Map
	s := newIDM(t, func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, true)
		together.Done()
		together.Wait() // nobody is answered before all have asked
		text(200, ownerOfTrento)(w, r)
	})
	cfg := keyrock(s)
	cfg.Timeout = time.Minute
	chain := newChain(t, new(clock), cfg)
	for round := range rounds {
		together.Add(crowd)
		var done sync.WaitGroup
		for i := range crowd {
			done.Go(func() {
				if _, err := token(chain, flavor.Secret(fmt.Sprint("t", round, "-", i))); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
	}
	s.expect(t, crowd*rounds)
	n := 0
	conns.Range(func(any, any) bool { n++; return true })
	if n > maxConns {
		t.Errorf("%d connections were made for %d look-ups at once", n, crowd)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering answers every request with these bytes.
func answering(body []byte) roundTripper {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body))}, nil
	}
}

// Whoever tries tokens fills no memory, and makes nobody else's be forgotten.
func TestKeyRockFlood(t *testing.T) {
	const size = 1000
	chain := newChain(t, new(clock), ProviderConfig{Type: TypeKeyRock, URL: "http://idm.example.org/user", CacheSize: size})
	k := chain.tokens[0].(*keyRock)
	asked := 0
	k.client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		asked++
		status, body := 401, ""
		if strings.HasPrefix(r.URL.Query().Get("access_token"), "good") {
			status, body = 200, ownerOfTrento
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
	})
	if _, err := token(chain, "good"); err != nil {
		t.Fatal(err)
	}
	for i := range 100_000 {
		if _, err := token(chain, flavor.Secret(fmt.Sprint("bad", i))); flavor.CodeOf(err) != flavor.CodeUnauthorized {
			t.Fatal(err)
		}
	}
	if n := k.memory.refused.Len(); n != size {
		t.Errorf("%d refused tokens are remembered, want %d", n, size)
	}
	if _, err := token(chain, "good"); err != nil || asked != 100_001 {
		t.Errorf("after the flood the good token was asked about again (%d questions, %v)", asked, err)
	}
	for i := range 2 * size {
		if _, err := token(chain, flavor.Secret(fmt.Sprint("good", i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.memory.good.Len(); n != size {
		t.Errorf("%d accepted tokens are remembered, want %d", n, size)
	}
}

// A provider is called like everybody else: a name in the operator's own file may
// come to mean another address, too.
func TestGuarded(t *testing.T) {
	s := newIDM(t, text(200, ownerOfTrento))
	for setting, calls := range map[string]outgoing.Config{
		"outgoing.allow_networks": {AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"outgoing.allow_http":     {AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	} {
		chain, err := New([]ProviderConfig{keyrock(s)}, WithOutgoing(calls))
		if err != nil {
			t.Fatal(err)
		}
		_, err = token(chain, "s3cret")
		expectCode(t, err, flavor.CodeUnavailable)
		if !strings.Contains(err.Error(), setting) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error does not name %s alone: %v", setting, err)
		}
	}
	s.expect(t, 0)
}

// Whatever KeyRock answers, nobody comes in without an id or owns what cannot
// be a region.
func FuzzKeyRockAnswer(f *testing.F) {
	f.Add([]byte(ownerOfTrento))
	f.Add([]byte(`{"id":"a","organizations":[{"name":"../x FIDASH","roles":[{"name":"InfrastructureOwner"}]}]}`))
	chain, err := New([]ProviderConfig{{Type: TypeKeyRock, URL: "http://idm.example.org/user", CacheSize: 1}})
	if err != nil {
		f.Fatal(err)
	}
	k := chain.tokens[0].(*keyRock)
	f.Fuzz(func(t *testing.T, answer []byte) {
		k.client.Transport = answering(answer)
		who, err := k.ask(context.Background(), "t")
		switch {
		case err != nil && flavor.CodeOf(err) != flavor.CodeUnavailable:
			t.Errorf("the error is %v", err)
		case err == nil && who.ID == "":
			t.Error("somebody without an id came in")
		}
		for _, region := range who.Regions {
			if !flavor.ValidRegionName(region) {
				t.Errorf("somebody owns %q", region)
			}
		}
	})
}

// The cost of a remembered token: it is part of every request.
func BenchmarkRememberedToken(b *testing.B) {
	chain, err := New([]ProviderConfig{{Type: TypeKeyRock, URL: "http://idm.example.org/user"}})
	if err != nil {
		b.Fatal(err)
	}
	k := chain.tokens[0].(*keyRock)
	k.memory.remember(k.memory.digest("0123456789abcdef0123456789abcdef"), time.Now().Add(time.Hour), verdict{who: ada})
	cred := Credential{Kind: Token, Token: "0123456789abcdef0123456789abcdef"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := chain.Authenticate(context.Background(), cred); err != nil {
				b.Fatal(err)
			}
		}
	})
}
