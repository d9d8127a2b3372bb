package contract_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// failures: what a region that is down, or answers nonsense, means to whom.
func failures(t *testing.T, s *setup) {
	// A server of its own: what one manager sees fails with any broken region.
	const limit = time.Second
	pr := s.serve(t, with("engine", map[string]any{"region_timeout": limit.String()}))
	manager, user := pr.as(s.manager), pr.as(s.user)

	// register forgets a region at once, so that it does not disturb the next test.
	register := func(t *testing.T, d *document) {
		t.Helper()
		name := d.fields[0].value.(string)
		manager.post(t, "/infrastructures", d).want(t, 201)
		t.Cleanup(func() { manager.delete(t, "/infrastructures/"+name, query("force", "true")) })
	}

	type world struct {
		cloud  *cloud
		region string
		token  shape // a Keystone token that was good before it broke
		clear  func()
	}
	fault := func(service simstack.Service, kind simstack.Kind) func(t *testing.T) world {
		return func(t *testing.T) world {
			c := extra(t, "broken")
			register(t, c.infrastructure(c.regions[0]).and("trusted", true))
			token := keystone(c.token(t, "operator"))
			region := c.regions[0]
			if service != simstack.Nova {
				region = ""
			}
			mend := c.stack.Fault(region, simstack.Fault{Service: service, Kind: kind})
			return world{c, c.regions[0], token, mend}
		}
	}
	registered := func(change func(t *testing.T, c *cloud, d *document) *document) func(t *testing.T) world {
		return func(t *testing.T) world {
			c := extra(t, "broken")
			register(t, change(t, c, c.infrastructure(c.regions[0]).and("trusted", true)))
			return world{c, c.regions[0], keystone(c.token(t, "operator")), nil}
		}
	}

	worlds := map[string]func(t *testing.T) world{
		"whose Keystone refuses connections": fault(simstack.Keystone, simstack.Refuse),
		"whose Keystone fails":               fault(simstack.Keystone, simstack.ServerError),
		"whose Keystone answers HTML":        fault(simstack.Keystone, simstack.HTML),
		"whose Keystone answers nonsense":    fault(simstack.Keystone, simstack.Nonsense),
		"whose Keystone hangs":               fault(simstack.Keystone, simstack.Hang),
		"whose Keystone cuts its answers":    fault(simstack.Keystone, simstack.Cut),
		"whose Nova refuses connections":     fault(simstack.Nova, simstack.Refuse),
		"whose Nova fails":                   fault(simstack.Nova, simstack.ServerError),
		"whose Nova answers HTML":            fault(simstack.Nova, simstack.HTML),
		"whose Nova answers nonsense":        fault(simstack.Nova, simstack.Nonsense),
		"whose Nova hangs":                   fault(simstack.Nova, simstack.Hang),
		"whose Nova cuts its answers":        fault(simstack.Nova, simstack.Cut),
		"whose Nova asks to come later":      fault(simstack.Nova, simstack.TooMany),
		"whose Keystone asks to come later":  fault(simstack.Keystone, simstack.TooMany),
		"whose Keystone is down": registered(func(t *testing.T, _ *cloud, d *document) *document {
			return d.and("keystone_url", closedPort(t)+"/v3")
		}),
		"whose Nova is down": registered(func(t *testing.T, c *cloud, d *document) *document {
			c.stack.SetEndpoint(c.regions[0], closedPort(t)+"/v2.1")
			return d
		}),
		"whose certificate is bad": registered(func(t *testing.T, _ *cloud, d *document) *document {
			return d.and("keystone_url", selfSigned(t)+"/v3")
		}),
		"whose Nova's certificate is bad": registered(func(t *testing.T, c *cloud, d *document) *document {
			c.stack.SetEndpoint(c.regions[0], selfSigned(t)+"/v2.1")
			return d
		}),
		"whose name cannot be resolved": registered(func(_ *testing.T, _ *cloud, d *document) *document {
			return d.and("keystone_url", "https://keystone.invalid:5000/v3")
		}),
		"whose catalog has no compute endpoint": registered(func(_ *testing.T, c *cloud, d *document) *document {
			c.stack.RemoveRegion(c.regions[0])
			return d
		}),
		"whose address is not allowed": registered(func(t *testing.T, _ *cloud, d *document) *document {
			return d.and("keystone_url", "http://169.254.169.254/v3")
		}),
	}
	for what, begin := range worlds {
		t.Run("a region "+what+" is 502 to who needs it, and named", func(t *testing.T) {
			w := begin(t)
			owner := pr.as(s.owner(w.region))
			n := unique()

			within(t, 5*limit/2, "GET of its private flavors", func() {
				user.get(t, "/regions/"+w.region+"/flavors", w.token).want(t, 502).says(t, w.region)
			})
			user.get(t, "/regions/"+w.region+"/flavors/x", w.token).want(t, 502).says(t, w.region)
			if !strings.Contains(what, "hang") { // it costs its time limit for each
				user.put(t, "/regions/"+w.region+"/flavors/x", flavorOf("ram", 1), w.token).want(t, 502).says(t, w.region)
				user.delete(t, "/regions/"+w.region+"/flavors/x", w.token).want(t, 502).says(t, w.region)
			}
			within(t, 5*limit/2, "POST of a private flavor", func() {
				user.post(t, "/regions/"+w.region+"/flavors", sized(n("private")), w.token).want(t, 502).says(t, w.region)
			})
			within(t, 5*limit/2, "POST of a flavor", func() {
				owner.post(t, "/flavors", sized(n("flavor"))).want(t, 502).says(t, w.region)
			})
			promoted := manager.post(t, "/promotedflavors", sized(n("promoted"))).want(t, 201).flavor(t)
			within(t, 5*limit/2, "an install", func() {
				owner.put(t, "/flavors/"+promoted.ID, flavorOf("node", w.region)).want(t, 502).says(t, w.region)
			})
			if got := user.get(t, "/promotedflavors/"+promoted.ID).want(t, 200).flavor(t); len(got.Nodes) != 0 {
				t.Errorf("nodes are %v", got.Nodes)
			}

			within(t, 5*limit/2, "GET of all flavors", func() {
				a := owner.get(t, "/flavors", fresh).want(t, 200)
				if !listed(a.header.Get("X-Flavorsync-Unreachable"), w.region) {
					t.Errorf("X-Flavorsync-Unreachable is %q: %s", a.header.Get("X-Flavorsync-Unreachable"), a)
				}
				if _, ok := find(a.flavors(t), promoted.ID, ""); !ok {
					t.Errorf("what is known is not shown: %s", a)
				}
			})
			// It might be there: not found is not known.
			owner.get(t, "/flavors/"+someUUID).want(t, 502).says(t, w.region)
			owner.delete(t, "/flavors/"+someUUID).want(t, 502).says(t, w.region)

			if status := owner.get(t, "/infrastructures/"+w.region).want(t, 200).infrastructure(t).Status; status == nil || status.LastError == "" {
				t.Errorf("the status is %+v", status)
			}
			if w.clear != nil {
				w.clear()
				if all := w.cloud.nova(t, w.region).list(t); len(all) != 0 && !strings.Contains(what, "cuts") {
					t.Errorf("Nova holds %+v", all)
				}
			}
		})
	}

	t.Run("a refused service account is 502 to who needs it; the owner's own token still works", func(t *testing.T) {
		c := extra(t, "wrong")
		region := c.regions[0]
		register(t, c.infrastructure(region).and("trusted", true).and("password", secret("wrong")))
		owner := pr.as(s.owner(region))
		owner.post(t, "/flavors", sized(unique()("x"))).want(t, 502).says(t, region)
		user.get(t, "/regions/"+region+"/flavors", keystone(c.token(t, "operator"))).want(t, 200)
		user.post(t, "/regions/"+region+"/flavors", sized(unique()("x")), keystone(c.token(t, "operator"))).want(t, 201)
	})

	t.Run("a service account that may not create is 502", func(t *testing.T) {
		c := extra(t, "weak")
		region := c.regions[0]
		register(t, c.infrastructure(region).and("username", "member").and("password", "member-secret").and("tenant", "demo"))
		pr.as(s.owner(region)).post(t, "/flavors", sized(unique()("x"))).want(t, 502).says(t, region)
		if all := c.nova(t, region).list(t); len(all) != 0 {
			t.Errorf("Nova holds %+v", all)
		}
	})

	t.Run("a service account's token that is not accepted any more is renewed", func(t *testing.T) {
		c := extra(t, "renewed")
		region := c.regions[0]
		register(t, c.infrastructure(region))
		owner := pr.as(s.owner(region))
		owner.post(t, "/flavors", sized(unique()("a"))).want(t, 201)
		c.stack.Fault(region, simstack.Fault{Kind: simstack.Unauthorized, Times: 1})
		owner.post(t, "/flavors", sized(unique()("b"))).want(t, 201)
	})

	t.Run("a service account's token is kept", func(t *testing.T) {
		c := extra(t, "keeps")
		region := c.regions[0]
		register(t, c.infrastructure(region))
		owner := pr.as(s.owner(region))
		for i := range 5 {
			owner.post(t, "/flavors", sized(unique()(fmt.Sprint(i)))).want(t, 201)
		}
		if n := c.stack.Count(simstack.Keystone, "", http.MethodPost, "/auth/tokens"); n != 1 {
			t.Errorf("five calls took %d tokens", n)
		}
	})

	for what, kind := range map[string]simstack.Kind{"401": simstack.Unauthorized, "403": simstack.Denied} {
		t.Run("a Nova that answers the caller's token "+what+" is "+what+", the service account's 502", func(t *testing.T) {
			c := extra(t, "refuses")
			region := c.regions[0]
			register(t, c.infrastructure(region).and("trusted", true))
			token := keystone(c.token(t, "operator"))
			user.get(t, "/regions/"+region+"/flavors", token).want(t, 200)
			c.stack.Fault(region, simstack.Fault{Kind: kind})
			status := map[string]int{"401": 401, "403": 403}[what]
			user.get(t, "/regions/"+region+"/flavors", token).want(t, status)
			user.get(t, "/regions/"+region+"/flavors/x", token).want(t, status)
			pr.as(s.owner(region)).post(t, "/flavors", sized(unique()("x"))).want(t, 502)
		})
	}

	t.Run("who does not ask a broken region does not feel it", func(t *testing.T) {
		w := fault(simstack.Nova, simstack.Hang)(t)
		c := extra(t, "healthy")
		register(t, c.infrastructure(c.regions[0]).and("trusted", true))
		within(t, limit, "what needs no Nova, or another", func() {
			user.get(t, "/promotedflavors").want(t, 200)
			user.get(t, "/regions").want(t, 200)
			user.get(t, "/regions/"+c.regions[0]+"/flavors", keystone(c.token(t, "operator"))).want(t, 200)
			pr.as(s.owner(c.regions[0])).post(t, "/flavors", sized(unique()("x"))).want(t, 201)
		})
		w.clear()
	})

	t.Run("many regions that hang cost their time limit once together", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "a", "b", "c", "d", "e", "f", "g", "h")
		c.register(t, s, pr)
		for _, region := range c.regions[1:] {
			c.stack.Fault(region, simstack.Fault{Kind: simstack.Hang})
		}
		c.nova(t, c.regions[0]).create(t, flavorIn("one", "one"))
		// A look of the engine's that is under way comes first, and takes as long.
		within(t, 3*s.regionTimeout(), "GET of all flavors with seven of eight regions hanging", func() {
			a := pr.as(s.manager).get(t, "/flavors", fresh).want(t, 200)
			for _, region := range c.regions[1:] {
				if !listed(a.header.Get("X-Flavorsync-Unreachable"), region) {
					t.Errorf("X-Flavorsync-Unreachable is %q without %s", a.header.Get("X-Flavorsync-Unreachable"), region)
				}
			}
			if _, ok := find(a.flavors(t), "one", ""); !ok {
				t.Errorf("the healthy region's flavor is missing: %s", a)
			}
		})
	})

	t.Run("at most four calls are in flight to one region", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "narrow")
		c.register(t, s, pr)
		region := c.regions[0]
		token := keystone(c.token(t, "operator"))
		pr.as(s.user).get(t, "/regions/"+region+"/flavors", token).want(t, 200)
		c.stack.Delay(region, s.regionTimeout()/20)
		counts := crowd(t, 16, func() *answer {
			return pr.as(s.user).do(t, http.MethodGet, "/regions/"+region+"/flavors", nil, token)
		})
		if counts[200] != 16 {
			t.Errorf("the statuses are %v", counts)
		}
		if peak := c.stack.PeakInFlight(region); peak > 4 {
			t.Errorf("%d calls were in flight to one region at once", peak)
		}
	})

	t.Run("502 for the list only if nothing at all can be known", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "only")
		c.register(t, s, pr)
		c.stack.Fault("", simstack.Fault{Kind: simstack.ServerError})
		pr.as(s.manager).get(t, "/flavors", fresh).want(t, 502)
		made := pr.as(s.manager).post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		a := pr.as(s.manager).get(t, "/flavors", fresh).want(t, 200)
		if _, ok := find(a.flavors(t), made.ID, ""); !ok || a.header.Get("X-Flavorsync-Unreachable") != c.regions[0] {
			t.Errorf("X-Flavorsync-Unreachable is %q: %s", a.header.Get("X-Flavorsync-Unreachable"), a)
		}
	})

	t.Run("a flavor that vanishes between two calls is told well", func(t *testing.T) {
		c := extra(t, "vanishes")
		region := c.regions[0]
		register(t, c.infrastructure(region).and("trusted", true))
		token := keystone(c.token(t, "operator"))
		nova := c.nova(t, region)
		nova.create(t, flavorIn("one", "one"))
		c.stack.Fault(region, simstack.Fault{Kind: simstack.Vanish, Method: http.MethodDelete, Path: "/flavors", Times: 1})
		user.delete(t, "/regions/"+region+"/flavors/one", token).wantOneOf(t, 204, 404)
		nova.create(t, flavorIn("one", "one"))
		c.stack.Fault(region, simstack.Fault{Kind: simstack.Vanish, Method: http.MethodPut, Path: "/flavors", Times: 1})
		user.put(t, "/regions/"+region+"/flavors/one", flavorOf("description", "x"), token).want(t, 404)
	})

	t.Run("an answer that is lost after the create does not leave two flavors", func(t *testing.T) {
		c := extra(t, "lost")
		region := c.regions[0]
		register(t, c.infrastructure(region))
		made := manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		c.stack.Fault(region, simstack.Fault{Kind: simstack.Lost, Method: http.MethodPost, Path: "/flavors", Times: 1})
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", region)).wantOneOf(t, 200, 502)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", region)).want(t, 200)
		if all := c.nova(t, region).list(t); len(all) != 1 || all[0].ID != made.ID {
			t.Errorf("Nova holds %+v", all)
		}
	})
}

