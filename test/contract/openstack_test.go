package contract_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// A cloud is a Keystone and the Novas of some regions, real or simulated. The
// suite asks them directly, over their own HTTP API, what they hold.
type cloud struct {
	keystone string // with /v3
	regions  []string
	stack    *simstack.Stack // nil where it is real
	blind    bool            // its Novas cannot tell case apart

	mu     sync.Mutex
	tokens map[string]string
	novas  map[string]string     // region to the endpoint in the catalog
	before map[string][]novaBody // what each Nova held when the set-up began
}

// operators of every cloud: name to password and project.
var cloudUsers = map[string]struct{ password, project string }{
	"admin":    {"admin-secret", "admin"},
	"operator": {"operator-secret", "operators"},
	"member":   {"member-secret", "demo"},
	"reader":   {"reader-secret", "demo"},
}

func init() {
	for _, user := range cloudUsers {
		secrets.add(user.password)
	}
}

func realCloud(t *testing.T, keystone string) *cloud {
	c := &cloud{
		keystone: strings.TrimSuffix(keystone, "/"),
		regions:  []string{spain2, trento, lannion2},
		blind:    os.Getenv("FLAVORSYNC_TEST_NOVA_COLLATION") == "blind",
	}
	if resp, err := http.Get(c.keystone); err != nil {
		missing(t, fmt.Sprintf("OpenStack is missing: FLAVORSYNC_TEST_KEYSTONE_URL does not answer: %v", err))
	} else {
		resp.Body.Close()
	}
	return c
}

// simulatedCloud starts a Keystone and Novas in this process. The last region's
// Nova cannot tell case apart.
func simulatedCloud(t *testing.T, regions ...string) *cloud {
	t.Helper()
	return startStack(t, simstack.Options{
		Regions:    regions,
		Collations: map[string]simstack.Collation{regions[len(regions)-1]: simstack.Blind},
	})
}

func startStack(t *testing.T, options simstack.Options) *cloud {
	t.Helper()
	stack := simstack.New(options)
	_, stop, err := stack.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return &cloud{keystone: stack.KeystoneURL(), regions: options.Regions, stack: stack}
}

// extra starts a small cloud that only this test breaks: its own Keystone, and
// a region of a unique name for each word. Its regions are registered nowhere.
func extra(t *testing.T, words ...string) *cloud {
	t.Helper()
	n := unique()
	var regions []string
	for _, word := range words {
		regions = append(regions, n(word))
	}
	return startStack(t, simstack.Options{Regions: regions})
}

// infrastructure is the document that registers one of the cloud's regions.
func (c *cloud) infrastructure(region string) *document {
	return infrastructureOf("name", region, "keystone_url", c.keystone,
		"username", "operator", "password", cloudUsers["operator"].password, "tenant", cloudUsers["operator"].project)
}

// register registers every region of an extra cloud, trusted, so that tokens of
// its Keystone are accepted there.
func (c *cloud) register(t *testing.T, s *setup, pr *product) {
	t.Helper()
	for _, region := range c.regions {
		pr.as(s.manager).post(t, "/infrastructures", c.infrastructure(region).and("trusted", true)).want(t, http.StatusCreated)
	}
	t.Cleanup(func() {
		for _, region := range c.regions {
			if _, err := pr.as(s.manager).try(t, http.MethodDelete, "/infrastructures/"+region, nil, query("force", "true")); err != nil {
				return // the server has gone before us
			}
		}
	})
}

// token is a scoped token of one of the cloud's users, kept for the whole run.
func (c *cloud) token(t *testing.T, user string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if token := c.tokens[user]; token != "" {
		return token
	}
	if c.tokens == nil {
		c.tokens = make(map[string]string)
	}
	token, catalog := c.authenticate(t, user, true)
	c.tokens[user] = token
	c.novas = catalog
	return token
}

// userID is what Keystone calls one of the cloud's users.
func (c *cloud) userID(t *testing.T, user string) string {
	t.Helper()
	token := c.token(t, user)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.keystone+"/auth/tokens", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("X-Subject-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("asking Keystone who %s is: %v", user, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token struct{ User struct{ ID string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token.User.ID == "" {
		t.Fatalf("asking Keystone who %s is: %s, %v", user, resp.Status, err)
	}
	return answer.Token.User.ID
}

