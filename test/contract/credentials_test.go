package contract_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// A row is one call of the contract's table.
type row struct {
	method, path string
	managersOnly bool
}

// body is something to send with the call, nil where it takes nothing.
func (r row) body() *document {
	switch {
	case r.method != http.MethodPost && r.method != http.MethodPut, r.path == "/products/push":
		return nil
	case strings.HasSuffix(r.path, "/product"):
		return productOf("price", "0.34", "currency", "DKK")
	case r.path == "/match":
		return documentOf("match", []any{"host", map[string]any{"num_cpus": 2}})
	}
	return sized(unique()("x"))
}

// fromMemory says whether the call is answered without the database, or from
// what is remembered of it.
func (r row) fromMemory() bool {
	return r.path == "/whoami" || r.path == "/flavors" && r.method == http.MethodGet || strings.HasSuffix(r.path, "/compliance") || r.path == "/match" || strings.HasPrefix(r.path, "/promotedflavors") || strings.HasPrefix(r.path, "/products")
}

// allowed are the methods of the row's path that are not for managers only.
func (r row) allowed() (methods []string) {
	for _, other := range rows {
		if other.path == r.path && !other.managersOnly {
			methods = append(methods, other.method)
		}
	}
	return methods
}

var rows = []row{
	{http.MethodGet, "/promotedflavors", false},
	{http.MethodGet, "/promotedflavors/" + someUUID, false},
	{http.MethodPost, "/promotedflavors", true},
	{http.MethodPut, "/promotedflavors/" + someUUID, true},
	{http.MethodDelete, "/promotedflavors/" + someUUID, true},
	{http.MethodGet, "/promotedflavors/" + someUUID + "/product", false},
	{http.MethodPut, "/promotedflavors/" + someUUID + "/product", true},
	{http.MethodDelete, "/promotedflavors/" + someUUID + "/product", true},
	{http.MethodGet, "/products", false},
	{http.MethodGet, "/products/push", true},
	{http.MethodPost, "/products/push", true},
	{http.MethodGet, "/regions", false},
	{http.MethodGet, "/nodes", false},
	{http.MethodGet, "/regions/Spain2/flavors", false},
	{http.MethodPost, "/regions/Spain2/flavors", false},
	{http.MethodGet, "/regions/Spain2/flavors/" + someUUID, false},
	{http.MethodPut, "/regions/Spain2/flavors/" + someUUID, false},
	{http.MethodDelete, "/regions/Spain2/flavors/" + someUUID, false},
	{http.MethodGet, "/regions/Spain2/glue2", false},
	{http.MethodGet, "/infrastructures", false},
	{http.MethodPost, "/infrastructures", false},
	{http.MethodGet, "/infrastructures/Spain2", false},
	{http.MethodPut, "/infrastructures/Spain2", false},
	{http.MethodDelete, "/infrastructures/Spain2", false},
	{http.MethodGet, "/flavors", false},
	{http.MethodPost, "/flavors", false},
	{http.MethodGet, "/flavors/" + someUUID, false},
	{http.MethodPut, "/flavors/" + someUUID, false},
	{http.MethodDelete, "/flavors/" + someUUID, false},
	{http.MethodPost, "/match", false},
	{http.MethodGet, "/audit", true},
	{http.MethodGet, "/status", false},
	{http.MethodGet, "/whoami", false},
}

// someUUID is the id of no flavor.
const someUUID = "4a5a4c5e-0000-4000-8000-000000000000"

// whoami is the answer of GET /v1/whoami.
type whoami struct {
	ID, Name, Provider string
	Roles, Regions     []string
}

func (c client) whoami(t *testing.T, shapes ...shape) whoami {
	t.Helper()
	a := c.get(t, "/whoami", shapes...).want(t, 200)
	var body struct{ Whoami whoami }
	if err := json.Unmarshal(a.body, &body); err != nil || body.Whoami.ID == "" {
		t.Fatalf("not a caller: %v: %s", err, a)
	}
	return body.Whoami
}