// tokensStayHome: a caller's Keystone token goes to the federation's Keystone,
// to a trusted region's own, and to the endpoints of its own catalog.
func tokensStayHome(t *testing.T, s *setup) {
	// A federation of its own, whose Keystone is the configured one.
	c := extra(t, "home", "free")
	region := c.regions[0]
	pr := s.serve(t, with("keystone_url", c.keystone))
	manager, user := pr.as(s.manager), pr.as(s.user)
	token := c.token(t, "operator")

	t.Run("a nova_url that an owner registered never sees it", func(t *testing.T) {
		h := startHarvester(t)
		owner := pr.as(s.owner(region))
		owner.post(t, "/infrastructures", c.infrastructure(region).and("nova_url", h.url+"/v2.1")).want(t, 201)
		user.get(t, "/regions/"+region+"/flavors", keystone(token)).want(t, 200) // from the catalog's endpoint
		user.post(t, "/regions/"+region+"/flavors", sized(unique()("x")), keystone(token)).want(t, 201)
		if h.holds(token) {
			t.Error("an owner harvested a caller's Keystone token")
		}
		owner.delete(t, "/infrastructures/"+region).want(t, 204)
	})

	t.Run("a nova_url that equals the catalog's is used", func(t *testing.T) {
		owner := pr.as(s.owner(region))
		owner.post(t, "/infrastructures", c.infrastructure(region).and("nova_url", c.stack.NovaURL(region))).want(t, 201)
		user.get(t, "/regions/"+region+"/flavors", keystone(token)).want(t, 200)
		owner.delete(t, "/infrastructures/"+region).want(t, 204)
	})

	t.Run("a nova_url that a manager registered is used", func(t *testing.T) {
		manager.post(t, "/infrastructures", c.infrastructure(region).and("nova_url", c.stack.NovaURL(c.regions[1]))).want(t, 201)
		n := unique()
		user.post(t, "/regions/"+region+"/flavors", sized(n("x")), keystone(token)).want(t, 201)
		if len(c.nova(t, c.regions[1]).named(t, n("x"))) != 1 || len(c.nova(t, region).named(t, n("x"))) != 0 {
			t.Error("the flavor is not where the manager said")
		}
		manager.delete(t, "/infrastructures/"+region).want(t, 204)
	})

	t.Run("an owner who moves a manager's nova_url takes its trust away", func(t *testing.T) {
		h := startHarvester(t)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("nova_url", c.stack.NovaURL(region))).want(t, 201)
		pr.as(s.owner(region)).put(t, "/infrastructures/"+region, infrastructureOf("nova_url", h.url+"/v2.1")).want(t, 200)
		user.get(t, "/regions/"+region+"/flavors", keystone(token)).want(t, 200)
		if h.holds(token) {
			t.Error("an owner harvested a caller's Keystone token")
		}
		manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
	})

	t.Run("a region's own Keystone sees it only where a manager marked it trusted", func(t *testing.T) {
		h := startHarvester(t)
		name := unique()("untrusted")
		pr.as(s.owner(name)).post(t, "/infrastructures", c.infrastructure(name).and("keystone_url", h.url+"/v3")).want(t, 201)
		user.get(t, "/regions/"+name+"/flavors", keystone(token)).want(t, 502) // its catalog has no such region
		if h.holds(token) {
			t.Error("an owner's Keystone was shown a caller's token")
		}
		manager.delete(t, "/infrastructures/"+name, query("force", "true")).want(t, 204)

		foreign := extra(t, "foreign")
		manager.post(t, "/infrastructures", foreign.infrastructure(foreign.regions[0])).want(t, 201)
		path := "/regions/" + foreign.regions[0] + "/flavors"
		theirs := keystone(foreign.token(t, "operator"))
		user.get(t, path, theirs).want(t, 401)
		manager.put(t, "/infrastructures/"+foreign.regions[0], infrastructureOf("trusted", true)).want(t, 200)
		user.get(t, path, theirs).want(t, 200)
		user.get(t, path, keystone(token)).want(t, 401) // the federation's is unknown there
	})

	t.Run("an owner who moves a trusted Keystone takes its trust away", func(t *testing.T) {
		h := startHarvester(t)
		name := unique()("moved")
		manager.post(t, "/infrastructures", c.infrastructure(name).and("trusted", true)).want(t, 201)
		owner := pr.as(s.owner(name))
		owner.put(t, "/infrastructures/"+name, infrastructureOf("keystone_url", h.url+"/v3", "password", "operator-secret")).want(t, 200)
		user.get(t, "/regions/"+name+"/flavors", keystone(token)).wantOneOf(t, 401, 502)
		if h.holds(token) {
			t.Error("an owner's Keystone was shown a caller's token")
		}
		manager.delete(t, "/infrastructures/"+name, query("force", "true")).want(t, 204)
	})

	t.Run("a redirect is not followed", func(t *testing.T) {
		h := startHarvester(t)
		redirect := httptest.NewServer(http.RedirectHandler(h.url, http.StatusTemporaryRedirect))
		t.Cleanup(redirect.Close)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("nova_url", redirect.URL+"/v2.1")).want(t, 201)
		user.get(t, "/regions/"+region+"/flavors", keystone(token)).want(t, 502)
		pr.as(s.owner(region)).post(t, "/flavors", sized(unique()("x"))).want(t, 502)
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.got) != 0 {
			t.Errorf("%d requests followed the redirect", len(h.got))
		}
		manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
	})

	t.Run("it is validated once and no new token is made of it", func(t *testing.T) {
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		// The engine has looked at it, as the service account.
		eventually(t, "it is seen", func() bool {
			return manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t).Status.State == "up"
		})
		own, _ := c.authenticate(t, "operator", true)
		c.stack.ForgetRequests()
		for range 5 {
			user.get(t, "/regions/"+region+"/flavors", keystone(own)).want(t, 200)
		}
		if n := c.stack.Count(simstack.Keystone, "", http.MethodPost, ""); n != 0 {
			t.Errorf("%d tokens were made", n)
		}
		if n := c.stack.Count(simstack.Keystone, "", http.MethodGet, "/auth/tokens"); n != 1 {
			t.Errorf("it was validated %d times", n)
		}
		manager.delete(t, "/infrastructures/"+region).want(t, 204)
	})

	t.Run("a token that was remembered is forgotten when it expires", func(t *testing.T) {
		brief := startStack(t, simstack.Options{Regions: []string{unique()("brief")}, TokenLife: 2 * time.Second})
		manager.post(t, "/infrastructures", brief.infrastructure(brief.regions[0]).and("trusted", true)).want(t, 201)
		own, _ := brief.authenticate(t, "operator", true)
		path := "/regions/" + brief.regions[0] + "/flavors"
		user.get(t, path, keystone(own)).want(t, 200)
		eventually(t, "the token is refused", func() bool { return user.get(t, path, keystone(own)).wantOneOf(t, 200, 401).status == 401 })
		manager.delete(t, "/infrastructures/"+brief.regions[0]).want(t, 204)
	})

	t.Run("a token that was revoked is refused", func(t *testing.T) {
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		revoked, _ := c.authenticate(t, "operator", true)
		c.stack.RevokeToken(revoked)
		user.get(t, "/regions/"+region+"/flavors", keystone(revoked)).want(t, 401)
		manager.delete(t, "/infrastructures/"+region).want(t, 204)
	})

	t.Run("no foreign words come out with an error", func(t *testing.T) {
		odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"badRequest": {"message": "SENTINEL of a foreign cloud"}}`, http.StatusBadRequest)
		}))
		t.Cleanup(odd.Close)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("nova_url", odd.URL+"/v2.1")).want(t, 201)
		for _, a := range []*answer{
			user.get(t, "/regions/"+region+"/flavors", keystone(token)),
			user.post(t, "/regions/"+region+"/flavors", sized(unique()("x")), keystone(token)),
			manager.get(t, "/infrastructures/"+region),
			manager.post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region})),
		} {
			if strings.Contains(string(a.body), "SENTINEL") {
				t.Errorf("a foreign message is passed on: %s", a)
			}
		}
		manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
	})
}
