package simstack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

func small(id string) flavor.NovaFlavor {
	return flavor.NovaFlavor{ID: id, Spec: flavor.Spec{Name: id, VCPUs: 1, RAM: 512, RxTxFactor: 1}, IsPublic: true}
}

// rig is a Stack with one flavor, a, in Trento, and an operator's token.
type rig struct {
	*simstack.Stack
	token string
}

func newRig(t *testing.T) rig {
	s := start(t, simstack.Options{})
	s.AddFlavor("Trento", small("a"))
	return rig{s, s.IssueToken("operator", "operators")}
}

func (g rig) try(t *testing.T, method, region, path string) (answer, error) {
	t.Helper()
	var body any
	if method == "POST" {
		body = `{"flavor": {"name": "new", "id": "new", "vcpus": 1, "ram": 1, "disk": 0}}`
	}
	return attempt(t, request{method: method, url: g.NovaURL(region) + path, token: g.token, version: "2.61", body: body})
}

func (g rig) ids(region string) string {
	var ids []string
	for _, f := range g.Flavors(region) {
		ids = append(ids, f.ID)
	}
	return strings.Join(ids, " ")
}

// Each kind of fault looks to a client as it is described, and has the effect
// on Nova that it is described with.
func TestFaultKinds(t *testing.T) {
	for _, test := range []struct {
		kind   simstack.Kind
		method string
		path   string
		status int // 0: no whole answer
		after  string
	}{
		{simstack.Refuse, "POST", "/flavors", 0, "a"},
		{simstack.Unauthorized, "POST", "/flavors", 401, "a"},
		{simstack.Denied, "DELETE", "/flavors/a", 403, "a"},
		{simstack.NotFound, "DELETE", "/flavors/a", 404, "a"},
		{simstack.Conflict, "POST", "/flavors", 409, "a"},
		{simstack.TooMany, "POST", "/flavors", 429, "a"},
		{simstack.ServerError, "POST", "/flavors", 500, "a"},
		{simstack.Unavailable, "POST", "/flavors", 503, "a"},
		{simstack.HTML, "POST", "/flavors", 200, "a"},
		{simstack.Nonsense, "GET", "/flavors", 200, "a"},
		{simstack.Cut, "POST", "/flavors", 0, "a new"},
		{simstack.Cut, "GET", "/flavors/a", 0, "a"},
		{simstack.Cut, "DELETE", "/flavors/a", 0, ""},
		{simstack.Lost, "POST", "/flavors", 0, "a new"},
		{simstack.Lost, "DELETE", "/flavors/a", 0, ""},
		{simstack.Vanish, "GET", "/flavors/a", 404, ""},
		{simstack.Vanish, "DELETE", "/flavors/a", 404, ""},
		{simstack.Vanish, "PUT", "/flavors/a/os-extra_specs/k", 400, ""}, // Nova looks at the body first
		{simstack.VanishAfter, "GET", "/flavors/a", 200, ""},
		{simstack.VanishAfter, "POST", "/flavors", 200, "a"},
		{simstack.Slow, "POST", "/flavors", 200, "a new"},
	} {
		t.Run(fmt.Sprintf("%s %s %s", test.kind, test.method, test.path), func(t *testing.T) {
			g := newRig(t)
			g.Fault("Trento", simstack.Fault{Kind: test.kind, Delay: time.Millisecond, Times: 1})
			a, err := g.try(t, test.method, "Trento", test.path)
			if (err == nil) != (test.status != 0) {
				t.Fatalf("the error is %v, the status %d", err, a.status)
			}
			want(t, "status", a.status, test.status)
			want(t, "flavors then", g.ids("Trento"), test.after)
			switch test.kind {
			case simstack.Unauthorized:
				want(t, "WWW-Authenticate", a.header.Get("WWW-Authenticate"), `Keystone uri="`+g.KeystoneURL()+`"`)
			case simstack.TooMany:
				want(t, "Retry-After", a.header.Get("Retry-After"), "1")
			case simstack.HTML:
				want(t, "media type", a.header.Get("Content-Type"), "text/html; charset=utf-8")
			}
			if again, err := g.try(t, "GET", "Trento", "/flavors"); err != nil || again.status != 200 {
				t.Errorf("after the one time: %d, %v", again.status, err)
			}
		})
	}
}

