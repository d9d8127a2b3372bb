package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/ucloud"
)

// provider lets the token "core" in and answers with body, or err.
type provider struct {
	off    bool
	body   []byte
	err    error
	report ucloud.Report
	dryRun bool
}

func (p *provider) Configured() bool      { return !p.off }
func (p *provider) Serves(id string) bool { return id == "aau" }
func (p *provider) Manifest() []byte      { return []byte(`{"enabled":false,"expireAfterMs":null}`) }

func (p *provider) Verify(token string) error {
	if token == "core" {
		return nil
	}
	return flavor.Errorf(flavor.CodeUnauthorized, "the token is not Core's")
}

func (p *provider) RetrieveProducts(context.Context) ([]byte, error) { return p.body, p.err }

func (p *provider) Push(_ context.Context, _ flavor.Principal, dryRun bool) (ucloud.Report, error) {
	p.dryRun = dryRun
	return p.report, p.err
}

func (p *provider) PushReport(context.Context, flavor.Principal) (ucloud.Report, error) {
	return p.report, p.err
}

func coreCalls(s *setup, method, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, http.NoBody)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// asProvider is a server that p makes a provider of UCloud.
func asProvider(t *testing.T, p *provider) *setup {
	return newSetup(t, func(c *Config) { c.UCloud = p })
}

// UCloud's Core sends neither Accept nor Content-Type, and reads errors in its
// own words only. 503 would make it connect a user, 200 with nothing would take
// every product away.
func TestUCloudCore(t *testing.T) {
	products := `{"responses":[{"product":{"id":"a","category":"b","provider":"aau"}}]}`
	for _, c := range []struct {
		method, path, token string
		status              int
		body                string
	}{
		{"GET", "/ucloud/aau/jobs/retrieveProducts", "core", 200, products},
		{"GET", "/ucloud/aau/jobs/retrieveProducts/", "core", 200, products},
		{"HEAD", "/ucloud/aau/jobs/retrieveProducts", "core", 200, ""},
		{"GET", "/ucloud/aau/integration/retrieveManifest", "core", 200, `{"enabled":false,"expireAfterMs":null}`},
		{"GET", "/ucloud/aau/jobs/retrieveProducts", "", 401, `{"statusCode":401,"why":"the token is not Core's","errorCode":"","detailedCode":0}`},
		{"GET", "/ucloud/aau/jobs/retrieveProducts", "forged", 401, `"why"`},
		{"GET", "/ucloud/sdu/jobs/retrieveProducts", "forged", 401, `"why"`},
		{"GET", "/ucloud/sdu/jobs/retrieveProducts", "core", 404, `"why"`},
		{"POST", "/ucloud/aau/jobs/retrieveProducts", "core", 405, `"why"`},
		{"POST", "/ucloud/aau/jobs", "core", 501, `{"statusCode":501,"why":"this provider has a catalogue of products and starts no jobs`},
		{"POST", "/ucloud/aau/jobs", "", 401, `"why"`},
		{"POST", "/ucloud/aau/jobs/terminate", "core", 501, `"why"`},
		{"POST", "/ucloud/aau/jobs/extend", "core", 501, `"why"`},
		{"GET", "/ucloud/aau/jobs/retrieveUtilization", "core", 501, `"why"`},
		{"GET", "/ucloud/aau/files/collections/retrieveProducts", "core", 404, `"why"`},
		{"GET", "/ucloud/jobs.provider.aau/websocket", "core", 404, `"why"`},
		{"POST", "/ucloud/aau/integration/init", "core", 404, `"why"`},
		{"GET", "/ucloud/aau", "core", 404, `"why"`},
		{"GET", "/ucloud", "core", 404, `"why"`},
		{"GET", "/api/ucloud/aau/jobs/retrieveProducts", "core", 404, `"error"`},
	} {
		w := coreCalls(asProvider(t, &provider{body: []byte(products)}), c.method, c.path, c.token)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) || c.status == 200 && w.Header().Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s %s with %q: %d %s %q; not %d %s", c.method, c.path, c.token, w.Code, w.Body, w.Header(), c.status, c.body)
		}
		if c.status == 405 && w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("Allow: %s", w.Header().Get("Allow"))
		}
		if c.status == 401 && !strings.HasPrefix(w.Header().Get("Www-Authenticate"), "Bearer") {
			t.Errorf("%s %s: no challenge: %q", c.method, c.path, w.Header())
		}
	}
	// The tokens of our own callers open nothing, in whatever place.
	w := asProvider(t, &provider{}).do(t, "GET /ucloud/aau/jobs/retrieveProducts?access_token=core", "", "X-Auth-Token: core")
	wantStatus(t, w, 401)
	// A database that does not answer is a 5xx, and tells nothing.
	broken := asProvider(t, &provider{err: errors.New("disk on fire")})
	if w := coreCalls(broken, "GET", "/ucloud/aau/jobs/retrieveProducts", "core"); w.Code != 500 || strings.Contains(w.Body.String(), "fire") || !strings.Contains(w.Body.String(), `"why":"internal error (request id`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := coreCalls(asProvider(t, &provider{off: true}), "GET", "/ucloud/aau/jobs/retrieveProducts", "core"); w.Code != 404 {
		t.Errorf("without a provider: %d %s", w.Code, w.Body)
	}
	if w := coreCalls(newSetup(t), "GET", "/ucloud/aau/jobs/retrieveProducts", "core"); w.Code != 404 {
		t.Errorf("without any configuration: %d %s", w.Code, w.Body)
	}
}

