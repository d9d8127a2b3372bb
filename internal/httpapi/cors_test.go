package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

const dash = "https://dash.example.org"

func allowDash(c *Config) { c.AllowOrigins = []string{dash, "http://localhost:3000"} }

func named(list, name string) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(item string) bool { return strings.EqualFold(strings.TrimSpace(item), name) })
}

// What a browser asks before a widget's call: whether it may, with which methods
// and headers, on the path as the widget writes it.
func TestPreflight(t *testing.T) {
	s := newSetup(t, allowDash, func(c *Config) { c.RequestsPerSecond, c.FailedLoginsPerMinute = 1, 1 })
	for _, row := range []struct {
		path    string
		methods []string
	}{
		{"/v1/flavors", []string{"GET", "HEAD", "POST", "OPTIONS"}},
		{"/v1/flavors/1", []string{"GET", "PUT", "DELETE"}},
		{"/api/v1/promotedflavors", []string{"GET", "POST"}},
		{"/api/v1/nodes", []string{"GET"}},
		{"/api/v1/region/Trento/flavors", []string{"GET", "POST"}},
		{"/v1/regions/Trento/flavors/1/", []string{"GET", "PUT", "DELETE"}},
		{"/v1/infrastructures/x?force=true", []string{"GET", "PUT", "DELETE"}},
	} {
		w := s.do(t, "OPTIONS "+row.path, "", "anonymous", "Origin: "+dash, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-auth-token,password")
		wantStatus(t, w, 204)
		h := w.Header()
		if got := h.Get("Access-Control-Allow-Origin"); got != dash {
			t.Errorf("%s: Access-Control-Allow-Origin %q", row.path, got)
		}
		for _, method := range row.methods {
			if !named(h.Get("Access-Control-Allow-Methods"), method) {
				t.Errorf("%s: %s is not in Access-Control-Allow-Methods %q", row.path, method, h.Get("Access-Control-Allow-Methods"))
			}
		}
		for header := range strings.FieldsSeq("x-auth-token x-auth-token-keystone authorization user password content-type accept prefer if-match if-none-match cache-control last-event-id") {
			if !named(h.Get("Access-Control-Allow-Headers"), header) {
				t.Errorf("%s: %s is not in Access-Control-Allow-Headers %q", row.path, header, h.Get("Access-Control-Allow-Headers"))
			}
		}
		if h.Get("Access-Control-Max-Age") != "7200" || !named(h.Get("Vary"), "Origin") || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %v", row.path, h)
		}
	}
	if s.people.seen.Kind != 0 || s.market.called() != "" {
		t.Errorf("somebody was asked: %+v, %s", s.people.seen, s.market.called())
	}
}

// A page that may not call finds out why in its console, and reads nothing.
func TestForeignOrigins(t *testing.T) {
	s := newSetup(t, allowDash)
	for _, origin := range []string{
		"https://evil.example.org", "http://dash.example.org", "https://dash.example.org:8443", "https://dash.example.org.evil.org", "https://evil-dash.example.org",
		"https://DASH.example.org", "https://dash.example.org/", "null", "*", dash + ", " + dash, "http://localhost:3001", "http://localhost",
	} {
		w := s.do(t, "OPTIONS /v1/flavors", "", "anonymous", "Origin: "+origin, "Access-Control-Request-Method: POST")
		wantStatus(t, w, 403)
		if !strings.Contains(w.Body.String(), "cors.allow_origins") || strings.Contains(w.Body.String(), "evil") {
			t.Errorf("%s: %s", origin, w.Body)
		}
		answered := s.do(t, "GET /v1/flavors", "", "Origin: "+origin)
		wantStatus(t, answered, 200) // it is no browser that would hide it
		for _, h := range []http.Header{w.Header(), answered.Header()} {
			for name := range h {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: %s: %s", origin, name, h.Get(name))
				}
			}
			if !named(h.Get("Vary"), "Origin") {
				t.Errorf("%s: Vary %q: a cache would give one origin's answer to another", origin, h.Get("Vary"))
			}
		}
	}
	// Two headers are nobody's.
	if w := s.do(t, "GET /v1/flavors", "", "Origin: "+dash, "Origin: https://evil.example.org"); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("of two origins: %v", w.Header())
	}
	if w := s.do(t, "GET /v1/flavors", ""); !named(w.Header().Get("Vary"), "Origin") || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an Origin: %v", w.Header())
	}
}

