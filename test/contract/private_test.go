package contract_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// private: a region's flavors, with the caller's own Keystone token.
func private(t *testing.T, s *setup) {
	user := s.product.as(s.user)
	token := keystone(s.cloud.token(t, "operator"))

	for _, f := range formats {
		t.Run("a private flavor lives from POST to DELETE in "+f.name, func(t *testing.T) {
			n := s.names(t)
			made := user.post(t, "/regions/Spain2/flavors", sized(n("life")).and("description", "a & b").and("ephemeral", 3).
				and("extra_specs", map[string]string{"hw:cpu_policy": "dedicated"}), in(f), token).want(t, 201).flavor(t)
			if made.Promoted || made.Public || !slices.Equal(made.Nodes, []string{spain2}) || made.Name != n("life") {
				t.Fatalf("created: %+v", made)
			}
			want := flavorIn(made.ID, n("life"))
			want.Ephemeral = 3
			held := s.cloud.hasFlavor(t, spain2, want)
			if !held.IsPublic {
				t.Error("it was created without is_public")
			}
			if held.ExtraSpecs["hw:cpu_policy"] != "dedicated" || held.Description == nil || *held.Description != "a & b" {
				t.Errorf("Nova holds %+v", held)
			}
			path := "/regions/Spain2/flavors/" + made.ID
			got := user.get(t, path, in(f), token).want(t, 200).flavor(t)
			if got.Name != made.Name || got.Swap != 512 || got.ExtraSpecs["hw:cpu_policy"] != "dedicated" || *got.Ephemeral != 3 {
				t.Errorf("read: %+v", got)
			}
			if _, ok := find(user.get(t, "/regions/Spain2/flavors", in(f), token).want(t, 200).flavors(t), made.ID, ""); !ok {
				t.Error("the list does not hold it")
			}
			user.delete(t, path, in(f), token).want(t, 204)
			s.cloud.hasNone(t, spain2, made.ID)
			user.get(t, path, in(f), token).want(t, 404)
			user.delete(t, path, in(f), token).want(t, 404)
		})
	}

	t.Run("it is always what Nova says now", func(t *testing.T) {
		n := s.names(t)
		nova := s.cloud.nova(t, trento)
		there := nova.create(t, flavorIn(n("id"), n("there")))
		path := "/regions/Trento/flavors/" + there.ID
		if got := user.get(t, path, token).want(t, 200).flavor(t); got.ID != n("id") || got.Name != n("there") || got.RAM != 2048 {
			t.Errorf("read: %+v", got)
		}
		nova.delete(t, there.ID)
		user.get(t, path, token).want(t, 404)
		if _, ok := find(user.get(t, "/regions/Trento/flavors", token).want(t, 200).flavors(t), there.ID, ""); ok {
			t.Error("the list still holds it")
		}
	})

	t.Run("those that are not public in Nova are listed too", func(t *testing.T) {
		n := s.names(t)
		hidden := flavorIn(n("id"), n("hidden"))
		hidden.IsPublic = false
		s.cloud.nova(t, trento).create(t, hidden)
		if _, ok := find(user.get(t, "/regions/Trento/flavors", token).want(t, 200).flavors(t), hidden.ID, ""); !ok {
			t.Error("the list does not hold it")
		}
	})

	t.Run("the list is exactly Nova's own", func(t *testing.T) {
		c := extra(t, "exact")
		c.register(t, s, s.product)
		nova := c.nova(t, c.regions[0])
		for i := range 12 {
			nova.create(t, flavorIn(fmt.Sprint("id", i), fmt.Sprint("name ", 12-i)))
		}
		got := user.get(t, "/regions/"+c.regions[0]+"/flavors", keystone(c.token(t, "operator"))).want(t, 200).flavors(t)
		var ids []string
		for _, f := range got {
			ids = append(ids, f.ID)
			if !slices.Equal(f.Nodes, []string{c.regions[0]}) {
				t.Errorf("nodes of %s are %v", f.ID, f.Nodes)
			}
		}
		slices.Sort(ids)
		var want []string
		for _, f := range nova.list(t) {
			want = append(want, f.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%v, not %v", ids, want)
		}
	})

	t.Run("more flavors than fit on one of Nova's pages are all there", func(t *testing.T) {
		n := unique()
		c := startStack(t, simstack.Options{Regions: []string{n("pages")}, MaxLimit: 5})
		c.register(t, s, s.product)
		nova := c.nova(t, c.regions[0])
		for i := range 10 { // a full last page: its next one is empty
			nova.create(t, flavorIn(fmt.Sprintf("id%02d", i), fmt.Sprint("name", i)))
		}
		got := user.get(t, "/regions/"+c.regions[0]+"/flavors", keystone(c.token(t, "operator"))).want(t, 200).flavors(t)
		if len(got) != 10 {
			t.Errorf("%d of 10", len(got))
		}
	})

	t.Run("promoted and public follow the catalogue, nodes is that region, the id is Nova's own", func(t *testing.T) {
		n := s.names(t)
		manager := s.product.as(s.manager)
		made := s.cloud.nova(t, spain2).create(t, flavorIn(n("own-id"), n("followed")))
		published := manager.put(t, "/flavors/"+made.ID, flavorOf("public", true), query("node", spain2)).want(t, 200).flavor(t)
		manager.put(t, "/flavors/"+published.ID, flavorOf("promoted", true, "node", trento)).want(t, 200)
		got := user.get(t, "/regions/Spain2/flavors/"+made.ID, token).want(t, 200).flavor(t)
		if !got.Public || !got.Promoted || got.ID != n("own-id") || !slices.Equal(got.Nodes, []string{spain2}) {
			t.Errorf("%+v", got)
		}
		listed, _ := find(user.get(t, "/regions/Spain2/flavors", token).want(t, 200).flavors(t), made.ID, "")
		if !listed.Public || !listed.Promoted || !slices.Equal(listed.Nodes, []string{spain2}) {
			t.Errorf("in the list: %+v", listed)
		}
	})

	t.Run("a name that is taken in the region is 409", func(t *testing.T) {
		n := s.names(t)
		first := user.post(t, "/regions/Spain2/flavors", sized(n("taken")), token).want(t, 201).flavor(t)
		user.post(t, "/regions/Spain2/flavors", sized(n("taken")).and("ram", 1), token).want(t, 409).says(t, n("taken"))
		user.post(t, "/regions/Trento/flavors", sized(n("taken")), token).want(t, 201)
		if named := s.cloud.nova(t, spain2).named(t, n("taken")); len(named) != 1 || named[0].ID != first.ID || named[0].RAM != 2048 {
			t.Errorf("Nova holds %+v", named)
		}
	})

	t.Run("an id that is taken is replaced", func(t *testing.T) {
		n := s.names(t)
		first := user.post(t, "/regions/Spain2/flavors", sized(n("a")).and("id", newUUID()), token).want(t, 201).flavor(t)
		second := user.post(t, "/regions/Spain2/flavors", sized(n("b")).and("id", first.ID), token).want(t, 201).flavor(t)
		if first.ID == second.ID {
			t.Errorf("both have the id %s", first.ID)
		}
	})

	t.Run("without Keystone token it is 401, not the plain one", func(t *testing.T) {
		for _, call := range []struct{ method, path string }{
			{"GET", "/regions/Spain2/flavors"}, {"POST", "/regions/Spain2/flavors"},
			{"GET", "/regions/Spain2/flavors/x"}, {"PUT", "/regions/Spain2/flavors/x"}, {"DELETE", "/regions/Spain2/flavors/x"},
		} {
			var d *document
			if call.method == "POST" || call.method == "PUT" {
				d = sized(unique()("x"))
			}
			user.do(t, call.method, call.path, d).want(t, 401).says(t, "X-Auth-Token-KeyStone")
		}
	})

	for what, bad := range map[string]string{
		"that is nonsense":                  "nonsense",
		"that Keystone does not know":       "gAAAAABk0000000000000000000000000000000000000000000000000000000000000000000000000000",
		"with a line's worth of characters": strings.Repeat("a", 4000),
		"in UTF-8":                          "töken",
	} {
		t.Run("a Keystone token "+what+" is 401", func(t *testing.T) {
			n := unique()
			user.get(t, "/regions/Spain2/flavors", keystone(bad)).want(t, 401)
			user.post(t, "/regions/Spain2/flavors", sized(n("x")), keystone(bad)).want(t, 401)
			s.cloud.hasNone(t, spain2, n("x"))
		})
	}

	t.Run("an unscoped Keystone token is 401", func(t *testing.T) {
		user.get(t, "/regions/Spain2/flavors", keystone(s.cloud.unscoped(t, "operator"))).want(t, 401)
	})

	t.Run("a token of another Keystone is 401", func(t *testing.T) {
		c := extra(t, "foreign")
		user.get(t, "/regions/Spain2/flavors", keystone(c.token(t, "operator"))).want(t, 401)
	})

	t.Run("what Nova forbids to a Keystone token is 403 and not done", func(t *testing.T) {
		n := s.names(t)
		made := s.cloud.nova(t, spain2).create(t, flavorIn(n("id"), n("kept")))
		for _, name := range []string{"member", "reader"} {
			weak := keystone(s.cloud.token(t, name))
			user.post(t, "/regions/Spain2/flavors", sized(n("forbidden")), weak).want(t, 403)
			user.put(t, "/regions/Spain2/flavors/"+made.ID, flavorOf("ram", 1), weak).want(t, 403)
			user.put(t, "/regions/Spain2/flavors/"+made.ID, flavorOf("description", "x"), weak).want(t, 403)
			user.delete(t, "/regions/Spain2/flavors/"+made.ID, weak).want(t, 403)
		}
		s.cloud.hasNone(t, spain2, n("forbidden"))
		held := s.cloud.hasFlavor(t, spain2, flavorIn(made.ID, n("kept")))
		if held.Description != nil && *held.Description == "x" {
			t.Error("the forbidden change was done")
		}
	})

	t.Run("a member reads what its Nova shows it", func(t *testing.T) {
		n := s.names(t)
		made := s.cloud.nova(t, spain2).create(t, flavorIn(n("id"), n("read")))
		weak := keystone(s.cloud.token(t, "member"))
		user.get(t, "/regions/Spain2/flavors/"+made.ID, weak).want(t, 200)
		if _, ok := find(user.get(t, "/regions/Spain2/flavors", weak).want(t, 200).flavors(t), made.ID, ""); !ok {
			t.Error("the list does not hold it")
		}
	})

	t.Run("an unknown region is 404, whatever the token", func(t *testing.T) {
		for _, path := range []string{"/regions/Nowhere/flavors", "/regions/spain2/flavors", "/regions/Nowhere/flavors/x"} {
			user.get(t, path, token).want(t, 404)
		}
		user.post(t, "/regions/Nowhere/flavors", sized(unique()("x")), token).want(t, 404)
	})

	t.Run("an unknown flavor is 404", func(t *testing.T) {
		for _, id := range []string{someUUID, "nothing", "a b", "detail", "%2E%2E"} {
			path := "/regions/Spain2/flavors/" + id
			if !strings.Contains(id, "%") {
				path = "/regions/Spain2/flavors/" + url.PathEscape(id)
			}
			user.get(t, path, token).wantOneOf(t, 404, 400)
			user.put(t, path, flavorOf("ram", 1), token).wantOneOf(t, 404, 400)
			user.delete(t, path, token).wantOneOf(t, 404, 400)
		}
	})

	t.Run("an id in other letters is another id, whatever Nova's database thinks", func(t *testing.T) {
		n := s.names(t)
		for _, region := range s.cloud.regions {
			made := s.cloud.nova(t, region).create(t, flavorIn(n("lower-"+strings.ToLower(region)), n("kept in "+region)))
			path := "/regions/" + region + "/flavors/" + strings.ToUpper(made.ID)
			user.get(t, path, token).want(t, 404)
			user.put(t, path, flavorOf("ram", 1), token).want(t, 404)
			user.put(t, path, flavorOf("description", "x"), token).want(t, 404)
			user.delete(t, path, token).want(t, 404)
			if held := s.cloud.hasFlavor(t, region, made); held.Description != nil && *held.Description == "x" {
				t.Error("its description was changed")
			}
		}
	})

	t.Run("a node of a public flavor may not change name or sizes", func(t *testing.T) {
		n := s.names(t)
		manager := s.product.as(s.manager)
		public := manager.post(t, "/flavors", sized(n("public")).and("nodes", []string{spain2}).and("public", true)).want(t, 201).flavor(t)
		for field, value := range map[string]any{"name": n("renamed"), "vcpus": 1, "ram": 1, "disk": 1, "swap": 1, "ephemeral": 1, "rxtx_factor": 3.0} {
			user.put(t, "/regions/Spain2/flavors/"+public.ID, flavorOf(field, value), token).want(t, 409)
		}
		s.cloud.hasFlavor(t, spain2, flavorIn(public.ID, public.Name))
		user.put(t, "/regions/Spain2/flavors/"+public.ID, sized(n("public")), token).want(t, 200)
	})

	t.Run("DELETE of a node of a public flavor acts as DELETE /v1/flavors/{id}", func(t *testing.T) {
		n := s.names(t)
		owner := s.product.as(s.owner(spain2))
		public := owner.post(t, "/flavors", sized(n("public")).and("public", true)).want(t, 201).flavor(t)
		path := "/regions/Spain2/flavors/" + public.ID
		user.delete(t, path, token).want(t, 403)
		s.product.as(s.owner(trento)).delete(t, path, token).want(t, 403)
		s.cloud.hasFlavor(t, spain2, flavorIn(public.ID, public.Name))
		owner.delete(t, path, token).want(t, 204)
		s.cloud.hasNone(t, spain2, public.ID)
		owner.get(t, "/flavors/"+public.ID).want(t, 404)
	})

	t.Run("DELETE of one node of a public flavor leaves the others", func(t *testing.T) {
		n := s.names(t)
		both := s.product.as(s.owner(spain2, trento))
		public := both.post(t, "/flavors", sized(n("public")).and("public", true).and("nodes", []string{spain2})).want(t, 201).flavor(t)
		both.put(t, "/flavors/"+public.ID, flavorOf("node", trento)).want(t, 200)
		both.delete(t, "/regions/Trento/flavors/"+public.ID, token).want(t, 204)
		s.cloud.hasNone(t, trento, public.ID)
		s.cloud.hasFlavor(t, spain2, flavorIn(public.ID, public.Name))
		if got := both.get(t, "/flavors/"+public.ID).want(t, 200).flavor(t); !slices.Equal(got.Nodes, []string{spain2}) {
			t.Errorf("nodes are %v", got.Nodes)
		}
	})

	t.Run("promoted, public and nodes of a POST are not the caller's to decide", func(t *testing.T) {
		n := s.names(t)
		sent := sized(n("x")).and("promoted", true).and("public", true).and("nodes", []string{trento, "Nowhere"})
		for _, f := range formats {
			made := user.post(t, "/regions/Spain2/flavors", sent.and("name", n(f.name)), in(f), token).want(t, 201).flavor(t)
			if made.Promoted || made.Public || !slices.Equal(made.Nodes, []string{spain2}) {
				t.Errorf("created: %+v", made)
			}
		}
	})

	t.Run("a flavor whose extra specs Nova refuses is not created", func(t *testing.T) {
		c := extra(t, "specs")
		c.register(t, s, s.product)
		g := startGate(t, c, c.regions[0])
		g.set(func(r *http.Request) bool {
			return r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/os-extra_specs")
		}, nil)
		n := unique()
		user.post(t, "/regions/"+c.regions[0]+"/flavors", sized(n("undone")).and("extra_specs", map[string]string{"a": "b"}),
			keystone(c.token(t, "operator"))).want(t, 502)
		eventually(t, "the half-made flavor is removed", func() bool { return len(c.nova(t, c.regions[0]).list(t)) == 0 })
	})
}

// carefulChange: Nova changes a description only; everything else is a delete
// and a create, and never is the flavor lost.
func carefulChange(t *testing.T, s *setup) {
	user := s.product.as(s.user)
	token := keystone(s.cloud.token(t, "operator"))

	for _, f := range formats {
		t.Run("any of the fields can be changed, what is not named stays, in "+f.name, func(t *testing.T) {
			n := s.names(t)
			want := flavorIn(n("id"), n("before"))
			want.Ephemeral = 3
			want.ExtraSpecs = map[string]string{"a": "1", "b": "2"}
			description := "kept"
			want.Description = &description
			s.cloud.nova(t, trento).create(t, want)
			path := "/regions/Trento/flavors/" + want.ID
			for field, value := range map[string]any{"name": n("after"), "vcpus": 3, "ram": 3072, "disk": 30, "swap": 1, "ephemeral": 4} {
				got := user.put(t, path, flavorOf(field, value), in(f), token).want(t, 200).flavor(t)
				if got.ID != want.ID {
					t.Fatalf("PUT of %s changed the id to %s", field, got.ID)
				}
				switch field {
				case "name":
					want.Name = n("after")
				case "vcpus":
					want.VCPUs = 3
				case "ram":
					want.RAM = 3072
				case "disk":
					want.Disk = 30
				case "swap":
					want.Swap = 1
				case "ephemeral":
					want.Ephemeral = 4
				}
				held := s.cloud.hasFlavor(t, trento, want)
				if len(held.ExtraSpecs) != 2 || held.ExtraSpecs["b"] != "2" || held.Description == nil || *held.Description != "kept" {
					t.Errorf("PUT of %s lost something: Nova holds %+v", field, held)
				}
			}
			user.put(t, path, flavorOf("extra_specs", map[string]string{"c": "3"}), in(f), token).want(t, 200)
			user.put(t, path, flavorOf("description", "new"), in(f), token).want(t, 200)
			held := s.cloud.hasFlavor(t, trento, want)
			if len(held.ExtraSpecs) != 1 || held.ExtraSpecs["c"] != "3" || *held.Description != "new" {
				t.Errorf("Nova holds %+v", held)
			}
			user.put(t, path, flavorOf("rxtx_factor", 2.5), in(f), token).want(t, 200)
			if held := s.cloud.hasFlavor(t, trento, want); held.RxTxFactor != 2.5 {
				t.Errorf("Nova holds %+v", held)
			}
		})
	}

	t.Run("a flavor that is not public in Nova keeps that and its access", func(t *testing.T) {
		n := s.names(t)
		nova := s.cloud.nova(t, trento)
		hidden := flavorIn(n("id"), n("hidden"))
		hidden.IsPublic = false
		nova.create(t, hidden)
		project := s.cloud.projectID(t, "demo")
		nova.grant(t, hidden.ID, project)
		user.put(t, "/regions/Trento/flavors/"+hidden.ID, flavorOf("ram", 4096), token).want(t, 200)
		hidden.RAM = 4096
		if held := s.cloud.hasFlavor(t, trento, hidden); held.IsPublic {
			t.Error("it is public now")
		}
		if got := nova.access(t, hidden.ID); !slices.Equal(got, []string{project}) {
			t.Errorf("its access is %v, not %s", got, project)
		}
	})

	t.Run("nothing else is left in Nova", func(t *testing.T) {
		c := extra(t, "clean")
		c.register(t, s, s.product)
		nova := c.nova(t, c.regions[0])
		nova.create(t, flavorIn("one", "one"))
		path := "/regions/" + c.regions[0] + "/flavors/one"
		user.put(t, path, flavorOf("ram", 1), keystone(c.token(t, "operator"))).want(t, 200)
		if all := nova.list(t); len(all) != 1 || all[0].RAM != 1 {
			t.Errorf("Nova holds %+v", all)
		}
	})

	t.Run("renaming to a name that is taken is 409 and changes nothing", func(t *testing.T) {
		n := s.names(t)
		nova := s.cloud.nova(t, trento)
		nova.create(t, flavorIn(n("id"), n("a")))
		nova.create(t, flavorIn(n("other"), n("b")))
		user.put(t, "/regions/Trento/flavors/"+n("id"), flavorOf("name", n("b"), "ram", 1), token).want(t, 409).says(t, n("b"))
		s.cloud.hasFlavor(t, trento, flavorIn(n("id"), n("a")))
		s.cloud.hasFlavor(t, trento, flavorIn(n("other"), n("b")))
	})

	t.Run("changing id, nodes, promoted or public is 400, the unchanged ones are taken", func(t *testing.T) {
		n := s.names(t)
		s.cloud.nova(t, trento).create(t, flavorIn(n("id"), n("a")))
		path := "/regions/Trento/flavors/" + n("id")
		for field, value := range map[string]any{"id": n("new"), "nodes": []string{spain2}, "promoted": true, "public": true} {
			user.put(t, path, flavorOf(field, value, "ram", 1), token).want(t, 400).says(t, field)
		}
		s.cloud.hasFlavor(t, trento, flavorIn(n("id"), n("a")))
		user.put(t, path, flavorOf("id", n("id"), "nodes", []string{trento}, "promoted", false, "public", false, "ram", 1), token).want(t, 200)
	})

	t.Run("where no service account works it is 409, but for the description", func(t *testing.T) {
		c := extra(t, "helpless")
		region := c.regions[0]
		manager := s.product.as(s.manager)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("trusted", true).and("password", secret("wrong"))).want(t, 201)
		t.Cleanup(func() { manager.delete(t, "/infrastructures/"+region, query("force", "true")) })
		c.nova(t, region).create(t, flavorIn("one", "one"))
		path, token := "/regions/"+region+"/flavors/one", keystone(c.token(t, "operator"))
		user.put(t, path, flavorOf("ram", 1), token).want(t, 409)
		c.hasFlavor(t, region, flavorIn("one", "one"))
		user.put(t, path, flavorOf("description", "new"), token).want(t, 200)
		if held := c.hasFlavor(t, region, flavorIn("one", "one")); held.Description == nil || *held.Description != "new" {
			t.Errorf("Nova holds %+v", held)
		}
		if all := c.nova(t, region).list(t); len(all) != 1 {
			t.Errorf("Nova holds %+v", all)
		}
	})

	if s.real {
		return // the rest breaks simulated regions only: the other set-ups have it
	}
	// What can break is every single write of the change, before and after Nova
	// has done it; and the server can die at each of them.
	for _, kill := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			death := map[bool]string{false: "the connection breaks", true: "the server is killed"}[kill]
			moment := map[bool]string{false: " before", true: " after"}[after]
			t.Run("the flavor is never lost: "+death+moment+" Nova has served a write", func(t *testing.T) {
				t.Parallel()
				survive(t, s, kill, after)
			})
		}
	}
}

