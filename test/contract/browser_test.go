package contract_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// page is what widgets do: a page of another origin that calls with fetch(). In
// call, what the script could read of the answer, or that it could read nothing.
const page = `<!doctype html><title>a widget</title><script>
async function call(method, url, headers, body) {
  try {
    const r = await fetch(url, {method, headers, body});
    return {status: r.status, headers: Object.fromEntries(r.headers), body: await r.text()};
  } catch (e) {
    return {error: String(e)};
  }
}
function followed(url) {
  return new Promise(told => {
    const source = new EventSource(url);
    source.addEventListener("flavor.promoted", e => { source.close(); told({status: 200, body: e.data, headers: {id: e.lastEventId}}); });
    source.onerror = () => { source.close(); told({error: "the stream failed"}); };
  });
}
</script>`

// fetched is what a script could read of an answer.
type fetched struct {
	Status  int
	Headers map[string]string
	Body    string
	Error   string
}

// browser is a tab of a real one.
type browser struct {
	ctx context.Context
	url string // of the service
}

// startBrowser is Debian's Chromium.
func startBrowser(t *testing.T) browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "Chromium is missing: there is no program of the name chromium")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, // as root there is none
		chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return browser{ctx: ctx}
}

func (b browser) open(t *testing.T, url string) {
	t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(url)); err != nil {
		t.Fatalf("opening %s in Chromium: %v", url, err)
	}
}