func TestFaultIsChosen(t *testing.T) {
	g := newRig(t)
	g.AddFlavor("Spain2", small("a"))
	status := func(method, region, path string) int {
		t.Helper()
		a, err := g.try(t, method, region, path)
		if err != nil {
			t.Fatal(err)
		}
		return a.status
	}
	cancel := g.Fault("Trento", simstack.Fault{Kind: simstack.ServerError, Method: "GET", Path: "/flavors/detail", After: 1, Times: 2})
	want(t, "another region", status("GET", "Spain2", "/flavors/detail"), 200)
	want(t, "another path", status("GET", "Trento", "/flavors/a"), 200)
	want(t, "another method", status("DELETE", "Trento", "/flavors/detail"), 404)
	var seen []int
	for range 4 {
		seen = append(seen, status("GET", "Trento", "/flavors/detail"))
	}
	want(t, "after one, two times", seen, "[200 500 500 200]")
	cancel() // it is over already: no harm

	cancel = g.Fault("", simstack.Fault{Service: simstack.Nova, Kind: simstack.Unavailable})
	want(t, "every region", status("GET", "Spain2", "/flavors")+status("GET", "Lannion2", "/flavors"), 1006)
	cancel()
	want(t, "cleared", status("GET", "Spain2", "/flavors"), 200)

	g.Fault("", simstack.Fault{Service: simstack.Keystone, Kind: simstack.ServerError, Path: "/auth/tokens"})
	want(t, "Keystone fails", send(t, request{method: "POST", url: g.KeystoneURL() + "/auth/tokens", body: "{}"}).status, 500)
	want(t, "Nova does not", status("GET", "Trento", "/flavors"), 200)
	g.ClearFaults()
	want(t, "Keystone again", send(t, request{method: "GET", url: g.KeystoneURL()}).status, 200)

	g.Fault("Trento", simstack.Fault{Kind: simstack.Vanish})
	want(t, "a list names no flavor", status("GET", "Trento", "/flavors/detail"), 200)
	want(t, "the flavor is there still", g.ids("Trento"), "a")
}

// A hung call lasts until its client goes, or is served once the fault is cleared.
func TestHang(t *testing.T) {
	g := newRig(t)
	cancel := g.Fault("Trento", simstack.Fault{Kind: simstack.Hang, Times: 2})
	ctx, done := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer done()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.NovaURL("Trento")+"/flavors", nil)
	if _, err := http.DefaultTransport.RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a call that should hang: %v", err)
	}
	served := make(chan int)
	go func() {
		a, _ := g.try(t, "POST", "Trento", "/flavors")
		served <- a.status
	}()
	if err := g.Await(t.Context(), 1, simstack.Nova, "Trento", "POST", "/flavors"); err != nil {
		t.Fatal(err)
	}
	want(t, "flavors while it hangs", g.ids("Trento"), "a")
	select {
	case status := <-served:
		t.Fatalf("the second call did not hang: %d", status)
	default:
	}
	cancel()
	want(t, "once it is cleared", <-served, 200)
	want(t, "flavors then", g.ids("Trento"), "a new")
}

func TestStopLetsHungCallsGo(t *testing.T) {
	s := simstack.New(simstack.Options{})
	base, stop, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Fault("Trento", simstack.Fault{Kind: simstack.Hang})
	failed := make(chan error)
	go func() {
		_, err := attempt(t, request{method: "GET", url: base + "/compute/Trento/v2.1/flavors"})
		failed <- err
	}()
	if err := s.Await(t.Context(), 1, simstack.Nova, "Trento", "", ""); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-failed; err == nil {
		t.Error("a call was answered after stop")
	}
}

