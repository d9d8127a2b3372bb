package contract_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// glueKinds are the keys of a document of GLUE 2.1, in the order in which EGI's
// cloud-info-provider writes them.
var glueKinds = []string{
	"CloudComputingService", "CloudComputingManager", "CloudComputingEndpoint", "CloudComputingImage", "CloudComputingInstanceType",
	"CloudComputingVirtualAccelerator", "Share", "MappingPolicy", "AccessPolicy",
}

// glueEntity is any entity of a document; what it does not have is zero.
type glueEntity struct {
	ID, Name, CreationTime         string
	Validity                       int
	OtherInfo                      map[string]string
	Associations                   map[string][]string
	Type, Complexity, URL          string
	StatusInfo, DowntimeInfo       string
	CPU, RAM, Disk                 int
	Number, Memory                 int
	Vendor, Model                  string
	InstanceMaxCPU, InstanceMinCPU int
	InstanceMaxRAM, InstanceMinRAM int
	ProjectID                      string
	DefaultNetworkType             string
	PublicNetworkName              string
	Rule                           []string
}

type glueBody map[string][]glueEntity

// glue2 is the document that an answer holds, which must be sound: each id there
// once, what it points to there, sizes that are those of its flavors.
func (a *answer) glue2(t *testing.T) glueBody {
	t.Helper()
	if a.isXML(t) {
		t.Fatalf("not JSON: %s", a)
	}
	var doc glueBody
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatalf("not GLUE 2.1: %v: %s", err, a)
	}
	if keys, err := keysOf(a.body); err != nil || !slices.Equal(keys, glueKinds) {
		t.Errorf("the keys are %v, not %v: %v", keys, glueKinds, err)
	}
	kinds := map[string]string{}
	for kind, entities := range doc {
		for _, e := range entities {
			if kinds[e.ID] != "" || e.ID == "" {
				t.Errorf("the id %q of a %s is that of a %s, too", e.ID, kind, kinds[e.ID])
			}
			kinds[e.ID] = kind
			created, err := time.Parse(time.RFC3339, e.CreationTime)
			if age := time.Since(created); err != nil || age < -time.Minute || age > 10*time.Minute || e.Validity != 12*60*60 {
				t.Errorf("%s was created at %s and holds %d seconds: %v", e.ID, e.CreationTime, e.Validity, err)
			}
		}
	}
	for kind, entities := range doc {
		for _, e := range entities {
			for to, ids := range e.Associations {
				for _, id := range ids {
					if to != "AdminDomain" && to != "PolicyUserDomain" && kinds[id] != to {
						t.Errorf("the %s %s points to the %s %q, which is not there", kind, e.ID, to, id)
					}
				}
			}
		}
	}
	types := doc["CloudComputingInstanceType"]
	if !slices.IsSortedFunc(types, func(a, b glueEntity) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) }) {
		t.Errorf("the flavors are in another order than by name: %s", a)
	}
	largest := map[string][2]int{} // of each share, CPU and RAM
	for _, e := range types {
		for _, share := range e.Associations["Share"] {
			largest[share] = [2]int{max(largest[share][0], e.CPU), max(largest[share][1], e.RAM)}
		}
		if len(e.Associations["CloudComputingManager"]) != 1 || len(e.Associations["CloudComputingEndpoint"]) != 1 {
			t.Errorf("%s points to %v", e.Name, e.Associations)
		}
		for _, id := range e.Associations["CloudComputingVirtualAccelerator"] {
			if !slices.ContainsFunc(doc["CloudComputingVirtualAccelerator"], func(gpu glueEntity) bool {
				return gpu.ID == id && slices.Equal(gpu.Associations["CloudComputingInstanceType"], []string{e.ID})
			}) {
				t.Errorf("%s has the accelerator %s, which is not its own", e.Name, id)
			}
		}
	}
	for _, gpu := range doc["CloudComputingVirtualAccelerator"] {
		of := gpu.Associations["CloudComputingInstanceType"]
		if i := slices.IndexFunc(types, func(e glueEntity) bool { return slices.Contains(of, e.ID) }); len(of) != 1 || i < 0 ||
			!slices.Contains(types[i].Associations["CloudComputingVirtualAccelerator"], gpu.ID) {
			t.Errorf("the accelerator %s is of %v, which does not have it", gpu.ID, of)
		}
	}
	for _, share := range doc["Share"] {
		if got := [2]int{share.InstanceMaxCPU, share.InstanceMaxRAM}; got != largest[share.ID] {
			t.Errorf("the largest flavor of the share %s has %v, not %v", share.ID, largest[share.ID], got)
		}
	}
	if m := doc["CloudComputingManager"]; len(m) == 1 && len(types) > 0 {
		of := func(size func(glueEntity) int) (least, most int) {
			sizes := make([]int, len(types))
			for i, e := range types {
				sizes[i] = size(e)
			}
			return slices.Min(sizes), slices.Max(sizes)
		}
		leastCPU, mostCPU := of(func(e glueEntity) int { return e.CPU })
		leastRAM, mostRAM := of(func(e glueEntity) int { return e.RAM })
		if got, want := [4]int{m[0].InstanceMinCPU, m[0].InstanceMaxCPU, m[0].InstanceMinRAM, m[0].InstanceMaxRAM}, [4]int{leastCPU, mostCPU, leastRAM, mostRAM}; got != want {
			t.Errorf("the manager has flavors of %v, not %v", got, want)
		}
	}
	return doc
}

