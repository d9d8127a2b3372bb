package contract_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// checkOrder: of several mistakes in one PUT /v1/flavors/{id}, which is told;
// nothing is done unless all checks pass.
func checkOrder(t *testing.T, s *setup) {
	n := s.names(t)
	manager := s.product.as(s.manager)
	owner, other, user := s.product.as(s.owner(spain2)), s.product.as(s.owner(trento)), s.product.as(s.user)
	public := owner.post(t, "/flavors", sized(n("public")).and("public", true)).want(t, 201).flavor(t)
	private := owner.post(t, "/flavors", sized(n("private"))).want(t, 201).flavor(t)
	manager.post(t, "/promotedflavors", sized(n("taken")).and("ram", 1)).want(t, 201)
	conflicting := owner.post(t, "/flavors", sized(n("taken"))).want(t, 201).flavor(t)
	// Another flavor stands under the public one's name in Trento.
	s.cloud.nova(t, trento).create(t, func() novaBody { f := flavorIn(n("other"), n("public")); f.RAM = 1; return f }())

	for _, c := range []struct {
		what   string
		as     client
		id     string
		body   *document
		status int
	}{
		{"malformed comes before unseen", user, private.ID, flavorOf("public", "maybe"), 400},
		{"malformed comes before promoting without the right", owner, public.ID, flavorOf("promoted", true, "ram", "much"), 400},
		{"public false with promoted true is malformed, before unseen", user, private.ID, flavorOf("public", false, "promoted", true), 400},
		{"public false with promoted true is malformed, before promoting without the right", owner, public.ID, flavorOf("public", false, "promoted", true), 400},
		{"unseen comes before promoting without the right", other, private.ID, flavorOf("promoted", true), 404},
		{"unseen comes before an unknown node", other, private.ID, flavorOf("node", "Nowhere"), 404},
		{"an unknown flavor comes before an unknown node", owner, someUUID, flavorOf("node", "Nowhere"), 404},
		{"promoting without the right comes before an unknown node", owner, public.ID, flavorOf("promoted", true, "node", "Nowhere"), 401},
		{"promoting without the right comes before not yours", other, public.ID, flavorOf("promoted", true, "node", spain2), 401},
		{"promoting without the right comes before state", owner, public.ID, flavorOf("promoted", true, "node", trento), 401},
		{"an unknown node comes before not yours", other, public.ID, flavorOf("nodes", []string{spain2, "Nowhere"}), 409},
		{"an unknown node comes before state", manager, public.ID, flavorOf("public", false, "nodes", []string{"Nowhere"}), 409},
		{"not yours comes before state: unpublish", other, public.ID, flavorOf("public", false, "node", lannion2), 403},
		{"not yours comes before state: another flavor there", owner, public.ID, flavorOf("node", trento), 403},
		{"state: another flavor there", other, public.ID, flavorOf("node", trento), 409},
		{"state: unpublish", owner, public.ID, flavorOf("public", false, "node", spain2), 409},
		{"state: a public flavor has that name", owner, conflicting.ID, flavorOf("public", true), 409},
	} {
		t.Run(c.what, func(t *testing.T) {
			for _, f := range formats {
				c.as.put(t, "/flavors/"+c.id, c.body, in(f)).want(t, c.status)
			}
		})
	}

	t.Run("an unknown node is told by name", func(t *testing.T) {
		manager.put(t, "/flavors/"+public.ID, flavorOf("nodes", []string{spain2, "Nowhere"})).want(t, 409).says(t, "Nowhere")
	})

	t.Run("nothing is done unless all checks pass", func(t *testing.T) {
		manager.put(t, "/flavors/"+private.ID, flavorOf("public", true, "promoted", true, "nodes", []string{lannion2, "Nowhere"})).want(t, 409)
		owner.put(t, "/flavors/"+private.ID, flavorOf("public", true, "nodes", []string{spain2, lannion2})).want(t, 403)
		user.get(t, "/flavors/"+private.ID).want(t, 404)
		s.cloud.hasNone(t, lannion2, private.Name)
		manager.put(t, "/flavors/"+public.ID, flavorOf("promoted", true, "nodes", []string{lannion2, trento})).want(t, 409)
		if got := user.get(t, "/flavors/"+public.ID).want(t, 200).flavor(t); got.Promoted || !slices.Equal(got.Nodes, []string{spain2}) {
			t.Errorf("%+v", got)
		}
		s.cloud.hasNone(t, lannion2, public.ID)
	})
}