func TestDelayAndPeak(t *testing.T) {
	g := newRig(t)
	g.Delay("Trento", 30*time.Millisecond)
	begun := time.Now()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { g.try(t, "GET", "Trento", "/flavors") })
	}
	wg.Wait()
	if took := time.Since(begun); took < 30*time.Millisecond {
		t.Errorf("five calls at once took %v, less than the delay", took)
	}
	if peak := g.PeakInFlight("Trento"); peak < 2 || peak > 5 {
		t.Errorf("the peak of five calls at once is %d", peak)
	}
	want(t, "peak of another region", g.PeakInFlight("Spain2"), 0)
	want(t, "calls", g.Count(simstack.Nova, "Trento", "GET", "/flavors"), 5)
	g.ForgetRequests()
	want(t, "calls forgotten", g.Count("", "", "", ""), 0)
	want(t, "peak forgotten", g.PeakInFlight("Trento"), 0)
}

// What can be ordered in Go can be ordered over HTTP, for a suite that has
// nothing but URLs.
func TestControl(t *testing.T) {
	g := newRig(t)
	base := strings.TrimSuffix(g.KeystoneURL(), "/identity/v3")
	control := func(method, path string, body any, status int) answer {
		t.Helper()
		a := send(t, request{method: method, url: base + "/_sim/" + path, body: body})
		want(t, method+" "+path, a.status, status)
		return a
	}
	nova := func() int { a, _ := g.try(t, "GET", "Trento", "/flavors/a"); return a.status }

	order := `{"region": "Trento", "service": "nova", "kind": "500", "method": "GET", "path": "/flavors", "delay": "1ms", "times": 3}`
	id := control("POST", "faults", order, 201).at("id").(string)
	want(t, "ordered", nova(), 500)
	list := control("GET", "faults", nil, 200)
	want(t, "left of it", list.at("faults.0.times"), 2)
	want(t, "its delay", list.at("faults.0.delay"), "1ms")
	control("DELETE", "faults/"+id, nil, 204)
	control("DELETE", "faults/"+id, nil, 404)
	want(t, "cleared", nova(), 200)
	control("POST", "faults", `{"kind": "401", "region": "Trento"}`, 201)
	control("DELETE", "faults", nil, 204)
	want(t, "all cleared", nova(), 200)
	for _, body := range []string{"", "{}", `{"kind": "x"}`, `{"kind": "hang", "unknown": 1}`, `{"kind": "hang", "delay": "x"}`, `{"kind": "hang", "region": "Nowhere"}`, `{"kind": "hang", "service": "x"}`} {
		control("POST", "faults", body, 400)
	}
	control("POST", "delay", `{"region": "Trento", "delay": "1ms"}`, 204)
	control("POST", "delay", `{"delay": "0s"}`, 204)

	control("DELETE", "requests", nil, 204)
	nova()
	counts := control("GET", "requests?region=Trento", nil, 200)
	var listed struct {
		Requests []simstack.RequestCount
		Peak     map[string]int
	}
	if err := json.Unmarshal(counts.raw, &listed); err != nil {
		t.Fatal(err)
	}
	want(t, "requests", listed.Requests, []simstack.RequestCount{{Service: "nova", Region: "Trento", Method: "GET", Path: "/flavors/a", Count: 1}})
	want(t, "peak", listed.Peak["Trento"], 1)

	control("POST", "regions", `{"name": "Prague"}`, 201)
	want(t, "regions", g.Regions(), "[Spain2 Trento Lannion2 Prague]")
	control("POST", "identities", `{"token": "prague", "user": {"id": "p", "displayName": "P", "roles": [], "organizations": [{"id": "1", "name": "Prague FIDASH", "roles": [{"id": "2", "name": "InfrastructureOwner"}]}]}}`, 201)
	want(t, "the identity", send(t, request{method: "GET", url: g.KeyRockURL() + "?access_token=prague"}).at("organizations.0.name"), "Prague FIDASH")
	control("POST", "reset", nil, 204)
	want(t, "regions after the reset", g.Regions(), "[Spain2 Trento Lannion2]")
	want(t, "flavors after the reset", g.ids("Trento"), "")
	control("GET", "nothing", nil, 404)
}

