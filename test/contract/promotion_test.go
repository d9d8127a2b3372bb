package contract_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// watchful has the regions looked at every second, or, where their Novas are real
// and have many such watchmen, as often as they can bear, and with more patience.
func (s *setup) watchful() option {
	engine := map[string]any{"region_timeout": "1s", "sweep_interval": "1s"}
	if s.real {
		engine = map[string]any{"region_timeout": "10s", "sweep_interval": "4s"}
	}
	return with("engine", engine)
}

// nodes are the regions that a flavor is in, by what others see.
func (c client) nodes(t *testing.T, id string) []string {
	t.Helper()
	return c.get(t, "/flavors/"+id).want(t, 200).flavor(t).Nodes
}

// arrives waits until others see a flavor in these regions.
func (c client) arrives(t *testing.T, id string, regions ...string) {
	t.Helper()
	eventually(t, "a flavor arrives", func() bool {
		nodes := c.nodes(t, id)
		return !slices.ContainsFunc(regions, func(r string) bool { return !slices.Contains(nodes, r) })
	})
}

// byItself is the operation of that origin on a flavor.
func (c client) byItself(t *testing.T, origin, id string) (operationBody, bool) {
	t.Helper()
	for _, o := range c.get(t, "/operations", query("limit", "1000")).want(t, 200).operations(t) {
		if o.Origin == origin && o.Flavor == id {
			return o, true
		}
	}
	return operationBody{}, false
}

