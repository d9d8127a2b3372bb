package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Every path of the contract, under both prefixes and all its names, must reach
// the marketplace: the deployed widgets call the old ones.
func TestEveryPathReachesTheMarket(t *testing.T) {
	const id = "567b200e-0aca-49c4-8b52-6c3c2f0b4d11"
	const body = `{"name": "a"}`
	for _, row := range []struct {
		method, path, body string
		calls              string
		status             int
	}{
		{"GET", "/v1/promotedflavors", "", "PromotedFlavors", 200},
		{"GET", "/v1/promotedflavors/" + id, "", "PromotedFlavor " + id, 200},
		{"POST", "/v1/promotedflavors", body, "CreatePromoted", 201},
		{"PUT", "/v1/promotedflavors/" + id, body, "ChangePromoted " + id, 200},
		{"DELETE", "/v1/promotedflavors/" + id, "", "DeletePromoted " + id, 204},
		{"GET", "/v1/promotedflavors/" + id + "/product", "", "Product " + id, 200},
		{"PUT", "/v1/promotedflavors/" + id + "/product", body, "ChangeProduct " + id, 200},
		{"DELETE", "/v1/promotedflavors/" + id + "/product", "", "EndProduct " + id, 204},
		{"GET", "/v1/products", "", "Products", 200},
		{"GET", "/v1/regions", "", "Regions", 200},
		{"GET", "/v1/nodes", "", "Regions", 200},
		{"GET", "/v1/regions/Trento/flavors", "", "RegionFlavors Trento", 200},
		{"GET", "/v1/region/Trento/flavors", "", "RegionFlavors Trento", 200},
		{"POST", "/v1/regions/Trento/flavors", body, "CreateRegionFlavor Trento", 201},
		{"POST", "/v1/region/Trento/flavors", body, "CreateRegionFlavor Trento", 201},
		{"GET", "/v1/regions/Trento/flavors/1", "", "RegionFlavor Trento 1", 200},
		{"GET", "/v1/region/Trento/flavors/1", "", "RegionFlavor Trento 1", 200},
		{"PUT", "/v1/regions/Trento/flavors/1", body, "ChangeRegionFlavor Trento 1", 200},
		{"DELETE", "/v1/region/Trento/flavors/1", "", "DeleteRegionFlavor Trento 1", 204},
		{"GET", "/v1/regions/Trento/glue2", "", "GLUE2 Trento", 200},
		{"GET", "/v1/nodes/Trento/glue2", "", "GLUE2 Trento", 200},
		{"GET", "/v1/infrastructures", "", "Infrastructures", 200},
		{"POST", "/v1/infrastructures", body, "CreateInfrastructure", 201},
		{"GET", "/v1/infrastructures/Mordor", "", "Infrastructure Mordor", 200},
		{"PUT", "/v1/infrastructures/Mordor", body, "ChangeInfrastructure Mordor", 200},
		{"DELETE", "/v1/infrastructures/Mordor", "", "DeleteInfrastructure Mordor", 204},
		{"GET", "/v1/flavors", "", "Flavors", 200},
		{"POST", "/v1/flavors", body, "CreateFlavor", 201},
		{"GET", "/v1/flavors/" + id, "", "Flavor " + id, 200},
		{"PUT", "/v1/flavors/" + id, body, "ChangeFlavor " + id, 200},
		{"DELETE", "/v1/flavors/" + id, "", "DeleteFlavor " + id, 204},
		{"GET", "/v1/whoami", "", "", 200},
	} {
		for _, prefix := range []string{"", "/api"} {
			for _, slash := range []string{"", "/"} {
				request := row.method + " " + prefix + row.path + slash
				t.Run(request, func(t *testing.T) {
					s := newSetup(t)
					w := s.do(t, request, row.body)
					wantStatus(t, w, row.status)
					if got := s.market.called(); got != row.calls {
						t.Errorf("called %q, want %q", got, row.calls)
					}
					if row.status == 201 {
						want := prefix + row.path + "/" + id
						if strings.Contains(row.path, "infrastructures") {
							want = prefix + row.path + "/Mordor"
						}
						if got := w.Header().Get("Location"); got != want {
							t.Errorf("Location %q, want %q", got, want)
						}
					}
					if row.status == 204 && w.Body.Len() > 0 {
						t.Errorf("204 with the body %s", w.Body)
					}
					if row.method == "GET" {
						head := s.do(t, "HEAD "+prefix+row.path+slash, "")
						wantStatus(t, head, 200)
						for _, name := range []string{"Content-Length", "Content-Type", "Etag"} {
							if a, b := w.Header().Get(name), head.Header().Get(name); a != b || a == "" {
								t.Errorf("%s of GET %q, of HEAD %q", name, a, b)
							}
						}
						if head.Body.Len() > 0 {
							t.Errorf("HEAD has the body %s", head.Body)
						}
					}
				})
			}
		}
	}
}