func TestKeyRock(t *testing.T) {
	s := start(t, simstack.Options{})
	ask := func(token string) answer {
		t.Helper()
		return send(t, request{method: "GET", url: s.KeyRockURL() + "?access_token=" + token})
	}
	want(t, "a manager's role", ask("manager").at("roles.0.name"), "InfrastructureManager")
	owner := ask("owner-trento")
	want(t, "an owner's own roles", owner.at("roles"), "[]")
	want(t, "an owner's organisation", owner.at("organizations.0.name"), "Trento FIDASH")
	want(t, "his role in it", owner.at("organizations.0.roles.0.name"), "InfrastructureOwner")
	want(t, "a member's role", ask("user").at("organizations.0.roles.0.name"), "Member")
	for _, key := range []string{"id", "displayName", "app_id"} {
		if owner.at(key) == nil {
			t.Errorf("%s is missing: %s", key, owner.raw)
		}
	}
	want(t, "an unknown token", ask("unknown").status, 401)
	want(t, "no token", ask("").status, 401)
	s.AddIdentity("t", simstack.Owner("both", "Spain2", "Trento"))
	want(t, "an added identity", len(ask("t").at("organizations").([]any)), 2)
	s.RemoveIdentity("t")
	want(t, "a removed identity", ask("t").status, 401)
	want(t, "look-ups", s.Count(simstack.KeyRock, "", "GET", "/user"), 7)
}

// Nova goes on believing a token it has seen before it was revoked, for as long as it
// remembers; another Nova does not.
func TestRevokedTokenIsBelievedForAWhile(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s := start(t, simstack.Options{Now: clock})
	token := s.IssueToken("operator", "operators")
	status := func(region string) int {
		return send(t, request{method: "GET", url: s.NovaURL(region) + "/flavors", token: token}).status
	}
	want(t, "a good token", status("Trento"), 200)
	s.RevokeToken(token)
	want(t, "revoked, seen before", status("Trento"), 200)
	want(t, "revoked, not seen before", status("Spain2"), 401)
	mu.Lock()
	now = now.Add(5 * time.Minute)
	mu.Unlock()
	want(t, "revoked, five minutes later", status("Trento"), 401)

	token = s.IssueToken("operator", "operators")
	want(t, "a new token", status("Trento"), 200)
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	want(t, "expired", status("Trento"), 401)

	token = s.IssueToken("operator", "operators")
	s.AddUser("operator", "changed", "operators", "admin")
	want(t, "after a change of the password", status("Trento"), 401)
}

// Hundreds of regions are cheap, and the catalog follows every change.
func TestManyRegionsAndEndpoints(t *testing.T) {
	s := start(t, simstack.Options{Regions: []string{}})
	for i := range 500 {
		s.AddRegion(fmt.Sprintf("R%d", i))
	}
	s.AddRegion("R1") // there already
	login := func() answer {
		t.Helper()
		return send(t, request{method: "POST", url: s.KeystoneURL() + "/auth/tokens", body: password("member", "member-secret", "demo")})
	}
	regions := func(a answer) (names []string) {
		for _, e := range a.at("token.catalog.1.endpoints").([]any) {
			if e.(map[string]any)["interface"] == "public" {
				names = append(names, e.(map[string]any)["region"].(string))
			}
		}
		return names
	}
	want(t, "endpoints", len(regions(login())), 500)
	want(t, "an endpoint", endpoint(t, login(), "R499"), s.NovaURL("R499"))
	s.SetEndpoint("R7", "")
	s.SetEndpoint("R8", s.NovaURL("R9"))
	s.RemoveRegion("R10")
	a := login()
	want(t, "endpoints then", len(regions(a)), 498)
	want(t, "no endpoint", slices.Contains(regions(a), "R7"), false)
	want(t, "another's endpoint", endpoint(t, a, "R8"), s.NovaURL("R9"))
	want(t, "the Nova of a removed region", send(t, request{method: "GET", url: s.NovaURL("R10") + "/flavors"}).status, 404)
}