// promotion: promoted flavors are everywhere without anybody installing them.
func promotion(t *testing.T, s *setup) {
	n := s.names(t)
	pr := s.serve(t, s.watchful(), with("promotion", map[string]any{"install": "automatic"}))
	s.registerAll(t, pr)
	manager, user := pr.as(s.manager), pr.as(s.user)
	promote := func(t *testing.T, word string) flavorBody {
		t.Helper()
		return manager.post(t, "/promotedflavors", sized(n(word))).want(t, 201).flavor(t)
	}
	// once is that a region has a flavor, and once.
	once := func(t *testing.T, c *cloud, region string, f flavorBody) {
		t.Helper()
		c.hasFlavor(t, region, flavorIn(f.ID, f.Name))
		if named := c.nova(t, region).named(t, f.Name); len(named) != 1 {
			t.Errorf("%s has it %d times: %+v", region, len(named), named)
		}
	}

	t.Run("a promoted flavor arrives in every region", func(t *testing.T) {
		made := promote(t, "everywhere")
		user.arrives(t, made.ID, s.cloud.regions...)
		for _, region := range s.cloud.regions {
			once(t, s.cloud, region, made)
		}
		var o operationBody
		eventually(t, "its operation ends", func() bool {
			o, _ = manager.byItself(t, "automatic", made.ID)
			return o.State == "succeeded"
		})
		if o.Kind != "install" || len(o.Nodes) != len(s.cloud.regions) {
			t.Errorf("%+v", o)
		}
		if o, seen := pr.as(s.owner(trento)).byItself(t, "automatic", made.ID); !seen || len(o.Nodes) != 1 || o.Nodes[0].Node != trento {
			t.Errorf("the owner of Trento sees %+v", o)
		}
		if o, seen := user.byItself(t, "automatic", made.ID); seen {
			t.Errorf("a user sees %+v", o)
		}
	})

	t.Run("a flavor of a region that is promoted later arrives, too", func(t *testing.T) {
		made := pr.as(s.owner(spain2)).post(t, "/flavors", sized(n("later")).and("extra_specs", map[string]string{"hw:cpu_policy": "shared"})).want(t, 201).flavor(t)
		made = manager.put(t, "/flavors/"+made.ID, flavorOf("promoted", true)).want(t, 200).flavor(t)
		user.arrives(t, made.ID, s.cloud.regions...)
		for _, region := range s.cloud.regions {
			once(t, s.cloud, region, made)
			if got := s.cloud.hasFlavor(t, region, flavorIn(made.ID, made.Name)); got.ExtraSpecs["hw:cpu_policy"] != "shared" {
				t.Errorf("%s: %+v", region, got)
			}
		}
	})

	t.Run("a region that is registered later gets what is promoted, one that was down when it is back", func(t *testing.T) {
		made := promote(t, "before")
		user.arrives(t, made.ID, s.cloud.regions...)
		c := extra(t, "new", "down")
		mend := c.stack.Fault(c.regions[1], simstack.Fault{Kind: simstack.ServerError})
		c.register(t, s, pr)
		user.arrives(t, made.ID, c.regions[0])
		once(t, c, c.regions[0], made)
		mend()
		user.arrives(t, made.ID, c.regions[1])
		once(t, c, c.regions[1], made)
	})

	t.Run("an owner's DELETE is respected, and taken back by a PUT", func(t *testing.T) {
		made := promote(t, "refused")
		user.arrives(t, made.ID, s.cloud.regions...)
		owner := pr.as(s.owner(trento))
		owner.delete(t, "/flavors/"+made.ID, query("node", trento)).want(t, 204)
		second := promote(t, "after-refusal")
		user.arrives(t, second.ID, s.cloud.regions...)
		s.cloud.hasNone(t, trento, made.ID)
		if nodes := user.nodes(t, made.ID); slices.Contains(nodes, trento) || len(nodes) < 2 {
			t.Errorf("it is in %v", nodes)
		}
		if p := user.coverage(t, made.ID).of(t, trento); p.State != "missing" || !p.Refused {
			t.Errorf("%+v", p)
		}
		if p := user.compliance(t, trento).of(t, made.ID); p.State != "missing" || !p.Refused {
			t.Errorf("%+v", p)
		}
		// Nor after a restart.
		pr.terminate(t)
		pr.run(t)
		third := promote(t, "after-restart")
		user.arrives(t, third.ID, s.cloud.regions...)
		s.cloud.hasNone(t, trento, made.ID)

		owner.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		once(t, s.cloud, trento, made)
		if p := user.coverage(t, made.ID).of(t, trento); p.State != "present" || p.Refused {
			t.Errorf("%+v", p)
		}
	})

	t.Run("an owner refuses what has not arrived", func(t *testing.T) {
		c := extra(t, "unwilling")
		region := c.regions[0]
		mend := c.stack.Fault(region, simstack.Fault{Kind: simstack.ServerError})
		c.register(t, s, pr)
		made := promote(t, "unwanted")
		eventually(t, "it is wanted there", func() bool {
			o, _ := manager.byItself(t, "automatic", made.ID)
			return slices.ContainsFunc(o.Nodes, func(n operationNode) bool { return n.Node == region })
		})
		owner := pr.as(s.owner(region))
		owner.delete(t, "/flavors/"+made.ID, query("node", region)).want(t, 204)
		pr.as(s.owner(spain2)).delete(t, "/flavors/"+made.ID, query("node", region)).want(t, 403)
		mend()
		second := promote(t, "wanted")
		user.arrives(t, second.ID, region)
		c.hasNone(t, region, made.ID)
		if p := user.coverage(t, made.ID).of(t, region); p.State != "missing" || !p.Refused {
			t.Errorf("%+v", p)
		}
	})

	t.Run("a retired flavor goes nowhere new, and stays where it is", func(t *testing.T) {
		made := promote(t, "retired")
		user.arrives(t, made.ID, s.cloud.regions...)
		manager.put(t, "/promotedflavors/"+made.ID, flavorOf("retired", true)).want(t, 200)
		c := extra(t, "too-late")
		c.register(t, s, pr)
		second := promote(t, "not-retired")
		user.arrives(t, second.ID, c.regions[0])
		c.hasNone(t, c.regions[0], made.ID)
		once(t, s.cloud, spain2, made)
		if p := user.compliance(t, spain2).of(t, made.ID); p.State != "extra" {
			t.Errorf("%+v", p)
		}
	})

	t.Run("another flavor under its name is left alone until the region changes", func(t *testing.T) {
		c := extra(t, "taken", "free")
		region := c.regions[0]
		c.stack.AddFlavor(region, flavor.NovaFlavor{ID: "in-the-way", Spec: flavor.Spec{Name: n("conflict"), VCPUs: 1, RAM: 1, RxTxFactor: 1}, IsPublic: true})
		c.register(t, s, pr)
		first := promote(t, "first")
		user.arrives(t, first.ID, region)
		made := promote(t, "conflict")
		user.arrives(t, made.ID, c.regions[1])
		looks := func(more int) {
			t.Helper()
			seen := c.stack.Count(simstack.Nova, region, http.MethodGet, "/flavors/detail")
			if err := c.stack.Await(t.Context(), seen+more, simstack.Nova, region, http.MethodGet, "/flavors/detail"); err != nil {
				t.Fatal(err)
			}
		}
		var node operationNode
		failed := func() bool {
			o, there := manager.byItself(t, "automatic", made.ID)
			if !there {
				return false
			}
			i := slices.IndexFunc(o.Nodes, func(n operationNode) bool { return n.Node == region })
			if i >= 0 {
				node = o.Nodes[i]
			}
			return i >= 0 && node.State == "failed"
		}
		eventually(t, "it has failed there", failed)
		looks(2) // one of them may have been news
		eventually(t, "it has failed there", failed)
		attempts := node.Attempts
		if !strings.Contains(node.LastError, "in-the-way") || !strings.Contains(node.LastError, "ram") {
			t.Errorf("%+v", node)
		}
		// Something else is new: that is no reason.
		pr.as(s.owner(spain2)).post(t, "/flavors", sized(n("elsewhere")).and("public", true)).want(t, 201)
		looks(3)
		if !failed() || node.Attempts != attempts {
			t.Errorf("there was nothing new, but after %d attempts: %+v", attempts, node)
		}
		if all := c.nova(t, region).named(t, made.Name); len(all) != 1 || all[0].ID != "in-the-way" || all[0].RAM != 1 {
			t.Errorf("Nova has %+v", all)
		}
		c.nova(t, region).delete(t, "in-the-way")
		user.arrives(t, made.ID, region)
		once(t, c, region, made)
	})
}