// installing: PUT /v1/flavors/{id} with nodes.
func installing(t *testing.T, s *setup) {
	manager, user := s.product.as(s.manager), s.product.as(s.user)
	ownerOfTrento := s.product.as(s.owner(trento))

	for _, f := range formats {
		t.Run("an owner installs what another published, in "+f.name, func(t *testing.T) {
			n := s.names(t)
			made := s.product.as(s.owner(spain2)).post(t, "/flavors", sized(n("x")).and("public", true).and("description", "dear").
				and("ephemeral", 3).and("extra_specs", map[string]string{"hw:cpu_policy": "dedicated"}), in(f)).want(t, 201).flavor(t)
			got := ownerOfTrento.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{trento}), in(f)).want(t, 200).flavor(t)
			if !slices.Equal(got.Nodes, []string{spain2, trento}) || !got.Public {
				t.Errorf("installed: %+v", got)
			}
			want := flavorIn(made.ID, n("x"))
			want.Ephemeral = 3
			held := s.cloud.hasFlavor(t, trento, want)
			if !held.IsPublic || held.ExtraSpecs["hw:cpu_policy"] != "dedicated" || held.Description == nil || *held.Description != "dear" {
				t.Errorf("Nova of Trento holds %+v", held)
			}
			if got := user.get(t, "/flavors/"+made.ID, in(f)).want(t, 200).flavor(t); !slices.Equal(got.Nodes, []string{spain2, trento}) {
				t.Errorf("others see %+v", got)
			}
			s.cloud.hasNone(t, lannion2, made.ID)
		})
	}

	t.Run("node, nodes and a list of nodes mean the same", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+made.ID, nil, raw("application/json", `{"flavor": {"node": "Spain2"}}`)).want(t, 200)
		manager.put(t, "/flavors/"+made.ID, nil, raw("application/json", `{"nodes": ["Trento"]}`)).want(t, 200)
		manager.put(t, "/flavors/"+made.ID, nil, raw("application/xml", `<flavor><node>Lannion2</node></flavor>`)).want(t, 200)
		for _, region := range s.cloud.regions {
			s.cloud.hasFlavor(t, region, flavorIn(made.ID, made.Name))
		}
	})

	t.Run("installing what is installed is 200 and changes nothing", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		first := manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		held := s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
		for range 2 {
			again := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{trento, trento})).want(t, 200)
			if !bytes.Equal(again.body, first.body) {
				t.Errorf("it was\n%s and is\n%s", first, again)
			}
		}
		if named := s.cloud.nova(t, trento).named(t, made.Name); len(named) != 1 || named[0].ID != held.ID {
			t.Errorf("Nova holds %+v", named)
		}
	})

	t.Run("what vanished from Nova is installed again", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		s.cloud.nova(t, trento).delete(t, made.ID)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
	})

	t.Run("a private flavor can be installed once it is public, in the same call", func(t *testing.T) {
		n := s.names(t)
		both := s.product.as(s.owner(spain2, trento))
		made := both.post(t, "/flavors", sized(n("x")).and("nodes", []string{spain2})).want(t, 201).flavor(t)
		both.put(t, "/flavors/"+made.ID, flavorOf("public", true, "nodes", []string{spain2, trento})).want(t, 200)
		s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
	})

	t.Run("who installs a flavor while another is just making it succeeds too", func(t *testing.T) {
		c := extra(t, "half-made")
		c.register(t, s, s.product)
		region := c.regions[0]
		made := manager.post(t, "/promotedflavors", sized(unique()("x")).and("extra_specs", map[string]string{"a": "b"})).want(t, 201).flavor(t)
		g := startGate(t, c, region)
		// The first one is held between the flavor and its extra specs until the
		// second one has looked.
		halfMade, looked := make(chan struct{}), make(chan struct{})
		g.set(func(r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/os-extra_specs") && r.Method == http.MethodPost {
				close(halfMade)
				<-looked
			}
			return true
		}, func(r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, "/flavors/detail") {
				select {
				case <-halfMade:
					select {
					case <-looked:
					default:
						close(looked)
					}
				default:
				}
			}
			return true
		})
		first := make(chan *answer)
		go func() {
			a, err := manager.try(t, http.MethodPut, "/flavors/"+made.ID, flavorOf("node", region))
			if err != nil {
				t.Error(err)
			}
			first <- a
		}()
		<-halfMade
		second := manager.put(t, "/flavors/"+made.ID, flavorOf("node", region))
		(<-first).want(t, 200)
		second.want(t, 200)
		if all := c.nova(t, region).list(t); len(all) != 1 || all[0].ExtraSpecs["a"] != "b" {
			t.Errorf("Nova holds %+v", all)
		}
	})

	t.Run("of a crowd that installs one flavor, all succeed and Nova has it once", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("x")).and("extra_specs", map[string]string{"a": "b"})).want(t, 201).flavor(t)
		counts := crowd(t, 8, func() *answer { return manager.do(t, http.MethodPut, "/flavors/"+made.ID, flavorOf("node", trento)) })
		if counts[200] != 8 {
			t.Errorf("the statuses are %v", counts)
		}
		named := s.cloud.nova(t, trento).named(t, made.Name)
		if len(named) != 1 || named[0].ID != made.ID || named[0].ExtraSpecs["a"] != "b" {
			t.Errorf("Nova holds %+v", named)
		}
	})
}