// survive changes flavors, each in a region of its own: the first one breaks at
// its first write, the second at its second and so on, until one goes through
// unbroken. In the end each must be there once, as it was or as it should be,
// and nothing else.
func survive(t *testing.T, s *setup, kill, after bool) {
	pr := s.serve(t, with("engine", map[string]any{"region_timeout": "1s", "sweep_interval": "1s"}))
	var whole []func() bool
	for breakAt := int64(1); ; breakAt++ {
		c := extra(t, "gated")
		region := c.regions[0]
		pr.as(s.manager).post(t, "/infrastructures", c.infrastructure(region).and("trusted", true)).want(t, 201)
		nova, project := c.nova(t, region), c.projectID(t, "demo")
		old := flavorIn("one", "one")
		old.IsPublic = false
		old.ExtraSpecs = map[string]string{"a": "1"}
		nova.create(t, old)
		nova.grant(t, "one", project)

		g := startGate(t, c, region)
		var writes atomic.Int64
		var broken atomic.Bool
		strike := func(r *http.Request) bool {
			if r.Method == http.MethodGet || writes.Add(1) != breakAt {
				return true
			}
			broken.Store(true)
			if kill {
				pr.process.cmd.Process.Kill()
				<-pr.process.exited
			}
			return false
		}
		if after {
			g.set(nil, func(r *http.Request, _ int) bool { return strike(r) })
		} else {
			g.set(strike, nil)
		}
		a, err := pr.as(s.user).try(t, http.MethodPut, "/regions/"+region+"/flavors/one", flavorOf("ram", 4096, "name", "two"), keystone(c.token(t, "operator")))
		g.set(nil, nil)
		if err != nil && (!kill || !broken.Load()) {
			t.Fatalf("broken at write %d: %v", breakAt, err)
		}
		acknowledged := err == nil && a.status == 200
		if kill && broken.Load() {
			pr.run(t)
		}
		whole = append(whole, func() bool {
			all := nova.list(t)
			if len(all) != 1 || all[0].ID != "one" || all[0].IsPublic || all[0].ExtraSpecs["a"] != "1" || !slices.Equal(nova.access(t, "one"), []string{project}) {
				return false
			}
			f := all[0]
			return f.Name == "two" && f.RAM == 4096 || !acknowledged && f.Name == "one" && f.RAM == 2048
		})
		if !broken.Load() {
			a.want(t, 200)
			if breakAt < 4 {
				t.Errorf("a careful change had %d writes only", breakAt-1)
			}
			break
		}
	}
	for i, ok := range whole {
		eventually(t, fmt.Sprintf("the flavor whose change broke at write %d is whole", i+1), ok)
	}
}
