package contract_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// asking is a question to POST /v1/match before it has a format.
type asking struct {
	host     map[string]any // of texts, numbers and constraints; nil: there is a template
	template string
	regions  []string
	limit    int
}

func (q asking) members() map[string]any {
	members := map[string]any{}
	if q.host != nil {
		members["host"] = q.host
	} else {
		members["template"] = q.template
	}
	if q.regions != nil {
		members["regions"] = q.regions
	}
	if q.limit != 0 {
		members["limit"] = q.limit
	}
	return members
}

// A matchFormat is one of the three languages that POST /v1/match is asked in.
type matchFormat struct {
	name, mediaType string
	encode          func(q asking) string
}

var (
	matchJSON = matchFormat{"JSON", "application/json", func(q asking) string { return mustEncode(json.Marshal(map[string]any{"match": q.members()})) }}
	matchYAML = matchFormat{"YAML", "application/x-yaml", func(q asking) string { return mustEncode(yaml.Marshal(q.members())) }}
	matchXML  = matchFormat{"XML", "application/xml", encodeMatchXML}

	matchFormats = []matchFormat{matchJSON, matchXML, matchYAML}
)

func mustEncode(text []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(text)
}

func encodeMatchXML(q asking) string {
	var b strings.Builder
	var tree func(name string, value any)
	tree = func(name string, value any) {
		fmt.Fprintf(&b, "<%s>", name)
		switch value := value.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(value)) {
				tree(key, value[key])
			}
		case []any:
			for _, item := range value {
				tree("value", item)
			}
		default:
			b.WriteString(escapeXML(fmt.Sprint(value)))
		}
		fmt.Fprintf(&b, "</%s>", name)
	}
	members := q.members()
	delete(members, "regions")
	b.WriteString("<match>")
	for _, key := range slices.Sorted(maps.Keys(members)) {
		tree(key, members[key])
	}
	for _, region := range q.regions {
		tree("region", region)
	}
	b.WriteString("</match>")
	return b.String()
}

// match asks in that format; the answer comes in JSON unless a shape says more.
func (c client) match(t *testing.T, q asking, as matchFormat, shapes ...shape) *answer {
	t.Helper()
	return c.post(t, "/match", nil, append([]shape{raw(as.mediaType, as.encode(q))}, shapes...)...)
}

// fitBody is a flavor that fits; what is absent is zero.
type fitBody struct {
	ID           string            `json:"id" xml:"id,attr"`
	Name         string            `json:"name" xml:"name"`
	VCPUs        int               `json:"vcpus" xml:"vcpus"`
	RAM          int               `json:"ram" xml:"ram"`
	Disk         int               `json:"disk" xml:"disk"`
	Promoted     bool              `json:"promoted" xml:"promoted"`
	Public       bool              `json:"public" xml:"public"`
	Nodes        []string          `json:"nodes" xml:"node"`
	Accelerators []acceleratorBody `json:"accelerators" xml:"accelerators>accelerator"`
	Regions      []string          `json:"regions" xml:"regions>region"`
	Waste        struct {
		VCPUs int    `json:"vcpus" xml:"vcpus"`
		RAM   int    `json:"ram" xml:"ram"`
		Disk  int    `json:"disk" xml:"disk"`
		GPUs  int    `json:"gpus" xml:"gpus"`
		Total string `json:"total" xml:"total"`
	} `json:"waste" xml:"waste"`
	Price    string `json:"price" xml:"price"`
	Currency string `json:"currency" xml:"currency"`
	Period   string `json:"period" xml:"period"`
}

// matchBody is the answer for a host, or for one node of a template.
type matchBody struct {
	Name    string    `json:"name" xml:"name,attr"`
	Type    string    `json:"type" xml:"type"`
	Flavors []fitBody `json:"flavors" xml:"flavors>flavor"`
	Reason  string    `json:"reason" xml:"reason"`
	Ignored []string  `json:"ignored" xml:"ignored"`
}

// names are the flavors that fit, without what they all begin with.
func (m matchBody) names(prefix string) []string {
	names := []string{}
	for _, f := range m.Flavors {
		names = append(names, strings.TrimPrefix(f.Name, prefix))
	}
	return names
}

// matched is the answer to a host, in JSON or in XML.
func (a *answer) matched(t *testing.T) matchBody {
	t.Helper()
	body, nodes := a.decodeMatch(t)
	if nodes != nil {
		t.Fatalf("it has nodes: %s", a)
	}
	return body
}

// nodes is the answer to a template.
func (a *answer) nodes(t *testing.T) []matchBody {
	t.Helper()
	_, nodes := a.decodeMatch(t)
	if nodes == nil {
		t.Fatalf("it has no nodes: %s", a)
	}
	return nodes
}

func (a *answer) decodeMatch(t *testing.T) (matchBody, []matchBody) {
	t.Helper()
	var (
		body struct {
			XMLName xml.Name    `json:"-" xml:"match"`
			Nodes   []matchBody `json:"nodes" xml:"node"`
			matchBody
		}
		err error
	)
	if a.isXML(t) {
		err = decodeXML(a.body, &body)
	} else if err = json.Unmarshal(a.body, &body); err == nil && body.Flavors == nil && body.Nodes == nil {
		err = errors.New("it has neither flavors nor nodes")
	}
	if err != nil {
		t.Fatalf("not a match: %v: %s", err, a)
	}
	return body.matchBody, body.Nodes
}

// toscaType is a node type of TOSCA, as far as it tells of a flavor.
type toscaType struct {
	DerivedFrom  string            `yaml:"derived_from"`
	Metadata     map[string]string `yaml:"metadata"`
	Capabilities struct {
		Host struct {
			Type       string
			Properties map[string]struct {
				Type, Default string
				Constraints   []map[string]string
			}
		}
	}
}

// nodeTypes are those of an answer in YAML, and their names in their order.
func (a *answer) nodeTypes(t *testing.T) (names []string, types map[string]toscaType) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/x-yaml; charset=utf-8" {
		t.Fatalf("not YAML but %s: %s", got, a)
	}
	var document struct {
		Version string    `yaml:"tosca_definitions_version"`
		Types   yaml.Node `yaml:"node_types"`
	}
	err := yaml.Unmarshal(a.body, &document)
	if err == nil && len(document.Types.Content) > 0 {
		err = document.Types.Decode(&types)
	}
	if err != nil || document.Version != "tosca_simple_yaml_1_3" {
		t.Fatalf("not node types of TOSCA 1.3: %v: %s", err, a)
	}
	for i := 0; i < len(document.Types.Content); i += 2 {
		names = append(names, document.Types.Content[i].Value)
	}
	return names, types
}

// stall is a catalogue of a server of its own, in a cloud of three regions.
type stall struct {
	*product
	t       *testing.T
	cloud   *cloud
	manager client
	n       namer
	a, b, c string // the regions
}

// promote makes a promoted flavor, installed in those regions.
func (m *stall) promote(d *document, regions ...string) string {
	m.t.Helper()
	made := m.manager.post(m.t, "/promotedflavors", d).want(m.t, 201).flavor(m.t)
	if len(regions) > 0 {
		m.manager.put(m.t, "/flavors/"+made.ID, flavorOf("nodes", regions)).want(m.t, 200)
	}
	return made.ID
}

// publish makes a public flavor that is not promoted.
func (m *stall) publish(d *document, regions ...string) string {
	m.t.Helper()
	made := m.manager.post(m.t, "/flavors", d.and("nodes", regions[:1]).and("public", true)).want(m.t, 201).flavor(m.t)
	if len(regions) > 1 {
		m.manager.put(m.t, "/flavors/"+made.ID, flavorOf("nodes", regions)).want(m.t, 200)
	}
	return made.ID
}

func (m *stall) price(id string, pairs ...any) {
	m.t.Helper()
	m.manager.put(m.t, "/promotedflavors/"+id+"/product", productOf(pairs...)).want(m.t, 200)
}

// size is a flavor of that name and size.
func (m *stall) size(word string, vcpus, ram, disk int) *document {
	return flavorOf("name", m.n(word), "vcpus", vcpus, "ram", ram, "disk", disk)
}

// cpus asks for a number of CPUs in a range that is one test's own, so that
// flavors of others do not fit.
func cpus(from, to int) map[string]any {
	return map[string]any{"num_cpus": map[string]any{"in_range": []any{from, to}}}
}

