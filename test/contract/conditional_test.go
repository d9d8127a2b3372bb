package contract_test

import (
	"bytes"
	"testing"
)

// conditional: ETag, If-None-Match and If-Match.
func conditional(t *testing.T, s *setup) {
	n := s.names(t)
	manager := s.product.as(s.manager)
	token := keystone(s.cloud.token(t, "operator"))
	promoted := manager.post(t, "/promotedflavors", sized(n("promoted"))).want(t, 201).flavor(t)
	private := manager.post(t, "/regions/Trento/flavors", sized(n("private")), token).want(t, 201).flavor(t)
	manager.put(t, "/promotedflavors/"+promoted.ID+"/product", productOf("price", "0.34", "currency", "DKK", "category", n("cat"))).want(t, 200)
	// A region of this test's own, so that nothing else changes its list.
	c := extra(t, "quiet")
	c.register(t, s, s.product)
	quiet := "/regions/" + c.regions[0] + "/flavors"

	for _, path := range []string{
		"/promotedflavors/" + promoted.ID, "/promotedflavors/" + promoted.ID + "/product", "/flavors/" + promoted.ID,
		"/regions/Trento/flavors/" + private.ID, "/whoami",
		"/infrastructures/" + trento,
	} {
		t.Run("GET "+path+" with its ETag is 304", func(t *testing.T) {
			for _, f := range formats {
				a := manager.get(t, path, in(f), token).want(t, 200)
				tag := a.header.Get("ETag")
				for _, value := range []string{tag, `"other", ` + tag, "W/" + tag, "*"} {
					unchanged := manager.get(t, path, in(f), token, header("If-None-Match", value)).want(t, 304)
					if got := unchanged.header.Get("ETag"); got != tag {
						t.Errorf("the 304 has the ETag %q, not %q", got, tag)
					}
				}
				manager.get(t, path, in(f), token, header("If-None-Match", `"other"`)).want(t, 200)
			}
		})
	}

	t.Run("a list has an ETag that changes with it", func(t *testing.T) {
		token := keystone(c.token(t, "operator"))
		before := manager.get(t, quiet, token).want(t, 200).header.Get("ETag")
		manager.get(t, quiet, token, header("If-None-Match", before)).want(t, 304)
		manager.post(t, quiet, sized(unique()("new")), token).want(t, 201)
		if after := manager.get(t, quiet, token, header("If-None-Match", before)).want(t, 200).header.Get("ETag"); after == before {
			t.Errorf("the ETag is still %s", after)
		}
	})

	t.Run("every list with its ETag is 304", func(t *testing.T) {
		pr := s.serve(t) // nobody else changes its lists
		manager := pr.as(s.manager)
		manager.post(t, "/infrastructures", c.infrastructure(c.regions[0]).and("trusted", true)).want(t, 201)
		manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201)
		manager.get(t, "/infrastructures").want(t, 200) // its status is known now
		for _, path := range []string{"/promotedflavors", "/products", "/products/push", "/regions", "/nodes", quiet, "/infrastructures", "/flavors"} {
			token := keystone(c.token(t, "operator"))
			tag := manager.get(t, path, token).want(t, 200).header.Get("ETag")
			manager.get(t, path, token, header("If-None-Match", tag)).want(t, 304)
		}
	})

	t.Run("JSON and XML have different ETags", func(t *testing.T) {
		path := "/promotedflavors/" + promoted.ID
		if j, x := manager.get(t, path).header.Get("ETag"), manager.get(t, path, in(asXML)).header.Get("ETag"); j == x {
			t.Errorf("both have %s", j)
		}
	})

	t.Run("the ETag is the same for the same bytes under both prefixes", func(t *testing.T) {
		path := "/promotedflavors/" + promoted.ID
		if a, b := manager.get(t, path).header.Get("ETag"), manager.get(t, path, prefixed("/api/v1")).header.Get("ETag"); a != b {
			t.Errorf("%s and %s", a, b)
		}
	})

	for _, resource := range []struct {
		name, collection string
		make             func(name string) *document
		change           *document
	}{
		{"a promoted flavor", "/promotedflavors", sized, flavorOf("description", "changed")},
		{"a private flavor", "/regions/Trento/flavors", sized, flavorOf("description", "changed")},
		{"a flavor", "/flavors", func(name string) *document { return sized(name).and("nodes", []string{spain2}) }, flavorOf("public", true)},
	} {
		t.Run("If-Match of an outdated ETag: PUT and DELETE of "+resource.name+" are 412 and change nothing", func(t *testing.T) {
			n := s.names(t)
			made := manager.post(t, resource.collection, resource.make(n("x")), token).want(t, 201).flavor(t)
			path := resource.collection + "/" + made.ID
			before := manager.get(t, path, token).want(t, 200)
			for _, value := range []string{`"outdated"`, "W/" + before.header.Get("ETag")} {
				manager.put(t, path, resource.change, token, header("If-Match", value)).want(t, 412)
				manager.delete(t, path, token, header("If-Match", value)).want(t, 412)
			}
			if after := manager.get(t, path, token).want(t, 200); !bytes.Equal(after.body, before.body) {
				t.Errorf("it was\n%s and is\n%s", before, after)
			}
		})

		t.Run("If-Match of the current ETag lets PUT and DELETE of "+resource.name+" through", func(t *testing.T) {
			n := s.names(t)
			made := manager.post(t, resource.collection, resource.make(n("x")), token).want(t, 201).flavor(t)
			path := resource.collection + "/" + made.ID
			for _, f := range formats {
				tag := manager.get(t, path, token, in(f)).want(t, 200).header.Get("ETag")
				manager.put(t, path, resource.change, token, in(f), header("If-Match", tag)).want(t, 200)
			}
			manager.put(t, path, resource.change, token, header("If-Match", "*")).want(t, 200)
			tag := manager.get(t, path, token).want(t, 200).header.Get("ETag")
			manager.delete(t, path, token, header("If-Match", `"other", `+tag)).want(t, 204)
		})
	}

	t.Run("If-Match on an infrastructure", func(t *testing.T) {
		region := unique()("region")
		manager.post(t, "/infrastructures", s.cloud.infrastructure(region)).want(t, 201)
		path := "/infrastructures/" + region
		manager.put(t, path, infrastructureOf("nova_url", "http://127.0.0.1:9/"), header("If-Match", `"outdated"`)).want(t, 412)
		manager.delete(t, path, header("If-Match", `"outdated"`)).want(t, 412)
		if got := manager.get(t, path).want(t, 200).infrastructure(t); got.NovaURL != "" {
			t.Errorf("the refused PUT was done: %+v", got)
		}
		manager.delete(t, path, header("If-Match", "*")).want(t, 204)
	})
}
