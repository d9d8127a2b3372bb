package contract_test

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// async asks not to wait for the regions.
var async = header("Prefer", "respond-async")

// An operationBody is an operation as it comes out, in either format.
type operationBody struct {
	XMLName xml.Name        `json:"-" xml:"operation"`
	ID      string          `json:"id" xml:"id,attr"`
	Kind    string          `json:"kind" xml:"kind"`
	Origin  string          `json:"origin" xml:"origin"`
	State   string          `json:"state" xml:"state"`
	Flavor  string          `json:"flavor" xml:"flavor"`
	Name    string          `json:"name" xml:"name"`
	Created time.Time       `json:"created_at" xml:"created_at"`
	Updated time.Time       `json:"updated_at" xml:"updated_at"`
	Nodes   []operationNode `json:"nodes" xml:"node"`
}

type operationNode struct {
	Node      string    `json:"node" xml:"name"`
	State     string    `json:"state" xml:"state"`
	Attempts  int       `json:"attempts" xml:"attempts"`
	LastError string    `json:"last_error" xml:"last_error"`
	Updated   time.Time `json:"updated_at" xml:"updated_at"`
}

// decode reads a body that has the same names in both formats.
func (a *answer) decode(t *testing.T, into any) {
	t.Helper()
	var err error
	if a.isXML(t) {
		err = xml.Unmarshal(a.body, into)
	} else {
		err = json.Unmarshal(a.body, into)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, a)
	}
}

func (a *answer) operation(t *testing.T) operationBody {
	t.Helper()
	var o operationBody
	if a.isXML(t) {
		a.decode(t, &o)
	} else {
		a.decode(t, &struct{ Operation *operationBody }{&o})
	}
	if o.ID == "" || len(o.Nodes) == 0 {
		t.Fatalf("this is no operation: %s", a)
	}
	return o
}

func (a *answer) operations(t *testing.T) []operationBody {
	t.Helper()
	var list struct {
		Operations []operationBody `json:"operations" xml:"operation"`
	}
	a.decode(t, &list)
	return list.Operations
}

// in is the node of an operation in that region.
func (o operationBody) in(t *testing.T, region string) operationNode {
	t.Helper()
	for _, n := range o.Nodes {
		if n.Node == region {
			return n
		}
	}
	t.Fatalf("the operation has no node %s: %+v", region, o)
	return operationNode{}
}

// ended waits, as clients do, for the end of the operation at that path.
func (c client) ended(t *testing.T, path string) operationBody {
	t.Helper()
	var o operationBody
	for begun := time.Now(); time.Since(begun) < patience; {
		if o = c.get(t, path, query("wait", "10s")).want(t, 200).operation(t); o.State != "running" {
			return o
		}
	}
	t.Fatalf("within %s it did not end: %+v", patience, o)
	return o
}

// accepted expects a 202, and is the path of its operation and what it tells.
func (a *answer) accepted(t *testing.T) (path string, o operationBody) {
	t.Helper()
	o = a.want(t, http.StatusAccepted).operation(t)
	if a.header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("Preference-Applied is %q: %s", a.header.Get("Preference-Applied"), a)
	}
	prefix, _, _ := strings.Cut(a.request.URL.Path, "/v1/")
	if got := a.header.Get("Location"); got != prefix+"/v1/operations/"+o.ID {
		t.Fatalf("Location is %q: %s", got, a)
	}
	return "/operations/" + o.ID, o
}

