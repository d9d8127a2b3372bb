package simstack_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// cloud is a federation that must behave like OpenStack's Zed: ours or a real one.
type cloud struct {
	keystone string // with /v3
	blind    bool   // its Novas compare without case and accents
	real     bool
	prefix   string // of every name and id the test makes
}

// TestLikeTheRealOne makes the same demands of the simulated federation and of
// a real one: what fails here for simstack only would let every other test
// believe in an OpenStack that does not exist.
func TestLikeTheRealOne(t *testing.T) {
	for name, collation := range map[string]simstack.Collation{"simulated, exact": simstack.Exact, "simulated, blind": simstack.Blind} {
		t.Run(name, func(t *testing.T) {
			s := start(t, simstack.Options{Collation: collation})
			conform(t, cloud{keystone: s.KeystoneURL(), blind: collation == simstack.Blind})
		})
	}
	t.Run("real", func(t *testing.T) {
		keystone := os.Getenv("FLAVORSYNC_TEST_KEYSTONE_URL")
		switch {
		case keystone != "":
			conform(t, cloud{real: true, keystone: strings.TrimSuffix(keystone, "/"), blind: os.Getenv("FLAVORSYNC_TEST_NOVA_COLLATION") == "blind"})
		case os.Getenv("CI") == "true":
			t.Fatal("FLAVORSYNC_TEST_KEYSTONE_URL is not set: there is no real federation to compare with")
		default:
			t.Skip("FLAVORSYNC_TEST_KEYSTONE_URL is not set: not compared with a real federation")
		}
	})
}

func start(t *testing.T, opts simstack.Options) *simstack.Stack {
	t.Helper()
	s := simstack.New(opts)
	_, stop, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// answer is what a service said, its JSON decoded.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// at finds a value in the body: "token.user.name", "flavors.0.id".
func (a answer) at(path string) any {
	var v any = a.body
	for key := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			var i int
			if fmt.Sscan(key, &i); i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// fault is the one key of Nova's error bodies.
func (a answer) fault() string {
	for key := range a.body {
		return key
	}
	return ""
}

type request struct {
	method, url string
	token       string
	version     string // microversion
	body        any    // a string is sent as it is
	header      map[string]string
	accept      string
}

func send(t *testing.T, q request) answer {
	t.Helper()
	a, err := attempt(t, q)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.url, err)
	}
	return a
}