// A handler behind a server that is not its own names that server in the catalog.
func TestHandlerWithoutStart(t *testing.T) {
	s := simstack.New(simstack.Options{})
	listener := httptest.NewServer(s.Handler())
	defer listener.Close()
	server := listener.URL
	a := send(t, request{method: "POST", url: server + "/identity/v3/auth/tokens", body: password("operator", "operator-secret", "operators")})
	want(t, "endpoint", endpoint(t, a, "Trento"), server+"/compute/Trento/v2.1")
}

func TestManyFlavorsInPages(t *testing.T) {
	s := start(t, simstack.Options{MaxLimit: 100})
	for i := range 250 {
		s.AddFlavor("Trento", small(fmt.Sprintf("f%03d", i)))
	}
	s.AddFlavor("Trento", flavor.NovaFlavor{ID: "hidden", Spec: flavor.Spec{Name: "hidden", VCPUs: 1, RAM: 1}}, s.ProjectID("demo"))
	want(t, "access", s.Access("Trento", "hidden"), []string{s.ProjectID("demo")})
	token := s.IssueToken("operator", "operators")
	url, pages, n := s.NovaURL("Trento")+"/flavors/detail?is_public=None&limit=2000", 0, 0
	for url != "" {
		a := send(t, request{method: "GET", url: url, token: token, version: "2.61"})
		n += len(a.at("flavors").([]any))
		url, _ = a.at("flavors_links.0.href").(string)
		pages++
	}
	want(t, "flavors and pages", []int{n, pages}, []int{251, 3})
	want(t, "deleting behind the back", s.DeleteFlavor("Trento", "hidden"), true)
	want(t, "and again", s.DeleteFlavor("Trento", "hidden"), false)
}

// Everything at once, for the race detector.
func TestEverythingAtOnce(t *testing.T) {
	g := newRig(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				id := fmt.Sprintf("f%d-%d", i, j)
				g.AddRegion(id)
				g.AddFlavor("Trento", small(id))
				cancel := g.Fault("Spain2", simstack.Fault{Kind: simstack.Slow, Times: j % 3})
				g.Delay("Lannion2", time.Duration(j))
				g.AddIdentity(id, simstack.Manager(id))
				for _, region := range []string{"Trento", "Spain2", "Lannion2"} {
					if _, err := g.try(t, "GET", region, "/flavors/detail"); err != nil {
						t.Error(err)
					}
				}
				if response, err := http.Get(g.KeyRockURL() + "?access_token=" + id); err == nil {
					io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
				g.RevokeToken(g.IssueToken("member", "demo"))
				g.Requests()
				g.Flavors("Trento")
				cancel()
				g.DeleteFlavor("Trento", id)
				g.RemoveRegion(id)
			}
		})
	}
	wg.Wait()
	want(t, "flavors at the end", g.ids("Trento"), "a")
}

func BenchmarkList(b *testing.B) {
	s := simstack.New(simstack.Options{})
	for i := range 5 {
		s.AddFlavor("Trento", small(fmt.Sprint(i)))
	}
	base, stop, err := s.Start("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	token := s.IssueToken("operator", "operators")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := http.NewRequest(http.MethodGet, base+"/compute/Trento/v2.1/flavors/detail?is_public=None", nil)
			r.Header.Set("X-Auth-Token", token)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	})
}