// removing: DELETE /v1/flavors/{id}.
func removing(t *testing.T, s *setup) {
	manager, user := s.product.as(s.manager), s.product.as(s.user)
	owner := s.product.as(s.owner(spain2))

	t.Run("a private flavor is removed from the caller's region", func(t *testing.T) {
		n := s.names(t)
		made := owner.post(t, "/flavors", sized(n("x"))).want(t, 201).flavor(t)
		owner.delete(t, "/flavors/"+made.ID).want(t, 204)
		s.cloud.hasNone(t, spain2, made.ID)
		owner.get(t, "/flavors/"+made.ID).want(t, 404)
		owner.delete(t, "/flavors/"+made.ID).want(t, 404)
	})

	t.Run("a public flavor stays in the catalogue while another node has it, and goes with the last", func(t *testing.T) {
		n := s.names(t)
		made := owner.post(t, "/flavors", sized(n("x")).and("public", true)).want(t, 201).flavor(t)
		other := s.product.as(s.owner(trento))
		other.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		owner.delete(t, "/flavors/"+made.ID).want(t, 204)
		s.cloud.hasNone(t, spain2, made.ID)
		s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
		if got := user.get(t, "/flavors/"+made.ID).want(t, 200).flavor(t); !slices.Equal(got.Nodes, []string{trento}) {
			t.Errorf("nodes are %v", got.Nodes)
		}
		other.delete(t, "/flavors/"+made.ID).want(t, 204)
		s.cloud.hasNone(t, trento, made.ID)
		user.get(t, "/flavors/"+made.ID).want(t, 404)
	})

	t.Run("a promoted flavor stays in the catalogue without nodes", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		owner.put(t, "/flavors/"+made.ID, flavorOf("node", spain2)).want(t, 200)
		owner.delete(t, "/flavors/"+made.ID).want(t, 204)
		s.cloud.hasNone(t, spain2, made.ID)
		if got := user.get(t, "/promotedflavors/"+made.ID).want(t, 200).flavor(t); len(got.Nodes) != 0 {
			t.Errorf("nodes are %v", got.Nodes)
		}
	})

	t.Run("where several regions would do it is 400 that names them, and ?node decides", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{spain2, trento, lannion2})).want(t, 200)
		both := s.product.as(s.owner(spain2, trento))
		a := both.delete(t, "/flavors/"+made.ID).want(t, 400).says(t, spain2, trento)
		if strings.Contains(a.failure(t).Message, lannion2) {
			t.Errorf("it names a region that is not the caller's: %s", a)
		}
		manager.delete(t, "/flavors/"+made.ID).want(t, 400).says(t, spain2, trento, lannion2)
		for _, region := range s.cloud.regions {
			s.cloud.hasFlavor(t, region, flavorIn(made.ID, made.Name))
		}
		both.delete(t, "/flavors/"+made.ID, query("node", trento)).want(t, 204)
		s.cloud.hasNone(t, trento, made.ID)
		s.cloud.hasFlavor(t, spain2, flavorIn(made.ID, made.Name))
		both.delete(t, "/flavors/"+made.ID).want(t, 204) // one of theirs is left
		s.cloud.hasNone(t, spain2, made.ID)
		s.cloud.hasFlavor(t, lannion2, flavorIn(made.ID, made.Name))
	})

	t.Run("owning none that has it is 403", func(t *testing.T) {
		n := s.names(t)
		made := owner.post(t, "/flavors", sized(n("x")).and("public", true)).want(t, 201).flavor(t)
		user.delete(t, "/flavors/"+made.ID).want(t, 403)
		s.product.as(s.owner(trento)).delete(t, "/flavors/"+made.ID).want(t, 403)
		s.product.as(s.owner(trento)).delete(t, "/flavors/"+made.ID, query("node", spain2)).want(t, 403)
		s.cloud.hasFlavor(t, spain2, flavorIn(made.ID, made.Name))
	})

	t.Run("?node of an unknown region is no success", func(t *testing.T) {
		n := s.names(t)
		made := owner.post(t, "/flavors", sized(n("x")).and("public", true)).want(t, 201).flavor(t)
		manager.delete(t, "/flavors/"+made.ID, query("node", "Nowhere")).wantOneOf(t, 400, 404, 409).says(t, "Nowhere")
		s.cloud.hasFlavor(t, spain2, flavorIn(made.ID, made.Name))
	})

	for _, noticed := range []bool{false, true} {
		t.Run(map[bool]string{false: "already gone from Nova is 204", true: "already gone from Nova is 204, also when a list has noticed that"}[noticed], func(t *testing.T) {
			n := s.names(t)
			made := owner.post(t, "/flavors", sized(n("x")).and("public", true)).want(t, 201).flavor(t)
			s.cloud.nova(t, spain2).delete(t, made.ID)
			if noticed {
				owner.get(t, "/flavors", fresh).want(t, 200)
			}
			owner.delete(t, "/flavors/"+made.ID).want(t, 204)
			user.get(t, "/flavors/"+made.ID).want(t, 404)
			owner.post(t, "/flavors", sized(n("x")).and("public", true).and("ram", 1)).want(t, 201) // the name is free
		})
	}

	t.Run("another flavor that took the id in Nova meanwhile is not deleted", func(t *testing.T) {
		n := s.names(t)
		made := owner.post(t, "/flavors", sized(n("x")).and("public", true)).want(t, 201).flavor(t)
		nova := s.cloud.nova(t, spain2)
		nova.delete(t, made.ID)
		// Where Nova cannot tell case apart it answers this one for our id.
		impostor := flavorIn(upperUUID(made.ID), n("impostor"))
		nova.create(t, impostor)
		owner.delete(t, "/flavors/"+made.ID).want(t, 204)
		s.cloud.hasFlavor(t, spain2, impostor)
		nova.delete(t, impostor.ID)
	})
}

