package httpapi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
)

// exchange is a request and its answer, and what was changed to get it.
type exchange struct {
	request, body string
	headers       []string
	prepare       func(*setup)
	status        int
	personal      bool // not a fault, and not the same for everybody
}

// exchanges are one of every kind of answer.
var exchanges = []exchange{
	{"GET /v1/promotedflavors", "", nil, nil, 200, true},
	{"HEAD /v1/flavors", "", nil, nil, 200, true},
	{"GET /v1/whoami", "", []string{"Accept: application/xml"}, nil, 200, true},
	{"GET /v1/infrastructures/Mordor", "", nil, nil, 200, true},
	{"GET /v1/regions/Trento/glue2", "", nil, nil, 200, true},
	{"GET /v1/flavors", "", []string{"If-None-Match: *"}, nil, 304, true},
	{"POST /v1/flavors", "{}", nil, nil, 201, true},
	{"POST /v1/infrastructures", "{}", nil, nil, 201, true},
	{"PUT /v1/flavors/1", "{}", nil, nil, 200, true},
	{"PUT /v1/infrastructures/Mordor", "{}", nil, nil, 200, true},
	{"PUT /v1/promotedflavors/1/product", "{}", nil, nil, 200, true},
	{"POST /v1/match", `{"host": {}}`, nil, func(s *setup) { s.market.matches = []marketplace.Match{fitting} }, 200, true},
	{"DELETE /v1/flavors/1", "", nil, nil, 204, true},
	{"DELETE /v1/regions/Trento/flavors/1", "", nil, nil, 204, true},
	{"OPTIONS /v1/flavors", "", []string{"anonymous"}, nil, 204, true},
	{"GET /openapi.yaml", "", []string{"anonymous"}, nil, 200, true},
	{"GET /flavorsync.xsd", "", []string{"anonymous"}, nil, 200, true},
	{"GET /healthz", "", []string{"anonymous"}, nil, 200, false},
	{"GET /readyz", "", []string{"anonymous"}, func(s *setup) { s.cfg.Ready = func(context.Context) error { return errors.New("no") } }, 503, false},
	{"GET /nowhere", "", nil, nil, 404, false},
	{"PATCH /v1/flavors", "", nil, nil, 405, false},
	{"GET /v1/flavors", "", []string{"anonymous"}, nil, 401, false},
	{"GET /ucloud/aau/jobs/retrieveProducts", "", []string{"anonymous"}, nil, 404, false},
	{"POST /v1/flavors", "{", nil, nil, 400, false},
	{"POST /v1/flavors", "{}", []string{"Content-Type: text/plain"}, nil, 415, false},
	{"GET /v1/flavors", "", nil, func(s *setup) { s.market.err = flavor.Errorf(flavor.CodeUnreachable, "no") }, 502, false},
	{"DELETE /v1/flavors/1", "", nil, func(s *setup) { s.market.during = func(context.Context) { panic("no") } }, 500, false},
}

// A browser that is led to an answer, to whichever, must not run it, frame it,
// guess its type, or hand its address on; and no cache may keep it for others.
func TestHeadersOfEveryAnswer(t *testing.T) {
	for _, row := range exchanges {
		s := newSetup(t)
		if row.prepare != nil {
			row.prepare(s)
		}
		w := s.do(t, row.request, row.body, row.headers...)
		wantStatus(t, w, row.status)
		wanted := map[string]string{
			"X-Content-Type-Options":       "nosniff",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Vary":                         onCredentials,
			"Cache-Control":                "no-store",
			// Nobody has heard of TLS here, and CORS is off.
			"Strict-Transport-Security":   "",
			"Access-Control-Allow-Origin": "",
			"Server":                      "",
			"X-Powered-By":                "",
		}
		if row.personal {
			wanted["Cache-Control"] = "private"
		}
		for name, want := range wanted {
			if got := strings.Join(w.Header()[name], "|"); got != want {
				t.Errorf("%s (%d): %s is %q, want %q", row.request, row.status, name, got, want)
			}
		}
	}
}

// Told by a proxy of ours that the caller came by https, browsers are told to
// come no other way; told by anybody else, they are not.
func TestStrictTransportSecurity(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.TrustedProxies = networks("192.0.2.1/32") })
	if got := s.do(t, "GET /v1/whoami", "", "X-Forwarded-Proto: https").Header()["Strict-Transport-Security"]; !slices.Equal(got, []string{"max-age=31536000"}) {
		t.Errorf("%q", got)
	}
	if got := s.do(t, "GET /v1/whoami", "", "anonymous", "X-Forwarded-Proto: https").Header().Get("Strict-Transport-Security"); got == "" {
		t.Error("not on a 401")
	}
	for _, said := range []string{"http", "", "https, http"} {
		if got := s.do(t, "GET /v1/whoami", "", "X-Forwarded-Proto: "+said).Header().Get("Strict-Transport-Security"); got != "" {
			t.Errorf("%q: %q", said, got)
		}
	}
	if got := newSetup(t).do(t, "GET /v1/whoami", "", "X-Forwarded-Proto: https").Header().Get("Strict-Transport-Security"); got != "" {
		t.Errorf("from a stranger: %q", got)
	}
}
