package contract_test

import (
	"bytes"
	"slices"
	"testing"
)

// promoted: the flavors a manager recommends.
func promoted(t *testing.T, s *setup) {
	manager := s.product.as(s.manager)
	user := s.product.as(s.user)

	for _, f := range formats {
		t.Run("a promoted flavor lives from POST to DELETE in "+f.name, func(t *testing.T) {
			n := unique()
			made := manager.post(t, "/promotedflavors", sized(n("life")), in(f)).want(t, 201).flavor(t)
			if !made.Promoted || !made.Public || len(made.Nodes) != 0 || made.Name != n("life") || made.RAM != 2048 {
				t.Fatalf("created: %+v", made)
			}
			path := "/promotedflavors/" + made.ID
			if got := user.get(t, path, in(f)).want(t, 200).flavor(t); got.ID != made.ID || got.VCPUs != 2 || got.Swap != 512 {
				t.Errorf("read: %+v", got)
			}
			if _, ok := find(user.get(t, "/promotedflavors", in(f)).want(t, 200).flavors(t), made.ID, ""); !ok {
				t.Error("the list of promoted flavors does not hold it")
			}
			if got := user.get(t, "/flavors/"+made.ID, in(f)).want(t, 200).flavor(t); !got.Promoted {
				t.Errorf("among all flavors: %+v", got)
			}
			changed := manager.put(t, path, flavorOf("ram", 4096, "name", n("renamed")), in(f)).want(t, 200).flavor(t)
			if changed.RAM != 4096 || changed.Name != n("renamed") || changed.VCPUs != 2 || changed.ID != made.ID {
				t.Errorf("changed: %+v", changed)
			}
			manager.delete(t, path, in(f)).want(t, 204)
			manager.get(t, path, in(f)).want(t, 404)
			manager.delete(t, path, in(f)).want(t, 404)
			manager.put(t, path, flavorOf("ram", 1), in(f)).want(t, 404)
		})
	}

	t.Run("creating a promoted flavor calls no Nova", func(t *testing.T) {
		n := unique()
		made := manager.post(t, "/promotedflavors", sized(n("untouched"))).want(t, 201).flavor(t)
		for _, region := range s.cloud.regions {
			s.cloud.hasNone(t, region, made.ID)
			s.cloud.hasNone(t, region, made.Name)
		}
	})

	t.Run("its name is taken for every other public flavor", func(t *testing.T) {
		n := unique()
		manager.post(t, "/promotedflavors", sized(n("taken"))).want(t, 201)
		manager.post(t, "/promotedflavors", sized(n("taken"))).want(t, 409)
		manager.post(t, "/promotedflavors", sized(n("taken")).and("ram", 1)).want(t, 409).says(t, n("taken"), "ram")
		other := manager.post(t, "/promotedflavors", sized(n("other"))).want(t, 201).flavor(t)
		manager.put(t, "/promotedflavors/"+other.ID, flavorOf("name", n("taken"))).want(t, 409)
		if got := manager.get(t, "/promotedflavors/"+other.ID).want(t, 200).flavor(t); got.Name != n("other") {
			t.Errorf("the refused change was done: %+v", got)
		}
	})

	t.Run("names that differ in case are two names in the catalogue", func(t *testing.T) {
		n := unique()
		manager.post(t, "/promotedflavors", sized(n("Small"))).want(t, 201)
		manager.post(t, "/promotedflavors", sized(n("small"))).want(t, 201)
		manager.post(t, "/promotedflavors", sized(n("smäll"))).want(t, 201)
	})

	t.Run("while a node has it, name and sizes are fixed; description and extra specs are not", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("installed"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + made.ID
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", spain2)).want(t, 200)
		before := manager.get(t, path).want(t, 200)
		for field, value := range map[string]any{"name": n("renamed"), "vcpus": 4, "ram": 1024, "disk": 5, "swap": 0, "ephemeral": 9, "rxtx_factor": 2.5} {
			manager.put(t, path, flavorOf(field, value)).want(t, 409).says(t, spain2)
		}
		if after := manager.get(t, path).want(t, 200); !bytes.Equal(after.body, before.body) {
			t.Errorf("a refused change was done: it was\n%s and is\n%s", before, after)
		}
		changed := manager.put(t, path, flavorOf("description", "new", "extra_specs", map[string]string{"a": "b"})).want(t, 200).flavor(t)
		if changed.Description == nil || *changed.Description != "new" || changed.ExtraSpecs["a"] != "b" || !slices.Equal(changed.Nodes, []string{spain2}) {
			t.Errorf("changed: %+v", changed)
		}
		s.cloud.hasFlavor(t, spain2, flavorIn(made.ID, n("installed")))
	})

	t.Run("PUT of nodes is 405, the unchanged ones are taken", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("nodes"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + made.ID
		manager.put(t, path, flavorOf("nodes", []string{trento})).want(t, 405)
		manager.put(t, path, flavorOf("nodes", []string{trento}), in(asXML)).want(t, 405)
		manager.put(t, path, flavorOf("nodes", []string{})).want(t, 200)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		manager.put(t, path, flavorOf("nodes", []string{})).want(t, 405)
		manager.put(t, path, flavorOf("nodes", []string{trento, spain2})).want(t, 405)
		manager.put(t, path, flavorOf("nodes", []string{trento})).want(t, 200)
		s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
	})

	t.Run("public or promoted false is 409", func(t *testing.T) {
		n := unique()
		made := manager.post(t, "/promotedflavors", sized(n("fixed"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + made.ID
		for _, f := range formats {
			manager.put(t, path, flavorOf("public", false), in(f)).want(t, 409)
			manager.put(t, path, flavorOf("promoted", false), in(f)).want(t, 409)
			manager.put(t, path, flavorOf("promoted", false, "ram", 1), in(f)).want(t, 409)
		}
		if got := manager.get(t, path).want(t, 200).flavor(t); !got.Promoted || !got.Public || got.RAM != 2048 {
			t.Errorf("a refused change was done: %+v", got)
		}
	})

	t.Run("changing the id is 400", func(t *testing.T) {
		n := unique()
		made := manager.post(t, "/promotedflavors", sized(n("id"))).want(t, 201).flavor(t)
		for _, f := range formats {
			manager.put(t, "/promotedflavors/"+made.ID, flavorOf("id", newUUID(), "ram", 1), in(f)).want(t, 400).says(t, "id")
		}
		if got := manager.get(t, "/promotedflavors/"+made.ID).want(t, 200).flavor(t); got.RAM != 2048 {
			t.Errorf("a refused change was done: %+v", got)
		}
	})

	t.Run("retired stops new installs, keeps old ones and can be taken back", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("retired"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", spain2)).want(t, 200)
		for _, f := range formats {
			manager.put(t, "/promotedflavors/"+made.ID, flavorOf("retired", true), in(f)).want(t, 200)
			manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento), in(f)).want(t, 409)
		}
		s.cloud.hasNone(t, trento, made.ID)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", spain2)).want(t, 200) // it is there
		s.cloud.hasFlavor(t, spain2, flavorIn(made.ID, made.Name))
		manager.put(t, "/promotedflavors/"+made.ID, flavorOf("retired", false)).want(t, 200)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
	})

	t.Run("DELETE is 405 while a node has it, and ?uninstall=true removes it from its nodes first", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/promotedflavors", sized(n("uninstalled"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + made.ID
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{spain2, trento})).want(t, 200)
		manager.delete(t, path).want(t, 405)
		s.cloud.hasFlavor(t, spain2, flavorIn(made.ID, made.Name))
		manager.delete(t, path, query("uninstall", "true")).want(t, 204)
		manager.get(t, path).want(t, 404)
		s.cloud.hasNone(t, spain2, made.ID)
		s.cloud.hasNone(t, trento, made.ID)
	})

	t.Run("DELETE with ?uninstall=true is 204 where no node has it", func(t *testing.T) {
		made := manager.post(t, "/promotedflavors", sized(unique()("nowhere"))).want(t, 201).flavor(t)
		manager.delete(t, "/promotedflavors/"+made.ID, query("uninstall", "true")).want(t, 204)
	})

	t.Run("a public flavor that is not promoted is 404 for GET and 405 for DELETE", func(t *testing.T) {
		n := s.names(t)
		public := manager.post(t, "/flavors", sized(n("public")).and("nodes", []string{spain2}).and("public", true)).want(t, 201).flavor(t)
		manager.get(t, "/promotedflavors/"+public.ID).want(t, 404)
		user.get(t, "/promotedflavors/"+public.ID).want(t, 404)
		manager.delete(t, "/promotedflavors/"+public.ID).want(t, 405)
		manager.delete(t, "/promotedflavors/"+public.ID, query("uninstall", "true")).want(t, 405)
		s.cloud.hasFlavor(t, spain2, flavorIn(public.ID, public.Name))
		if _, ok := find(manager.get(t, "/promotedflavors").want(t, 200).flavors(t), public.ID, ""); ok {
			t.Error("the list of promoted flavors holds it")
		}
	})

	t.Run("a change is there for the next call", func(t *testing.T) {
		n := unique()
		made := manager.post(t, "/promotedflavors", sized(n("now"))).want(t, 201).flavor(t)
		for ram := 1; ram < 20; ram++ {
			manager.put(t, "/promotedflavors/"+made.ID, flavorOf("ram", ram)).want(t, 200)
			got, _ := find(user.get(t, "/promotedflavors").want(t, 200).flavors(t), made.ID, "")
			if got.RAM != ram {
				t.Fatalf("after the change to %d the list says %+v", ram, got)
			}
		}
	})

	t.Run("of a crowd that creates one name, one succeeds", func(t *testing.T) {
		n := unique()
		counts := crowd(t, 12, func() *answer { return manager.post(t, "/promotedflavors", sized(n("race"))) })
		if counts[201] != 1 || counts[409] != 11 {
			t.Errorf("the statuses are %v", counts)
		}
	})
}

// crowd makes the call n times at once and counts the statuses. What a test
// does not expect it finds in the log, one answer of each status.
func crowd(t *testing.T, n int, call func() *answer) map[int]int {
	t.Helper()
	answers := make(chan *answer)
	for range n {
		go func() { answers <- call() }()
	}
	counts := make(map[int]int)
	for range n {
		a := <-answers
		if counts[a.status]++; counts[a.status] == 1 {
			t.Logf("one of the crowd: %s", a)
		}
	}
	return counts
}