func TestWhatIsNotServed(t *testing.T) {
	for _, row := range []struct {
		request string
		status  int
		allow   string
	}{
		{"GET /", 404, ""},
		{"GET /v1", 404, ""},
		{"GET /v2/flavors", 404, ""},
		{"GET /api/v1/nothing", 404, ""},
		{"GET /v1/flavors/a/b", 404, ""},
		{"POST /v1/flavors/a/b", 404, ""},
		{"DELETE /v1/regions/Trento/flavors/a/b/c", 404, ""},
		{"GET /v1/flavors//", 404, ""},
		{"GET /api/v1/api/v1/flavors", 404, ""},
		{"GET /metrics", 404, ""},
		{"PATCH /v1/flavors", 405, "OPTIONS, GET, HEAD, POST"},
		{"DELETE /v1/regions", 405, "OPTIONS, GET, HEAD"},
		{"POST /v1/flavors/1", 405, "OPTIONS, DELETE, GET, HEAD, PUT"},
		{"BREW /v1/whoami", 405, "OPTIONS, GET, HEAD"},
		{"OPTIONS /v1/flavors", 204, "OPTIONS, GET, HEAD, POST"},
		{"OPTIONS /v1/flavors/1", 204, "OPTIONS, DELETE, GET, HEAD, PUT"},
	} {
		t.Run(row.request, func(t *testing.T) {
			s := newSetup(t)
			w := s.do(t, row.request, "", "anonymous")
			wantStatus(t, w, row.status)
			if got := w.Header().Get("Allow"); got != row.allow {
				t.Errorf("Allow %q, want %q", got, row.allow)
			}
			if row.status != 204 && !strings.HasPrefix(w.Body.String(), `{"error": {"message": "`) {
				t.Errorf("not in the shape of an error: %s", w.Body)
			}
			if w.Header().Get("X-Request-Id") == "" {
				t.Error("no X-Request-Id")
			}
		})
	}
}

// An id is decoded once, and one that no flavor can have is not found; none of
// these may reach a Nova's path.
func TestIDsInPaths(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/flavors/m1.tiny":                                 "Flavor m1.tiny",
		"/v1/flavors/a%20b":                                   "Flavor a b",
		"/v1/flavors/a%2Db":                                   "Flavor a-b",
		"/v1/flavors/..":                                      "",
		"/v1/flavors/.":                                       "",
		"/v1/flavors/%2e%2e":                                  "",
		"/v1/flavors/detail":                                  "",
		"/v1/flavors/..%2Fservers":                            "",
		"/v1/flavors/..%2Fservers%2F1":                        "",
		"/v1/flavors/a%2Fb":                                   "",
		"/v1/flavors/a%252Fb":                                 "",
		"/v1/flavors/%00":                                     "",
		"/v1/flavors/a%00b":                                   "",
		"/v1/flavors/a%0Ab":                                   "",
		"/v1/flavors/%ff":                                     "",
		"/v1/flavors/%E2%82%AC":                               "",
		"/v1/flavors/a%3Fb":                                   "",
		"/v1/flavors/" + strings.Repeat("a", 256):             "",
		"/v1/regions/Tre%20nto/flavors":                       "",
		"/v1/regions/Tre%2Fnto/flavors":                       "",
		"/v1/regions/../flavors":                              "",
		"/v1/regions//flavors":                                "",
		"/v1/regions/" + strings.Repeat("a", 65) + "/flavors": "",
		"/v1/infrastructures/a%20b":                           "",
		"/v1/infrastructures/..":                              "",
	} {
		t.Run(path, func(t *testing.T) {
			s := newSetup(t)
			w := s.do(t, "GET "+path, "")
			if got := s.market.called(); got != want {
				t.Errorf("called %q, want %q", got, want)
			}
			if want == "" {
				wantStatus(t, w, 404)
				if !strings.HasPrefix(w.Body.String(), `{"error": {"message": "`) {
					t.Errorf("not in the shape of an error: %s", w.Body)
				}
			}
		})
	}
}