// credentials: how a caller says who they are.
func credentials(t *testing.T, s *setup) {
	for _, row := range rows {
		for what, shapes := range map[string][]shape{
			"without credential":   nil,
			"with a bad token":     {header("X-Auth-Token", secret("bad"))},
			"with an unknown user": {header("user", "whoever"), header("password", secret("bad"))},
		} {
			t.Run(row.method+" "+row.path+" "+what+" is the plain 401", func(t *testing.T) {
				s.product.as(anonymous()).do(t, row.method, row.path, row.body(), shapes...).wantNoCredential(t)
			})
		}
	}

	t.Run("the plain 401 and 405 are plain in XML too", func(t *testing.T) {
		s.product.as(anonymous()).get(t, "/regions", in(asXML)).wantNoCredential(t)
		s.product.as(s.user).post(t, "/promotedflavors", sized("x"), in(asXML)).wantManagersOnly(t)
	})

	t.Run("a wrong password is the plain 401, and Basic is offered to one who sent Basic", func(t *testing.T) {
		a := s.product.as(byBasic(accounts.manager, secret("wrong"))).get(t, "/regions").wantNoCredential(t)
		if !strings.Contains(strings.Join(a.header.Values("WWW-Authenticate"), ","), "Basic") {
			t.Errorf("WWW-Authenticate: %v offers no Basic: %s", a.header.Values("WWW-Authenticate"), a)
		}
		s.product.as(byPair(accounts.manager, secret("wrong"))).get(t, "/regions").wantNoCredential(t)
	})

	token := s.idm.learn([]string{managerRole}, []string{trento})
	password := accounts.passwords[accounts.manager]
	for what, c := range map[string]caller{
		"X-Auth-Token":                    byToken("a manager", token),
		"Authorization: Bearer":           byBearer("a manager", token),
		"?access_token":                   byQuery("a manager", token),
		"Authorization: Basic":            byBasic(accounts.manager, password),
		"the headers user and password":   byPair(accounts.manager, password),
		"a scheme in other letters":       {name: "a manager", header: http.Header{"Authorization": {"bearer " + token}}},
		"header names in other letters":   {name: "a manager", header: http.Header{"x-auth-token": {token}}},
		"User and Password with capitals": {name: "a manager", header: http.Header{"User": {accounts.manager}, "Password": {password}}},
	} {
		t.Run(what+" is accepted on every kind of call", func(t *testing.T) {
			n := unique()
			as := s.product.as(c)
			as.get(t, "/regions").want(t, 200)
			f := as.post(t, "/promotedflavors", sized(n("made"))).want(t, 201).flavor(t)
			as.put(t, "/promotedflavors/"+f.ID, flavorOf("description", "x")).want(t, 200)
			as.delete(t, "/promotedflavors/"+f.ID).want(t, 204)
			as.get(t, "/infrastructures").want(t, 200)
		})
	}

	t.Run("of several credentials the first in the documented order decides", func(t *testing.T) {
		bad := secret("bad")
		ways := []struct {
			name  string
			apply func(r *request, good bool)
		}{
			{"X-Auth-Token", func(r *request, good bool) { r.header["X-Auth-Token"] = []string{pick(good, token, bad)} }},
			{"Bearer", func(r *request, good bool) { r.header["Authorization"] = []string{"Bearer " + pick(good, token, bad)} }},
			{"access_token", func(r *request, good bool) { r.query.Set("access_token", pick(good, token, bad)) }},
			{"Basic", func(r *request, good bool) {
				if r.header["Authorization"] == nil { // one header can say one thing
					r.header["Authorization"] = byBasic(accounts.manager, pick(good, password, bad)).header["Authorization"]
				}
			}},
			{"the header pair", func(r *request, good bool) {
				r.header["user"], r.header["password"] = []string{accounts.manager}, []string{pick(good, password, bad)}
			}},
		}
		for i, first := range ways {
			for _, good := range []bool{true, false} {
				a := s.product.as(anonymous()).get(t, "/regions", func(r *request) {
					first.apply(r, good)
					for _, later := range ways[i+1:] {
						if first.name != "Bearer" || later.name != "Basic" {
							later.apply(r, !good)
						}
					}
				})
				if want := map[bool]int{true: 200, false: 401}[good]; a.status != want {
					t.Errorf("a %s %s, and the others the contrary: status %d, not %d", map[bool]string{true: "good", false: "bad"}[good], first.name, a.status, want)
				}
			}
		}
	})

	t.Run("cookies are ignored", func(t *testing.T) {
		cookie := header("Cookie", "access_token="+token+"; oauth_token="+token+"; X-Auth-Token="+token)
		s.product.as(anonymous()).get(t, "/regions", cookie).wantNoCredential(t)
	})

	t.Run("the Private row takes the Keystone token besides the credential, not instead", func(t *testing.T) {
		s.product.as(anonymous()).get(t, "/regions/Spain2/flavors", keystone(s.cloud.token(t, "operator"))).wantNoCredential(t)
	})

	t.Run("an access_token is in no Link and no Location", func(t *testing.T) {
		n := s.names(t)
		as := s.product.as(byQuery("a manager", token)) // every answer is searched for it
		a := as.post(t, "/promotedflavors", sized(n("a"))).want(t, 201)
		as.post(t, "/promotedflavors", sized(n("b"))).want(t, 201)
		if location := a.header.Get("Location"); strings.Contains(location, "access_token") {
			t.Errorf("Location is %s", location)
		}
		page := as.get(t, "/promotedflavors", query("limit", "1")).want(t, 200)
		next := page.nextPath(t)
		if next == "" || strings.Contains(next, "access_token") {
			t.Errorf("Link is %q", page.header.Get("Link"))
		}
	})

	t.Run("whoami tells what KeyRock says", func(t *testing.T) {
		token := s.idm.learn([]string{managerRole, "Something else"}, []string{trento, spain2})
		got := s.product.as(byToken("a manager", token)).whoami(t)
		if got.ID != "id-of-"+token[4:12] || got.Name != "caller "+token[4:12] || got.Provider == "" {
			t.Errorf("%+v is not whom KeyRock knows", got)
		}
		if !slices.Contains(got.Roles, managerRole) || !slices.Equal(got.Regions, []string{spain2, trento}) {
			t.Errorf("the roles and regions are %+v", got)
		}
	})

	t.Run("whoami tells what the account says", func(t *testing.T) {
		got := s.product.as(byBasic(accounts.spain2, accounts.passwords[accounts.spain2])).whoami(t)
		if got.Name != accounts.spain2 || !slices.Equal(got.Regions, []string{spain2}) || slices.Contains(got.Roles, managerRole) {
			t.Errorf("%+v", got)
		}
	})

	t.Run("whoami in XML", func(t *testing.T) {
		a := s.product.as(s.user).get(t, "/whoami", in(asXML)).want(t, 200)
		if !a.isXML(t) {
			t.Errorf("not XML: %s", a)
		}
	})

	t.Run("an organisation that only looks like one gives no region", func(t *testing.T) {
		token := secret("idm")
		owner := []simstack.Role{{ID: "owner", Name: ownerRole}}
		s.idm.stack.AddIdentity(token, simstack.Identity{ID: "looks-like", DisplayName: "Looks Like", Organizations: []simstack.Organization{
			{ID: "1", Name: "Spain2", Roles: owner},
			{ID: "2", Name: "Spain2FIDASH", Roles: owner},
			{ID: "3", Name: "Spain2 FIDASH too", Roles: owner},
			{ID: "4", Name: "Trento FIDASH", Roles: []simstack.Role{{ID: "member", Name: "Member"}}},
			{ID: "5", Name: "Lannion2 FIDASH"},
		}})
		if got := s.product.as(byToken("a pretender", token)).whoami(t); len(got.Regions) != 0 {
			t.Errorf("the pretender owns %v", got.Regions)
		}
	})

	t.Run("a role inside an organisation makes no manager, a role outside no owner", func(t *testing.T) {
		token := secret("idm")
		s.idm.stack.AddIdentity(token, simstack.Identity{ID: "mixed", DisplayName: "Mixed Up",
			Roles:         []simstack.Role{{ID: "owner", Name: ownerRole}},
			Organizations: []simstack.Organization{{ID: "4", Name: "Trento FIDASH", Roles: []simstack.Role{{ID: "m", Name: managerRole}}}},
		})
		as := s.product.as(byToken("mixed up", token))
		if got := as.whoami(t); len(got.Regions) != 0 || slices.Contains(got.Roles, managerRole) {
			t.Errorf("%+v", got)
		}
		as.post(t, "/promotedflavors", sized("x")).wantManagersOnly(t)
	})

	if s.cloud.stack != nil {
		t.Run("an identity provider that cannot be reached is 503 with Retry-After", func(t *testing.T) {
			other := startIDM(t)
			pr := s.serve(t, with("identity", []any{map[string]any{"type": "keyrock", "url": other.url}}))
			token := other.learn(nil, nil)
			mend := other.stack.Fault("", simstack.Fault{Service: simstack.KeyRock, Kind: simstack.ServerError})
			pr.as(byToken("a user", token)).get(t, "/regions").want(t, 503)
			mend()
			pr.as(byToken("a user", token)).get(t, "/regions").want(t, 200)
			other.stack.Fault("", simstack.Fault{Service: simstack.KeyRock, Kind: simstack.Refuse})
			pr.as(byToken("a user", other.learn(nil, nil))).get(t, "/regions").want(t, 503)
			pr.as(byToken("a user", token)).get(t, "/regions").want(t, 200) // remembered
			for _, row := range rows {
				pr.as(byToken("a user", other.learn(nil, nil))).do(t, row.method, row.path, row.body()).want(t, 503)
			}
		})

		t.Run("a crowd with one token asks KeyRock once, and a refused token is not asked for again", func(t *testing.T) {
			other := startIDM(t)
			pr := s.serve(t, with("identity", []any{map[string]any{"type": "keyrock", "url": other.url}}))
			good := pr.as(byToken("a user", other.learn(nil, nil)))
			bad := pr.as(byToken("a stranger", secret("bad")))
			for _, c := range []struct {
				client
				status int
			}{{good, 200}, {bad, 401}} {
				other.stack.ForgetRequests()
				done := make(chan int)
				for range 20 {
					go func() {
						a, err := c.try(t, http.MethodGet, "/regions", nil)
						if err != nil {
							t.Error(err)
							done <- 0
							return
						}
						done <- a.status
					}()
				}
				for range 20 {
					if got := <-done; got != c.status {
						t.Errorf("status %d, not %d", got, c.status)
					}
				}
				if n := other.stack.Count(simstack.KeyRock, "", "", ""); n != 1 {
					t.Errorf("KeyRock was asked %d times by 20 requests with one token", n)
				}
			}
		})

		t.Run("KeyRock behind another application, or other organisation ids, where they are configured", func(t *testing.T) {
			other := startIDM(t)
			token := other.learn(nil, []string{trento, spain2})
			keyrock := func(more map[string]any) *product {
				provider := map[string]any{"type": "keyrock", "url": other.url}
				maps.Copy(provider, more)
				return s.serve(t, with("identity", []any{provider}))
			}
			keyrock(map[string]any{"app_id": "another-app"}).as(byToken("a user", token)).get(t, "/regions").wantNoCredential(t)
			keyrock(map[string]any{"app_id": "an-app"}).as(byToken("a user", token)).get(t, "/regions").want(t, 200)
			mapped := keyrock(map[string]any{"organizations": map[string]string{"organisation-of-Trento": "Trento"}})
			if got := mapped.as(byToken("a user", token)).whoami(t); !slices.Equal(got.Regions, []string{trento}) {
				t.Errorf("only the configured organisation ids are regions, not %v", got.Regions)
			}
		})

		t.Run("a JWT of an unknown issuer and a Keystone token are shown to nobody", func(t *testing.T) {
			other := startIDM(t)
			pr := s.serve(t, with("identity", []any{map[string]any{"type": "keyrock", "url": other.url}}))
			// {"alg":"none"}.{"iss":"https://evil.example.org"}.
			jwt := "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2V2aWwuZXhhbXBsZS5vcmcifQ.c2lnbmF0dXJlLW9mLXRoZS1jb250cmFjdA"
			fernet := "gAAAAABmZm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"
			for _, token := range []string{jwt, fernet} {
				secrets.add(token)
				other.stack.AddIdentity(token, simstack.Identity{ID: "x", DisplayName: "X"})
				pr.as(byToken("a stranger", token)).get(t, "/regions").wantNoCredential(t)
			}
			if n := other.stack.Count(simstack.KeyRock, "", "", ""); n != 0 {
				t.Errorf("KeyRock was shown %d tokens that are not its own", n)
			}
		})
	}
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// roles: what the table says about who may call.
func roles(t *testing.T, s *setup) {
	for who, c := range map[string]caller{"a user": s.user, "an owner": s.owner(spain2)} {
		for _, row := range rows {
			if !row.managersOnly {
				continue
			}
			t.Run(row.method+" "+row.path+" by "+who+" is the plain 405", func(t *testing.T) {
				a := s.product.as(c).do(t, row.method, row.path, row.body()).wantManagersOnly(t)
				allow := a.header.Get("Allow")
				for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
					if listed(allow, method) != slices.Contains(row.allowed(), method) {
						t.Errorf("Allow is %q: %s", allow, a)
					}
				}
			})
		}
	}

	t.Run("any user reads promoted flavors, regions and flavors", func(t *testing.T) {
		n := unique()
		f := s.product.as(s.manager).post(t, "/promotedflavors", sized(n("seen"))).want(t, 201).flavor(t)
		user := s.product.as(s.user)
		for _, path := range []string{
			"/promotedflavors", "/promotedflavors/" + f.ID, "/products", "/regions", "/nodes", "/regions/Spain2/glue2", "/flavors", "/flavors/" + f.ID, "/whoami",
		} {
			user.get(t, path).want(t, 200)
		}
	})

	t.Run("any user with a Keystone token that Nova accepts acts on private flavors", func(t *testing.T) {
		n := s.names(t)
		user, token := s.product.as(s.user), keystone(s.cloud.token(t, "operator"))
		f := user.post(t, "/regions/Trento/flavors", sized(n("mine")), token).want(t, 201).flavor(t)
		user.get(t, "/regions/Trento/flavors/"+f.ID, token).want(t, 200)
		user.put(t, "/regions/Trento/flavors/"+f.ID, flavorOf("ram", 4096), token).want(t, 200)
		user.delete(t, "/regions/Trento/flavors/"+f.ID, token).want(t, 204)
	})

	t.Run("a manager does in every region what its owner may, with the region's service account", func(t *testing.T) {
		n := s.names(t)
		manager := s.product.as(s.manager)
		f := manager.post(t, "/flavors", sized(n("anywhere")).and("nodes", []string{lannion2})).want(t, 201).flavor(t)
		s.cloud.hasFlavor(t, lannion2, flavorIn(f.ID, n("anywhere")))
		manager.put(t, "/flavors/"+f.ID, flavorOf("public", true, "nodes", []string{lannion2, trento})).want(t, 200)
		manager.delete(t, "/flavors/"+f.ID, query("node", trento)).want(t, 204)
		s.cloud.hasNone(t, trento, f.ID)
	})

	t.Run("the accounts of the demo's KeyRock work as documented", func(t *testing.T) {
		for token, want := range map[string]whoami{
			"manager":        {Roles: []string{managerRole}},
			"owner-spain2":   {Regions: []string{spain2}},
			"owner-trento":   {Regions: []string{trento}},
			"owner-lannion2": {Regions: []string{lannion2}},
			"user":           {},
		} {
			got := s.product.as(byToken(token, token)).whoami(t)
			if slices.Contains(got.Roles, managerRole) != slices.Contains(want.Roles, managerRole) || !slices.Equal(got.Regions, want.Regions) {
				t.Errorf("the token %s: %+v", token, got)
			}
		}
	})
}