// promotionByHand: what the policy says of one region or one flavor.
func promotionByHand(t *testing.T, s *setup) {
	n := s.names(t)
	promote := func(t *testing.T, as client, word string) flavorBody {
		t.Helper()
		return as.post(t, "/promotedflavors", sized(n(word))).want(t, 201).flavor(t)
	}

	t.Run("manual for one region, and for one flavor", func(t *testing.T) {
		pr := s.serve(t, s.watchful(), with("promotion", map[string]any{
			"install": "automatic",
			"regions": map[string]any{trento: map[string]any{"install": "manual"}},
			"flavors": map[string]any{n("by-hand"): map[string]any{"install": "manual"}},
		}))
		s.registerAll(t, pr)
		manager := pr.as(s.manager)
		byHand := promote(t, manager, "by-hand")
		made := promote(t, manager, "elsewhere")
		manager.arrives(t, made.ID, spain2, lannion2)
		second := promote(t, manager, "elsewhere-too")
		manager.arrives(t, second.ID, spain2, lannion2)
		s.cloud.hasNone(t, trento, made.ID)
		s.cloud.hasNone(t, trento, second.ID)
		for _, region := range s.cloud.regions {
			s.cloud.hasNone(t, region, byHand.ID)
		}
		if o, there := manager.byItself(t, "automatic", byHand.ID); there {
			t.Errorf("%+v", o)
		}
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
	})

	t.Run("automatic for one region", func(t *testing.T) {
		pr := s.serve(t, s.watchful(), with("promotion", map[string]any{"regions": map[string]any{lannion2: map[string]any{"install": "automatic"}}}))
		s.registerAll(t, pr)
		manager := pr.as(s.manager)
		made := promote(t, manager, "here")
		manager.arrives(t, made.ID, lannion2)
		second := promote(t, manager, "here-too")
		manager.arrives(t, second.ID, lannion2)
		s.cloud.hasFlavor(t, lannion2, flavorIn(made.ID, made.Name))
		s.cloud.hasNone(t, spain2, made.ID)
		s.cloud.hasNone(t, trento, made.ID)
	})
}

// apart: one process answers, another looks after the regions.
func apart(t *testing.T, s *setup) {
	if s.database != "mysql" {
		return // a SQLite file has one process
	}
	n := s.names(t)
	pr := s.serve(t, s.watchful())
	s.registerAll(t, pr)
	pr.becomes(t, "api")
	manager := pr.as(s.manager)
	made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
	path, o := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", s.cloud.regions), async).accepted(t)
	for _, node := range o.Nodes {
		if node.State != "waiting" || node.Attempts != 0 {
			t.Errorf("who only answers has begun it: %+v", node)
		}
	}
	if got := manager.get(t, path, query("wait", "1s")).want(t, 200).operation(t); got.State != "running" {
		t.Errorf("without an engine: %+v", got)
	}
	s.cloud.hasNone(t, trento, made.ID)
	engine := pr.beside(t, "engine")
	end := manager.ended(t, path)
	for _, region := range s.cloud.regions {
		if node := end.in(t, region); node.State != "succeeded" || node.Attempts < 1 {
			t.Errorf("%+v", node)
		}
		s.cloud.hasFlavor(t, region, flavorIn(made.ID, made.Name))
	}
	// Who only answers shows at once what the other has done.
	if nodes := manager.nodes(t, made.ID); len(nodes) != len(s.cloud.regions) {
		eventually(t, "the nodes are seen", func() bool { return len(manager.nodes(t, made.ID)) == len(s.cloud.regions) })
	}
	// And installs by itself for who waits.
	second := manager.post(t, "/promotedflavors", sized(n("y"))).want(t, 201).flavor(t)
	engine.terminate(t)
	manager.put(t, "/flavors/"+second.ID, flavorOf("node", trento)).want(t, 200)
	s.cloud.hasFlavor(t, trento, flavorIn(second.ID, second.Name))
}