func TestFiltersAndFlags(t *testing.T) {
	text := func(b *bool) string {
		switch {
		case b == nil:
			return "none"
		case *b:
			return "only"
		}
		return "others"
	}
	for query, want := range map[string]string{
		"": "none none", "?public": "none none", "?public=": "none none", "?promoted=&public": "none none",
		"?public=true": "only none", "?public=1": "only none", "?public=false": "others none", "?public=0": "others none",
		"?promoted=1&public=0": "others only", "?public=1&public=1": "only none", "?unknown=x&public=1": "only none",
		"?public=1&public=0": "400", "?public=yes": "400", "?public=True": "400", "?promoted=2": "400", "?public=%zz": "400", "?public=1;promoted=1": "400",
	} {
		s := newSetup(t)
		w := s.do(t, "GET /v1/flavors"+query, "")
		if want == "400" {
			wantStatus(t, w, 400)
			continue
		}
		wantStatus(t, w, 200)
		if got := text(s.market.filter.Public) + " " + text(s.market.filter.Promoted); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
	for request, want := range map[string]string{
		"DELETE /v1/promotedflavors/1":                  "no",
		"DELETE /v1/promotedflavors/1?uninstall=true":   "yes",
		"DELETE /v1/promotedflavors/1?uninstall=0":      "no",
		"DELETE /v1/promotedflavors/1?uninstall":        "400",
		"DELETE /v1/promotedflavors/1?uninstall=maybe":  "400",
		"DELETE /v1/infrastructures/Mordor?force=1":     "yes",
		"DELETE /v1/infrastructures/Mordor?force=false": "no",
		"DELETE /v1/infrastructures/Mordor?force=":      "400",
		"DELETE /v1/flavors/1?node=Trento":              "no",
		"DELETE /v1/flavors/1?node=":                    "400",
		"DELETE /v1/flavors/1?node=a%20b":               "400",
		"DELETE /v1/flavors/1?node=A&node=B":            "400",
	} {
		s := newSetup(t)
		w := s.do(t, request, "")
		if want == "400" {
			wantStatus(t, w, 400)
			if s.market.called() != "" {
				t.Errorf("%s: did %s", request, s.market.called())
			}
			continue
		}
		wantStatus(t, w, 204)
		if s.market.flag != (want == "yes") {
			t.Errorf("%s: %v, want %s", request, s.market.flag, want)
		}
	}
}

func TestFreshListing(t *testing.T) {
	for header, want := range map[string]bool{"": false, "no-cache": true, "max-age=0, No-Cache": true, "no-store": false} {
		s := newSetup(t)
		s.do(t, "GET /v1/flavors", "", "Cache-Control: "+header)
		if s.market.filter.Fresh != want {
			t.Errorf("Cache-Control %q: fresh %v", header, s.market.filter.Fresh)
		}
	}
}

func TestUnreachableRegionsAreNamed(t *testing.T) {
	s := newSetup(t)
	s.market.unreachable = []string{"R10", "R9"}
	if got := s.do(t, "GET /v1/flavors", "").Header().Get("X-Flavorsync-Unreachable"); got != "R10, R9" {
		t.Errorf("X-Flavorsync-Unreachable: %q", got)
	}
	s.market.unreachable = nil
	if got, there := s.do(t, "GET /v1/flavors", "").Header()["X-Flavorsync-Unreachable"]; there {
		t.Errorf("X-Flavorsync-Unreachable although all answered: %q", got)
	}
}

func TestKeystoneTokenGoesToPrivateCallsOnly(t *testing.T) {
	s := newSetup(t)
	s.do(t, "GET /v1/regions/Trento/flavors", "", "X-Auth-Token-KeyStone: gAAAA-mine")
	if s.market.token != "gAAAA-mine" {
		t.Error("the Keystone token did not reach the marketplace")
	}
	w := s.do(t, "GET /v1/regions/Trento/flavors", "", "anonymous", "X-Auth-Token-KeyStone: gAAAA-mine")
	wantStatus(t, w, 401)
	if w.Body.String() != unauthorizedText {
		t.Errorf("a Keystone token alone is no credential: %s", w.Body)
	}
}

func TestHealthAndDescriptions(t *testing.T) {
	s := newSetup(t)
	for request, want := range map[string]string{
		"GET /healthz": "ok\n", "GET /readyz": "ok\n", "GET /readyz/": "ok\n",
		"GET /openapi.yaml": "openapi: 3.1.1\n", "GET /flavorsync.xsd": "<xs:schema/>",
	} {
		w := s.do(t, request, "", "anonymous")
		wantStatus(t, w, 200)
		if w.Body.String() != want {
			t.Errorf("%s: %q", request, w.Body)
		}
	}
	tag := s.do(t, "GET /openapi.yaml", "", "anonymous").Header().Get("ETag")
	wantStatus(t, s.do(t, "GET /openapi.yaml", "", "anonymous", "If-None-Match: "+tag), 304)

	s = newSetup(t, func(c *Config) {
		c.Ready = func(context.Context) error { return errors.New("dial tcp: password=hunter2 refused") }
		c.OpenAPI = nil
	})
	w := s.do(t, "GET /readyz", "", "anonymous")
	wantStatus(t, w, 503)
	if w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	if lines := s.log.lines(t, "request"); len(lines) != 1 || !strings.Contains(lines[0]["error"].(string), "refused") {
		t.Errorf("the log does not tell why: %s", s.log)
	}
	wantStatus(t, s.do(t, "GET /openapi.yaml", "", "anonymous"), 404)
}

// A 405 that comes from a rule must say what the caller may do there instead.
func TestAllowOfRules(t *testing.T) {
	for _, row := range []struct {
		request string
		code    flavor.Code
		allow   string
	}{
		{"POST /v1/promotedflavors", flavor.CodeManagerOnly, "GET, HEAD, OPTIONS"},
		{"DELETE /v1/promotedflavors/1", flavor.CodeManagerOnly, "GET, HEAD, OPTIONS"},
		{"DELETE /v1/promotedflavors/1", flavor.CodeNotAllowed, "GET, HEAD, OPTIONS, PUT"},
		{"PUT /v1/promotedflavors/1", flavor.CodeNotAllowed, "DELETE, GET, HEAD, OPTIONS"},
		{"DELETE /v1/infrastructures/Mordor?force=true", flavor.CodeManagerOnly, "GET, HEAD, OPTIONS, PUT"},
	} {
		s := newSetup(t)
		s.market.err = flavor.Errorf(row.code, "no")
		body := ""
		if method, _, _ := strings.Cut(row.request, " "); method == http.MethodPost || method == http.MethodPut {
			body = "{}"
		}
		w := s.do(t, row.request, body)
		wantStatus(t, w, 405)
		if got := w.Header().Get("Allow"); got != row.allow {
			t.Errorf("%s, %s: Allow %q, want %q", row.request, row.code, got, row.allow)
		}
	}
}

// What somebody forgets to put into the table of rights is for nobody.
func TestRouteOutsideTheTable(t *testing.T) {
	s := newSetup(t)
	for _, action := range []flavor.Action{"", "flavor.misspelt"} {
		path := "/v1/forgotten" + string(action)
		s.add(&route{method: http.MethodGet, pattern: path, action: action, handle: whoami}, path)
		wantStatus(t, s.do(t, "GET "+path, ""), 403)
		wantStatus(t, s.do(t, "GET "+path, "", "anonymous"), 401)
	}
	for _, rt := range s.routes() {
		if flavor.RightTo(rt.action).Who <= flavor.Anybody {
			t.Errorf("%s %s is for %v", rt.method, rt.pattern, flavor.RightTo(rt.action))
		}
	}
}