// unscoped is a token without project and without catalog.
func (c *cloud) unscoped(t *testing.T, user string) string {
	t.Helper()
	token, _ := c.authenticate(t, user, false)
	return token
}

func (c *cloud) authenticate(t *testing.T, user string, scoped bool) (token string, novas map[string]string) {
	t.Helper()
	account := cloudUsers[user]
	auth := map[string]any{"identity": map[string]any{
		"methods": []string{"password"},
		"password": map[string]any{"user": map[string]any{
			"name": user, "password": account.password, "domain": map[string]any{"name": "Default"}}},
	}}
	if scoped {
		auth["scope"] = map[string]any{"project": map[string]any{"name": account.project, "domain": map[string]any{"name": "Default"}}}
	} else {
		auth["scope"] = "unscoped"
	}
	body, err := json.Marshal(map[string]any{"auth": auth})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(c.keystone+"/auth/tokens", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatalf("authenticating %s at Keystone: %v", user, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token struct {
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, URL, Region string }
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("authenticating %s at Keystone: status %d, %v", user, resp.StatusCode, err)
	}
	novas = make(map[string]string)
	for _, service := range answer.Token.Catalog {
		for _, endpoint := range service.Endpoints {
			if service.Type == "compute" && endpoint.Interface == "public" {
				novas[endpoint.Region] = strings.TrimSuffix(endpoint.URL, "/")
			}
		}
	}
	token = resp.Header.Get("X-Subject-Token")
	secrets.add(token)
	return token, novas
}

// nova is one region's Nova, asked with an administrator's token.
type nova struct {
	url, token string
}

func (c *cloud) nova(t *testing.T, region string) nova {
	t.Helper()
	token := c.token(t, "admin")
	if c.stack != nil {
		// Not the catalog's: a test may have put something before it there.
		return nova{c.stack.NovaURL(region), token}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.novas[region] == "" {
		t.Fatalf("Keystone's catalog has no compute endpoint in %s", region)
	}
	return nova{c.novas[region], token}
}

// novaBody is a flavor as Nova shows it at microversion 2.61.
type novaBody struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	VCPUs       int               `json:"vcpus"`
	RAM         int               `json:"ram"`
	Disk        int               `json:"disk"`
	Swap        novaSwap          `json:"swap"`
	Ephemeral   int               `json:"OS-FLV-EXT-DATA:ephemeral"`
	RxTxFactor  float64           `json:"rxtx_factor"`
	IsPublic    bool              `json:"os-flavor-access:is_public"`
	Description *string           `json:"description"`
	ExtraSpecs  map[string]string `json:"extra_specs"`
}

// novaSwap is "" for 0.
type novaSwap int

func (s *novaSwap) UnmarshalJSON(text []byte) error {
	if string(text) == `""` {
		*s = 0
		return nil
	}
	return json.Unmarshal(text, (*int)(s))
}

// call sends one request to Nova; the answer is decoded where there is one.
func (n nova) call(t *testing.T, method, path string, body, into any) int {
	t.Helper()
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, n.url+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", n.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OpenStack-API-Version", "compute 2.61")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("asking Nova directly: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("asking Nova directly: %v", err)
	}
	if into != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("asking Nova directly: %s %s: %v in %s", method, path, err, text)
		}
	}
	return resp.StatusCode
}