func newStall(t *testing.T, s *setup) *stall {
	t.Helper()
	c := extra(t, "A", "B", "C")
	pr := s.serve(t, with("engine", map[string]any{"region_timeout": s.regionTimeout().String(), "sweep_interval": "1h"}))
	c.register(t, s, pr)
	return &stall{product: pr, t: t, cloud: c, manager: pr.as(s.manager), n: unique(), a: c.regions[0], b: c.regions[1], c: c.regions[2]}
}

// matching: the flavors that fit a host, or the nodes of a template.
func matching(t *testing.T, s *setup) {
	m := newStall(t, s)
	user := m.as(s.user)
	m.promote(m.size("largest", 400, 1<<20, 4000), m.a)

	t.Run("the best first: least waste, in every format the same", func(t *testing.T) {
		m := *m
		m.t = t
		gpu := m.size("e-gpu", 101, 8192, 40).and("extra_specs", map[string]string{"resources:VGPU": "1"})
		ids := map[string]string{
			"f-exact": m.publish(m.size("f-exact", 101, 8192, 40), m.a, m.b), "d-half-a-GB": m.publish(m.size("d-half-a-GB", 101, 8704, 40), m.a),
			"c-GB": m.publish(m.size("c-GB", 101, 9216, 40), m.a), "b-disk": m.publish(m.size("b-disk", 101, 8192, 90), m.a),
			"a-vcpu": m.publish(m.size("a-vcpu", 102, 8192, 40), m.a), "e-gpu": m.publish(gpu, m.a), "g-all": m.publish(m.size("g-all", 105, 16384, 140).
					and("extra_specs", map[string]string{"pci_passthrough:alias": "t4:2"}), m.a),
		}
		for _, word := range []string{"too small", "not enough RAM"} {
			m.publish(m.size(word, map[string]int{"too small": 100, "not enough RAM": 101}[word], map[string]int{"too small": 8192, "not enough RAM": 7000}[word], 100), m.a)
		}
		order := []string{"f-exact", "d-half-a-GB", "c-GB", "b-disk", "a-vcpu", "e-gpu", "g-all"}
		wastes := []string{"0/0/0/0 0", "0/512/0/0 0.125", "0/1024/0/0 0.25", "0/0/50/0 0.5", "1/0/0/0 1", "0/0/0/1 16", "4/8192/100/2 39"}
		q := asking{host: cpus(101, 149)}
		q.host["mem_size"], q.host["disk_size"] = "8 GB", "40 GB"
		for _, in := range matchFormats {
			for _, out := range formats {
				got := user.match(t, q, in, header("Accept", out.mediaType)).want(t, 200).matched(t)
				if names := got.names(m.n("")); !slices.Equal(names, order) || got.Reason != "" || got.Ignored != nil {
					t.Fatalf("from %s to %s: %v, not %v; the reason %q, ignored %v", in.name, out.name, names, order, got.Reason, got.Ignored)
				}
				for i, f := range got.Flavors {
					w := f.Waste
					if waste := fmt.Sprintf("%d/%d/%d/%d %s", w.VCPUs, w.RAM, w.Disk, w.GPUs, w.Total); waste != wastes[i] {
						t.Errorf("from %s to %s: the waste of %s is %s, not %s", in.name, out.name, f.Name, waste, wastes[i])
					}
					shown := user.get(t, "/flavors/"+f.ID).want(t, 200).flavor(t)
					if f.ID != ids[order[i]] || f.Name != shown.Name || f.VCPUs != shown.VCPUs || f.RAM != shown.RAM || f.Disk != shown.Disk || !f.Public || f.Promoted ||
						!slices.Equal(f.Nodes, shown.Nodes) || !slices.Equal(f.Regions, shown.Nodes) || !slices.Equal(f.Accelerators, shown.Accelerators) || f.Price != "" {
						t.Errorf("from %s to %s: %+v, not %+v", in.name, out.name, f, shown)
					}
				}
			}
			names, types := user.match(t, q, in, header("Accept", "application/x-yaml")).want(t, 200).nodeTypes(t)
			for i, name := range names {
				f := types[name]
				if len(names) != len(order) || name != "flavorsync.nodes.Compute."+m.n(order[i]) || f.Metadata["flavor_id"] != ids[order[i]] || f.Metadata["flavor_name"] != m.n(order[i]) {
					t.Errorf("from %s to YAML: %v are not %v: %+v", in.name, names, order, f)
				}
			}
		}
		for limit := 1; limit <= 8; limit++ {
			for _, in := range matchFormats {
				q.limit = limit
				if got, want := user.match(t, q, in).want(t, 200).matched(t).names(m.n("")), order[:min(limit, 7)]; !slices.Equal(got, want) {
					t.Errorf("at most %d in %s: %v, not %v", limit, in.name, got, want)
				}
			}
		}
	})

	t.Run("promoted before public, then cheaper before dearer, by whatever period", func(t *testing.T) {
		m := *m
		m.t = t
		for word, price := range map[string][]any{
			"g": {"price", "12", "period", "day"}, "f": {"price", "1", "period", "hour"}, "e": {"price", "0.02", "period", "minute"},
		} {
			m.price(m.promote(m.size(word, 170, 1024, 10), m.a), append(price, "currency", "DKK", "category", m.n(word))...)
		}
		m.promote(m.size("d", 170, 1024, 10), m.a)
		m.publish(m.size("b", 170, 1024, 10), m.a)
		m.publish(m.size("a", 170, 1024, 10), m.b)
		m.publish(m.size("c", 170, 1024, 11), m.a) // which wastes more than none
		for _, f := range formats {
			got := user.match(t, asking{host: cpus(170, 170)}, matchJSON, header("Accept", f.mediaType)).want(t, 200).matched(t)
			var prices []string
			for _, fit := range got.Flavors {
				prices = append(prices, fit.Price+" "+fit.Currency+" "+fit.Period)
			}
			if names := got.names(m.n("")); !slices.Equal(names, []string{"g", "f", "e", "d", "a", "b", "c"}) {
				t.Errorf("in %s they come as %v", f.name, names)
			}
			if want := []string{"12 DKK day", "1 DKK hour", "0.02 DKK minute", "  ", "  ", "  ", "  "}; !slices.Equal(prices, want) {
				t.Errorf("in %s they cost %q, not %q", f.name, prices, want)
			}
		}
	})

	t.Run("regions: those that are wanted, or any; a flavor of none comes last", func(t *testing.T) {
		m := *m
		m.t = t
		m.publish(m.size("two", 150, 2048, 10), m.a, m.b)
		m.publish(m.size("one", 150, 4096, 10), m.b)
		m.promote(m.size("nowhere", 150, 1024, 10))
		for _, c := range []struct {
			wanted []string
			want   map[string][]string
			order  []string
		}{
			{nil, map[string][]string{"two": {m.a, m.b}, "one": {m.b}, "nowhere": {}}, []string{"two", "one", "nowhere"}},
			{[]string{"any"}, map[string][]string{"two": {m.a, m.b}, "one": {m.b}, "nowhere": {}}, []string{"two", "one", "nowhere"}},
			{[]string{m.a}, map[string][]string{"two": {m.a}}, []string{"two"}},
			{[]string{m.b}, map[string][]string{"two": {m.b}, "one": {m.b}}, []string{"two", "one"}},
			{[]string{m.c, m.a}, map[string][]string{"two": {m.a}}, []string{"two"}},
			{[]string{m.b, m.a, m.b}, map[string][]string{"two": {m.a, m.b}, "one": {m.b}}, []string{"two", "one"}},
			{[]string{m.c}, nil, []string{}},
		} {
			q := asking{host: cpus(150, 150), regions: c.wanted}
			for _, in := range matchFormats {
				for _, out := range formats {
					got := user.match(t, q, in, header("Accept", out.mediaType)).want(t, 200).matched(t)
					if names := got.names(m.n("")); !slices.Equal(names, c.order) {
						t.Errorf("%v from %s to %s: %v, not %v", c.wanted, in.name, out.name, names, c.order)
					}
					for _, f := range got.Flavors {
						if want := c.want[strings.TrimPrefix(f.Name, m.n(""))]; !slices.Equal(f.Regions, want) {
							t.Errorf("%v from %s to %s: the regions of %s are %v, not %v", c.wanted, in.name, out.name, f.Name, f.Regions, want)
						}
						if len(f.Regions) == 0 && len(f.Nodes) != 0 {
							t.Errorf("it is in no region and in %v", f.Nodes)
						}
					}
					if tells := strings.Contains(got.Reason, m.a) && strings.Contains(got.Reason, m.b) && strings.Contains(got.Reason, m.c); tells != (len(c.order) == 0) {
						t.Errorf("%v from %s to %s: the reason is %q", c.wanted, in.name, out.name, got.Reason)
					}
				}
			}
		}
		for limit, want := range map[int][]string{1: {"two"}, 2: {"two", "one"}, 3: {"two", "one", "nowhere"}, 4: {"two", "one", "nowhere"}} {
			if got := user.match(t, asking{host: cpus(150, 150), limit: limit}, matchJSON).want(t, 200).matched(t).names(m.n("")); !slices.Equal(got, want) {
				t.Errorf("at most %d are %v, not %v", limit, got, want)
			}
		}
		for _, body := range []string{`{"host": {"num_cpus": 150}, "regions": "` + m.a + `", "limit": 1}`, `{"host": {"num_cpus": 150}, "regions": ["` + m.a + `"], "limit": 1}`} {
			if got := user.post(t, "/match", nil, raw("application/json", body)).want(t, 200).matched(t).names(m.n("")); !slices.Equal(got, []string{"two"}) {
				t.Errorf("%s: %v", body, got)
			}
		}
	})

	t.Run("an unknown region is 409, and named", func(t *testing.T) {
		for _, in := range matchFormats {
			for _, unknown := range []string{"Nowhere", strings.ToUpper(m.a)} {
				for _, f := range formats {
					user.match(t, asking{host: cpus(1, 9), regions: []string{m.a, unknown}}, in, header("Accept", f.mediaType)).want(t, 409).says(t, unknown)
				}
				user.match(t, asking{host: cpus(1, 9), regions: []string{unknown}}, in, header("Accept", "application/x-yaml")).want(t, 409).says(t, unknown)
				user.match(t, asking{template: "node_templates: {x: {type: Compute}}", regions: []string{unknown}}, in).want(t, 409).says(t, unknown)
			}
		}
	})

	t.Run("a flavor that no region has is told of, if no other fits", func(t *testing.T) {
		m := *m
		m.t = t
		id := m.promote(m.size("alone", 160, 1024, 10))
		q := asking{host: cpus(160, 160)}
		for _, f := range formats {
			got := user.match(t, q, matchJSON, header("Accept", f.mediaType)).want(t, 200).matched(t)
			if len(got.Flavors) != 1 || got.Flavors[0].ID != id || len(got.Flavors[0].Regions) != 0 || !strings.Contains(got.Reason, m.n("alone")) || !strings.Contains(got.Reason, id) {
				t.Errorf("in %s: %+v", f.name, got)
			}
		}
		_, types := user.match(t, q, matchJSON, header("Accept", "application/x-yaml")).want(t, 200).nodeTypes(t)
		if f := types["flavorsync.nodes.Compute."+m.n("alone")]; len(types) != 1 || f.Metadata["flavor_id"] != id || f.Metadata["regions"] != "" {
			t.Errorf("the types are %+v", types)
		}
		q.regions = []string{m.a}
		if got := user.match(t, q, matchJSON).want(t, 200).matched(t); len(got.Flavors) != 0 || !strings.Contains(got.Reason, m.n("alone")) || !strings.Contains(got.Reason, "install") {
			t.Errorf("in a region: %+v", got)
		}
		// What it says to do helps.
		m.manager.put(t, "/flavors/"+id, flavorOf("node", m.a)).want(t, 200)
		if got := user.match(t, q, matchJSON).want(t, 200).matched(t); len(got.Flavors) != 1 || !slices.Equal(got.Flavors[0].Regions, []string{m.a}) || got.Reason != "" {
			t.Errorf("installed: %+v", got)
		}
	})

	t.Run("what is private or retired is offered to nobody, what has changed is at once", func(t *testing.T) {
		m := *m
		m.t = t
		q := asking{host: cpus(180, 189)}
		owner := m.as(s.owner(m.a))
		private := owner.post(t, "/flavors", m.size("private", 181, 1024, 10)).want(t, 201).flavor(t)
		asked := func(want ...string) {
			t.Helper()
			for _, as := range []client{user, owner, m.manager} {
				got := as.match(t, q, matchJSON).want(t, 200).matched(t)
				if names := got.names(m.n("")); !slices.Equal(names, want) && len(names)+len(want) > 0 {
					t.Errorf("%s is offered %v, not %v", as.caller.name, names, want)
				}
				if len(want) == 0 && (got.Reason == "" || strings.Contains(got.Reason, m.n("private"))) {
					t.Errorf("the reason is %q", got.Reason)
				}
			}
		}
		asked()
		promoted := m.promote(m.size("promoted", 182, 1024, 10), m.a)
		asked("promoted")
		owner.put(t, "/flavors/"+private.ID, flavorOf("public", true)).want(t, 200)
		asked("private", "promoted")
		m.manager.put(t, "/promotedflavors/"+promoted, flavorOf("retired", true)).want(t, 200)
		asked("private")
		owner.delete(t, "/flavors/"+private.ID).want(t, 204)
		asked()
		if got := user.match(t, q, matchXML, header("Accept", "text/xml")).want(t, 200).matched(t); !strings.Contains(got.Reason, m.n("promoted")) || !strings.Contains(got.Reason, "retired") {
			t.Errorf("the reason is %q", got.Reason)
		}
		m.manager.put(t, "/promotedflavors/"+promoted, flavorOf("retired", false)).want(t, 200)
		asked("promoted")
		m.manager.delete(t, "/promotedflavors/"+promoted, query("uninstall", "true")).want(t, 204)
		asked()
	})

	t.Run("where nothing fits the reason is told", func(t *testing.T) {
		for _, c := range []struct {
			host  map[string]any
			words []string
		}{
			{map[string]any{"num_cpus": 2147483647}, []string{"2147483647 vCPUs", "400 vCPUs", m.n("largest")}},
			{map[string]any{"mem_size": "2 TiB"}, []string{"2 TiB", "1 TiB", m.n("largest")}},
			{map[string]any{"disk_size": "4001 GiB"}, []string{"4001 GiB", "4000 GiB", m.n("largest")}},
			{map[string]any{"num_cpus": map[string]any{"less_than": 1}}, []string{"vCPU", "the smallest"}},
			{map[string]any{"gpu_model": "no such <model>"}, []string{`"no such <model>"`}},
			{map[string]any{"num_gpus": 900}, []string{"900 GPUs"}},
			{map[string]any{"instance_type": "no such & flavor"}, []string{`"no such & flavor"`}},
			{map[string]any{"num_cpus": 399, "instance_type": m.n("largest"), "mem_size": "3 TiB"}, []string{m.n("largest"), "3 TiB"}},
		} {
			for _, in := range matchFormats {
				for _, out := range formats {
					got := user.match(t, asking{host: c.host}, in, header("Accept", out.mediaType)).want(t, 200).matched(t)
					for _, word := range c.words {
						if !strings.Contains(got.Reason, word) || len(got.Flavors) != 0 {
							t.Errorf("%v from %s to %s: %+v does not tell of %q", c.host, in.name, out.name, got, word)
						}
					}
				}
				names, _ := user.match(t, asking{host: c.host}, in, header("Accept", "text/yaml")).want(t, 200).nodeTypes(t)
				if len(names) != 0 {
					t.Errorf("%v from %s to YAML: %v", c.host, in.name, names)
				}
			}
		}
	})

	t.Run("a host is asked for by values and constraints", func(t *testing.T) {
		m := *m
		m.t = t
		m.publish(m.size("190", 190, 4096, 40), m.a)
		m.publish(m.size("192", 192, 8192, 80), m.a)
		m.publish(m.size("194", 194, 16384, 160), m.a)
		for _, c := range []struct {
			property string
			value    any
			want     []string
		}{
			{"num_cpus", 192, []string{"192", "194"}},
			{"num_cpus", "192", []string{"192", "194"}},
			{"num_cpus", map[string]any{"equal": 192}, []string{"192"}},
			{"num_cpus", map[string]any{"equal": 193}, nil},
			{"num_cpus", map[string]any{"greater_or_equal": 192}, []string{"192", "194"}},
			{"num_cpus", map[string]any{"greater_than": 192}, []string{"194"}},
			{"num_cpus", map[string]any{"less_or_equal": 192}, []string{"190", "192"}},
			{"num_cpus", map[string]any{"less_than": 192}, []string{"190"}},
			{"num_cpus", map[string]any{"in_range": []any{191, 192}}, []string{"192"}},
			{"num_cpus", map[string]any{"in_range": []any{191, "UNBOUNDED"}}, []string{"192", "194"}},
			{"num_cpus", map[string]any{"in_range": []any{"UNBOUNDED", 191}}, []string{"190"}},
			{"num_cpus", map[string]any{"valid_values": []any{194, 190, 1}}, []string{"190", "194"}},
			{"num_cpus", map[string]any{"greater_than": 190, "less_than": 194}, []string{"192"}},
			{"mem_size", "8 GB", []string{"192", "194"}},
			{"mem_size", "8GiB", []string{"192", "194"}},
			{"mem_size", "8192 MiB", []string{"192", "194"}},
			{"mem_size", "8193 MiB", []string{"194"}},
			{"mem_size", "8589934593 B", []string{"194"}},
			{"mem_size", map[string]any{"equal": "8 GB"}, []string{"192"}},
			{"mem_size", map[string]any{"equal": "8 gib"}, []string{"192"}},
			{"mem_size", map[string]any{"less_or_equal": "8 GB"}, []string{"190", "192"}},
			{"mem_size", map[string]any{"less_than": "8 GB"}, []string{"190"}},
			{"mem_size", "7.5 GiB", []string{"192", "194"}},
			{"disk_size", "81 GB", []string{"192", "194"}}, // 80 GiB are more
			{"disk_size", "81 GiB", []string{"194"}},
			{"disk_size", map[string]any{"in_range": []any{"41 GiB", "0.1 TB"}}, []string{"192"}},
			{"num_gpus", 0, []string{"190", "192", "194"}},
			{"num_gpus", 1, nil},
			{"instance_type", m.n("192"), []string{"192"}},
			{"instance_type", map[string]any{"equal": m.n("192")}, []string{"192"}},
			{"instance_type", "", []string{"190", "192", "194"}},
			{"gpu_vendor", "NVIDIA", nil},
		} {
			host := map[string]any{"num_cpus": map[string]any{"in_range": []any{190, 199}}, c.property: c.value}
			if c.property == "num_cpus" {
				host["mem_size"] = map[string]any{"less_or_equal": "16 GiB"}
				host["instance_type"] = ""
			}
			for _, in := range matchFormats {
				var got []string
				for _, name := range user.match(t, asking{host: host}, in).want(t, 200).matched(t).names(m.n("")) {
					if slices.Contains([]string{"190", "192", "194"}, name) {
						got = append(got, name)
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("%s %v in %s: %v, not %v", c.property, c.value, in.name, got, c.want)
				}
			}
		}
		for _, body := range []string{ // more constraints than a map can hold
			`{"host": {"num_cpus": [{"greater_than": 190}, {"less_than": 194}, {"greater_or_equal": 1}]}}`,
			`{"match": {"host": {"num_cpus": 192.0, "mem_size": {"equal": "8 GB"}}}}`,
		} {
			if got := user.post(t, "/match", nil, raw("application/json", body)).want(t, 200).matched(t).names(m.n("")); !slices.Equal(got, []string{"192"}) {
				t.Errorf("%s: %v", body, got)
			}
		}
	})

	t.Run("a host that asks for nothing is fitted by all, the smallest first", func(t *testing.T) {
		m := *m
		m.t = t
		m.promote(m.size("nothing", 1, 1, 0))
		for _, c := range []struct{ contentType, body string }{
			{"application/json", `{"host": {}}`}, {"application/json", `{"match": {"host": {}}}`},
			{"application/xml", `<match><host/></match>`}, {"application/xml", `<match><host></host></match>`}, {"application/x-yaml", "host: {}"},
		} {
			all := user.post(t, "/match", nil, raw(c.contentType, c.body)).want(t, 200).matched(t).Flavors
			installed := slices.IndexFunc(all, func(f fitBody) bool { return len(f.Regions) == 0 })
			if installed < 1 || all[installed-1].Name != m.n("largest") || !slices.ContainsFunc(all[installed:], func(f fitBody) bool { return f.Name == m.n("nothing") }) {
				t.Fatalf("%s: %+v", c.body, all)
			}
			for _, part := range [][]fitBody{all[:installed], all[installed:]} {
				if !slices.IsSortedFunc(part, func(a, b fitBody) int { return rational(t, a.Waste.Total).Cmp(rational(t, b.Waste.Total)) }) {
					t.Errorf("%s: they come in another order: %+v", c.body, part)
				}
			}
		}
	})

	t.Run("GPUs: how many, of which model, by whom", func(t *testing.T) {
		m := *m
		m.t = t
		gpu := func(word string, number, vendor, model string) {
			m.publish(m.size(word, 210, 4096, 40).and("extra_specs", map[string]string{
				"Accelerator:Type": "GPU", "Accelerator:Number": number, "Accelerator:Vendor": vendor, "Accelerator:Model": model,
			}), m.a)
		}
		gpu("t4", "1", "NVIDIA", "Tesla T4")
		gpu("2-t4", "2", "NVIDIA", "Tesla T4")
		gpu("a100", "1", "NVIDIA", "A100 80GB")
		gpu("mi", "1", "AMD", "Instinct MI250")
		m.publish(m.size("none", 210, 4096, 41), m.a)
		for _, c := range []struct {
			number        any
			model, vendor string
			want          []string
		}{
			{nil, "", "", []string{"none", "a100", "mi", "t4", "2-t4"}},
			{1, "", "", []string{"a100", "mi", "t4", "2-t4"}},
			{2, "", "", []string{"2-t4"}},
			{map[string]any{"equal": 1}, "", "", []string{"a100", "mi", "t4"}},
			{3, "", "", nil},
			{nil, "T4", "", []string{"t4", "2-t4"}},
			{2, "tesla t4", "", []string{"2-t4"}},
			{nil, "NVIDIA Tesla-T4", "nvidia", []string{"t4", "2-t4"}},
			{nil, "T4", "AMD", nil},
			{nil, "", "amd", []string{"mi"}},
			{nil, "A10", "", nil},
			{nil, "a100", "", []string{"a100"}},
			{nil, "A100 40GB", "", nil},
			{nil, "MI250", "", []string{"mi"}},
			{0, "T4", "", []string{"none", "a100", "mi", "t4", "2-t4"}},
			{map[string]any{"equal": 0}, "", "", []string{"none"}},
		} {
			host := cpus(210, 210)
			for name, value := range map[string]any{"num_gpus": c.number, "gpu_model": c.model, "gpu_vendor": c.vendor} {
				if value != nil {
					host[name] = value
				}
			}
			for _, in := range matchFormats {
				got := user.match(t, asking{host: host}, in).want(t, 200).matched(t)
				if names := got.names(m.n("")); !slices.Equal(names, c.want) && len(names)+len(c.want) > 0 || (got.Reason == "") != (c.want != nil) {
					t.Errorf("%v in %s: %v, not %v; the reason is %q", host, in.name, names, c.want, got.Reason)
				}
			}
		}
	})

	t.Run("properties that no flavor tells of are ignored, and named", func(t *testing.T) {
		host := map[string]any{"num_cpus": 400, "cpu_frequency": "3 GHz", "sgx": "true", "disk_type": "ssd"}
		for _, in := range matchFormats {
			for _, out := range formats {
				got := user.match(t, asking{host: host}, in, header("Accept", out.mediaType)).want(t, 200).matched(t)
				if !slices.Equal(got.names(m.n("")), []string{"largest"}) || !slices.Equal(got.Ignored, []string{"cpu_frequency", "disk_type", "sgx"}) {
					t.Errorf("from %s to %s: %+v", in.name, out.name, got)
				}
			}
		}
	})

	templates(t, m, user)
	badMatches(t, m, user)

	t.Run("it calls no cloud, and changes nothing", func(t *testing.T) {
		held, before := m.cloud.state(t), user.get(t, "/flavors").want(t, 200)
		m.cloud.stack.ForgetRequests()
		for _, in := range matchFormats {
			for _, accept := range []string{"application/json", "application/xml", "application/x-yaml"} {
				user.match(t, asking{host: cpus(1, 400), regions: []string{m.a}}, in, header("Accept", accept)).want(t, 200)
			}
		}
		for _, service := range []simstack.Service{simstack.Nova, simstack.Keystone} {
			if calls := m.cloud.stack.Count(service, "", "", ""); calls != 0 {
				t.Errorf("%s was called %d times", service, calls)
			}
		}
		user.remains(t, "/flavors", before)
		if after := m.cloud.state(t); after != held {
			t.Errorf("the Novas held\n%s and hold\n%s", held, after)
		}
		// So a region that is down is in nobody's way.
		mend := m.cloud.stack.Fault(m.a, simstack.Fault{Kind: simstack.ServerError})
		defer mend()
		if got := user.match(t, asking{host: map[string]any{"num_cpus": 400}, regions: []string{m.a}}, matchJSON).want(t, 200).matched(t); len(got.Flavors) != 1 {
			t.Errorf("%+v", got)
		}
	})

	t.Run("a flavor of the set-up's own cloud, in the regions that have it", func(t *testing.T) {
		n := s.names(t)
		manager, user := s.product.as(s.manager), s.product.as(s.user)
		specs, gpus := tesla(n)
		made := manager.post(t, "/promotedflavors", flavorOf("name", n("x"), "vcpus", 777, "ram", 2048, "disk", 20, "extra_specs", specs)).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+made.ID, flavorOf("nodes", []string{spain2, trento})).want(t, 200)
		q := asking{host: map[string]any{"num_cpus": map[string]any{"equal": 777}, "gpu_model": n("T4")}}
		for _, c := range []struct{ wanted, want []string }{
			{nil, []string{spain2, trento}}, {[]string{trento, lannion2}, []string{trento}}, {[]string{lannion2}, nil},
		} {
			q.regions = c.wanted
			for _, in := range matchFormats {
				for _, out := range formats {
					got := user.match(t, q, in, header("Accept", out.mediaType)).want(t, 200).matched(t)
					if c.want == nil && len(got.Flavors) == 0 && strings.Contains(got.Reason, lannion2) {
						continue
					}
					if len(got.Flavors) != 1 || got.Flavors[0].ID != made.ID || !slices.Equal(got.Flavors[0].Regions, c.want) ||
						!slices.Equal(got.Flavors[0].Accelerators, gpus) || !slices.Equal(got.Flavors[0].Nodes, []string{spain2, trento}) {
						t.Errorf("%v from %s to %s: %+v", c.wanted, in.name, out.name, got)
					}
				}
			}
		}
	})
}

