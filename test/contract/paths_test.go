package contract_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// prefixes are the two under which every path answers.
var prefixes = []string{"/v1", "/api/v1"}

// paths: where the product answers.
func paths(t *testing.T, s *setup) {
	n := s.names(t)
	manager := s.product.as(s.manager)
	f := manager.post(t, "/flavors", sized(n("paths")).and("nodes", []string{spain2}).and("public", true)).want(t, 201).flavor(t)
	p := manager.post(t, "/promotedflavors", sized(n("promoted"))).want(t, 201).flavor(t)
	token := keystone(s.cloud.token(t, "operator"))
	manager.put(t, "/promotedflavors/"+p.ID+"/product", productOf("price", "0.34", "currency", "DKK", "category", n("cat"))).want(t, 200)

	for _, path := range []string{
		"/promotedflavors", "/promotedflavors/" + p.ID, "/promotedflavors/" + p.ID + "/product",
		"/products", "/products/push",
		"/regions", "/nodes",
		"/regions/Spain2/flavors", "/region/Spain2/flavors",
		"/regions/Spain2/flavors/" + f.ID, "/region/Spain2/flavors/" + f.ID,
		"/regions/Spain2/glue2", "/region/Spain2/glue2", "/nodes/Spain2/glue2",
		"/infrastructures", "/infrastructures/Spain2",
		"/flavors", "/flavors/" + f.ID,
		"/status", "/whoami",
	} {
		t.Run("GET "+path+" answers under both prefixes and with a trailing slash", func(t *testing.T) {
			for _, prefix := range prefixes {
				for _, slash := range []string{"", "/"} {
					manager.get(t, path+slash, prefixed(prefix), token).want(t, 200)
				}
			}
		})

		t.Run("HEAD "+path+" is GET without the body", func(t *testing.T) {
			for _, f := range formats {
				get := manager.get(t, path, in(f), token).want(t, 200)
				head := manager.do(t, http.MethodHead, path, nil, in(f), token).want(t, 200)
				if len(head.body) > 0 || head.header.Get("ETag") == "" || head.header.Get("Content-Length") == "0" ||
					head.header.Get("Content-Type") != get.header.Get("Content-Type") {
					t.Errorf("the body is %q, the header %v", head.body, head.header)
				}
			}
		})
	}

	for _, prefix := range prefixes {
		t.Run("everything can be written under "+prefix, func(t *testing.T) {
			n := s.names(t)
			under := prefixed(prefix)
			promoted := manager.post(t, "/promotedflavors/", sized(n("p")), under).want(t, 201).flavor(t)
			manager.put(t, "/promotedflavors/"+promoted.ID+"/", flavorOf("description", "new"), under).want(t, 200)
			for _, slash := range []string{"", "/"} {
				product := "/promotedflavors/" + promoted.ID + "/product" + slash
				manager.put(t, product, productOf("price", "1", "currency", "DKK", "category", n("cat")), under).want(t, 200)
				manager.delete(t, product, under).want(t, 204)
				manager.post(t, "/match"+slash, nil, raw("application/json", `{"host": {"num_cpus": 1}, "limit": 1}`), under).want(t, 200)
			}
			manager.delete(t, "/promotedflavors/"+promoted.ID+"/", under).want(t, 204)

			for _, region := range []string{"/regions/Trento", "/region/Trento"} {
				private := manager.post(t, region+"/flavors", sized(n("r")), under, token).want(t, 201).flavor(t)
				manager.put(t, region+"/flavors/"+private.ID, flavorOf("description", "new"), under, token).want(t, 200)
				manager.delete(t, region+"/flavors/"+private.ID, under, token).want(t, 204)
			}

			public := manager.post(t, "/flavors", sized(n("f")).and("nodes", []string{spain2}), under).want(t, 201).flavor(t)
			manager.put(t, "/flavors/"+public.ID, flavorOf("public", true), under).want(t, 200)

			region := unique()("region")
			manager.post(t, "/infrastructures", s.cloud.infrastructure(region), under).want(t, 201)
			manager.put(t, "/infrastructures/"+region, infrastructureOf("nova_url", closedPort(t)), under).want(t, 200)
			manager.delete(t, "/infrastructures/"+region, under).want(t, 204)
		})
	}

	t.Run("regions and nodes are one list", func(t *testing.T) {
		regions, nodes := manager.get(t, "/regions").want(t, 200), manager.get(t, "/nodes").want(t, 200)
		// Other tests register regions meanwhile: compare what surely stays.
		for _, region := range s.cloud.regions {
			entry := []byte(`{"id":"` + region + `","name":"` + region + `"}`)
			if !bytes.Contains(compactJSON(regions.body), entry) || !bytes.Contains(compactJSON(nodes.body), entry) {
				t.Errorf("%s is not in both of %s and %s", region, regions, nodes)
			}
		}
	})

	t.Run("a query that is none is 400", func(t *testing.T) {
		for _, path := range []string{
			"/promotedflavors/" + p.ID, "/promotedflavors/" + p.ID + "/product", "/products", "/products/push", "/regions", "/regions/Spain2/glue2",
			"/infrastructures", "/infrastructures/Spain2", "/flavors/" + f.ID, "/regions/Spain2/flavors/" + f.ID, "/whoami",
		} {
			manager.get(t, path+"?a=%zz", token).want(t, 400)
			manager.get(t, path+"?a=b;c", token).want(t, 400)
		}
		for _, path := range []string{"/promotedflavors/" + p.ID, "/promotedflavors/" + p.ID + "/product", "/flavors/" + f.ID, "/infrastructures/Spain2"} {
			manager.delete(t, path+"?a=%zz").want(t, 400)
			manager.get(t, path).want(t, 200)
		}
	})

	t.Run("a path that is none is 404", func(t *testing.T) {
		for _, path := range []string{"/nonsense", "/flavors/a/b", "/regions/Spain2", "/regions/Spain2/servers", "/promotedflavors/a/b/c",
			"/promotedflavors/product", "/promotedflavors/" + p.ID + "/product/x", "/products/" + p.ID, "/products/push/x", "/glue2", "/regions/Spain2/glue2/x", "/match/x"} {
			manager.get(t, path).want(t, 404)
		}
	})

	t.Run("a method that a path has not is 405; Allow names those it has, also to OPTIONS", func(t *testing.T) {
		for path, allowed := range map[string][]string{
			"/flavors":                              {"GET", "POST"},
			"/flavors/" + f.ID:                      {"GET", "PUT", "DELETE"},
			"/promotedflavors":                      {"GET", "POST"},
			"/regions":                              {"GET"},
			"/infrastructures/R1":                   {"GET", "PUT", "DELETE"},
			"/promotedflavors/" + p.ID + "/product": {"GET", "PUT", "DELETE"},
			"/products":                             {"GET"},
			"/products/push":                        {"GET", "POST"},
			"/regions/Spain2/glue2":                 {"GET"},
			"/match":                                {"POST"},
		} {
			for _, method := range []string{http.MethodPatch, http.MethodOptions} {
				a := manager.do(t, method, path, nil)
				if want := map[string]int{http.MethodPatch: 405, http.MethodOptions: 204}[method]; a.status != want {
					t.Errorf("status %d, not %d: %s", a.status, want, a)
					continue
				}
				allow := strings.Join(a.header.Values("Allow"), ", ")
				for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
					if listed(allow, method) != slices.Contains(allowed, method) {
						t.Errorf("Allow is %q: %s", allow, a)
					}
				}
			}
		}
	})
}
