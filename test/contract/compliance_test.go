package contract_test

import (
	"cmp"
	"context"
	"encoding/xml"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// A pairBody is how a flavor and a region stand to each other, in either document.
type pairBody struct {
	ID          string       `json:"id" xml:"id,attr"`         // in a compliance
	Name        string       `json:"name" xml:"name"`          // in a compliance
	Region      string       `json:"region" xml:"region,attr"` // in a coverage
	State       string       `json:"state" xml:"state"`
	Differences []difference `json:"differences" xml:"difference"`
	Refused     bool         `json:"refused" xml:"refused"`
}

type difference struct {
	Field  string `json:"field" xml:"field"`
	Wanted string `json:"wanted" xml:"wanted"`
	Found  string `json:"found" xml:"found"`
}

type pairs []pairBody

// of is the pair of a region, or of a flavor by its id.
func (ps pairs) of(t *testing.T, what string) pairBody {
	t.Helper()
	if p, there := ps.find(what); there {
		return p
	}
	t.Fatalf("there is no %s in %+v", what, ps)
	return pairBody{}
}

func (ps pairs) find(what string) (pairBody, bool) {
	for _, p := range ps {
		if cmp.Or(p.Region, p.ID) == what {
			return p, true
		}
	}
	return pairBody{}, false
}

// aged checks that an answer tells how old it is.
func (a *answer) aged(t *testing.T) *answer {
	t.Helper()
	if age, err := strconv.Atoi(a.header.Get("Age")); err != nil || age < 0 || age > int(patience.Seconds()) {
		t.Errorf("Age is %q: %s", a.header.Get("Age"), a)
	}
	return a
}

// coverage is how the regions stand to a flavor, which both formats tell alike.
func (c client) coverage(t *testing.T, id string, shapes ...shape) pairs {
	t.Helper()
	var body struct {
		ID      string     `json:"id"`
		Name    string     `json:"name"`
		Regions []pairBody `json:"regions"`
	}
	a := c.get(t, "/promotedflavors/"+id+"/coverage", shapes...).want(t, 200).aged(t)
	if !a.isXML(t) {
		a.decode(t, &struct{ Coverage any }{&body})
		return body.Regions
	}
	var doc struct {
		XMLName xml.Name `xml:"coverage"`
		Regions []struct {
			pairBody
			Name string `xml:"name,attr"`
		} `xml:"region"`
	}
	a.decode(t, &doc)
	var all pairs
	for _, r := range doc.Regions {
		p := r.pairBody
		p.Region = r.Name
		all = append(all, p)
	}
	return all
}

// compliance is how a region stands to the flavors.
func (c client) compliance(t *testing.T, region string, shapes ...shape) pairs {
	t.Helper()
	a := c.get(t, "/regions/"+region+"/compliance", shapes...).want(t, 200).aged(t)
	var body struct {
		Region  string     `json:"region" xml:"region,attr"`
		Flavors []pairBody `json:"flavors" xml:"flavor"`
	}
	if a.isXML(t) {
		a.decode(t, &body)
	} else {
		a.decode(t, &struct{ Compliance any }{&body})
	}
	if body.Region != region {
		t.Errorf("it is about %q: %s", body.Region, a)
	}
	return body.Flavors
}

// compliance: what the regions have, lack and have otherwise of what is promoted.
func compliance(t *testing.T, s *setup) {
	n := s.names(t)
	pr := s.serve(t, s.watchful())
	s.registerAll(t, pr)
	manager, user := pr.as(s.manager), pr.as(s.user)
	ownerOfTrento, ownerOfSpain2 := pr.as(s.owner(trento)), pr.as(s.owner(spain2))
	promote := func(t *testing.T, word string) flavorBody {
		t.Helper()
		return manager.post(t, "/promotedflavors", sized(n(word)).and("extra_specs", map[string]string{"hw:cpu_policy": "dedicated"})).want(t, 201).flavor(t)
	}
	// both asks in both formats, and expects the same.
	both := func(t *testing.T, ask func(...shape) pairs) pairs {
		t.Helper()
		inJSON, inXML := ask(in(asJSON)), ask(in(asXML))
		if len(inJSON) != len(inXML) {
			t.Errorf("JSON tells %+v, XML %+v", inJSON, inXML)
		}
		for i := range min(len(inJSON), len(inXML)) {
			if a, b := inJSON[i], inXML[i]; a.State != b.State || !slices.Equal(a.Differences, b.Differences) || a.Refused != b.Refused || a.ID != b.ID || a.Region != b.Region {
				t.Errorf("JSON tells %+v, XML %+v", a, b)
			}
		}
		return inJSON
	}
	coverage := func(t *testing.T, as client, id string) pairs {
		t.Helper()
		return both(t, func(shapes ...shape) pairs { return as.coverage(t, id, shapes...) })
	}
	of := func(t *testing.T, as client, region string) pairs {
		t.Helper()
		return both(t, func(shapes ...shape) pairs { return as.compliance(t, region, shapes...) })
	}

	t.Run("present, missing and differs, with the fields", func(t *testing.T) {
		made := promote(t, "compared")
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", spain2)).want(t, 200)
		other := flavorIn(n("other"), made.Name)
		other.RAM, other.ExtraSpecs = 1024, map[string]string{"hw:mem_page_size": "large"}
		s.cloud.nova(t, trento).create(t, other)
		differences := []difference{
			{"ram", "2048", "1024"}, {"extra_specs.hw:cpu_policy", `"dedicated"`, "absent"}, {"extra_specs.hw:mem_page_size", "absent", `"large"`},
		}
		eventually(t, "the looks find all that", func() bool { // a real Nova that is slow for once is unknown for a moment
			seen := user.coverage(t, made.ID)
			return len(seen.of(t, trento).Differences) == len(differences) && seen.of(t, spain2).State == "present" && seen.of(t, lannion2).State == "missing"
		})
		all := coverage(t, user, made.ID)
		if got := []string{all[0].Region, all[1].Region, all[2].Region}; !slices.Equal(got, []string{lannion2, spain2, trento}) || len(all) != 3 {
			t.Errorf("the regions are %v", got)
		}
		if p := all.of(t, spain2); p.State != "present" || len(p.Differences) != 0 || p.Refused {
			t.Errorf("%+v", p)
		}
		if p := all.of(t, lannion2); p.State != "missing" || len(p.Differences) != 0 || p.Refused {
			t.Errorf("%+v", p)
		}
		if p := all.of(t, trento); p.State != "differs" || !slices.Equal(p.Differences, differences) {
			t.Errorf("%+v", p)
		}
		for region, state := range map[string]string{spain2: "present", lannion2: "missing", trento: "differs"} {
			p := of(t, user, region).of(t, made.ID)
			if p.State != state || p.Name != made.Name || (state == "differs") != slices.Equal(p.Differences, differences) {
				t.Errorf("%s: %+v", region, p)
			}
		}
	})

	t.Run("one under the same id differs by its name, too", func(t *testing.T) {
		made := promote(t, "same-id")
		s.cloud.nova(t, trento).create(t, flavorIn(made.ID, n("another-name")))
		eventually(t, "the look finds it", func() bool { return user.coverage(t, made.ID).of(t, trento).State == "differs" })
		if p := coverage(t, user, made.ID).of(t, trento); p.Differences[0] != (difference{"name", strconv.Quote(made.Name), strconv.Quote(n("another-name"))}) {
			t.Errorf("%+v", p)
		}
	})

	t.Run("what is not promoted is extra, private ones to the owner alone", func(t *testing.T) {
		published := ownerOfSpain2.post(t, "/flavors", sized(n("published")).and("public", true)).want(t, 201).flavor(t)
		private := ownerOfSpain2.post(t, "/flavors", sized(n("private"))).want(t, 201).flavor(t)
		for what, c := range map[string]struct {
			as   client
			sees bool
		}{"a user": {user, false}, "another's owner": {ownerOfTrento, false}, "its owner": {ownerOfSpain2, true}, "a manager": {manager, true}} {
			all := of(t, c.as, spain2)
			if p := all.of(t, published.ID); p.State != "extra" || p.Name != published.Name {
				t.Errorf("%s: %+v", what, p)
			}
			p, seen := all.find(private.ID)
			if seen != c.sees || seen && (p.State != "extra" || p.Name != private.Name) {
				t.Errorf("%s: %t, %+v", what, seen, p)
			}
			if _, there := of(t, c.as, trento).find(published.ID); there {
				t.Errorf("%s: what Trento does not have is extra there", what)
			}
		}
		user.get(t, "/promotedflavors/"+published.ID+"/coverage").want(t, 404)
	})

	t.Run("what differs in a flavor that is not public is told to its owner alone", func(t *testing.T) {
		made := promote(t, "hidden")
		other := flavorIn(n("hidden-one"), made.Name)
		other.RAM, other.IsPublic = 1000, false
		s.cloud.nova(t, trento).create(t, other)
		eventually(t, "the look finds it", func() bool { return ownerOfTrento.coverage(t, made.ID).of(t, trento).State == "differs" })
		for what, c := range map[string]struct {
			as   client
			sees bool
		}{"a user": {user, false}, "another's owner": {ownerOfSpain2, false}, "its owner": {ownerOfTrento, true}, "a manager": {manager, true}} {
			for _, p := range []pairBody{coverage(t, c.as, made.ID).of(t, trento), of(t, c.as, trento).of(t, made.ID)} {
				if p.State != "differs" || (len(p.Differences) > 0) != c.sees {
					t.Errorf("%s: %+v", what, p)
				}
			}
		}
	})

	t.Run("a region that hangs is unknown, until it is back", func(t *testing.T) {
		c := extra(t, "silent")
		region := c.regions[0]
		c.register(t, s, pr)
		made := promote(t, "unknown")
		manager.put(t, "/flavors/"+made.ID, flavorOf("node", region)).want(t, 200)
		if p := coverage(t, user, made.ID).of(t, region); p.State != "present" {
			t.Errorf("%+v", p)
		}
		mend := c.stack.Fault(region, simstack.Fault{Kind: simstack.Hang})
		eventually(t, "it is not seen any more", func() bool { return user.coverage(t, made.ID).of(t, region).State == "unknown" })
		for _, p := range of(t, manager, region) {
			if p.State != "unknown" || len(p.Differences) > 0 {
				t.Errorf("%+v", p)
			}
		}
		a := user.get(t, "/flavors").want(t, 200).aged(t)
		one := user.get(t, "/flavors/"+made.ID).want(t, 200).aged(t)
		for _, a := range []*answer{a, one} {
			if got := a.header.Get("X-Flavorsync-Unreachable"); !listed(got, region) {
				t.Errorf("X-Flavorsync-Unreachable is %q: %s", got, a)
			}
		}
		if f := one.flavor(t); !slices.Contains(f.Nodes, region) {
			t.Errorf("what is known of it is not shown: %+v", f)
		}
		if f, there := find(a.flavors(t), made.ID, ""); !there || !slices.Contains(f.Nodes, region) {
			t.Errorf("what is known of it is not shown: %+v", f)
		}
		mend()
		eventually(t, "it is seen again", func() bool { return user.coverage(t, made.ID).of(t, region).State == "present" })
	})

	t.Run("unknown regions and flavors, and conditions", func(t *testing.T) {
		for _, f := range formats {
			user.get(t, "/regions/Nowhere/compliance", in(f)).want(t, 404).says(t, "Nowhere")
			user.get(t, "/promotedflavors/"+someUUID+"/coverage", in(f)).want(t, 404)
		}
		pr.as(anonymous()).get(t, "/regions/"+spain2+"/compliance").wantNoCredential(t)
		user.get(t, "/region/"+spain2+"/compliance").want(t, 200)
		user.get(t, "/nodes/"+spain2+"/compliance", prefixed("/api/v1")).want(t, 200)
		made := promote(t, "conditional")
		tag := user.get(t, "/promotedflavors/"+made.ID+"/coverage").want(t, 200).header.Get("ETag")
		user.get(t, "/promotedflavors/"+made.ID+"/coverage", header("If-None-Match", tag)).want(t, 304).aged(t)
	})
}

// operator runs the openstack client as an administrator of a region.
func (c *cloud) operator(t *testing.T, region string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("openstack")
	if err != nil {
		missing(t, "the openstack client (python3-openstackclient) is not installed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8",
		"OS_AUTH_URL=" + c.keystone, "OS_IDENTITY_API_VERSION=3", "OS_REGION_NAME=" + region, "OS_COMPUTE_API_VERSION=2.61",
		"OS_USERNAME=admin", "OS_PASSWORD=" + cloudUsers["admin"].password, "OS_PROJECT_NAME=" + cloudUsers["admin"].project,
		"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default",
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openstack %v in %s: %v\n%s", args, region, err, output)
	}
}

// resized deletes a flavor as an operator would, and creates it with another size:
// directly, for between two runs of the client it may be repaired.
func (c *cloud) resized(t *testing.T, region string, f flavorBody) {
	t.Helper()
	other := flavorIn(f.ID, f.Name)
	other.RAM = 4096
	n := c.nova(t, region)
	n.delete(t, f.ID)
	n.create(t, other)
}

// drift: what somebody does to a node behind our back, with OpenStack's own client.
func drift(t *testing.T, s *setup) {
	n := s.names(t)
	pr := s.serve(t, s.watchful(), with("promotion", map[string]any{
		"repair": true, "regions": map[string]any{trento: map[string]any{"repair": false}},
	}))
	s.registerAll(t, pr)
	manager, user := pr.as(s.manager), pr.as(s.user)
	installed := func(t *testing.T, word string, regions ...string) flavorBody {
		t.Helper()
		made := manager.post(t, "/promotedflavors", sized(n(word)).and("extra_specs", map[string]string{"hw:cpu_policy": "dedicated"})).want(t, 201).flavor(t)
		return manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", regions)).want(t, 200).flavor(t)
	}
	// intact is that a region has the flavor as it was installed, and once.
	intact := func(t *testing.T, region string, f flavorBody) {
		t.Helper()
		got := s.cloud.hasFlavor(t, region, flavorIn(f.ID, f.Name))
		if len(got.ExtraSpecs) != 1 || got.ExtraSpecs["hw:cpu_policy"] != "dedicated" {
			t.Errorf("%s has %+v", region, got)
		}
		if named := s.cloud.nova(t, region).named(t, f.Name); len(named) != 1 {
			t.Errorf("%s has it %d times", region, len(named))
		}
	}
	repaired := func(t *testing.T, region string, f flavorBody) {
		t.Helper()
		eventually(t, region+" is repaired", func() bool {
			got, there := s.cloud.nova(t, region).get(t, f.ID)
			o, wanted := manager.byItself(t, "repair", f.ID)
			return there && wanted && o.State == "succeeded" && got.RAM == f.RAM && len(got.ExtraSpecs) == 1 &&
				slices.Contains(user.nodes(t, f.ID), region)
		})
		intact(t, region, f)
		if p := user.coverage(t, f.ID).of(t, region); p.State != "present" {
			t.Errorf("%+v", p)
		}
	}
	// reported waits until the state is seen by all who do not have the regions asked.
	reported := func(t *testing.T, region, state string, f flavorBody) pairBody {
		t.Helper()
		eventually(t, "it is "+state+" in "+region, func() bool {
			return user.coverage(t, f.ID).of(t, region).State == state && !slices.Contains(user.nodes(t, f.ID), region)
		})
		if got, there := find(user.get(t, "/promotedflavors").want(t, 200).flavors(t), f.ID, ""); !there || slices.Contains(got.Nodes, region) {
			t.Errorf("the catalogue lists %+v", got)
		}
		p := user.compliance(t, region).of(t, f.ID)
		if p.State != state {
			t.Errorf("%+v", p)
		}
		return p
	}

	t.Run("one that is deleted is noticed, and comes back where the policy repairs", func(t *testing.T) {
		made := installed(t, "deleted", spain2, trento)
		s.cloud.operator(t, trento, "flavor", "delete", made.ID)
		reported(t, trento, "missing", made)
		s.cloud.operator(t, spain2, "flavor", "delete", made.ID)
		repaired(t, spain2, made)
		s.cloud.hasNone(t, trento, made.ID)
		if o, there := manager.byItself(t, "repair", made.ID); !there || len(o.Nodes) != 1 || o.Nodes[0].Node != spain2 || o.Kind != "install" {
			t.Errorf("%+v", o)
		}
		// It is its owner's to have it again.
		pr.as(s.owner(trento)).put(t, "/flavors/"+made.ID, flavorOf("node", trento)).want(t, 200)
		intact(t, trento, made)
		if p := user.coverage(t, made.ID).of(t, trento); p.State != "present" {
			t.Errorf("%+v", p)
		}
	})

	t.Run("one whose extra specs are altered is noticed, and mended where the policy repairs", func(t *testing.T) {
		made := installed(t, "altered", spain2, trento)
		s.cloud.operator(t, trento, "flavor", "set", "--property", "hw:cpu_policy=shared", "--property", "hw:numa_nodes=2", made.ID)
		p := reported(t, trento, "differs", made)
		if !slices.Equal(p.Differences, []difference{{"extra_specs.hw:cpu_policy", `"dedicated"`, `"shared"`}, {"extra_specs.hw:numa_nodes", "absent", `"2"`}}) {
			t.Errorf("%+v", p)
		}
		s.cloud.operator(t, spain2, "flavor", "set", "--property", "hw:cpu_policy=shared", "--property", "hw:numa_nodes=2", made.ID)
		repaired(t, spain2, made)
		if got, _ := s.cloud.nova(t, trento).get(t, made.ID); got.ExtraSpecs["hw:cpu_policy"] != "shared" || got.ExtraSpecs["hw:numa_nodes"] != "2" {
			t.Errorf("Trento has %+v", got)
		}
		// Whoever altered it makes it as it was: the drift is over.
		s.cloud.operator(t, trento, "flavor", "set", "--property", "hw:cpu_policy=dedicated", made.ID)
		s.cloud.operator(t, trento, "flavor", "unset", "--property", "hw:numa_nodes", made.ID)
		eventually(t, "the node is back", func() bool {
			return slices.Contains(user.nodes(t, made.ID), trento) && user.coverage(t, made.ID).of(t, trento).State == "present"
		})
	})

	t.Run("one of another size under the same id is noticed, and made anew where the policy repairs", func(t *testing.T) {
		made := installed(t, "resized", spain2, trento)
		s.cloud.resized(t, trento, made)
		p := reported(t, trento, "differs", made)
		if p.Differences[0] != (difference{"ram", "2048", "4096"}) {
			t.Errorf("%+v", p)
		}
		s.cloud.resized(t, spain2, made)
		repaired(t, spain2, made)
		if got, _ := s.cloud.nova(t, trento).get(t, made.ID); got.RAM != 4096 {
			t.Errorf("Trento has %+v", got)
		}
	})

	t.Run("one that was there before us is reported, and left", func(t *testing.T) {
		made := manager.post(t, "/promotedflavors", sized(n("adopted"))).want(t, 201).flavor(t)
		s.cloud.nova(t, spain2).create(t, flavorIn(n("their-id"), made.Name))
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{spain2, lannion2})).want(t, 200)
		s.cloud.operator(t, spain2, "flavor", "set", "--property", "hw:cpu_policy=shared", n("their-id"))
		s.cloud.operator(t, lannion2, "flavor", "set", "--property", "hw:cpu_policy=shared", made.ID)
		reported(t, spain2, "differs", made)
		eventually(t, "the one that we made is mended", func() bool {
			got, there := s.cloud.nova(t, lannion2).get(t, made.ID)
			return there && len(got.ExtraSpecs) == 0
		})
		if got, there := s.cloud.nova(t, spain2).get(t, n("their-id")); !there || got.ExtraSpecs["hw:cpu_policy"] != "shared" {
			t.Errorf("Spain2 has %+v", got)
		}
		if o, _ := manager.byItself(t, "repair", made.ID); len(o.Nodes) != 1 || o.Nodes[0].Node != lannion2 {
			t.Errorf("%+v", o)
		}
		s.cloud.operator(t, spain2, "flavor", "delete", n("their-id"))
		reported(t, spain2, "missing", made)
		s.cloud.hasNone(t, spain2, made.Name)
	})

	t.Run("its owner's DELETE of one that vanished is 204, and ends it", func(t *testing.T) {
		made := installed(t, "vanished", trento, lannion2)
		s.cloud.operator(t, trento, "flavor", "delete", made.ID)
		reported(t, trento, "missing", made)
		owner := pr.as(s.owner(trento))
		pr.as(s.owner(spain2)).delete(t, "/flavors/"+made.ID, query("node", trento)).want(t, 403)
		owner.delete(t, "/flavors/"+made.ID).want(t, 204)
		if p := user.coverage(t, made.ID).of(t, trento); p.State != "missing" || !p.Refused {
			t.Errorf("%+v", p)
		}
		// The mark is gone: there is nothing more to delete.
		owner.delete(t, "/flavors/"+made.ID).want(t, 403)
		s.cloud.hasNone(t, trento, made.ID)
		s.cloud.hasFlavor(t, lannion2, flavorIn(made.ID, made.Name))
		// Where it would come back by itself it does not: that is refused.
		s.cloud.operator(t, lannion2, "flavor", "delete", made.ID)
		pr.as(s.owner(lannion2)).delete(t, "/flavors/"+made.ID).want(t, 204)
		second := installed(t, "vanished-too", spain2)
		s.cloud.operator(t, spain2, "flavor", "delete", second.ID)
		repaired(t, spain2, second)
		s.cloud.hasNone(t, lannion2, made.ID)
	})
}