func upperUUID(id string) string {
	upper := []byte(id)
	for i, b := range upper {
		if b >= 'a' && b <= 'f' {
			upper[i] = b - 'a' + 'A'
		}
	}
	return string(upper)
}

// severalNodes: one call for many regions.
func severalNodes(t *testing.T, s *setup) {
	t.Run("what succeeded stays, and the others are told one by one: 502", func(t *testing.T) {
		manager := s.product.as(s.manager)
		c := extra(t, "up", "down", "also-up")
		c.register(t, s, s.product)
		up, down, alsoUp := c.regions[0], c.regions[1], c.regions[2]
		made := manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		mend := c.stack.Fault(down, simstack.Fault{Kind: simstack.Refuse})
		for _, f := range formats {
			a := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", c.regions), in(f)).want(t, 502)
			told := a.failure(t).Nodes
			if len(told) != 1 || told[0].Node != down || told[0].Status != 502 || told[0].Message == "" {
				t.Errorf("error.nodes is %+v: %s", told, a)
			}
		}
		c.hasFlavor(t, up, flavorIn(made.ID, made.Name))
		c.hasFlavor(t, alsoUp, flavorIn(made.ID, made.Name))
		got := manager.get(t, "/flavors/"+made.ID).want(t, 200).flavor(t)
		slices.Sort(got.Nodes)
		if want := []string{alsoUp, up}; !slices.Equal(got.Nodes, want) {
			t.Errorf("nodes are %v", got.Nodes)
		}
		mend()
		c.hasNone(t, down, made.ID)
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", c.regions)).want(t, 200)
		c.hasFlavor(t, down, flavorIn(made.ID, made.Name))
	})

	t.Run("409 comes before 502", func(t *testing.T) {
		manager := s.product.as(s.manager)
		c := extra(t, "fine", "taken", "down")
		c.register(t, s, s.product)
		made := manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		c.stack.Fault(c.regions[2], simstack.Fault{Kind: simstack.ServerError})
		// It takes the name at the last moment: the checks before see nothing.
		c.stack.Fault(c.regions[1], simstack.Fault{Kind: simstack.Conflict, Method: http.MethodPost, Path: "/flavors"})
		a := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", c.regions)).want(t, 409)
		statuses := map[string]int{}
		for _, one := range a.failure(t).Nodes {
			statuses[one.Node] = one.Status
		}
		if statuses[c.regions[1]] != 409 || statuses[c.regions[2]] != 502 || len(statuses) != 2 {
			t.Errorf("error.nodes is %v: %s", statuses, a)
		}
		c.hasFlavor(t, c.regions[0], flavorIn(made.ID, made.Name))
	})

	t.Run("they are asked side by side, and one that hangs costs its time limit once", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "a", "b", "c", "hangs", "hangs-too")
		c.register(t, s, pr)
		manager := pr.as(s.manager)
		made := manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		for _, region := range c.regions[3:] {
			c.stack.Fault(region, simstack.Fault{Kind: simstack.Hang})
		}
		within(t, 2*s.regionTimeout(), "an install where two of five regions hang", func() {
			a := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", c.regions)).want(t, 502)
			if told := a.failure(t).Nodes; len(told) != 2 {
				t.Errorf("error.nodes is %+v", told)
			}
		})
		for _, region := range c.regions[:3] {
			c.hasFlavor(t, region, flavorIn(made.ID, made.Name))
		}
	})

	t.Run("each is tried once", func(t *testing.T) {
		manager := s.product.as(s.manager)
		c := extra(t, "once")
		c.register(t, s, s.product)
		made := manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		c.stack.Fault(c.regions[0], simstack.Fault{Kind: simstack.ServerError, Method: http.MethodPost, Path: "/flavors"})
		c.stack.ForgetRequests()
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", c.regions[0])).want(t, 502)
		if n := c.stack.Count(simstack.Nova, c.regions[0], http.MethodPost, "/flavors"); n != 1 {
			t.Errorf("Nova was asked %d times to create it", n)
		}
	})

	t.Run("all succeed where all answer, however slowly", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "a", "b", "c", "d", "e", "f")
		c.register(t, s, pr)
		manager := pr.as(s.manager)
		made := manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		for _, region := range c.regions {
			c.stack.Delay(region, 100*time.Millisecond)
		}
		begun := time.Now()
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", c.regions)).want(t, 200)
		if took := time.Since(begun); took > 2*s.regionTimeout() {
			t.Errorf("six regions of 100 ms a call took %s", took)
		}
	})

	t.Run("?uninstall=true with a region that is down keeps the flavor and what is left of its nodes", func(t *testing.T) {
		manager := s.product.as(s.manager)
		c := extra(t, "up", "down")
		c.register(t, s, s.product)
		made := manager.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", c.regions)).want(t, 200)
		mend := c.stack.Fault(c.regions[1], simstack.Fault{Kind: simstack.Refuse})
		manager.delete(t, "/promotedflavors/"+made.ID, query("uninstall", "true")).want(t, 502)
		c.hasNone(t, c.regions[0], made.ID)
		mend()
		if got := manager.get(t, "/promotedflavors/"+made.ID).want(t, 200).flavor(t); !slices.Equal(got.Nodes, c.regions[1:]) {
			t.Errorf("nodes are %v", got.Nodes)
		}
		manager.delete(t, "/promotedflavors/"+made.ID, query("uninstall", "true")).want(t, 204)
		c.hasNone(t, c.regions[1], made.ID)
	})
}