// call is one fetch() of the page that is open; no body is "".
func (b browser) call(t *testing.T, method, path string, headers map[string]string, body string) fetched {
	t.Helper()
	arguments, err := json.Marshal([]any{method, b.url + path, headers, body})
	if err != nil {
		t.Fatal(err)
	}
	got, err := chromedp.Run(b.ctx, chromedp.Evaluate[fetched](
		fmt.Sprintf("((m, u, h, b) => call(m, u, h, b === '' ? undefined : b))(...%s)", arguments), chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

func serveHTML(t *testing.T, html string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, html)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestWidgetsInABrowser: the widgets' pages come from another origin than the
// service, so what they may call, send and read is the browser's to decide. A
// client of ours would see none of its rules.
func TestWidgetsInABrowser(t *testing.T) {
	b := startBrowser(t)
	s := &setup{name: "SQLite and simulated OpenStack", database: "sqlite"}
	s.start(t)
	dash, foreign := serveHTML(t, page), serveHTML(t, page)
	pr := s.serve(t, with("cors", map[string]any{"allow_origins": []string{dash}}),
		with("limits", map[string]any{"failed_tokens_per_minute": 3, "failed_logins_per_minute": 0}))
	s.registerAll(t, pr)
	b.url = pr.url
	token := map[string]string{"X-Auth-Token": s.user.header.Get("X-Auth-Token")}
	owner := map[string]string{"user": accounts.spain2, "password": accounts.passwords[accounts.spain2], "Content-Type": "application/json"}
	plus := func(headers map[string]string, more ...string) map[string]string {
		all := maps.Clone(headers)
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	made := pr.as(s.manager).post(t, "/promotedflavors", sized(s.names(t)("a"))).want(t, 201).flavor(t)
	pr.as(s.manager).post(t, "/promotedflavors", sized(s.names(t)("b"))).want(t, 201)
	keystoneToken := s.cloud.token(t, "operator")

	b.open(t, foreign)
	for name, got := range map[string]fetched{
		"reading":     b.call(t, "GET", "/v1/promotedflavors", token, ""),
		"installing":  b.call(t, "PUT", "/v1/flavors/"+made.ID, owner, `{"node": "`+spain2+`"}`),
		"no own head": b.call(t, "GET", "/healthz", map[string]string{}, ""),
	} {
		if got.Error == "" {
			t.Errorf("%s from a foreign origin: %+v", name, got)
		}
	}
	b.open(t, "data:text/html,"+page)
	if got := b.call(t, "GET", "/v1/promotedflavors", token, ""); got.Error == "" {
		t.Errorf("from the origin null: %+v", got)
	}
	if now := pr.as(s.user).get(t, "/flavors/"+made.ID).want(t, 200).flavor(t); len(now.Nodes) != 0 {
		t.Errorf("a foreign page has installed it in %v", now.Nodes)
	}

	b.open(t, dash)
	want := func(what string, got fetched, status int, headers ...string) fetched {
		t.Helper()
		if got.Status != status {
			t.Errorf("%s: %+v, want %d", what, got, status)
		}
		for _, name := range append(headers, "x-request-id") {
			if got.Headers[name] == "" {
				t.Errorf("%s: the script cannot read %s: %v", what, name, got.Headers)
			}
		}
		return got
	}
	list := want("the deployed path", b.call(t, "GET", "/api/v1/promotedflavors", token, ""), 200, "etag")
	want("a condition", b.call(t, "GET", "/api/v1/promotedflavors", plus(token, "If-None-Match", list.Headers["etag"]), ""), 304, "etag")
	want("a page of a list", b.call(t, "GET", "/v1/promotedflavors?limit=1", token, ""), 200, "link")
	want("every header that may be sent", b.call(t, "GET", "/v1/flavors?public", plus(token, "Accept", "application/jsom", "Authorization", "Bearer none",
		"Prefer", "respond-async", "Cache-Control", "no-cache", "Last-Event-ID", "1", "X-Request-Id", "mine"), ""), 200)
	want("the names of the regions", b.call(t, "GET", "/api/v1/nodes", token, ""), 200)
	want("the Keystone token", b.call(t, "GET", "/api/v1/region/"+spain2+"/flavors", plus(token, "X-Auth-Token-KeyStone", keystoneToken), ""), 200, "etag")
	want("installing, by user and password", b.call(t, "PUT", "/api/v1/flavors/"+made.ID, owner, `{"node": "`+spain2+`"}`), 200)
	if now := pr.as(s.user).get(t, "/flavors/"+made.ID).want(t, 200).flavor(t); len(now.Nodes) != 1 {
		t.Errorf("it is installed in %v", now.Nodes)
	}
	want("creating", b.call(t, "POST", "/v1/flavors", owner, `{"name": "`+s.names(t)("c")+`", "vcpus": 1, "ram": 64, "disk": 1}`), 201, "location")
	want("a condition on a change", b.call(t, "DELETE", "/v1/flavors/"+made.ID, plus(owner, "If-Match", `"another"`), ""), 412)
	want("removing", b.call(t, "DELETE", "/v1/flavors/"+made.ID, owner, ""), 204)
	want("a manager's call", b.call(t, "POST", "/v1/promotedflavors", owner, "{}"), 405, "allow")
	want("what is not there", b.call(t, "GET", "/v1/nowhere", token, ""), 404)
	want("no credential", b.call(t, "GET", "/v1/flavors", map[string]string{}, ""), 401, "www-authenticate")
	// EventSource sends no header of its own, so the token is in the address.
	stream, err := json.Marshal(b.url + "/v1/events?type=flavor.promoted&last_event_id=0&access_token=" + s.user.header.Get("X-Auth-Token"))
	if err != nil {
		t.Fatal(err)
	}
	told, err := chromedp.Run(b.ctx, chromedp.Evaluate[fetched](fmt.Sprintf("followed(%s)", stream), chromedp.EvalAwaitPromise))
	if err != nil || told.Headers["id"] == "" || !strings.Contains(told.Body, made.ID) {
		t.Errorf("following the events: %v, %+v", err, told)
	}
	for range 3 {
		want("a bad token", b.call(t, "GET", "/v1/flavors", map[string]string{"X-Auth-Token": secret("bad")}, ""), 401)
	}
	want("too many bad tokens", b.call(t, "GET", "/v1/flavors", map[string]string{"X-Auth-Token": secret("bad")}, ""), 429, "retry-after")
}