// A widget that cannot read an error shows "network error", and its user calls
// the operator; so each carries what lets it be read, a panic's too.
func TestErrorsAreSharedToo(t *testing.T) {
	for _, row := range append(slices.Clone(exchanges), []exchange{
		{"GET /v1/flavors", "", nil, func(s *setup) { s.callers = newCallerLimits(1); _ = s.callers.take("test/ann") }, 429, false},
		{"GET /v1/flavors", "", nil, func(s *setup) { s.people.err = flavor.Errorf(flavor.CodeUnavailable, "no") }, 503, false},
		{"PUT /v1/promotedflavors/1", "{}", nil, func(s *setup) { s.market.err = flavor.Errorf(flavor.CodeManagerOnly, "no") }, 405, false},
		{"PUT /v1/flavors/1", "{}", []string{"If-Match: \"x\""}, nil, 412, false},
		{"POST /v1/flavors", `{"name": "` + strings.Repeat("a", maxBody) + `"}`, nil, nil, 413, false},
		{"POST /v1/regions/x/flavors", "{}", nil, func(s *setup) { s.market.during = func(context.Context) { panic("no") } }, 500, false},
	}...) {
		s := newSetup(t, allowDash)
		if row.prepare != nil {
			row.prepare(s)
		}
		w := s.do(t, row.request, row.body, append(row.headers, "Origin: "+dash)...)
		wantStatus(t, w, row.status)
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != dash {
			t.Errorf("%s (%d): Access-Control-Allow-Origin %q", row.request, row.status, got)
		}
		for header := range strings.FieldsSeq("link location etag retry-after x-request-id x-flavorsync-unreachable preference-applied") {
			if got := w.Header().Get("Access-Control-Expose-Headers"); !named(got, header) {
				t.Errorf("%s (%d): %s is not in Access-Control-Expose-Headers %q", row.request, row.status, header, got)
			}
		}
	}
}

func TestEveryOriginButNull(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.AllowOrigins = []string{"*"} })
	w := s.do(t, "GET /v1/flavors", "", "Origin: https://anybody.example")
	if w.Header().Get("Access-Control-Allow-Origin") != "*" || w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", w.Header())
	}
	wantStatus(t, s.do(t, "OPTIONS /v1/flavors", "", "anonymous", "Origin: https://anybody.example", "Access-Control-Request-Method: GET"), 204)
	wantStatus(t, s.do(t, "OPTIONS /v1/flavors", "", "anonymous", "Origin: null", "Access-Control-Request-Method: GET"), 403)
	if w := s.do(t, "GET /v1/flavors", "", "Origin: null"); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("null: %v", w.Header())
	}
}

// Off, nothing of it is said, and OPTIONS is what it was.
func TestNoCORS(t *testing.T) {
	s := newSetup(t)
	for _, request := range []string{"OPTIONS /v1/flavors", "GET /v1/flavors", "GET /nowhere"} {
		w := s.do(t, request, "", "Origin: "+dash, "Access-Control-Request-Method: GET")
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s", request, name)
			}
		}
		if named(w.Header().Get("Vary"), "Origin") {
			t.Errorf("%s: Vary %q", request, w.Header().Get("Vary"))
		}
	}
	wantStatus(t, s.do(t, "OPTIONS /v1/flavors", "", "anonymous", "Origin: "+dash, "Access-Control-Request-Method: GET"), 204)
	// On, the preflight to a path that is not served lets the page find that out.
	w := newSetup(t, allowDash).do(t, "OPTIONS /nowhere", "", "anonymous", "Origin: "+dash, "Access-Control-Request-Method: PUT")
	wantStatus(t, w, 204)
	if w.Header().Get("Access-Control-Allow-Origin") != dash || !named(w.Header().Get("Access-Control-Allow-Methods"), "PUT") {
		t.Errorf("%v", w.Header())
	}
}