// list is all flavors of that Nova, by id.
func (n nova) list(t *testing.T) []novaBody {
	t.Helper()
	var all []novaBody
	marker := ""
	for {
		var page struct{ Flavors []novaBody }
		path := "/flavors/detail?is_public=None&limit=1000"
		if marker != "" {
			path += "&marker=" + url.QueryEscape(marker)
		}
		if status := n.call(t, http.MethodGet, path, nil, &page); status != http.StatusOK {
			t.Fatalf("listing flavors directly at Nova: status %d", status)
		}
		if len(page.Flavors) == 0 {
			break
		}
		all = append(all, page.Flavors...)
		marker = page.Flavors[len(page.Flavors)-1].ID
		if len(page.Flavors) < 1000 {
			break
		}
	}
	slices.SortFunc(all, func(a, b novaBody) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// get is the flavor with exactly that id.
func (n nova) get(t *testing.T, id string) (novaBody, bool) {
	t.Helper()
	for _, f := range n.list(t) {
		if f.ID == id {
			return f, true
		}
	}
	return novaBody{}, false
}

// named are the flavors with that name.
func (n nova) named(t *testing.T, name string) []novaBody {
	t.Helper()
	return slices.DeleteFunc(n.list(t), func(f novaBody) bool { return f.Name != name })
}

// create makes a flavor as an operator of that region would, without us. The id
// "auto" lets Nova choose.
func (n nova) create(t *testing.T, f novaBody) novaBody {
	t.Helper()
	var answer struct{ Flavor novaBody }
	body := map[string]any{
		"id": f.ID, "name": f.Name, "vcpus": f.VCPUs, "ram": f.RAM, "disk": f.Disk, "swap": int(f.Swap),
		"OS-FLV-EXT-DATA:ephemeral": f.Ephemeral, "rxtx_factor": cmp.Or(f.RxTxFactor, 1), "os-flavor-access:is_public": f.IsPublic,
	}
	if f.Description != nil {
		body["description"] = *f.Description
	}
	if status := n.call(t, http.MethodPost, "/flavors", map[string]any{"flavor": body}, &answer); status != http.StatusOK {
		t.Fatalf("creating the flavor %s directly at Nova: status %d", f.Name, status)
	}
	if len(f.ExtraSpecs) > 0 {
		path := "/flavors/" + url.PathEscape(answer.Flavor.ID) + "/os-extra_specs"
		if status := n.call(t, http.MethodPost, path, map[string]any{"extra_specs": f.ExtraSpecs}, nil); status != http.StatusOK {
			t.Fatalf("setting extra specs of %s directly at Nova: status %d", f.Name, status)
		}
		answer.Flavor.ExtraSpecs = f.ExtraSpecs
	}
	return answer.Flavor
}

// flavorIn is a flavor of the usual sizes, as sized makes them.
func flavorIn(id, name string) novaBody {
	return novaBody{ID: id, Name: name, VCPUs: 2, RAM: 2048, Disk: 20, Swap: 512, RxTxFactor: 1, IsPublic: true}
}

func (n nova) delete(t *testing.T, id string) {
	t.Helper()
	if status := n.call(t, http.MethodDelete, "/flavors/"+url.PathEscape(id), nil, nil); status != http.StatusAccepted && status != http.StatusNotFound {
		t.Errorf("deleting %s directly at Nova: status %d", id, status)
	}
}

// grant gives a project access to a flavor that is not public.
func (n nova) grant(t *testing.T, id, project string) {
	t.Helper()
	body := map[string]any{"addTenantAccess": map[string]any{"tenant": project}}
	if status := n.call(t, http.MethodPost, "/flavors/"+url.PathEscape(id)+"/action", body, nil); status != http.StatusOK {
		t.Fatalf("granting access to %s directly at Nova: status %d", id, status)
	}
}

// access are the projects with access to a flavor that is not public; none
// where there is no such flavor.
func (n nova) access(t *testing.T, id string) []string {
	t.Helper()
	var answer struct {
		FlavorAccess []struct {
			Tenant string `json:"tenant_id"`
		} `json:"flavor_access"`
	}
	status := n.call(t, http.MethodGet, "/flavors/"+url.PathEscape(id)+"/os-flavor-access", nil, &answer)
	if status != http.StatusOK && status != http.StatusNotFound {
		t.Fatalf("reading the access of %s directly at Nova: status %d", id, status)
	}
	var projects []string
	for _, a := range answer.FlavorAccess {
		projects = append(projects, a.Tenant)
	}
	slices.Sort(projects)
	return projects
}

// projectID is the id of one of Keystone's projects.
func (c *cloud) projectID(t *testing.T, name string) string {
	t.Helper()
	var answer struct{ Projects []struct{ ID, Name string } }
	k := nova{c.keystone, c.token(t, "admin")}
	if status := k.call(t, http.MethodGet, "/projects?name="+url.QueryEscape(name), nil, &answer); status != http.StatusOK {
		t.Fatalf("asking Keystone for the project %s: status %d", name, status)
	}
	for _, p := range answer.Projects {
		if p.Name == name {
			return p.ID
		}
	}
	t.Fatalf("Keystone has no project %s", name)
	return ""
}

// hasFlavor expects the Nova to hold that id once, with these sizes.
func (c *cloud) hasFlavor(t *testing.T, region string, want novaBody) novaBody {
	t.Helper()
	got, ok := c.nova(t, region).get(t, want.ID)
	if !ok {
		t.Fatalf("Nova of %s does not hold the flavor %s (%s)", region, want.ID, want.Name)
	}
	if got.Name != want.Name || got.VCPUs != want.VCPUs || got.RAM != want.RAM || got.Disk != want.Disk || got.Swap != want.Swap || got.Ephemeral != want.Ephemeral {
		t.Errorf("Nova of %s holds %+v, not %+v", region, got, want)
	}
	return got
}

// hasNone expects the Nova to hold no flavor of that id and none of that name.
func (c *cloud) hasNone(t *testing.T, region, idOrName string) {
	t.Helper()
	for _, f := range c.nova(t, region).list(t) {
		if f.ID == idOrName || f.Name == idOrName {
			t.Errorf("Nova of %s holds %+v", region, f)
		}
	}
}

// state is everything the cloud's Novas hold, as text to compare.
func (c *cloud) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, region := range c.regions {
		for _, f := range c.nova(t, region).list(t) {
			text, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s: %s\n", region, text)
		}
	}
	return b.String()
}

// removeAll deletes what tests left in the Novas under names, or ids, with that
// beginning.
func (c *cloud) removeAll(t *testing.T, prefix string) {
	for _, region := range c.regions {
		n := c.nova(t, region)
		for _, f := range n.list(t) {
			if strings.HasPrefix(f.Name, prefix) || strings.HasPrefix(f.ID, prefix) {
				n.delete(t, f.ID)
			}
		}
	}
}

func (c *cloud) rememberAll(t *testing.T) {
	c.before = make(map[string][]novaBody)
	for _, region := range c.regions {
		c.before[region] = c.nova(t, region).list(t)
	}
}

// checkLeftovers: no flavor has come or gone since the set-up began. The tests
// remove theirs; what else is there the product forgot.
func (c *cloud) checkLeftovers(t *testing.T) {
	key := func(f novaBody) string { return f.ID + " " + f.Name }
	for _, region := range c.regions {
		had := make(map[string]bool)
		for _, f := range c.before[region] {
			had[key(f)] = true
		}
		for _, f := range c.nova(t, region).list(t) {
			if !had[key(f)] {
				t.Errorf("%s: left over: %+v", region, f)
			}
			delete(had, key(f))
		}
		for gone := range had {
			t.Errorf("%s: gone: %s", region, gone)
		}
	}
}

// A gate stands before one region's Nova and lets a test decide what happens to
// a call before and after Nova has served it.
type gate struct {
	url string

	mu     sync.Mutex
	before func(r *http.Request) bool             // false: the connection is cut
	after  func(r *http.Request, status int) bool // false: the connection is cut
}

// set puts other watchmen at the gate; nil lets everything pass.
func (g *gate) set(before func(*http.Request) bool, after func(*http.Request, int) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before, g.after = before, after
}

func (g *gate) lets(r *http.Request, status int) bool {
	g.mu.Lock()
	before, after := g.before, g.after
	g.mu.Unlock()
	switch {
	case status == 0 && before != nil:
		return before(r)
	case status != 0 && after != nil:
		return after(r, status)
	}
	return true
}

// startGate puts a gate into the catalog of an extra cloud.
func startGate(t *testing.T, c *cloud, region string) *gate {
	t.Helper()
	behind, err := url.Parse(c.stack.NovaURL(region))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: behind.Scheme, Host: behind.Host})
			r.Out.Host = behind.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			if !g.lets(resp.Request, resp.StatusCode) {
				return http.ErrAbortHandler
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.lets(r, 0) {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.CloseClientConnections)
	g.url = server.URL + behind.Path
	c.stack.SetEndpoint(region, g.url)
	return g
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	return server.URL
}

// selfSigned is an https server whose certificate nobody vouches for.
func selfSigned(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the product spoke with one whose certificate nobody vouches for")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of every handshake
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// A harvester is somebody's server that collects what it is sent.
type harvester struct {
	url string
	mu  sync.Mutex
	got []*http.Request
}

func startHarvester(t *testing.T) *harvester {
	h := &harvester{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, r.Clone(r.Context()))
		http.Error(w, "{}", http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// holds says whether the token came in any header of any request.
func (h *harvester) holds(token string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.got {
		for _, values := range r.Header {
			if slices.Contains(values, token) {
				return true
			}
		}
	}
	return false
}