// templates: the compute nodes of a template.
func templates(t *testing.T, m *stall, user client) {
	for i, word := range []string{"t1", "t2", "t3"} {
		m.publish(m.size(word, 301+i, 1024<<i, 10), m.a)
	}
	const node = `{type: tosca.nodes.Compute, capabilities: {host: {properties: {num_cpus: {in_range: [301, 309]}, mem_size: %s}}}}`
	nodes := map[string]string{
		"web":      fmt.Sprintf(node, "2 GB"),
		"db":       fmt.Sprintf(node, "{greater_than: 2 GiB}"),
		"huge":     fmt.Sprintf(node, "9 TB"),
		"unknown":  fmt.Sprintf(node, "{get_property: [SELF, size]}"),
		"wrong":    fmt.Sprintf(node, "2 XB"),
		"noInput":  fmt.Sprintf(node, "{get_input: nothing}"),
		"software": "{type: tosca.nodes.SoftwareComponent, requirements: [{host: web}]}",
		"hosted":   "{type: tosca.nodes.SoftwareComponent, requirements: [{host: {node_filter: {capabilities: [{host: {properties: [{num_cpus: {equal: 303}}]}}]}}}]}",
	}
	var templates strings.Builder
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		fmt.Fprintf(&templates, "%s: %s\n", name, nodes[name])
	}
	indented := func(text, by string) string {
		return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by) + "\n"
	}
	topology := "node_templates:\n" + indented(templates.String(), "  ")
	service := "tosca_definitions_version: tosca_simple_yaml_1_3\ndescription: of nothing\ntopology_template:\n" + indented(topology, "  ")
	asJSON := func(text string) string {
		var tree any
		if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		return mustEncode(json.Marshal(tree))
	}
	want := map[string]struct {
		flavors []string
		reason  string
	}{
		"db": {[]string{"t3"}, ""}, "web": {[]string{"t2"}, ""}, "hosted": {[]string{"t3"}, ""},
		"huge": {nil, "9 TB"}, "unknown": {nil, "get_property"}, "wrong": {nil, "2 XB"}, "noInput": {nil, `"nothing"`},
	}
	for what, c := range map[string]struct{ contentType, body string }{
		"the service template in YAML":          {"application/x-yaml", service},
		"the service template in JSON":          {"application/json", asJSON(service)},
		"its topology_template":                 {"application/yaml", "topology_template:\n" + indented(topology, "  ")},
		"its node_templates":                    {"text/yaml", topology},
		"its node_templates in JSON":            {"application/json", asJSON(topology)},
		"its node_templates with envelope":      {"application/json", `{"match": ` + asJSON(topology) + `}`},
		"its text in JSON":                      {"application/json", matchJSON.encode(asking{template: service})},
		"its text in YAML":                      {"application/x-yaml", matchYAML.encode(asking{template: topology})},
		"its text in XML":                       {"application/xml", matchXML.encode(asking{template: service})},
		"its text in a CDATA section":           {"text/xml", `<match><template><![CDATA[` + service + `]]></template></match>`},
		"its text, which is JSON":               {"application/json", matchJSON.encode(asking{template: asJSON(service)})},
		"its text with regions and limit in it": {"application/xml", matchXML.encode(asking{template: topology, regions: []string{m.a, m.b}, limit: 1})},
	} {
		t.Run("every compute node of a template is matched, or told why not: "+what, func(t *testing.T) {
			for _, out := range formats {
				got := user.post(t, "/match", nil, raw(c.contentType, c.body), header("Accept", out.mediaType)).want(t, 200).nodes(t)
				var names []string
				for _, node := range got {
					names = append(names, node.Name)
					w := want[node.Name]
					if flavors := node.names(m.n("")); !slices.Equal(flavors, w.flavors) && len(flavors)+len(w.flavors) > 0 || (node.Reason == "") != (w.reason == "") || !strings.Contains(node.Reason, w.reason) {
						t.Errorf("in %s the node %s has %v, not %v, and the reason %q, not %q", out.name, node.Name, flavors, w.flavors, node.Reason, w.reason)
					}
					if wantType := map[bool]string{true: "tosca.nodes.SoftwareComponent", false: "tosca.nodes.Compute"}[node.Name == "hosted"]; node.Type != wantType {
						t.Errorf("in %s the node %s is of type %s", out.name, node.Name, node.Type)
					}
				}
				if sorted := slices.Sorted(maps.Keys(want)); !slices.Equal(names, sorted) {
					t.Errorf("in %s the nodes are %v, not %v", out.name, names, sorted)
				}
			}
			types, _ := user.post(t, "/match", nil, raw(c.contentType, c.body), header("Accept", "application/x-yaml")).want(t, 200).nodeTypes(t)
			if want := []string{"flavorsync.nodes.Compute." + m.n("t3"), "flavorsync.nodes.Compute." + m.n("t2")}; !slices.Equal(types, want) {
				t.Errorf("in YAML they are %v, not %v", types, want)
			}
		})
	}

	t.Run("a node gets one flavor, or as many as limit says", func(t *testing.T) {
		one := "node_templates: {x: " + fmt.Sprintf(node, "1 GB") + "}"
		for limit, want := range map[int][]string{0: {"t1"}, 1: {"t1"}, 2: {"t1", "t2"}, 5: {"t1", "t2", "t3"}} {
			for _, in := range matchFormats {
				got := user.match(t, asking{template: one, limit: limit}, in).want(t, 200).nodes(t)
				if len(got) != 1 || !slices.Equal(got[0].names(m.n("")), want) {
					t.Errorf("at most %d in %s: %+v", limit, in.name, got)
				}
			}
		}
		if got := user.match(t, asking{template: one, regions: []string{m.c}}, matchXML).want(t, 200).nodes(t); len(got) != 1 || len(got[0].Flavors) != 0 || !strings.Contains(got[0].Reason, m.c) {
			t.Errorf("in another region: %+v", got)
		}
	})

	t.Run("inputs are resolved by what is given, then by their defaults", func(t *testing.T) {
		const template = "inputs: {least: {type: integer, default: 302}}\nnode_templates: {x: {type: tosca.nodes.Compute, capabilities: {host: {properties: {num_cpus: {in_range: [{get_input: least}, 309]}}}}}}\n"
		quoted := mustEncode(json.Marshal(template))
		for _, c := range []struct{ contentType, body, want string }{
			{"application/x-yaml", template, "t2"},
			{"application/json", `{"template": ` + quoted + `}`, "t2"},
			{"application/json", `{"template": ` + quoted + `, "inputs": {"least": 303}}`, "t3"},
			{"application/x-yaml", "inputs: {least: 301}\ntopology_template:\n" + indented(template, "  "), "t1"},
			{"application/json", `{"inputs": {"least": "303"}, "topology_template": ` + asJSON(template) + `}`, "t3"},
			{"application/json", `{"template": ` + quoted + `, "inputs": {"other": {"a": [1]}}}`, "t2"},
		} {
			got := user.post(t, "/match", nil, raw(c.contentType, c.body)).want(t, 200).nodes(t)
			if len(got) != 1 || !slices.Equal(got[0].names(m.n("")), []string{c.want}) {
				t.Errorf("%s: %+v, not %s", c.body, got, c.want)
			}
		}
	})

	t.Run("any text that a node's name and type may be comes out, in JSON and in XML", func(t *testing.T) {
		for _, name := range []string{`"<&>'`, "小型 ümläut", " a  b ", "a\nb\tc\rd", "]]>", "😀", strings.Repeat("n", 3000)} {
			body := mustEncode(json.Marshal(map[string]any{"node_templates": map[string]any{name: map[string]any{
				"type": name, "capabilities": map[string]any{"host": map[string]any{"properties": cpus(301, 309)}},
			}}}))
			for _, out := range formats {
				got := user.post(t, "/match", nil, raw("application/json", body), header("Accept", out.mediaType)).want(t, 200).nodes(t)
				if len(got) != 1 || got[0].Name != name || got[0].Type != name || !slices.Equal(got[0].names(m.n("")), []string{"t1"}) {
					t.Errorf("in %s %q comes out as %+v", out.name, name, got)
				}
			}
		}
		const odd = `{"node_templates": {"a\u0000\u001f\ufffeb": {"type": "Compute", "capabilities": {"host": {"properties": {"instance_type": "\u0007"}}}}}}`
		got := user.post(t, "/match", nil, raw("application/json", odd)).want(t, 200).nodes(t)
		if len(got) != 1 || got[0].Name != "a\x00\x1f\ufffeb" || got[0].Reason == "" {
			t.Errorf("%+v", got)
		}
	})

	t.Run("a template without compute nodes has none", func(t *testing.T) {
		for _, in := range matchFormats {
			for _, text := range []string{"node_templates: {}", "topology_template: {node_templates: {a: {type: tosca.nodes.WebServer}}}"} {
				a := user.match(t, asking{template: text}, in).want(t, 200)
				if got := string(compactJSON(a.body)); got != `{"nodes":[]}` {
					t.Errorf("%s in %s: %s", text, in.name, got)
				}
			}
		}
	})

	t.Run("a node of a type that came out asks for that very flavor", func(t *testing.T) {
		m := *m
		m.t = t
		id := m.promote(m.size(`g/p u: "1"`, 305, 3000, 33).and("extra_specs", map[string]string{"Accelerator:Number": "2", "Accelerator:Model": `Tesla: "T4"`}), m.a)
		m.publish(m.size("without", 305, 3000, 33), m.a)
		m.publish(m.size("more", 305, 3001, 33).and("extra_specs", map[string]string{"Accelerator:Number": "2", "Accelerator:Model": `Tesla: "T4"`}), m.a)
		a := user.match(t, asking{host: map[string]any{"instance_type": m.n(`g/p u: "1"`)}}, matchYAML, header("Accept", "application/x-yaml")).want(t, 200)
		names, types := a.nodeTypes(t)
		if len(names) != 1 {
			t.Fatalf("the types are %v: %s", names, a)
		}
		host := types[names[0]].Capabilities.Host
		for property, want := range map[string]string{"num_cpus": "305", "mem_size": "3000 MiB", "disk_size": "33 GiB", "num_gpus": "2", "gpu_model": `Tesla: "T4"`} {
			if p := host.Properties[property]; p.Default != want || len(p.Constraints) != 1 || p.Constraints[0]["equal"] != want {
				t.Errorf("%s is %+v, not %s", property, p, want)
			}
		}
		if of := types[names[0]]; of.DerivedFrom != "tosca.nodes.Compute" || host.Type != "flavorsync.capabilities.Compute" || of.Metadata["flavor_name"] != m.n(`g/p u: "1"`) ||
			of.Metadata["flavor_id"] != id || of.Metadata["regions"] != m.a {
			t.Errorf("the type is %+v", of)
		}
		template := string(a.body) + "topology_template:\n  node_templates:\n    x: {type: " + names[0] + "}\n"
		for _, in := range matchFormats {
			got := user.match(t, asking{template: template, limit: 9}, in).want(t, 200).nodes(t)
			if len(got) != 1 || len(got[0].Flavors) != 1 || got[0].Flavors[0].ID != id || got[0].Flavors[0].Waste.Total != "0" || got[0].Type != names[0] {
				t.Errorf("in %s: %+v", in.name, got)
			}
		}
	})

	t.Run("flavors whose names differ in what a type's name cannot have are told apart by their ids", func(t *testing.T) {
		m := *m
		m.t = t
		ids := map[string]string{}
		for _, word := range []string{"same 1", "same/1"} {
			ids[word] = m.promote(m.size(word, 306, 1000, 1), m.a)
		}
		names, types := user.match(t, asking{host: cpus(306, 306)}, matchJSON, header("Accept", "application/yaml")).want(t, 200).nodeTypes(t)
		plain := "flavorsync.nodes.Compute." + m.n("same-1")
		if want := []string{plain + "." + ids["same 1"], plain + "." + ids["same/1"]}; !slices.Equal(names, want) {
			t.Fatalf("the types are %v, not %v", names, want)
		}
		for i, word := range []string{"same 1", "same/1"} {
			if got := types[names[i]].Metadata; got["flavor_id"] != ids[word] || got["flavor_name"] != m.n(word) {
				t.Errorf("%s is %v", names[i], got)
			}
		}
	})

	t.Run("a name that YAML would take for something else is text", func(t *testing.T) {
		m := *m
		m.t = t
		for _, name := range []string{"1e3", "null", "yes", "0x10", "2026-01-01", "~"} {
			m.promote(m.size("", 308, 1000, 1).and("name", name), m.a)
			names, types := user.match(t, asking{host: map[string]any{"instance_type": name, "num_cpus": 308}}, matchJSON, header("Accept", "text/yaml")).want(t, 200).nodeTypes(t)
			if len(names) != 1 || types[names[0]].Metadata["flavor_name"] != name {
				t.Errorf("%s is %+v", name, types)
			}
		}
	})

	t.Run("a template of 1,000 nodes is matched", func(t *testing.T) {
		var b strings.Builder
		b.WriteString("node_templates:\n")
		for i := range 1000 {
			fmt.Fprintf(&b, "  n%03d: {type: Compute, capabilities: {host: {properties: {num_cpus: {in_range: [302, 309]}}}}}\n", i)
		}
		within(t, 20*time.Second, "its answer", func() {
			got := user.post(t, "/match", nil, raw("application/x-yaml", b.String())).want(t, 200).nodes(t)
			if len(got) != 1000 || got[999].Name != "n999" || !slices.Equal(got[999].names(m.n("")), []string{"t2"}) {
				t.Errorf("there are %d nodes, the last is %+v", len(got), got[len(got)-1])
			}
		})
		b.WriteString("  n1000: {type: Compute}\n")
		user.post(t, "/match", nil, raw("application/x-yaml", b.String())).want(t, 400).says(t, "1001", "1000")
	})
}