// operations: installs that nobody waits for, how they can be watched and
// cancelled, and by whom.
func operations(t *testing.T, s *setup) {
	manager, user := s.product.as(s.manager), s.product.as(s.user)
	promote := func(t *testing.T, n namer) flavorBody {
		t.Helper()
		return manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
	}

	for _, f := range formats {
		for _, prefix := range []string{"/v1", "/api/v1"} {
			t.Run("an install is accepted, and done without anybody waiting, in "+f.name+" under "+prefix, func(t *testing.T) {
				made := promote(t, s.names(t))
				path, o := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{lannion2, trento}), async, in(f), prefixed(prefix)).accepted(t)
				if o.Kind != "install" || o.Origin != "asked" || o.Flavor != made.ID || o.Name != made.Name || o.Created.IsZero() || o.Updated.Before(o.Created) {
					t.Errorf("%+v", o)
				}
				if o.Nodes[0].Node != lannion2 || o.Nodes[1].Node != trento {
					t.Errorf("the nodes are not in order: %+v", o.Nodes)
				}
				end := manager.ended(t, path)
				for _, region := range []string{lannion2, trento} {
					if n := end.in(t, region); n.State != "succeeded" || n.Attempts < 1 || n.LastError != "" || n.Updated.Before(o.Created) {
						t.Errorf("%s: %+v", region, n)
					}
					s.cloud.hasFlavor(t, region, flavorIn(made.ID, made.Name))
				}
				if end.State != "succeeded" {
					t.Errorf("%+v", end)
				}
				s.cloud.hasNone(t, spain2, made.ID)
				if got := user.get(t, "/flavors/"+made.ID).want(t, 200).flavor(t); !slices.Equal(got.Nodes, []string{lannion2, trento}) {
					t.Errorf("it is in %v", got.Nodes)
				}
				// It is read in the other format as well.
				for _, other := range formats {
					if got := manager.get(t, path, in(other), prefixed(prefix)).want(t, 200).operation(t); got.State != "succeeded" || len(got.Nodes) != 2 {
						t.Errorf("in %s: %+v", other.name, got)
					}
				}
			})
		}
	}

	t.Run("what is there already is 200, and no operation", func(t *testing.T) {
		made := promote(t, s.names(t))
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		for _, f := range formats {
			a := manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento), async, in(f)).want(t, 200)
			if got := a.flavor(t); !slices.Equal(got.Nodes, []string{trento}) || a.header.Get("Preference-Applied") != "respond-async" {
				t.Errorf("Preference-Applied: %q, %s", a.header.Get("Preference-Applied"), a)
			}
		}
		// Nor without nodes.
		manager.put(t, "/flavors/"+made.ID, flavorOf("promoted", true), async).want(t, 200)
		if a := manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento), header("Prefer", "wait=10")).want(t, 200); a.header.Get("Preference-Applied") != "" {
			t.Errorf("Preference-Applied: %q", a.header.Get("Preference-Applied"))
		}
	})

	t.Run("a flavor is published and installed elsewhere without waiting", func(t *testing.T) {
		n := s.names(t)
		made := manager.post(t, "/flavors", sized(n("x")).and("nodes", []string{spain2})).want(t, 201).flavor(t)
		path, o := manager.put(t, "/flavors/"+made.ID, flavorOf("public", true, "nodes", []string{trento}), header("Prefer", "handling=lenient, Respond-Async; x=1")).accepted(t)
		if got := user.get(t, "/flavors/"+o.Flavor).want(t, 200).flavor(t); !got.Public {
			t.Errorf("published before the 202: %+v", got)
		}
		if end := manager.ended(t, path); end.State != "succeeded" {
			t.Errorf("%+v", end)
		}
		s.cloud.hasFlavor(t, trento, flavorIn(o.Flavor, made.Name))
	})

	t.Run("what is refused is refused before anything is accepted", func(t *testing.T) {
		n := s.names(t)
		made := promote(t, n)
		other := manager.post(t, "/promotedflavors", sized(n("y"))).want(t, 201).flavor(t)
		s.cloud.nova(t, trento).create(t, func() novaBody { f := flavorIn(n("other"), other.Name); f.RAM = 1; return f }())
		owner := s.product.as(s.owner(spain2))
		public := owner.post(t, "/flavors", sized(n("public")).and("public", true)).want(t, 201).flavor(t)
		before := len(manager.get(t, "/operations", query("limit", "1000")).want(t, 200).operations(t))
		for _, c := range []struct {
			as     client
			id     string
			body   *document
			status int
		}{
			{manager, made.ID, flavorOf("node", trento, "ram", "much"), 400},
			{owner, public.ID, flavorOf("promoted", true, "node", spain2), 401},
			{s.product.as(anonymous()), made.ID, flavorOf("node", trento), 401},
			{owner, made.ID, flavorOf("nodes", []string{spain2, trento}), 403},
			{owner, someUUID, flavorOf("node", spain2), 404},
			{manager, made.ID, flavorOf("nodes", []string{trento, "Nowhere"}), 409},
			{manager, other.ID, flavorOf("nodes", []string{spain2, trento}), 409},
		} {
			for _, f := range formats {
				if a := c.as.put(t, "/flavors/"+c.id, c.body, async, in(f)).want(t, c.status); a.header.Get("Preference-Applied") != "" || a.header.Get("Location") != "" {
					t.Errorf("refused, and accepted: %v", a.header)
				}
			}
		}
		manager.put(t, "/promotedflavors/"+made.ID, flavorOf("retired", true)).want(t, 200)
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento), async).want(t, 409)
		for _, o := range manager.get(t, "/operations", query("limit", "1000")).want(t, 200).operations(t) {
			if o.Flavor == made.ID || o.Flavor == other.ID {
				t.Errorf("of %d operations before, there is now %+v", before, o)
			}
		}
		for _, region := range s.cloud.regions {
			s.cloud.hasNone(t, region, made.ID)
			s.cloud.hasNone(t, region, other.ID)
		}
	})

	t.Run("If-Match holds for what is accepted, and for what is cancelled", func(t *testing.T) {
		made := promote(t, s.names(t))
		tag := manager.get(t, "/flavors/"+made.ID).want(t, 200).header.Get("ETag")
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento), async, header("If-Match", `"another"`)).want(t, 412)
		path, _ := manager.put(t, "/flavors/"+made.ID, flavorOf("node", trento), async, header("If-Match", tag)).accepted(t)
		manager.ended(t, path)
		tag = manager.get(t, path).want(t, 200).header.Get("ETag")
		manager.delete(t, path, header("If-Match", `"another"`)).want(t, 412)
		manager.delete(t, path, header("If-Match", tag)).want(t, 204)
		manager.get(t, path, header("If-None-Match", tag)).want(t, 304)
	})

	t.Run("a synchronous install is an operation too", func(t *testing.T) {
		made := promote(t, s.names(t))
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{trento, spain2})).want(t, 200)
		all := manager.get(t, "/operations", query("state", "succeeded"), query("limit", "1000")).want(t, 200).operations(t)
		i := slices.IndexFunc(all, func(o operationBody) bool { return o.Flavor == made.ID })
		if i < 0 || all[i].Kind != "install" || len(all[i].Nodes) != 2 || all[i].in(t, trento).State != "succeeded" {
			t.Errorf("%d: %+v", i, all[max(i, 0)])
		}
	})

	t.Run("who sees what of it", func(t *testing.T) {
		made := promote(t, s.names(t))
		both := s.product.as(s.owner(spain2, trento))
		path, _ := both.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{spain2, trento}), async).accepted(t)
		both.ended(t, path)
		for what, c := range map[string]struct {
			as    client
			nodes []string
		}{
			"who asked":            {both, []string{spain2, trento}},
			"a manager":            {manager, []string{spain2, trento}},
			"the owner of one":     {s.product.as(s.owner(trento)), []string{trento}},
			"the owner of a third": {s.product.as(s.owner(lannion2)), nil},
			"a user":               {user, nil},
		} {
			for _, f := range formats {
				var listed []string
				for _, o := range c.as.get(t, "/operations", query("limit", "1000"), in(f)).want(t, 200).operations(t) {
					if o.Flavor == made.ID {
						for _, n := range o.Nodes {
							listed = append(listed, n.Node)
						}
					}
				}
				if !slices.Equal(listed, c.nodes) {
					t.Errorf("%s finds the nodes %v in the list, not %v", what, listed, c.nodes)
				}
				if c.nodes == nil {
					c.as.get(t, path, in(f)).want(t, 404)
					c.as.get(t, path, in(f), query("wait", "1s")).want(t, 404)
					c.as.delete(t, path, in(f)).want(t, 404)
					continue
				}
				o := c.as.get(t, path, in(f)).want(t, 200).operation(t)
				if len(o.Nodes) != len(c.nodes) {
					t.Errorf("%s sees %+v", what, o)
				}
			}
		}
		s.product.as(anonymous()).get(t, path).wantNoCredential(t)
	})

	t.Run("what is asked of it wrongly", func(t *testing.T) {
		for _, f := range formats {
			for _, wait := range []string{"soon", "61s", "-1s", "30"} {
				manager.get(t, "/operations/"+someUUID, query("wait", wait), in(f)).want(t, 400)
			}
			manager.get(t, "/operations/"+someUUID, in(f)).want(t, 404).says(t, "/v1/operations")
			manager.get(t, "/operations/x", in(f)).want(t, 404)
			manager.delete(t, "/operations/"+someUUID, in(f)).want(t, 404)
			manager.get(t, "/operations", query("state", "waiting"), in(f)).want(t, 400).says(t, "state")
			manager.get(t, "/operations", query("limit", "0"), in(f)).want(t, 400).says(t, "limit")
			manager.get(t, "/operations", query("limit", "1001"), in(f)).want(t, 400).says(t, "limit")
			manager.get(t, "/operations", query("marker", "x"), in(f)).want(t, 400)
		}
		manager.do(t, http.MethodPut, "/operations/"+someUUID, nil).want(t, 405)
		manager.do(t, http.MethodPost, "/operations", nil).want(t, 405)
	})

	t.Run("operations are paged, the newest first", func(t *testing.T) {
		made := promote(t, s.names(t))
		var mine []string
		owner := s.product.as(s.owner(spain2, trento, lannion2))
		for _, region := range s.cloud.regions {
			path, o := owner.put(t, "/flavors/"+made.ID, flavorOf("node", region), async).accepted(t)
			owner.ended(t, path)
			mine = append([]string{o.ID}, mine...)
		}
		for _, f := range formats {
			var found []string
			pages := 0
			for target := "/operations?limit=2"; target != ""; pages++ {
				a := owner.get(t, target, in(f)).want(t, 200)
				list := a.operations(t)
				if len(list) > 2 {
					t.Fatalf("a page of %d", len(list))
				}
				for _, o := range list {
					if o.Flavor == made.ID {
						found = append(found, o.ID)
					}
				}
				target = strings.TrimPrefix(a.nextPath(t), "/v1")
			}
			if !slices.Equal(found, mine) || pages < 2 {
				t.Errorf("over %d pages: %v, not %v", pages, found, mine)
			}
		}
	})

	t.Run("regions that are down", func(t *testing.T) { operationsOfRegionsDown(t, s) })
}