// named are the names of the entities of one kind.
func (doc glueBody) named(kind string) []string {
	names := []string{}
	for _, e := range doc[kind] {
		names = append(names, e.Name)
	}
	return names
}

// flavor is the flavor of that name in a document.
func (doc glueBody) flavor(t *testing.T, name string) glueEntity {
	t.Helper()
	for _, e := range doc["CloudComputingInstanceType"] {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("the document has no flavor %s: %v", name, doc.named("CloudComputingInstanceType"))
	return glueEntity{}
}

// glue2: a region as EGI's information system reads it.
func glue2(t *testing.T, s *setup) {
	// A cloud of this test's own, so that its documents hold nothing else, and a
	// region whose name has a dot, as a domain's may.
	n := unique()
	c := startStack(t, simstack.Options{Regions: []string{n("Site"), n("none.example.org"), n("eu.example.org"), n("broken")}})
	site, none, dotted, broken := c.regions[0], c.regions[1], c.regions[2], c.regions[3]
	operators, demo := c.projectID(t, "operators"), c.projectID(t, "demo")
	vo := func(name, project string) map[string]any {
		return map[string]any{"name": name, "auth": map[string]any{"project_id": project}}
	}
	first := vo("vo.access.egi.eu", operators)
	first["defaultNetwork"], first["publicNetwork"] = "private_only", "ext-net"
	pr := s.serve(t, with("glue2", map[string]any{"sites": map[string]any{
		site:   map[string]any{"gocdb": "SITE-CLOUD", "gocdb_id": "7513G0", "endpoint": c.keystone, "vos": []any{first, vo("/vo.example.org/group", demo)}},
		dotted: map[string]any{"gocdb": "DOTTED", "endpoint": c.keystone, "region": dotted, "vos": []any{vo("ops", operators)}},
	}}))
	g := startGate(t, c, site)
	c.register(t, s, pr)
	manager, user, owner, other := pr.as(s.manager), pr.as(s.user), pr.as(s.owner(site)), pr.as(s.owner(none))
	path := "/regions/" + site + "/glue2"

	// Two flavors of the catalogue, one of which has GPUs of two kinds; one that
	// is not public in Nova, but in the catalogue; a private one; and two that are
	// not public in Nova, one of which no virtual organisation may use.
	promoted := manager.post(t, "/promotedflavors", flavorOf("name", n("a-promoted"), "vcpus", 16, "ram", 65536, "disk", 80,
		"extra_specs", map[string]string{"pci_passthrough:alias": "nvidia-t4:2,mi250:1"})).want(t, 201).flavor(t)
	manager.put(t, "/flavors/"+promoted.ID, flavorOf("nodes", []string{site, none})).want(t, 200)
	manager.post(t, "/promotedflavors", sized(n("elsewhere"))).want(t, 201)
	nova := c.nova(t, site)
	own := nova.create(t, flavorIn(n("its-own-id"), n("b-public")))
	owner.put(t, "/flavors/"+own.ID, flavorOf("public", true)).want(t, 200)
	hidden := flavorIn(newUUID(), n("c-hidden"))
	hidden.IsPublic, hidden.VCPUs = false, 32
	nova.create(t, hidden)
	nova.grant(t, hidden.ID, demo)
	owner.put(t, "/flavors/"+hidden.ID, flavorOf("public", true)).want(t, 200)
	specs, _ := tesla(n)
	private := owner.post(t, "/flavors", flavorOf("name", n("d-private"), "vcpus", 1, "ram", 512, "disk", 0, "extra_specs", specs)).want(t, 201).flavor(t)
	both, nobody := flavorIn(n("both"), n("e-both")), flavorIn(n("nobody"), n("f-nobody"))
	both.IsPublic, nobody.IsPublic = false, false
	nova.create(t, both)
	nova.grant(t, both.ID, operators)
	nova.grant(t, both.ID, demo)
	nova.create(t, nobody)
	nova.grant(t, nobody.ID, c.projectID(t, "admin"))

	public := []string{n("a-promoted"), n("b-public"), n("c-hidden")}
	all := append(slices.Clone(public), n("d-private"), n("e-both"))
	for _, who := range []struct {
		client
		want []string
	}{
		{owner, all}, {manager, all}, {user, public}, {other, public}, {pr.as(byBasic(accounts.nobody, accounts.passwords[accounts.nobody])), public},
	} {
		t.Run(who.caller.name+" is shown the flavors of the catalogue, and to an owner all that a virtual organisation may use", func(t *testing.T) {
			got := who.get(t, path).want(t, 200).glue2(t).named("CloudComputingInstanceType")
			if !slices.Equal(got, who.want) {
				t.Errorf("%v, not %v", got, who.want)
			}
		})
	}

	t.Run("the site is that of the configuration", func(t *testing.T) {
		doc := owner.get(t, path).want(t, 200).glue2(t)
		for kind, count := range map[string]int{
			"CloudComputingService": 1, "CloudComputingManager": 1, "CloudComputingEndpoint": 1, "CloudComputingImage": 0,
			"CloudComputingInstanceType": 5, "CloudComputingVirtualAccelerator": 3, "Share": 2, "MappingPolicy": 2, "AccessPolicy": 1,
		} {
			if len(doc[kind]) != count {
				t.Errorf("there are %d of %s, not %d", len(doc[kind]), kind, count)
			}
		}
		service := doc["CloudComputingService"][0]
		if service.ID != c.keystone+"_cloud.compute" || !strings.HasSuffix(service.Name, " SITE-CLOUD") || service.Complexity != "endpointType=1,share=2" ||
			service.OtherInfo["gocdb_id"] != "7513G0" || service.OtherInfo["site_name"] != "SITE-CLOUD" ||
			!slices.Equal(service.Associations["AdminDomain"], []string{"SITE-CLOUD"}) {
			t.Errorf("the service is %+v", service)
		}
		if e := doc["CloudComputingEndpoint"][0]; e.URL != c.keystone || e.OtherInfo["region"] != "" {
			t.Errorf("the endpoint is %+v", e)
		}
		for i, want := range []struct{ vo, project, network, public string }{
			{"vo.access.egi.eu", operators, "private_only", "ext-net"}, {"/vo.example.org/group", demo, "", ""},
		} {
			share, policy := doc["Share"][i], doc["MappingPolicy"][i]
			if share.ProjectID != want.project || share.DefaultNetworkType != want.network || share.PublicNetworkName != want.public {
				t.Errorf("the share of %s is %+v", want.vo, share)
			}
			if !slices.Equal(policy.Rule, []string{"VO:" + want.vo}) || !slices.Equal(policy.Associations["PolicyUserDomain"], []string{want.vo}) ||
				!slices.Equal(policy.Associations["Share"], []string{share.ID}) {
				t.Errorf("the policy of %s is %+v", want.vo, policy)
			}
		}
		if rule := doc["AccessPolicy"][0].Rule; !slices.Equal(rule, []string{"VO:vo.access.egi.eu", "VO:/vo.example.org/group"}) {
			t.Errorf("those who have access are %v", rule)
		}
	})

	t.Run("a flavor has its sizes, Nova's own id, and the virtual organisations that may use it", func(t *testing.T) {
		doc := owner.get(t, path).want(t, 200).glue2(t)
		shareOf := map[string]string{}
		for _, share := range doc["Share"] {
			shareOf[share.ProjectID] = share.ID
		}
		for _, want := range []struct {
			name, id       string
			cpu, ram, disk int
			projects       []string
		}{
			{n("a-promoted"), promoted.ID, 16, 65536, 80, []string{operators, demo}},
			{n("b-public"), own.ID, 2, 2048, 20, []string{operators, demo}},
			{n("c-hidden"), hidden.ID, 32, 2048, 20, []string{demo}},
			{n("d-private"), private.ID, 1, 512, 0, []string{operators, demo}},
			{n("e-both"), both.ID, 2, 2048, 20, []string{operators, demo}},
		} {
			e := doc.flavor(t, want.name)
			shares := []string{}
			for _, project := range want.projects {
				shares = append(shares, shareOf[project])
			}
			if e.ID != want.id || e.CPU != want.cpu || e.RAM != want.ram || e.Disk != want.disk || !slices.Equal(e.Associations["Share"], shares) {
				t.Errorf("%+v, not %+v with %v", e, want, shares)
			}
		}
	})

	t.Run("accelerators have their memory in MB, each kind for itself, and are shown with their flavor alone", func(t *testing.T) {
		kinds := func(doc glueBody) (got []glueEntity) {
			for _, gpu := range doc["CloudComputingVirtualAccelerator"] {
				got = append(got, glueEntity{ID: gpu.ID, Type: gpu.Type, Number: gpu.Number, Vendor: gpu.Vendor, Model: gpu.Model, Memory: gpu.Memory})
			}
			return got
		}
		same := func(a, b glueEntity) bool {
			return a.ID == b.ID && a.Type == b.Type && a.Number == b.Number && a.Vendor == b.Vendor && a.Model == b.Model && a.Memory == b.Memory
		}
		catalogue := []glueEntity{
			{ID: promoted.ID + "_gpu", Type: "GPU", Number: 2, Vendor: "NVIDIA", Model: "t4"},
			{ID: promoted.ID + "_gpu_2", Type: "GPU", Number: 1, Vendor: "AMD", Model: "mi250"},
		}
		if got := kinds(user.get(t, path).want(t, 200).glue2(t)); !slices.EqualFunc(got, catalogue, same) {
			t.Errorf("%+v, not %+v", got, catalogue)
		}
		everything := append(slices.Clone(catalogue), glueEntity{ID: private.ID + "_gpu", Type: "GPU", Number: 1, Vendor: "NVIDIA", Model: n("T4"), Memory: 16384})
		if got := kinds(owner.get(t, path).want(t, 200).glue2(t)); !slices.EqualFunc(got, everything, same) {
			t.Errorf("%+v, not %+v", got, everything)
		}
	})

	t.Run("it is what the Nova has now", func(t *testing.T) {
		later := nova.create(t, flavorIn(n("later"), n("g-later")))
		owner.get(t, path).want(t, 200).glue2(t).flavor(t, later.Name)
		nova.delete(t, later.ID)
		if got := owner.get(t, path).want(t, 200).glue2(t).named("CloudComputingInstanceType"); !slices.Equal(got, all) {
			t.Errorf("%v, not %v", got, all)
		}
	})

	t.Run("a region that is no site has its flavors and no virtual organisation", func(t *testing.T) {
		hidden := flavorIn(n("hidden"), n("hidden"))
		hidden.IsPublic = false
		c.nova(t, none).create(t, hidden)
		pr.as(s.owner(none)).post(t, "/flavors", sized(n("private"))).want(t, 201)
		path := "/regions/" + none + "/glue2"
		doc := other.get(t, path).want(t, 200).glue2(t)
		if got, want := doc.named("CloudComputingInstanceType"), []string{n("a-promoted"), n("private")}; !slices.Equal(got, want) {
			t.Errorf("its owner is shown %v, not %v", got, want)
		}
		service := doc["CloudComputingService"][0]
		if len(doc["Share"]) != 0 || len(doc["MappingPolicy"]) != 0 || len(doc["AccessPolicy"]) != 1 || len(doc["AccessPolicy"][0].Rule) != 0 ||
			!strings.HasSuffix(service.Name, " "+none) || service.OtherInfo["gocdb_id"] != "" || service.StatusInfo != "" || doc["CloudComputingEndpoint"][0].URL != "" {
			t.Errorf("it tells of a site: %+v", doc)
		}
		for _, as := range []client{user, owner} {
			if got, want := as.get(t, path).want(t, 200).glue2(t).named("CloudComputingInstanceType"), []string{n("a-promoted")}; !slices.Equal(got, want) {
				t.Errorf("%s is shown %v, not %v", as.caller.name, got, want)
			}
		}
	})

	t.Run("of several sites with one Keystone each has ids of its own", func(t *testing.T) {
		one, two := owner.get(t, path).want(t, 200).glue2(t), user.get(t, "/regions/"+dotted+"/glue2").want(t, 200).glue2(t)
		if len(two["Share"]) != 1 || len(two["CloudComputingInstanceType"]) != 0 || two["CloudComputingEndpoint"][0].OtherInfo["region"] != dotted {
			t.Errorf("the other one is %+v", two)
		}
		for _, kind := range glueKinds {
			for _, a := range one[kind] {
				for _, b := range two[kind] {
					if a.ID == b.ID {
						t.Errorf("both have the %s %s", kind, a.ID)
					}
				}
			}
		}
	})

	t.Run("it is JSON whatever is accepted, its errors are not", func(t *testing.T) {
		plain := user.get(t, path).want(t, 200)
		for _, accept := range []string{"application/xml", "text/xml", "application/json;q=0.1, application/xml", "image/png", "application/x-yaml", "*/*"} {
			a := user.get(t, path, header("Accept", accept)).want(t, 200)
			a.glue2(t)
			if a.header.Get("Content-Type") != plain.header.Get("Content-Type") {
				t.Errorf("Accept: %s gives %s", accept, a.header.Get("Content-Type"))
			}
		}
		for _, f := range formats {
			if a := user.get(t, "/regions/Nowhere/glue2", in(f)).want(t, 404).says(t, "Nowhere"); a.isXML(t) != (f.name == "XML") {
				t.Errorf("the error is not in %s: %s", f.name, a)
			}
		}
	})

	t.Run("an unknown region is 404", func(t *testing.T) {
		for _, region := range []string{n("nowhere"), strings.ToLower(site), strings.ToUpper(site)} {
			user.get(t, "/regions/"+region+"/glue2").want(t, 404).says(t, region)
			manager.get(t, "/regions/"+region+"/glue2").want(t, 404).says(t, region)
		}
	})

	t.Run("its ETag changes with it", func(t *testing.T) {
		var tag string
		// The document says when it was made: a minute may end in between.
		eventually(t, "it has not changed since", func() bool {
			tag = owner.get(t, path).want(t, 200).header.Get("ETag")
			a := owner.get(t, path, header("If-None-Match", `"other", `+tag)).wantOneOf(t, 200, 304)
			return a.status == 304 && a.header.Get("ETag") == tag
		})
		made := nova.create(t, flavorIn(n("tagged"), n("h-tagged")))
		defer nova.delete(t, made.ID)
		owner.get(t, path, header("If-None-Match", tag)).want(t, 200).glue2(t).flavor(t, made.Name)
		if theirs := user.get(t, path).want(t, 200).header.Get("ETag"); theirs == tag {
			t.Errorf("a user is told the owner's ETag %s", theirs)
		}
	})

	t.Run("it is read, and nothing else", func(t *testing.T) {
		before := c.state(t)
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			owner.do(t, method, path, nil).want(t, 405)
		}
		if after := c.state(t); after != before {
			t.Errorf("the Novas held\n%s and hold\n%s", before, after)
		}
	})

	for _, kind := range []simstack.Kind{simstack.Refuse, simstack.ServerError, simstack.Unavailable, simstack.Nonsense, simstack.HTML, simstack.Cut, simstack.Denied, simstack.Hang} {
		t.Run("a region that fails ("+string(kind)+") is 502, and named", func(t *testing.T) {
			mend := c.stack.Fault(broken, simstack.Fault{Kind: kind})
			within(t, 5*s.regionTimeout(), "its document", func() {
				for _, as := range []client{user, manager, pr.as(s.owner(broken))} {
					for _, f := range formats {
						as.get(t, "/regions/"+broken+"/glue2", in(f)).want(t, 502).says(t, broken)
					}
				}
			})
			within(t, s.regionTimeout(), "that of another", func() { user.get(t, path).want(t, 200) })
			mend()
			eventually(t, "it has a document again", func() bool {
				return user.get(t, "/regions/"+broken+"/glue2").wantOneOf(t, 200, 502).status == 200
			})
		})
	}

	t.Run("a region whose Keystone is down is 502", func(t *testing.T) {
		region := n("down")
		manager.post(t, "/infrastructures", c.infrastructure(region).and("keystone_url", closedPort(t)+"/v3")).want(t, 201)
		user.get(t, "/regions/"+region+"/glue2").want(t, 502).says(t, region)
		manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
		user.get(t, "/regions/"+region+"/glue2").want(t, 404)
	})

	t.Run("whoever may use a flavor must be known: a Nova that does not tell is 502, a flavor that has gone is not there", func(t *testing.T) {
		asked := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/"+both.ID+"/os-flavor-access") }
		g.set(func(r *http.Request) bool { return !asked(r) }, nil)
		owner.get(t, path).want(t, 502).says(t, site)
		if got := user.get(t, path).want(t, 200).glue2(t).named("CloudComputingInstanceType"); !slices.Equal(got, public) {
			t.Errorf("a user, to whom it is not shown, has %v", got)
		}
		g.set(func(r *http.Request) bool {
			if asked(r) {
				c.stack.DeleteFlavor(site, both.ID)
			}
			return true
		}, nil)
		if got, want := owner.get(t, path).want(t, 200).glue2(t).named("CloudComputingInstanceType"), append(slices.Clone(public), n("d-private")); !slices.Equal(got, want) {
			t.Errorf("they are %v, not %v", got, want)
		}
	})

	t.Run("a region of the set-up's own cloud", func(t *testing.T) {
		n := s.names(t)
		project := s.cloud.projectID(t, "demo")
		pr := s.serve(t, with("glue2", map[string]any{"sites": map[string]any{
			trento: map[string]any{"gocdb": "UNITN", "gocdb_id": "1G0", "endpoint": s.cloud.keystone, "region": trento, "vos": []any{vo("vo.access.egi.eu", project)}},
		}}))
		s.registerAll(t, pr)
		owner, user := pr.as(s.owner(trento)), pr.as(s.user)
		specs, _ := tesla(n)
		shown := owner.post(t, "/flavors", sized(n("public")).and("public", true).and("extra_specs", specs)).want(t, 201).flavor(t)
		private := owner.post(t, "/flavors", sized(n("private"))).want(t, 201).flavor(t)
		hidden := flavorIn(n("hidden"), n("hidden"))
		hidden.IsPublic = false
		nova := s.cloud.nova(t, trento)
		nova.create(t, hidden)
		nova.grant(t, hidden.ID, project)
		doc := owner.get(t, "/regions/Trento/glue2").want(t, 200).glue2(t)
		for _, name := range []string{shown.Name, private.Name, hidden.Name} {
			if e := doc.flavor(t, name); e.CPU != 2 || e.RAM != 2048 || e.Disk != 20 || !slices.Equal(e.Associations["Share"], []string{doc["Share"][0].ID}) {
				t.Errorf("%+v", e)
			}
		}
		if got := doc.flavor(t, shown.Name).Associations["CloudComputingVirtualAccelerator"]; !slices.Equal(got, []string{shown.ID + "_gpu"}) {
			t.Errorf("its accelerators are %v", got)
		}
		theirs := user.get(t, "/regions/Trento/glue2").want(t, 200).glue2(t)
		if got := theirs.named("CloudComputingInstanceType"); !slices.Equal(got, []string{shown.Name}) {
			t.Errorf("a user is shown %v", got) // this server's catalogue has one flavor
		}
	})
}