// badMatches: what cannot be matched is 400, and said.
func badMatches(t *testing.T, m *stall, user client) {
	for _, c := range []struct {
		property string
		value    any
	}{
		{"mem_size", "4 XB"}, {"mem_size", "-1 GB"}, {"mem_size", "1e309"}, {"mem_size", "1e309 GB"}, {"mem_size", "4"}, {"mem_size", 4}, {"mem_size", "GB"},
		{"mem_size", "4 GB 4"}, {"mem_size", "4,5 GB"}, {"mem_size", "0x4 GB"}, {"mem_size", "NaN GB"}, {"mem_size", "4194304 TiB"}, {"mem_size", strings.Repeat("9", 39) + " GB"},
		{"mem_size", strings.Repeat("9", 400) + " GB"}, {"mem_size", ""}, {"mem_size", map[string]any{"equal": "4 XB"}}, {"mem_size", map[string]any{"at_least": "4 GB"}},
		{"mem_size", map[string]any{"in_range": []any{"8 GB", "4 GB"}}}, {"mem_size", map[string]any{"in_range": []any{"4 GB"}}}, {"mem_size", map[string]any{"in_range": "4 GB"}},
		{"mem_size", map[string]any{"greater_than": "4 GiB", "less_than": "4 GiB"}}, {"mem_size", map[string]any{"equal": []any{"4 GB"}}},
		{"disk_size", "4 XB"}, {"disk_size", "-0.5 TB"}, {"disk_size", map[string]any{"valid_values": "4 GB"}},
		{"num_cpus", -1}, {"num_cpus", "two"}, {"num_cpus", "1.5"}, {"num_cpus", "1e309"}, {"num_cpus", "2147483648"}, {"num_cpus", strings.Repeat("9", 300)}, {"num_cpus", "2 GB"}, {"num_cpus", ""},
		{"num_cpus", map[string]any{"less_than": -4}}, {"num_gpus", "-1"}, {"num_gpus", "many"},
		{"gpu_model", strings.Repeat("x", 256)}, {"gpu_model", map[string]any{"greater_than": "a"}}, {"instance_type", []any{"a", "b"}},
		{"colour", "blue"}, {"NUM_CPUS", 2},
	} {
		t.Run(fmt.Sprintf("%s %s is 400 and said", c.property, shorten(fmt.Sprint(c.value))), func(t *testing.T) {
			for _, in := range matchFormats {
				for _, accept := range []string{"application/json", "application/xml", "application/x-yaml"} {
					checkRefusal(t, user.match(t, asking{host: map[string]any{c.property: c.value}}, in, header("Accept", accept)), c.property)
				}
			}
		})
	}

	deep := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
	var many strings.Builder // of the shortest names, so that the body is not too large
	for i := range 100_000 {
		fmt.Fprintf(&many, "%s%q:{}", map[bool]string{true: "", false: ","}[i == 0], fmt.Sprintf("%c%c%c%c", 'a'+i/17576%26, 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26))
	}
	manyYAML := strings.NewReplacer(`"`, "", ":{}", ": {}", ",", "\n").Replace(many.String())
	const cycle = `{"node_templates": {"a": {"type": "Compute", "requirements": [{"host": "b"}]}, "b": {"type": "Compute", "requirements": [{"host": "c"}]}, "c": {"type": "Compute", "requirements": [{"host": "a"}]}}}`
	for what, c := range map[string]struct {
		contentType, body string
		words             []string
	}{
		"a cycle of hosts":              {"application/json", cycle, []string{"cycle", "a -> b -> c -> a"}},
		"a cycle of hosts in YAML":      {"application/x-yaml", cycle, []string{"cycle", "a -> b -> c -> a"}},
		"a cycle of hosts in XML":       {"application/xml", "<match><template>" + escapeXML(cycle) + "</template></match>", []string{"cycle", "a -> b -> c -> a"}},
		"a node that is its own host":   {"application/x-yaml", "node_templates: {me: {type: Compute, requirements: [{host: me}]}}", []string{"cycle", "me -> me"}},
		"a cycle of types":              {"application/x-yaml", "node_types: {A: {derived_from: B}, B: {derived_from: A}}\nnode_templates: {x: {type: A}}", []string{"cycle", "A -> B -> A"}},
		"an alias that holds itself":    {"application/x-yaml", "host: &a {num_cpus: *a}", nil},
		"a billion laughs":              {"application/x-yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nhost: {num_cpus: [*e,*e]}", []string{"100000"}},
		"100,000 nodes":                 {"application/json", `{"node_templates":{` + many.String() + `}}`, []string{"100000"}},
		"100,000 nodes in YAML":         {"application/x-yaml", "node_templates:\n " + strings.ReplaceAll(manyYAML, "\n", "\n "), []string{"100000"}},
		"100,000 nodes, as text":        {"application/xml", "<match><template>node_templates: {" + strings.ReplaceAll(manyYAML, "\n", ",") + "}</template></match>", []string{"100000"}},
		"a list of 300,000 values":      {"application/json", `{"host": {"num_cpus": {"valid_values": [` + strings.Repeat("1,", 300_000) + `1]}}}`, []string{"100000"}},
		"10,000 levels":                 {"application/json", `{"host": ` + deep(10_000) + `}`, nil},
		"65 levels":                     {"application/json", `{"host": {"num_cpus": ` + deep(65) + `}}`, []string{"64"}},
		"100,000 levels of YAML":        {"application/x-yaml", "host: " + deep(100_000), nil},
		"10,000 elements in each other": {"application/xml", "<match><host>" + strings.Repeat("<a>", 10_000) + strings.Repeat("</a>", 10_000) + "</host></match>", nil},
		"no body":                       {"application/json", "", []string{"empty"}},
		"no body in XML":                {"application/xml", "", []string{"empty"}},
		"no body in YAML":               {"application/x-yaml", "", []string{"empty"}},
		"white space":                   {"application/x-yaml", " \n\t\n", nil},
		"nothing but a comment":         {"application/x-yaml", "# nothing\n", nil},
		"an empty object":               {"application/json", "{}", []string{"host", "template"}},
		"an empty match":                {"application/xml", "<match/>", []string{"host", "template"}},
		"an empty envelope":             {"application/json", `{"match": {}}`, []string{"host", "template"}},
		"an envelope of a list":         {"application/json", `{"match": []}`, nil},
		"a host and a template":         {"application/json", `{"host": {}, "template": "node_templates: {}"}`, []string{"host", "template"}},
		"a host and a template in XML":  {"application/xml", `<match><host/><template>node_templates: {}</template></match>`, []string{"host", "template"}},
		"a host that is null":           {"application/json", `{"host": null}`, []string{"host"}},
		"a host that is null in YAML":   {"application/x-yaml", "host:", []string{"host"}},
		"a host that is a list":         {"application/json", `{"host": [{"num_cpus": 2}]}`, []string{"host"}},
		"a host that is an empty list":  {"application/x-yaml", "host: []", []string{"host"}},
		"a host that is a number":       {"application/json", `{"host": 4}`, []string{"host"}},
		"a host that is text":           {"application/xml", `<match><host>large</host></match>`, []string{"host"}},
		"a list":                        {"application/x-yaml", "- host: {}", nil},
		"text":                          {"application/x-yaml", "host", nil},
		"two documents":                 {"application/x-yaml", "host: {}\n---\nhost: {}", nil},
		"a tab":                         {"application/x-yaml", "host:\n\tnum_cpus: 2", []string{"YAML"}},
		"YAML that is JSON":             {"application/json", "host: {num_cpus: 2}", []string{"JSON"}},
		"a comment in JSON":             {"application/json", `{"host": {"num_cpus": 2 /* two */}}`, []string{"JSON"}},
		"bytes that are no text":        {"application/x-yaml", "host: {gpu_model: \"\xff\xfe\"}", nil},
		"NUL":                           {"application/x-yaml", "host: {gpu_model: \"\x00\"}", nil},
		"a key twice":                   {"application/json", `{"host": {"num_cpus": 1, "num_cpus": 2}}`, []string{"num_cpus"}},
		"a key twice in YAML":           {"application/x-yaml", "host: {num_cpus: 1, num_cpus: 2}", []string{"num_cpus"}},
		"an element twice":              {"application/xml", `<match><host><num_cpus>1</num_cpus><num_cpus>2</num_cpus></host></match>`, []string{"num_cpus"}},
		"host twice":                    {"application/xml", `<match><host/><host/></match>`, []string{"host"}},
		"an unknown member":             {"application/json", `{"host": {}, "colour": "blue"}`, []string{"colour"}},
		"an unknown member beside text": {"application/json", `{"template": "node_templates: {}", "colour": "blue"}`, []string{"colour"}},
		"an unknown member of TOSCA":    {"application/x-yaml", "node_templates: {}\ncolour: blue", []string{"colour"}},
		"inputs beside a host":          {"application/json", `{"host": {}, "inputs": {}}`, []string{"inputs"}},
		"inputs that are a list":        {"application/json", `{"node_templates": {}, "inputs": []}`, []string{"inputs"}},
		"a key that is a list":          {"application/x-yaml", "host: {[a]: 1}", nil},
		"an unknown element":            {"application/xml", `<match><host/><colour>blue</colour></match>`, []string{"colour"}},
		"regions in XML":                {"application/xml", `<match><host/><regions>any</regions></match>`, []string{"regions"}},
		"an attribute":                  {"application/xml", `<match><host size="2"/></match>`, []string{"size"}},
		"another document":              {"application/xml", `<flavor><name>x</name></flavor>`, []string{"match"}},
		"a namespace":                   {"application/xml", `<match xmlns="http://example.org/"><host/></match>`, nil},
		"a DTD":                         {"application/xml", `<!DOCTYPE match [<!ENTITY x "2">]><match><host><num_cpus>&x;</num_cpus></host></match>`, nil},
		"values and constraints":        {"application/xml", `<match><host><num_cpus><value>1</value><equal>1</equal></num_cpus></host></match>`, []string{"num_cpus"}},
		"a limit of 0":                  {"application/json", `{"host": {}, "limit": 0}`, []string{"limit"}},
		"a limit below 0":               {"application/x-yaml", "host: {}\nlimit: -1", []string{"limit"}},
		"a limit that is a word":        {"application/xml", `<match><host/><limit>many</limit></match>`, []string{"limit"}},
		"a limit beyond":                {"application/json", `{"host": {}, "limit": 1e309}`, []string{"limit"}},
		"a limit that is a fraction":    {"application/json", `{"host": {}, "limit": 1.5}`, []string{"limit"}},
		"a limit that is null":          {"application/json", `{"host": {}, "limit": null}`, []string{"limit"}},
		"no regions":                    {"application/json", `{"host": {}, "regions": []}`, []string{"regions"}},
		"regions that are numbers":      {"application/json", `{"host": {}, "regions": [1]}`, []string{"regions"}},
		"a region that is none":         {"application/xml", `<match><host/><region>a b/c</region></match>`, []string{"regions"}},
		"regions that are null":         {"application/json", `{"host": {}, "regions": null}`, []string{"regions"}},
		"a function outside a template": {"application/json", `{"host": {"num_cpus": {"get_input": "x"}}}`, []string{"num_cpus", "get_input"}},
		"a template that is a map":      {"application/json", `{"template": {"node_templates": {}}}`, []string{"template"}},
		"a template that is empty":      {"application/json", `{"template": ""}`, nil},
		"a template that is no YAML":    {"application/xml", `<match><template>a: [</template></match>`, []string{"YAML"}},
		"a template without nodes":      {"application/x-yaml", "topology_template: {}", []string{"node_templates"}},
		"a template that is text":       {"application/json", `{"template": "hello"}`, nil},
		"nodes that are a list":         {"application/json", `{"node_templates": [{"a": {}}]}`, []string{"node_templates"}},
		"a node that is a number":       {"application/x-yaml", "node_templates: {a: 1}", []string{"a"}},
		"node types that are a list":    {"application/x-yaml", "node_types: []\nnode_templates: {a: {type: B}}", []string{"node_types"}},
	} {
		t.Run("what is "+what+" is refused with 400, quickly", func(t *testing.T) {
			for _, accept := range []string{"application/json", "application/xml", "application/x-yaml"} {
				within(t, 5*time.Second, "the refusal", func() {
					a := user.post(t, "/match", nil, raw(c.contentType, c.body), header("Accept", accept)).want(t, 400)
					a.says(t, c.words...)
					if len(a.body) > 2000 {
						t.Errorf("the refusal has %d bytes", len(a.body))
					}
				})
			}
		})
	}

	t.Run("a body of more than 1 MiB is 413", func(t *testing.T) {
		var b strings.Builder
		for i := range 100_000 {
			fmt.Fprintf(&b, "  node-%d: {type: tosca.nodes.Compute}\n", i)
		}
		for contentType, body := range map[string]string{
			"application/x-yaml": "node_templates:\n" + b.String(), "application/json": `{"template": ` + mustEncode(json.Marshal(b.String())) + `}`,
			"application/xml": "<match><template>" + b.String() + "</template></match>", "text/plain": b.String(),
		} {
			within(t, 5*time.Second, "the refusal", func() {
				user.post(t, "/match", nil, raw(contentType, body)).want(t, 413)
				user.post(t, "/match", nil, raw(contentType, body), chunked).want(t, 413)
			})
		}
	})

	t.Run("another media type is 415, and what is taken is told", func(t *testing.T) {
		for _, contentType := range []string{"text/plain", "application/toml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/octet-stream", "nonsense", ""} {
			for _, accept := range []string{"application/json", "application/xml", "application/x-yaml"} {
				user.post(t, "/match", nil, raw(contentType, `{"host": {}}`), header("Accept", accept)).want(t, 415).says(t, "application/json", "application/x-yaml")
			}
		}
		user.post(t, "/match", nil, raw("application/x-yaml; charset=iso-8859-1", "host: {}")).want(t, 415)
		user.post(t, "/match", nil, raw("application/json", `{"host": {}}`), header("Content-Encoding", "gzip")).want(t, 415)
		for _, contentType := range []string{"application/x-yaml", "application/yaml", "text/yaml", "application/yaml; charset=utf-8", "Application/X-YAML"} {
			user.post(t, "/match", nil, raw(contentType, "host: {num_cpus: 400}")).want(t, 200)
		}
	})

	t.Run("YAML comes out where it is accepted most", func(t *testing.T) {
		for accept, want := range map[string]string{
			"application/x-yaml": "application/x-yaml", "application/yaml": "application/x-yaml", "text/yaml": "application/x-yaml", "APPLICATION/YAML": "application/x-yaml",
			"application/json;q=0.5, application/x-yaml": "application/x-yaml", "application/json, application/x-yaml;q=0.9": "application/json",
			"application/xml, text/yaml;q=0.1": "application/xml", "text/yaml;q=0.2, text/xml;q=0.1": "application/x-yaml", "application/x-yaml;q=0": "application/json",
			"application/*": "application/json", "*/*": "application/json", "application/vnd.yaml": "application/json",
		} {
			a := user.match(t, asking{host: map[string]any{"num_cpus": 400}}, matchJSON, header("Accept", accept)).want(t, 200)
			if got, _, _ := strings.Cut(a.header.Get("Content-Type"), ";"); got != want {
				t.Errorf("Accept: %s gives %s, not %s", accept, got, want)
			}
		}
	})

	t.Run("YAML and XML may be written as one likes", func(t *testing.T) {
		for _, c := range []struct{ contentType, body string }{
			{"application/x-yaml", "# a comment\n---\nhost: {num_cpus: 400}\n...\n"},
			{"application/x-yaml", "host:\n  <<: {num_cpus: 7}\n  num_cpus: 400\n"},
			{"application/x-yaml", "host: {num_cpus: {in_range: [&n 400, *n]}}\n"},
			{"application/x-yaml", `{"match": {"host": {"num_cpus": 400}}}`},
			{"application/xml", "<?xml version=\"1.0\"?>\n<!-- large -->\n<match>\n  <host>\n    <num_cpus>\n      400\n    </num_cpus>\n  </host>\n</match>\n"},
		} {
			got := user.post(t, "/match", nil, raw(c.contentType, c.body)).want(t, 200).matched(t).names(m.n(""))
			if !slices.Equal(got, []string{"largest"}) {
				t.Errorf("%s: %v", c.body, got)
			}
		}
	})
}

// rational is a decimal, exactly.
func rational(t *testing.T, decimal string) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(decimal)
	if !ok {
		t.Fatalf("%q is no decimal", decimal)
	}
	return r
}