// operationsOfRegionsDown is on a server of its own, beside regions that the test
// breaks: on every set-up, for what the database does and what a dead port does is
// the same everywhere.
func operationsOfRegionsDown(t *testing.T, s *setup) {
	pr := s.serve(t, s.watchful())
	s.registerAll(t, pr)
	manager := pr.as(s.manager)
	promote := func(t *testing.T, n namer) flavorBody {
		t.Helper()
		return manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
	}
	registered := func(t *testing.T, words ...string) *cloud {
		t.Helper()
		c := extra(t, words...)
		c.register(t, s, pr)
		return c
	}
	failedOnce := func(o operationBody, region string) bool {
		for _, n := range o.Nodes {
			if n.Node == region {
				return n.Attempts >= 1 && n.State == "waiting" && n.LastError != ""
			}
		}
		return false
	}

	t.Run("one that is down gets its flavor when it is back", func(t *testing.T) {
		n := s.names(t)
		c := registered(t, "down")
		region := c.regions[0]
		made := promote(t, n)
		mend := c.stack.Fault(region, simstack.Fault{Kind: simstack.ServerError})
		path, _ := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{region, trento}), async).accepted(t)
		var o operationBody
		eventually(t, "Trento has it, and the other is told to be down", func() bool {
			o = manager.get(t, path).want(t, 200).operation(t)
			return failedOnce(o, region) && o.in(t, trento).State == "succeeded"
		})
		if !strings.Contains(o.in(t, region).LastError, region) || o.State != "running" {
			t.Errorf("%+v", o)
		}
		s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
		if there := c.stack.Flavors(region); len(there) != 0 {
			t.Errorf("in a region that is down there is %+v", there)
		}
		if open := manager.get(t, "/operations", query("state", "running")).want(t, 200).operations(t); !slices.ContainsFunc(open, func(o operationBody) bool { return o.Flavor == made.ID }) {
			t.Errorf("it is not among those that go on: %+v", open)
		}
		mend()
		if end := manager.ended(t, path); end.State != "succeeded" || end.in(t, region).LastError != "" || end.in(t, region).Attempts < 2 {
			t.Errorf("%+v", end)
		}
		c.hasFlavor(t, region, flavorIn(made.ID, made.Name))
		if named := c.nova(t, region).named(t, made.Name); len(named) != 1 {
			t.Errorf("it is there %d times", len(named))
		}
	})

	t.Run("one whose port was dead gets it when it is registered anew, after a restart too", func(t *testing.T) {
		n := s.names(t)
		c := extra(t, "dead")
		region := c.regions[0]
		manager.post(t, "/infrastructures", c.infrastructure(region).and("keystone_url", closedPort(t)+"/v3")).want(t, 201)
		t.Cleanup(func() { manager.delete(t, "/infrastructures/"+region, query("force", "true")) })
		made := promote(t, n)
		path, _ := manager.put(t, "/flavors/"+made.ID, flavorOf("node", region), async).accepted(t)
		eventually(t, "an attempt has failed", func() bool { return failedOnce(manager.get(t, path).want(t, 200).operation(t), region) })
		pr.kill(t)
		pr.run(t)
		if o := manager.get(t, path).want(t, 200).operation(t); o.State != "running" || o.in(t, region).Attempts < 1 {
			t.Errorf("after the restart: %+v", o)
		}
		manager.put(t, "/infrastructures/"+region, infrastructureOf("keystone_url", c.keystone, "password", cloudUsers["operator"].password)).want(t, 200)
		if end := manager.ended(t, path); end.State != "succeeded" {
			t.Errorf("%+v", end)
		}
		c.hasFlavor(t, region, flavorIn(made.ID, made.Name))
	})

	t.Run("wait holds until something changes, and not once it has ended", func(t *testing.T) {
		n := s.names(t)
		c := registered(t, "waited")
		region := c.regions[0]
		made := promote(t, n)
		g := startGate(t, c, region)
		g.set(func(r *http.Request) bool { return r.Method != http.MethodPost }, nil) // nothing can be created
		path, _ := manager.put(t, "/flavors/"+made.ID, flavorOf("node", region), async).accepted(t)
		eventually(t, "an attempt has failed", func() bool { return failedOnce(manager.get(t, path).want(t, 200).operation(t), region) })

		// One that is told of the first state has the next at once, whatever it is.
		stale := manager.get(t, path, query("wait", "60s"), header("If-None-Match", `"an older one"`))
		stale.want(t, 200)
		type held struct {
			a    *answer
			took time.Duration
		}
		answers := make(chan held, 1)
		begun := time.Now()
		go func() {
			var a *answer
			for o := (operationBody{State: "running"}); o.State == "running"; o = a.operation(t) {
				shapes := []shape{query("wait", "60s")}
				if a != nil {
					shapes = append(shapes, header("If-None-Match", a.header.Get("ETag")))
				}
				var err error
				if a, err = manager.try(t, http.MethodGet, path, nil, shapes...); err != nil || a.status != 200 {
					t.Errorf("%v: %v", err, a)
					break
				}
			}
			answers <- held{a, time.Since(begun)}
		}()
		g.set(nil, nil)
		select {
		case h := <-answers:
			if o := h.a.operation(t); o.State != "succeeded" || h.took > 30*time.Second {
				t.Errorf("after %s: %+v", h.took, o)
			}
		case <-time.After(patience):
			t.Fatal("who waited was not told")
		}
		within(t, 5*time.Second, "a GET that waits for what has ended", func() {
			a := manager.get(t, path, query("wait", "60s")).want(t, 200)
			manager.get(t, path, query("wait", "60s"), header("If-None-Match", a.header.Get("ETag"))).want(t, 304)
		})
		c.hasFlavor(t, region, flavorIn(made.ID, made.Name))
	})

	t.Run("wait is over when its time is", func(t *testing.T) {
		n := s.names(t)
		c := registered(t, "hangs")
		region := c.regions[0]
		made := promote(t, n)
		c.stack.Fault(region, simstack.Fault{Kind: simstack.ServerError})
		path, _ := manager.put(t, "/flavors/"+made.ID, flavorOf("node", region), async).accepted(t)
		begun := time.Now()
		tag := manager.get(t, path).want(t, 200).header.Get("ETag")
		manager.get(t, path, query("wait", "300ms"), header("If-None-Match", tag)).wantOneOf(t, 200, 304)
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("300 ms took %s", took)
		}
		manager.delete(t, path).want(t, 204)
	})

	t.Run("what waits is cancelled, what is done stays", func(t *testing.T) {
		n := s.names(t)
		c := registered(t, "cancelled", "also")
		region, second := c.regions[0], c.regions[1]
		made := promote(t, n)
		var mend []func()
		for _, r := range c.regions {
			mend = append(mend, c.stack.Fault(r, simstack.Fault{Kind: simstack.ServerError}))
		}
		owner := pr.as(s.owner(region))
		path, _ := manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{region, second, trento}), async).accepted(t)
		eventually(t, "two wait and one is done", func() bool {
			o := manager.get(t, path).want(t, 200).operation(t)
			return failedOnce(o, region) && failedOnce(o, second) && o.in(t, trento).State == "succeeded"
		})
		// An owner cancels what is his, and sees no more.
		var cancelling *answer
		eventually(t, "the owner's node is cancelled", func() bool {
			cancelling = owner.delete(t, path).want(t, 204)
			return owner.get(t, path).want(t, 200).operation(t).State == "cancelled"
		})
		o := manager.get(t, path).want(t, 200).operation(t)
		if o.in(t, region).State != "cancelled" || o.State != "running" || o.in(t, second).State == "cancelled" {
			t.Errorf("after the owner's DELETE: %+v", o)
		}
		lines, told := manager.of(t, cancelling)
		if !slices.Equal(told, []string{"operation " + region + " success"}) || lines[0].Flavor != made.ID || lines[0].After["state"] != "cancelled" {
			t.Errorf("the audit tells %q: %+v", told, lines)
		}
		eventually(t, "the rest is cancelled", func() bool {
			manager.delete(t, path).want(t, 204)
			o = manager.get(t, path).want(t, 200).operation(t)
			return o.State == "cancelled"
		})
		if o.in(t, trento).State != "succeeded" {
			t.Errorf("%+v", o)
		}
		for _, m := range mend {
			m()
		}
		// Looks find both back; nothing is installed there any more.
		for _, r := range c.regions {
			eventually(t, r+" is seen again", func() bool {
				return pr.as(s.manager).get(t, "/infrastructures/"+r).want(t, 200).infrastructure(t).Status.State == "up"
			})
		}
		again := manager.ended(t, path)
		if again.State != "cancelled" {
			t.Errorf("%+v", again)
		}
		for _, r := range c.regions {
			c.hasNone(t, r, made.ID)
		}
		s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name))
		manager.delete(t, path).want(t, 204)
	})

	t.Run("what a synchronous install failed at is not tried again", func(t *testing.T) {
		n := s.names(t)
		c := registered(t, "once")
		region := c.regions[0]
		made := promote(t, n)
		mend := c.stack.Fault(region, simstack.Fault{Kind: simstack.ServerError})
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{region, trento})).want(t, 502)
		all := manager.get(t, "/operations", query("state", "failed")).want(t, 200).operations(t)
		i := slices.IndexFunc(all, func(o operationBody) bool { return o.Flavor == made.ID })
		if i < 0 || all[i].in(t, region).State != "failed" || all[i].in(t, trento).State != "succeeded" || all[i].in(t, region).LastError == "" {
			t.Fatalf("%+v", all)
		}
		mend()
		eventually(t, "the region is seen again", func() bool {
			return manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t).Status.State == "up"
		})
		// What is wanted later is done later: when that is there, the other would be.
		second := promote(t, func(word string) string { return n("second-" + word) })
		path, _ := manager.put(t, "/flavors/"+second.ID, flavorOf("node", region), async).accepted(t)
		manager.ended(t, path)
		if o := manager.get(t, "/operations/"+all[i].ID).want(t, 200).operation(t); o.State != "failed" || o.in(t, region).Attempts != 1 {
			t.Errorf("%+v", o)
		}
		c.hasNone(t, region, made.ID)
	})

	t.Run("what the region refuses is failed, and tried no more", func(t *testing.T) {
		n := s.names(t)
		c := registered(t, "refuses")
		region := c.regions[0]
		made := promote(t, n)
		mend := c.stack.Fault(region, simstack.Fault{Kind: simstack.ServerError})
		path, _ := manager.put(t, "/flavors/"+made.ID, flavorOf("node", region), async).accepted(t)
		mend()
		// Whoever is faster: the flavor may be there before the other one is.
		if end := manager.ended(t, path); end.State != "succeeded" {
			t.Fatalf("%+v", end)
		}
		second := promote(t, func(word string) string { return n("second-" + word) })
		mend = c.stack.Fault(region, simstack.Fault{Kind: simstack.ServerError, Path: "/flavors", Method: http.MethodPost})
		c.stack.Fault(region, simstack.Fault{Kind: simstack.ServerError, Path: "/flavors", Method: http.MethodGet, Times: 1})
		path, _ = manager.put(t, "/flavors/"+second.ID, flavorOf("node", region), async).accepted(t)
		eventually(t, "an attempt has failed", func() bool { return failedOnce(manager.get(t, path).want(t, 200).operation(t), region) })
		c.stack.AddFlavor(region, flavor.NovaFlavor{ID: n("in-the-way"), Spec: flavor.Spec{Name: second.Name, VCPUs: 1, RAM: 1, RxTxFactor: 1}, IsPublic: true})
		mend()
		end := manager.ended(t, path)
		if end.State != "failed" || !strings.Contains(end.in(t, region).LastError, n("in-the-way")) {
			t.Errorf("%+v", end)
		}
	})
}