func attempt(t *testing.T, q request) (a answer, err error) {
	t.Helper()
	var body io.Reader
	switch b := q.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(t.Context(), q.method, q.url, body)
	if err != nil {
		t.Fatal(err)
	}
	if q.token != "" {
		r.Header.Set("X-Auth-Token", q.token)
	}
	if q.version != "" {
		r.Header.Set("X-OpenStack-Nova-API-Version", q.version)
	}
	if q.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for key, value := range q.header {
		r.Header.Set(key, value)
	}
	if q.accept != "" {
		r.Header.Set("Accept", q.accept)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a = answer{status: response.StatusCode, header: response.Header, raw: raw}
	json.Unmarshal(raw, &a.body)
	return a, nil
}

func want(t *testing.T, what string, got, wanted any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(wanted); g != w {
		t.Errorf("%s: %.300s, not %s", what, g, w)
	}
}

func password(user, secret, project string) map[string]any {
	auth := map[string]any{"identity": map[string]any{
		"methods": []string{"password"},
		"password": map[string]any{"user": map[string]any{
			"name": user, "password": secret, "domain": map[string]string{"name": "Default"},
		}},
	}}
	if project != "" {
		auth["scope"] = map[string]any{"project": map[string]any{"name": project, "domain": map[string]string{"id": "default"}}}
	}
	return map[string]any{"auth": auth}
}

func (c cloud) login(t *testing.T, user, project string) (token string, a answer) {
	t.Helper()
	a = send(t, request{method: "POST", url: c.keystone + "/auth/tokens", body: password(user, user+"-secret", project)})
	if a.status != http.StatusCreated {
		t.Fatalf("%s cannot log in: %d %s", user, a.status, a.raw)
	}
	return a.header.Get("X-Subject-Token"), a
}

// endpoint is the public compute endpoint of a region in a token's catalog.
func endpoint(t *testing.T, a answer, region string) string {
	t.Helper()
	catalog, _ := a.at("token.catalog").([]any)
	for _, service := range catalog {
		service := service.(map[string]any)
		if service["type"] != "compute" {
			continue
		}
		for _, e := range service["endpoints"].([]any) {
			e := e.(map[string]any)
			if e["region"] == region && e["region_id"] == region && e["interface"] == "public" {
				return e["url"].(string)
			}
		}
	}
	t.Fatalf("the catalog has no public compute endpoint in %s: %s", region, a.raw)
	return ""
}

func conform(t *testing.T, c cloud) {
	c.prefix = "sim-" + strings.ToLower(rand.Text()[:10]) + "-"
	t.Run("keystone", c.keystoneAnswers)
	t.Run("application credentials", c.applicationCredentials)
	t.Run("groups of a user", c.groups)
	t.Run("access tokens", c.accessTokens)
	operator, login := c.login(t, "operator", "operators")
	member, asMember := c.login(t, "member", "demo")
	n := nova{cloud: c, url: endpoint(t, login, "Trento"), token: operator, member: member, demo: asMember.at("token.project.id").(string)}
	for _, region := range []string{"Spain2", "Lannion2"} {
		if other := endpoint(t, login, region); other == n.url {
			t.Errorf("%s has the Nova of Trento: %s", region, other)
		}
	}
	t.Cleanup(func() { n.cleanUp(t) })
	t.Run("versions", n.versions)
	t.Run("refusals", n.refusals)
	t.Run("life of a flavor", n.life)
	t.Run("lists", n.lists)
	t.Run("extra specs", n.specs)
	t.Run("access", n.access)
	t.Run("roles", n.roles)
	t.Run("collation", n.collation)
	t.Run("a race for one name", n.race)
	t.Run("ids beyond reach", n.unreachable)
	t.Run("a body too large", n.tooLarge)
}

func (c cloud) keystoneAnswers(t *testing.T) {
	tokens := c.keystone + "/auth/tokens"
	root := send(t, request{method: "GET", url: strings.TrimSuffix(c.keystone, "v3")})
	want(t, "status of the root", root.status, 300)
	want(t, "the only version", root.at("versions.values.0.id"), "v3.14")
	want(t, "version", send(t, request{method: "GET", url: c.keystone}).at("version.id"), "v3.14")

	unauthorized := func(what string, a answer) {
		t.Helper()
		want(t, what, a.status, 401)
		want(t, what+": the error's code", a.at("error.code"), 401)
		want(t, what+": the error's title", a.at("error.title"), "Unauthorized")
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Keystone uri=") {
			t.Errorf("%s: WWW-Authenticate is %q", what, a.header.Get("WWW-Authenticate"))
		}
		if !strings.HasPrefix(a.header.Get("X-Openstack-Request-Id"), "req-") {
			t.Errorf("%s: no request id", what)
		}
	}
	post := func(body any) answer { return send(t, request{method: "POST", url: tokens, body: body}) }
	unauthorized("a wrong password", post(password("operator", "wrong", "operators")))
	unauthorized("an unknown user", post(password("nobody", "wrong", "")))
	unauthorized("another's project", post(password("operator", "operator-secret", "demo")))
	unauthorized("an unknown project", post(password("operator", "operator-secret", "nowhere")))
	unauthorized("no token", send(t, request{method: "GET", url: tokens}))
	want(t, "no JSON", post("x").status, 400)
	want(t, "nothing asked", post("{}").status, 400)
	want(t, "no domain", post(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"operator","password":"operator-secret"}}}}}`).status, 400)

	unscoped, a := c.login(t, "operator", "")
	want(t, "catalog of an unscoped token", a.at("token.catalog"), nil)
	want(t, "roles of an unscoped token", a.at("token.roles"), nil)
	scoped, a := c.login(t, "operator", "operators")
	for _, token := range []string{unscoped, scoped} {
		if !strings.HasPrefix(token, "gAAAA") {
			t.Errorf("a token looks like %.6s..., not gAAAA...", token)
		}
	}
	want(t, "user", a.at("token.user.name"), "operator")
	want(t, "the user's domain", a.at("token.user.domain.id"), "default")
	want(t, "project", a.at("token.project.name"), "operators")
	if expires, _ := a.at("token.expires_at").(string); len(expires) != len("2026-11-21T05:07:02.000000Z") {
		t.Errorf("expires_at is %q", expires)
	}
	want(t, "roles, with those they imply", roleNames(a), "[admin member reader]")

	// Scoped by the project's id, by a token instead of a password.
	again := post(map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"token"}, "token": map[string]string{"id": unscoped}},
		"scope":    map[string]any{"project": map[string]any{"id": a.at("token.project.id")}},
	}})
	want(t, "a token for a token", again.status, 201)
	want(t, "its project", again.at("token.project.name"), "operators")
	want(t, "a token for no token", post(`{"auth":{"identity":{"methods":["token"],"token":{"id":"bad"}}}}`).status, 404)

	member, _ := c.login(t, "member", "demo")
	validate := func(method, asking, subject string) answer {
		return send(t, request{method: method, url: tokens, token: asking, header: map[string]string{"X-Subject-Token": subject}})
	}
	self := validate("GET", member, member)
	want(t, "self-validation by any user", self.status, 200)
	want(t, "X-Subject-Token of the validation", self.header.Get("X-Subject-Token"), member)
	endpoint(t, self, "Spain2")
	want(t, "HEAD", validate("HEAD", member, member).status, 200)
	want(t, "validation of another's token", validate("GET", member, scoped).status, 403)
	want(t, "validation by an admin", validate("GET", scoped, member).status, 200)
	want(t, "validation of no token", validate("GET", scoped, "bad").status, 404)
	unauthorized("validation with a bad token", validate("GET", "bad", member))
	want(t, "revocation of another's token", validate("DELETE", member, scoped).status, 403)
	want(t, "revocation", validate("DELETE", member, member).status, 204)
	unauthorized("a revoked token", validate("GET", member, member))
	want(t, "validation of a revoked token", validate("GET", scoped, member).status, 404)
}

// roleNames are the roles of a token, in order.
func roleNames(a answer) []string {
	var names []string
	roles, _ := a.at("token.roles").([]any)
	for _, role := range roles {
		names = append(names, role.(map[string]any)["name"].(string))
	}
	slices.Sort(names)
	return names
}

func (c cloud) applicationCredentials(t *testing.T) {
	operator, login := c.login(t, "operator", "operators")
	member, _ := c.login(t, "member", "demo")
	all := c.keystone + "/users/" + login.at("token.user.id").(string) + "/application_credentials"
	create := func(token string, credential map[string]any) answer {
		return send(t, request{method: "POST", url: all, token: token, body: map[string]any{"application_credential": credential}})
	}
	name := c.prefix + "credential"
	made := create(operator, map[string]any{"name": name, "roles": []any{map[string]string{"name": "admin"}}})
	if made.status != 201 {
		t.Fatalf("no application credential: %d %s", made.status, made.raw)
	}
	id, secret := made.at("application_credential.id").(string), made.at("application_credential.secret").(string)
	remove := func() answer { return send(t, request{method: "DELETE", url: all + "/" + id, token: operator}) }
	defer remove()
	want(t, "its project", made.at("application_credential.project_id"), login.at("token.project.id"))
	want(t, "the same name again", create(operator, map[string]any{"name": name}).status, 409)
	want(t, "no name", create(operator, map[string]any{}).status, 400)
	want(t, "by another user", create(member, map[string]any{"name": name + "2"}).status, 403)
	want(t, "with a role one has not", create(operator, map[string]any{"name": name + "2", "roles": []any{map[string]string{"name": "service"}}}).status, 400)

	use := func(credential map[string]any, scope any) answer {
		auth := map[string]any{"identity": map[string]any{"methods": []string{"application_credential"}, "application_credential": credential}}
		if scope != nil {
			auth["scope"] = scope
		}
		return send(t, request{method: "POST", url: c.keystone + "/auth/tokens", body: map[string]any{"auth": auth}})
	}
	user := map[string]any{"name": "operator", "domain": map[string]string{"name": "Default"}}
	var token string
	for what, by := range map[string]map[string]any{
		"by its id":            {"id": id, "secret": secret},
		"by its name and user": {"name": name, "secret": secret, "user": user},
	} {
		a := use(by, nil)
		want(t, what, a.status, 201)
		want(t, what+": the project", a.at("token.project.name"), "operators")
		want(t, what+": the user", a.at("token.user.name"), "operator")
		want(t, what+": the roles", roleNames(a), "[admin]")
		want(t, what+": the credential", a.at("token.application_credential.id"), id)
		endpoint(t, a, "Spain2")
		token = a.header.Get("X-Subject-Token")
	}
	want(t, "a wrong secret", use(map[string]any{"id": id, "secret": "wrong"}, nil).status, 401)
	unknown := use(map[string]any{"id": "nosuch", "secret": secret}, nil)
	want(t, "an unknown id", unknown.status, 404)
	want(t, "an unknown id: the error's code", unknown.at("error.code"), 404)
	want(t, "an unknown name", use(map[string]any{"name": "nosuch", "secret": secret, "user": user}, nil).status, 401)
	want(t, "a name without its user", use(map[string]any{"name": name, "secret": secret}, nil).status, 400)
	want(t, "a scope", use(map[string]any{"id": id, "secret": secret},
		map[string]any{"project": map[string]any{"name": "operators", "domain": map[string]string{"id": "default"}}}).status, 401)
	want(t, "its deletion", remove().status, 204)
	want(t, "its second deletion", remove().status, 404)
	want(t, "its use after that", use(map[string]any{"id": id, "secret": secret}, nil).status, 404)
	self := send(t, request{method: "GET", url: c.keystone + "/auth/tokens", token: token, header: map[string]string{"X-Subject-Token": token}})
	want(t, "its token after that", self.status, 404)
}

func (c cloud) groups(t *testing.T) {
	member, login := c.login(t, "member", "demo")
	unscoped, _ := c.login(t, "member", "")
	_, other := c.login(t, "operator", "operators")
	of := func(a answer) string { return c.keystone + "/users/" + a.at("token.user.id").(string) + "/groups" }
	for what, token := range map[string]string{"a scoped token": member, "an unscoped token": unscoped} {
		a := send(t, request{method: "GET", url: of(login), token: token})
		want(t, "one's own groups with "+what, a.status, 200)
		if _, ok := a.at("groups").([]any); !ok {
			t.Errorf("one's own groups with %s: %s", what, a.raw)
		}
	}
	want(t, "another's groups", send(t, request{method: "GET", url: of(other), token: member}).status, 403)
}

// accessTokens: an OpenID provider's access token is exchanged as keystoneauth's
// v3oidcaccesstoken does it.
func (c cloud) accessTokens(t *testing.T) {
	if c.real {
		admin, _ := c.login(t, "admin", "admin")
		known := send(t, request{method: "GET", url: c.keystone + "/OS-FEDERATION/identity_providers/" + simstack.IdentityProvider, token: admin})
		if known.status != 200 {
			if os.Getenv("CI") == "true" {
				t.Fatalf("the real Keystone has no identity provider %s: %s", simstack.IdentityProvider, known.raw)
			}
			t.Skipf("the real Keystone has no identity provider %s: not compared", simstack.IdentityProvider)
		}
	}
	exchange := func(idp, protocol, token string) answer {
		return send(t, request{
			method: "POST", url: c.keystone + "/OS-FEDERATION/identity_providers/" + idp + "/protocols/" + protocol + "/auth",
			header: map[string]string{"Authorization": "Bearer " + token},
		})
	}
	scope := func(unscoped answer, project string) answer {
		return send(t, request{method: "POST", url: c.keystone + "/auth/tokens", body: map[string]any{"auth": map[string]any{
			"identity": map[string]any{"methods": []string{"token"}, "token": map[string]string{"id": unscoped.header.Get("X-Subject-Token")}},
			"scope":    map[string]any{"project": map[string]any{"name": project, "domain": map[string]string{"name": "Default"}}},
		}}})
	}
	unscoped := exchange("egi.eu", "openid", "operator-access-token")
	want(t, "the exchange", unscoped.status, 201)
	want(t, "how", unscoped.at("token.methods"), "[openid]")
	want(t, "who", unscoped.at("token.user.name"), "operator@example.org")
	want(t, "the provider", unscoped.at("token.user.OS-FEDERATION.identity_provider.id"), "egi.eu")
	want(t, "its project", unscoped.at("token.project"), nil)
	want(t, "its catalog", unscoped.at("token.catalog"), nil)
	scoped := scope(unscoped, "operators")
	want(t, "the scoped token", scoped.status, 201)
	methods := strings.Fields(strings.Trim(fmt.Sprint(scoped.at("token.methods")), "[]"))
	slices.Sort(methods) // Keystone keeps them as a set, in no order
	want(t, "its methods", methods, "[openid token]")
	want(t, "its roles", roleNames(scoped), "[admin member reader]")
	want(t, "its user", scoped.at("token.user.id"), unscoped.at("token.user.id"))
	endpoint(t, scoped, "Spain2")
	want(t, "another's project", scope(unscoped, "demo").status, 401)

	stranger := exchange("egi.eu", "openid", "stranger-access-token")
	want(t, "one of no group", stranger.status, 201)
	want(t, "one of no group: a project", scope(stranger, "operators").status, 401)

	refused := exchange("egi.eu", "openid", "bad")
	want(t, "a bad access token", refused.status, 401)
	want(t, "a bad access token: the body is Apache's", refused.body, map[string]any(nil))
	unknown := exchange("nosuch", "openid", "operator-access-token")
	want(t, "an unknown provider", unknown.status, 404)
	want(t, "an unknown provider: the error's code", unknown.at("error.code"), 404)
	want(t, "an unknown protocol", exchange("egi.eu", "saml2", "operator-access-token").status, 401)
}

// nova is one region's Nova under test.
type nova struct {
	cloud
	url    string
	token  string // an admin's
	member string // a member's token
	demo   string // the member's project
}

func (n nova) call(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return n.at(t, "2.61", n.token, method, path, body)
}

func (n nova) at(t *testing.T, version, token, method, path string, body any) answer {
	t.Helper()
	a := send(t, request{method: method, url: n.url + path, token: token, version: version, body: body})
	if !strings.HasPrefix(a.header.Get("X-Openstack-Request-Id"), "req-") {
		t.Errorf("%s %s: an answer without a request id", method, path)
	}
	return a
}

func (n nova) flavor(name string, more ...any) map[string]any {
	f := map[string]any{"name": n.prefix + name, "id": n.prefix + name, "vcpus": 1, "ram": 512, "disk": 0}
	for i := 0; i < len(more); i += 2 {
		f[more[i].(string)] = more[i+1]
	}
	return map[string]any{"flavor": f}
}

func (n nova) create(t *testing.T, name string, more ...any) answer {
	t.Helper()
	a := n.call(t, "POST", "/flavors", n.flavor(name, more...))
	if a.status != 200 {
		t.Fatalf("creating %s: %d %s", name, a.status, a.raw)
	}
	return a
}

func (n nova) refused(t *testing.T, what string, a answer, status int, fault string) {
	t.Helper()
	want(t, what, a.status, status)
	want(t, what+": fault", a.fault(), fault)
	want(t, what+": code in the body", a.at(fault+".code"), status)
}

func (n nova) cleanUp(t *testing.T) {
	token, _ := n.login2(t)
	a := n.list(t, token)
	for _, f := range a {
		if id := f["id"].(string); strings.HasPrefix(strings.ToLower(f["name"].(string)), n.prefix) {
			send2(n.url+"/flavors/"+escapeDots(id), token)
		}
	}
}

// login2 and send2 work after the test's own context has ended.
func (n nova) login2(*testing.T) (string, error) {
	raw, _ := json.Marshal(password("operator", "operator-secret", "operators"))
	response, err := http.Post(n.keystone+"/auth/tokens", "application/json", bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	response.Body.Close()
	return response.Header.Get("X-Subject-Token"), nil
}

func (n nova) list(t *testing.T, token string) []map[string]any {
	r, _ := http.NewRequest(http.MethodGet, n.url+"/flavors?is_public=None", nil)
	r.Header.Set("X-Auth-Token", token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Errorf("while cleaning up: %v", err)
		return nil
	}
	defer response.Body.Close()
	var body struct{ Flavors []map[string]any }
	json.NewDecoder(response.Body).Decode(&body)
	return body.Flavors
}

func send2(url, token string) {
	r, _ := http.NewRequest(http.MethodDelete, url, nil)
	r.Header.Set("X-Auth-Token", token)
	if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
		response.Body.Close()
	}
}

func escapeDots(id string) string {
	if strings.Trim(id, ".") == "" {
		return strings.ReplaceAll(id, ".", "%2e")
	}
	return url.PathEscape(id)
}

func (n nova) versions(t *testing.T) {
	root := send(t, request{method: "GET", url: n.url + "/"})
	want(t, "the version document without a token", root.status, 200)
	want(t, "version", root.at("version.id"), "v2.1")
	want(t, "the newest microversion", root.at("version.version"), "2.93")
	want(t, "the oldest", root.at("version.min_version"), "2.1")
	for asked, answered := range map[string]string{"": "2.1", "2.61": "2.61", "latest": "2.93"} {
		a := n.at(t, asked, n.token, "GET", "/flavors", nil)
		want(t, "status at "+asked, a.status, 200)
		want(t, "microversion for "+asked, a.header.Get("X-OpenStack-Nova-API-Version"), answered)
		want(t, "microversion for "+asked, a.header.Get("OpenStack-API-Version"), "compute "+answered)
	}
	a := send(t, request{method: "GET", url: n.url + "/flavors", token: n.token, header: map[string]string{"OpenStack-API-Version": "compute 2.55"}})
	want(t, "the newer header", a.header.Get("OpenStack-API-Version"), "compute 2.55")
	n.refused(t, "2.94", n.at(t, "2.94", n.token, "GET", "/flavors", nil), 406, "computeFault")
	n.refused(t, "2.0", n.at(t, "2.0", n.token, "GET", "/flavors", nil), 406, "computeFault")
	n.refused(t, "nonsense", n.at(t, "abc", n.token, "GET", "/flavors", nil), 400, "badRequest")
	for _, token := range []string{"", "bad"} {
		a := n.at(t, "2.61", token, "GET", "/flavors", nil)
		n.refused(t, "a bad token", answer{status: a.status, body: a.body}, 401, "error")
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Keystone uri=") {
			t.Errorf("a bad token: WWW-Authenticate is %q", a.header.Get("WWW-Authenticate"))
		}
	}
	for _, path := range []string{"/nothing", "/flavors/", "/flavors/a/b/c", "/flavors/a%2Fb"} {
		for accept, media := range map[string]string{"*/*": "text/html", "text/html": "text/html", "application/json": "application/json", "": "text/plain"} {
			a := send(t, request{method: "GET", url: n.url + path, token: n.token, accept: accept})
			want(t, "GET "+path, a.status, 404)
			if !strings.HasPrefix(a.header.Get("Content-Type"), media) {
				t.Errorf("GET %s, accepting %q: %s, not %s", path, accept, a.header.Get("Content-Type"), media)
			}
		}
	}
	want(t, "PATCH", n.call(t, "PATCH", "/flavors", "{}").status, 404)
}

func (n nova) refusals(t *testing.T) {
	for _, test := range []struct {
		field string
		value any
	}{
		{"name", ""}, {"name", " a"}, {"name", "a "}, {"name", " "}, {"name", strings.Repeat("a", 256)}, {"name", 5}, {"name", nil},
		{"name", "a\nb"}, {"name", "a\x00"}, {"name", "\U0001F600"},
		{"id", ""}, {"id", "a/b"}, {"id", " a"}, {"id", "a "}, {"id", "a:b"}, {"id", "é"}, {"id", true}, {"id", strings.Repeat("a", 256)},
		{"ram", 0}, {"ram", 2147483648}, {"ram", "x"}, {"ram", nil}, {"ram", 1.5}, {"vcpus", 0}, {"vcpus", -1}, {"vcpus", "99999999999"},
		{"disk", -1}, {"disk", 2147483648}, {"swap", -1}, {"swap", ""}, {"OS-FLV-EXT-DATA:ephemeral", -1},
		{"rxtx_factor", 0}, {"rxtx_factor", 0.5}, {"rxtx_factor", -1}, {"rxtx_factor", "x"}, {"rxtx_factor", 1e39},
		{"os-flavor-access:is_public", "maybe"}, {"os-flavor-access:is_public", 1},
		{"description", 5}, {"description", "a\nb"}, {"description", "\U0001F600"},
		{"unknown", 1},
	} {
		n.refused(t, fmt.Sprintf("%s %.20v", test.field, test.value), n.call(t, "POST", "/flavors", n.flavor("refused", test.field, test.value)), 400, "badRequest")
	}
	for _, field := range []string{"name", "vcpus", "ram", "disk"} {
		body := n.flavor("refused")
		delete(body["flavor"].(map[string]any), field)
		n.refused(t, "no "+field, n.call(t, "POST", "/flavors", body), 400, "badRequest")
	}
	for _, body := range []string{"", "x", "[]", "{}", `{"flavor": 5}`, `{"flavor": {}} x`} {
		n.refused(t, "the body "+body, n.call(t, "POST", "/flavors", body), 400, "badRequest")
	}
	n.refused(t, "a description before 2.55", n.at(t, "2.54", n.token, "POST", "/flavors", n.flavor("refused", "description", "d")), 400, "badRequest")
	for media, status := range map[string]int{"text/plain": 200, "application/xml": 415} {
		a := send(t, request{method: "POST", url: n.url + "/flavors", token: n.token, version: "2.61", body: n.flavor("media", "id", nil), header: map[string]string{"Content-Type": media}})
		want(t, "a body of "+media, a.status, status)
	}
	want(t, "a refused flavor", n.call(t, "GET", "/flavors/"+n.prefix+"refused", nil).status, 404)
}

func (n nova) life(t *testing.T) {
	id := n.prefix + "life"
	path := "/flavors/" + id
	a := n.create(t, "life", "description", "first", "swap", "64", "disk", 2147483647, "OS-FLV-EXT-DATA:ephemeral", 3, "rxtx_factor", 1.5)
	for key, value := range map[string]any{
		"id": id, "name": id, "vcpus": 1, "ram": 512, "disk": 2147483647.0, "swap": 64, "OS-FLV-EXT-DATA:ephemeral": 3, "rxtx_factor": 1.5,
		"description": "first", "os-flavor-access:is_public": true, "OS-FLV-DISABLED:disabled": false, "extra_specs": "map[]",
		"links.0.href": n.url + path,
	} {
		want(t, key, a.at("flavor."+key), value)
	}
	n.refused(t, "the id again", n.call(t, "POST", "/flavors", n.flavor("life", "name", id+"-other")), 409, "conflictingRequest")
	n.refused(t, "the name again", n.call(t, "POST", "/flavors", n.flavor("life", "id", id+"-other")), 409, "conflictingRequest")

	n.refused(t, "a new size", n.call(t, "PUT", path, `{"flavor": {"description": "x", "ram": 5}}`), 400, "badRequest")
	n.refused(t, "PUT of nothing", n.call(t, "PUT", path, `{"flavor": {}}`), 400, "badRequest")
	n.refused(t, "PUT before 2.55", n.at(t, "2.54", n.token, "PUT", path, `{"flavor": {"description": "x"}}`), 404, "itemNotFound")
	a = n.call(t, "PUT", path, `{"flavor": {"description": "second"}}`)
	want(t, "PUT", a.status, 200)
	want(t, "the new description", a.at("flavor.description"), "second")
	n.call(t, "PUT", path, `{"flavor": {"description": null}}`)
	a = n.call(t, "GET", path, nil)
	want(t, "no description any more", a.at("flavor.description"), nil)
	want(t, "description before 2.55", n.at(t, "2.54", n.token, "GET", path, nil).at("flavor.description"), nil)

	want(t, "DELETE", n.call(t, "DELETE", path, nil).status, 202)
	n.refused(t, "the second DELETE", n.call(t, "DELETE", path, nil), 404, "itemNotFound")
	n.refused(t, "GET after DELETE", n.call(t, "GET", path, nil), 404, "itemNotFound")
	n.refused(t, "PUT after DELETE", n.call(t, "PUT", path, `{"flavor": {"description": "x"}}`), 404, "itemNotFound")
	n.create(t, "life") // a freed id and name can be used at once

	a = n.create(t, "no id", "id", nil)
	if id, _ := a.at("flavor.id").(string); len(id) != 36 {
		t.Errorf("Nova chose the id %q, not a UUID", id)
	}
	n.create(t, "/ ? # % ; 日本 ñ", "id", n.prefix+"inner blank")
	got := n.call(t, "GET", "/flavors/"+n.prefix+"inner%20blank", nil)
	want(t, "a name with signs", got.at("flavor.name"), n.prefix+"/ ? # % ; 日本 ñ")
	for version, swap := range map[string]any{"2.74": "", "2.75": 0} {
		want(t, "swap 0 at "+version, n.at(t, version, n.token, "GET", "/flavors/"+n.prefix+"inner%20blank", nil).at("flavor.swap"), swap)
	}
	want(t, "extra specs before 2.61", n.at(t, "2.60", n.token, "GET", "/flavors/"+n.prefix+"life", nil).at("flavor.extra_specs"), nil)
}

// ids are those of a list that this test made, in its order.
func (n nova) ids(a answer) []string {
	ids := []string{}
	flavors, _ := a.at("flavors").([]any)
	for _, f := range flavors {
		if id := f.(map[string]any)["id"].(string); strings.HasPrefix(id, n.prefix+"list") {
			ids = append(ids, strings.TrimPrefix(id, n.prefix+"list-"))
		}
	}
	return ids
}

func (n nova) lists(t *testing.T) {
	for _, test := range []struct {
		name string
		ram  int
	}{{"c", 1}, {"a", 3}, {"b", 2}} {
		n.create(t, "list-"+test.name, "ram", test.ram)
	}
	n.create(t, "list-d", "os-flavor-access:is_public", false, "ram", 9)
	get := func(path string) answer { t.Helper(); return n.call(t, "GET", path, nil) }

	want(t, "the default list", n.ids(get("/flavors")), "[a b c]")
	want(t, "is_public=None", n.ids(get("/flavors/detail?is_public=None")), "[a b c d]")
	want(t, "is_public=false", n.ids(get("/flavors/detail?is_public=false")), "[d]")
	want(t, "by memory, down", n.ids(get("/flavors?is_public=None&sort_key=memory_mb&sort_dir=desc")), "[d a b c]")
	want(t, "minRam", n.ids(get("/flavors?minRam=3&minDisk=0")), "[a]")
	want(t, "brief entries", get("/flavors?limit=1").at("flavors.0.ram"), nil)

	// From a marker on, page by page, to the end.
	page := get("/flavors/detail?is_public=None&limit=2&marker=" + n.prefix + "list-a")
	want(t, "the page after a", n.ids(page), "[b c]")
	next, _ := page.at("flavors_links.0.href").(string)
	if page.at("flavors_links.0.rel") != "next" || !strings.HasPrefix(next, n.url+"/flavors/detail?") || !strings.Contains(next, "marker="+n.prefix+"list-c") {
		t.Fatalf("the next page is %q", next)
	}
	want(t, "the next page", n.ids(get(strings.TrimPrefix(next, n.url)))[0], "d")
	want(t, "limit 0", len(get("/flavors?limit=0").at("flavors").([]any)), 0)
	all := len(get("/flavors?is_public=None").at("flavors").([]any))
	full := get(fmt.Sprintf("/flavors?is_public=None&limit=%d", all))
	if full.at("flavors_links.0.rel") != "next" {
		t.Error("a full page has no next link, though it is the last")
	}
	want(t, "links of a page that is not full", get(fmt.Sprintf("/flavors?is_public=None&limit=%d", all+1)).at("flavors_links"), nil)
	want(t, "a limit over the longest page", get("/flavors?limit=2000").status, 200)

	for _, query := range []string{"limit=-1", "limit=x", "limit=", "marker=nowhere", "is_public=maybe", "sort_key=x", "sort_dir=up", "minRam=x"} {
		n.refused(t, query, get("/flavors?"+query), 400, "badRequest")
	}
	want(t, "an unknown parameter at 2.74", n.at(t, "2.74", n.token, "GET", "/flavors?foo=1", nil).status, 200)
	n.refused(t, "an unknown parameter at 2.75", n.at(t, "2.75", n.token, "GET", "/flavors?foo=1", nil), 400, "badRequest")
}

func (n nova) specs(t *testing.T) {
	n.create(t, "specs")
	path := "/flavors/" + n.prefix + "specs/os-extra_specs"
	want(t, "none yet", n.call(t, "GET", path, nil).at("extra_specs"), "map[]")
	want(t, "POST", n.call(t, "POST", path, `{"extra_specs": {"hw:cpu_policy": "shared", "number": 5, "float": 1.50}}`).status, 200)
	want(t, "numbers come back as texts", n.call(t, "GET", path, nil).at("extra_specs.number"), "5")
	want(t, "floats too", n.call(t, "GET", path+"/float", nil).at("float"), "1.5")
	n.call(t, "POST", path, `{"extra_specs": {"more": "b"}}`)
	want(t, "POST adds", len(n.call(t, "GET", path, nil).at("extra_specs").(map[string]any)), 4)
	want(t, "PUT of one", n.call(t, "PUT", path+"/more", `{"more": "c"}`).at("more"), "c")
	n.refused(t, "PUT of another key", n.call(t, "PUT", path+"/more", `{"other": "c"}`), 400, "badRequest")
	n.refused(t, "PUT of two", n.call(t, "PUT", path+"/more", `{"more": "c", "x": "y"}`), 400, "badRequest")
	want(t, "in the flavor", n.call(t, "GET", "/flavors/"+n.prefix+"specs", nil).at("flavor.extra_specs.more"), "c")
	want(t, "in the list", n.call(t, "GET", "/flavors/detail?limit=1", nil).at("flavors.0.extra_specs") != nil, true)
	want(t, "DELETE of one", n.call(t, "DELETE", path+"/more", nil).status, 200)
	n.refused(t, "its second DELETE", n.call(t, "DELETE", path+"/more", nil), 404, "itemNotFound")
	n.refused(t, "GET of one that is not", n.call(t, "GET", path+"/more", nil), 404, "itemNotFound")
	for _, specs := range []string{`{"": "v"}`, `{"a/b": "v"}`, `{"é": "v"}`, `{"a": true}`, `{"a": null}`, `{"a": "` + strings.Repeat("v", 256) + `"}`, `5`} {
		n.refused(t, specs, n.call(t, "POST", path, `{"extra_specs": `+specs+`}`), 400, "badRequest")
	}
	n.refused(t, "specs of no flavor", n.call(t, "POST", "/flavors/nowhere/os-extra_specs", `{"extra_specs": {"a": "b"}}`), 404, "itemNotFound")
	for version, status := range map[string]int{"2.85": 200, "2.86": 400} {
		for _, spec := range []string{`{"hw:cpu_policy": "x"}`, `{"hw:nonsense": "x"}`, `{"hw:numa_nodes": "x"}`} {
			want(t, spec+" at "+version, n.at(t, version, n.token, "POST", path, `{"extra_specs": `+spec+`}`).status, status)
		}
	}
	want(t, "a key of nobody's namespace at 2.86", n.at(t, "2.86", n.token, "POST", path, `{"extra_specs": {"ours:x": "x", "hw:cpu_cores": "2"}}`).status, 200)
}

func (n nova) access(t *testing.T) {
	n.create(t, "private", "os-flavor-access:is_public", false)
	n.create(t, "public")
	path := "/flavors/" + n.prefix + "private"
	act := func(flavor, action, project string) answer {
		t.Helper()
		return n.call(t, "POST", "/flavors/"+n.prefix+flavor+"/action", map[string]any{action: map[string]string{"tenant": project}})
	}
	asMember := func() int { return n.at(t, "2.61", n.member, "GET", path, nil).status }
	want(t, "access at first", n.call(t, "GET", path+"/os-flavor-access", nil).at("flavor_access"), "[]")
	want(t, "a member without access", asMember(), 404)
	a := act("private", "addTenantAccess", n.demo)
	want(t, "adding access", a.status, 200)
	want(t, "the project", a.at("flavor_access.0.tenant_id"), n.demo)
	want(t, "the flavor", a.at("flavor_access.0.flavor_id"), n.prefix+"private")
	want(t, "a member with access", asMember(), 200)
	want(t, "a member's list", strings.Contains(string(n.at(t, "2.61", n.member, "GET", "/flavors", nil).raw), n.prefix+"private"), true)
	n.refused(t, "adding it twice", act("private", "addTenantAccess", n.demo), 409, "conflictingRequest")
	n.refused(t, "an unknown project", act("private", "addTenantAccess", "nowhere"), 400, "badRequest")
	n.refused(t, "no project", act("private", "addTenantAccess", ""), 400, "badRequest")
	n.refused(t, "access to a public flavor", act("public", "addTenantAccess", n.demo), 409, "conflictingRequest")
	n.refused(t, "access list of a public flavor", n.call(t, "GET", "/flavors/"+n.prefix+"public/os-flavor-access", nil), 404, "itemNotFound")
	n.refused(t, "access to no flavor", act("nowhere", "addTenantAccess", n.demo), 404, "itemNotFound")
	n.refused(t, "an unknown action", act("private", "unknown", n.demo), 400, "badRequest")
	want(t, "removing access", act("private", "removeTenantAccess", n.demo).status, 200)
	n.refused(t, "removing it twice", act("private", "removeTenantAccess", n.demo), 404, "itemNotFound")
	want(t, "a member without access again", asMember(), 404)
}

func (n nova) roles(t *testing.T) {
	n.create(t, "roles")
	path := "/flavors/" + n.prefix + "roles"
	reader, _ := n.login(t, "reader", "demo")
	unscoped, _ := n.login(t, "operator", "")
	admin, _ := n.login(t, "admin", "admin")
	for name, token := range map[string]string{"member": n.member, "reader": reader, "unscoped": unscoped} {
		call := func(method, path string, body any) answer {
			t.Helper()
			return n.at(t, "2.61", token, method, path, body)
		}
		want(t, name+" lists", call("GET", "/flavors/detail?is_public=None", nil).status, 200)
		shows := 200
		if name == "unscoped" {
			shows = 403
		}
		want(t, name+" shows", call("GET", path, nil).status, shows)
		want(t, name+" shows extra specs", call("GET", path+"/os-extra_specs", nil).status, shows)
		n.refused(t, name+" creates", call("POST", "/flavors", n.flavor("by-"+name)), 403, "forbidden")
		n.refused(t, name+" describes", call("PUT", path, `{"flavor": {"description": "x"}}`), 403, "forbidden")
		n.refused(t, name+" deletes", call("DELETE", path, nil), 403, "forbidden")
		n.refused(t, name+" deletes what is not", call("DELETE", "/flavors/nowhere", nil), 403, "forbidden")
		n.refused(t, name+" specifies", call("POST", path+"/os-extra_specs", `{"extra_specs": {"a": "b"}}`), 403, "forbidden")
		n.refused(t, name+" gives", call("POST", path+"/action", `{"addTenantAccess": {"tenant": "`+n.demo+`"}}`), 403, "forbidden")
		n.refused(t, name+" creates nonsense", call("POST", "/flavors", "{}"), 400, "badRequest")
	}
	want(t, "the admin of another project describes", n.at(t, "2.61", admin, "PUT", path, `{"flavor": {"description": "x"}}`).status, 200)
}

// collation: where the database is MariaDB, A and a and á are one.
func (n nova) collation(t *testing.T) {
	n.create(t, "coll-ane")
	path := "/flavors/" + n.prefix + "coll-ane"
	upper := "/flavors/" + strings.ToUpper(n.prefix) + "COLL-ANE"
	specs := `{"extra_specs": {"key": "a"}}`
	n.call(t, "POST", path+"/os-extra_specs", specs)
	sameName := n.call(t, "POST", "/flavors", n.flavor("coll-âÑe", "id", n.prefix+"coll-2"))
	sameID := n.call(t, "POST", "/flavors", n.flavor("coll-3", "id", n.prefix+"COLL-ane"))
	sameKey := n.call(t, "POST", path+"/os-extra_specs", `{"extra_specs": {"KEY": "b"}}`)
	shown := n.call(t, "GET", upper, nil)
	if n.blind {
		n.refused(t, "the name without accents", sameName, 409, "conflictingRequest")
		n.refused(t, "the id without case", sameID, 409, "conflictingRequest")
		n.refused(t, "the key without case", sameKey, 409, "conflictingRequest")
		want(t, "the flavor that answers for another id", shown.at("flavor.id"), n.prefix+"coll-ane")
		want(t, "DELETE by another id", n.call(t, "DELETE", upper, nil).status, 202)
		want(t, "the flavor then", n.call(t, "GET", path, nil).status, 404)
		return
	}
	want(t, "another name", sameName.status, 200)
	want(t, "another id", sameID.status, 200)
	want(t, "another key", sameKey.status, 200)
	want(t, "GET of another id", shown.status, 404)
}

func (n nova) race(t *testing.T) {
	var wg sync.WaitGroup
	status := make([]int, 8)
	for i := range status {
		wg.Go(func() { status[i] = n.call(t, "POST", "/flavors", n.flavor("race", "id", nil)).status })
	}
	wg.Wait()
	slices.Sort(status)
	want(t, "eight creates of one name", status, "[200 409 409 409 409 409 409 409]")
}

func (n nova) unreachable(t *testing.T) {
	for _, id := range []string{".", "..", "detail"} {
		body := n.flavor("unreachable"+id, "id", id)
		want(t, "creating "+id, n.call(t, "POST", "/flavors", body).status, 200)
	}
	if a := n.call(t, "GET", "/flavors/detail", nil); a.at("flavors") == nil {
		t.Error("GET /flavors/detail shows a flavor")
	}
	for path, id := range map[string]string{"/flavors/.": ".", "/flavors/..": ".."} {
		if a := n.call(t, "GET", path, nil); a.at("flavor") != nil {
			t.Errorf("GET %s shows the flavor %s", path, id)
		}
	}
}

func (n nova) tooLarge(t *testing.T) {
	for _, test := range []struct {
		name   string
		body   any
		status int
		media  string
	}{
		{"a description too long", n.flavor("large", "description", strings.Repeat("a", 65536)), 400, "application/json"},
		{"a body that just fits", strings.Repeat(" ", 114688), 400, "application/json"},
		{"a body too large", strings.Repeat(" ", 114689), 413, "text/html"},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := request{method: "POST", url: n.url + "/flavors", token: n.token, version: "2.61", body: test.body, accept: "*/*"}
			a, err := attempt(t, q)
			for range 4 {
				if err == nil || !n.real {
					break
				}
				a, err = attempt(t, q)
			}
			switch {
			case err != nil && n.real:
				t.Skip("the web server before this Nova closed the connection before it had read the body")
			case err != nil:
				t.Fatal(err)
			}
			want(t, "status", a.status, test.status)
			if !strings.HasPrefix(a.header.Get("Content-Type"), test.media) {
				t.Errorf("%s, not %s", a.header.Get("Content-Type"), test.media)
			}
		})
	}
}