func TestPush(t *testing.T) {
	begun := time.Date(2026, 11, 25, 12, 0, 0, 999, time.UTC)
	full := ucloud.Report{
		Mode: ucloud.V2, Provider: "aau", CoreURL: "https://cloud.example.org", State: ucloud.Failed, Trigger: ucloud.Manual,
		StartedAt: begun, FinishedAt: begun.Add(time.Second), NextAt: begun.Add(time.Minute), DryRun: true,
		Sent: []ucloud.Batch{{Category: "a", Products: []string{"x", "y"}}, {Category: "b", Products: []string{"z"}}}, Unchanged: 4,
		Failed: []ucloud.Failure{{Category: "c", Products: []string{"<w>"}, Status: 403, Message: "no & never"}}, LastError: "half",
	}
	for _, c := range []struct {
		report ucloud.Report
		as     format
		want   string
	}{
		{ucloud.Report{Mode: ucloud.Off, State: ucloud.Never}, asJSON, `{"push": {"mode": "off", "state": "never", "sent": [], "unchanged": 0, "failed": []}}`},
		{ucloud.Report{Mode: ucloud.Off, State: ucloud.Never}, asXML, xmlDeclaration + `<push><mode>off</mode><state>never</state><sent></sent><unchanged>0</unchanged><failed></failed></push>`},
		{full, asJSON, `{"push": {"mode": "v2", "provider": "aau", "core_url": "https://cloud.example.org", "state": "failed", "trigger": "manual", "started_at": "2026-11-25T12:00:00Z", "finished_at": "2026-11-25T12:00:01Z", "next_at": "2026-11-25T12:01:00Z", "dry_run": true, "sent": [{"category": "a", "products": ["x", "y"]}, {"category": "b", "products": ["z"]}], "unchanged": 4, "failed": [{"category": "c", "products": ["<w>"], "status": 403, "message": "no & never"}], "last_error": "half"}}`},
		{full, asXML, xmlDeclaration + `<push><mode>v2</mode><provider>aau</provider><core_url>https://cloud.example.org</core_url><state>failed</state><trigger>manual</trigger><started_at>2026-11-25T12:00:00Z</started_at><finished_at>2026-11-25T12:00:01Z</finished_at><next_at>2026-11-25T12:01:00Z</next_at><dry_run>true</dry_run><sent><batch><category>a</category><product>x</product><product>y</product></batch><batch><category>b</category><product>z</product></batch></sent><unchanged>4</unchanged><failed><failure><category>c</category><product>&lt;w&gt;</product><status>403</status><message>no &amp; never</message></failure></failed><last_error>half</last_error></push>`},
	} {
		if diff := cmp.Diff(c.want, string(encodePush(c.as, &c.report))); diff != "" {
			t.Error(diff)
		}
	}
	for _, c := range []struct {
		request string
		status  int
		dryRun  bool
	}{
		{"GET /v1/products/push", 200, false}, {"POST /v1/products/push", 200, false}, {"POST /v1/products/push?dry_run=true", 200, true},
		{"POST /api/v1/products/push?dry_run=1", 200, true}, {"POST /v1/products/push?dry_run", 400, false}, {"POST /v1/products/push?dry_run=perhaps", 400, false},
	} {
		p := &provider{report: full}
		w := asProvider(t, p).do(t, c.request, "")
		wantStatus(t, w, c.status)
		if p.dryRun != c.dryRun {
			t.Errorf("%s: dry run %v", c.request, p.dryRun)
		}
	}
}
