package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/match"
)

var fitting = marketplace.Match{Fits: []match.Fit{{
	Entry:   &match.Entry{Flavor: withGPU, Price: new(flavor.Amount(8_500_000)), Currency: "DKK", Period: flavor.Hour},
	Regions: []string{"Trento"}, Waste: match.Waste{VCPUs: 2, RAMMB: 512, DiskGB: 10, GPUs: 1, Total: 18225},
}}}

const fitJSON = `"regions": ["Trento"], "waste": {"vcpus": 2, "ram": 512, "disk": 10, "gpus": 1, "total": "18.225"}, "price": "8.5", "currency": "DKK", "period": "hour"}`

// What an orchestrator asks is one thing in every format and with every envelope.
func TestMatchRequests(t *testing.T) {
	const template = `{"node_templates": {"server": {"type": "tosca.nodes.Compute", "capabilities": {"host": {"properties": {"num_cpus": 2}}}}}}`
	for body, want := range map[string]struct {
		mediaType string
		calls     string
		vcpus     int64
		regions   string
	}{
		`{"host": {"num_cpus": 2}}`: {"application/json", "Match 1 0", 2, ""},
		`{"match": {"host": {"num_cpus": 2}, "regions": "any", "limit": 3}}`:                                                 {"application/json", "Match 1 3", 2, ""},
		`{"host": {"num_cpus": {"in_range": [2, 4]}}, "regions": ["Trento", "Spain2"]}`:                                      {"application/json; charset=utf-8", "Match 1 0", 2, "Spain2 Trento"},
		"host: {num_cpus: 2}\nregions: Trento\n":                                                                             {"application/x-yaml", "Match 1 0", 2, "Trento"},
		`<match><host><num_cpus> 2 </num_cpus></host><region>Trento</region><region>Spain2</region><limit>4</limit></match>`: {"application/xml", "Match 1 4", 2, "Spain2 Trento"},
		`<match><host><num_cpus><in_range><value>2</value><value>4</value></in_range></num_cpus></host></match>`:             {"text/xml", "Match 1 0", 2, ""},
		template:                      {"application/json", "Match 1 1", 2, ""},
		`{"match": ` + template + `}`: {"application/json", "Match 1 1", 2, ""},
		`{"topology_template": ` + template + `}`: {"application/json", "Match 1 1", 2, ""},
		"tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template:\n  inputs: {cpus: {type: integer}}\n  node_templates:\n" +
			"    server: {type: tosca.nodes.Compute, capabilities: {host: {properties: {num_cpus: {get_input: cpus}}}}}\ninputs: {cpus: 2}\nlimit: 5\n": {"text/yaml", "Match 1 5", 2, ""},
		`<match><template>node_templates: {server: {type: tosca.nodes.Compute, capabilities: {host: {properties: {num_cpus: 2}}}}}</template><region>any</region></match>`: {"application/xml", "Match 1 1", 2, ""},
		`{"template": "node_templates: {a: {type: Compute}, b: {type: Compute}}"}`:                                                                                         {"application/json", "Match 2 1", 0, ""},
	} {
		s := newSetup(t)
		s.market.matches = []marketplace.Match{fitting, {Reason: "none"}}
		w := s.do(t, "POST /v1/match", body, "Content-Type: "+want.mediaType)
		wantStatus(t, w, 200)
		if got := s.market.called(); got != want.calls {
			t.Errorf("%s: called %s, not %s", body, got, want.calls)
			continue
		}
		r := s.market.wanted[0]
		if r.VCPUs.Min != want.vcpus || strings.Join(r.Regions, " ") != want.regions {
			t.Errorf("%s: asked for %+v", body, r)
		}
	}
}

func TestMatchRefusals(t *testing.T) {
	deep := strings.Repeat("<a>", 50) + strings.Repeat("</a>", 50)
	for body, want := range map[string]struct {
		mediaType string
		status    int
		words     string
	}{
		`{}`:                           {"application/json", 400, "one of host, node_templates, topology_template and template; it has none"},
		`{"host": {}, "template": ""}`: {"application/json", 400, "it has host and template"},
		`[]`:                           {"application/json", 400, "the body must be an object"},
		`{"host": {"num_cpus": 2}`:     {"application/json", 400, "not JSON: it ends too soon"},
		`{"host": {"num_cpus": 2, "num_cpus": 3}}`: {"application/json", 400, "num_cpus: is given twice"},
		`{"host": {}} x`:                        {"application/json", 400, "goes on after the end"},
		`{"host": {"num_cpus": -1}}`:            {"application/json", 400, "host.num_cpus"},
		`{"host": {"mem_size": "4 XB"}}`:        {"application/json", 400, "host.mem_size"},
		`{"host": {"mem_size": "-1 GB"}}`:       {"application/json", 400, "host.mem_size"},
		`{"host": {"mem_size": "1e309"}}`:       {"application/json", 400, "host.mem_size"},
		`{"host": {"mem_size": 1e309}}`:         {"application/json", 400, "host.mem_size"},
		`{"host": {}, "node": 1}`:               {"application/json", 400, `\"node\": there is no such field`},
		`{"node_templates": {}, "region": "a"}`: {"application/json", 400, `\"region\": there is no such field`},
		`{"node_templates": {}, "inputs": 1}`:   {"application/json", 400, "inputs: must be an object"},
		`{"host": {}, "regions": []}`:           {"application/json", 400, "regions: names none"},
		`{"host": {}, "regions": ["a b"]}`:      {"application/json", 400, "regions: must be a list"},
		`{"host": {}, "regions": {"a": 1}}`:     {"application/json", 400, "regions: must be a list"},
		`{"host": {}, "limit": "1"}`:            {"application/json", 400, "limit: must be"},
		`{"host": {}, "regions": ["any", "a"]}`: {"application/json", 400, "regions: any stands alone"},
		`{"host": {}, "limit": 0}`:              {"application/json", 400, "limit: must be"},
		`{"host": {}, "limit": "x"}`:            {"application/json", 400, "limit: must be"},
		`{"host": {}, "limit": 1.5}`:            {"application/json", 400, "limit: must be"},
		`{"template": 1}`:                       {"application/json", 400, "template: must be the text"},
		`{"template": "a", "imports": []}`:      {"application/json", 400, `\"imports\": there is no such field`},
		`{"node_templates": {"a": {"type": "Compute", "requirements": [{"host": "b"}]}, "b": {"type": "Compute", "requirements": [{"host": "a"}]}}}`: {"application/json", 400, "cycle"},
		`{"node_templates": {` + strings.Repeat(`"a": {}, `, 2) + `"b": {}}}`:                                                                        {"application/json", 400, "is given twice"},
		"&a [*a, *a]":             {"application/x-yaml", 400, ""},
		"host: {}\n---\nhost: {}": {"application/x-yaml", 400, "second document"},
		`<match/>`:                {"application/xml", 400, "it has none"},
		`<flavor/>`:               {"application/xml", 400, "root element must be <match>"},
		`<match><host>` + deep + `</host></match>`:                                          {"application/xml", 400, "too deep"},
		`<match><host><num_cpus>1</num_cpus><num_cpus>2</num_cpus></host></match>`:          {"application/xml", 400, "num_cpus: is given twice"},
		`<match><host><num_cpus><value>1</value><equal>1</equal></num_cpus></host></match>`: {"application/xml", 400, "must hold <value> elements alone"},
		`<match><host>x<num_cpus>1</num_cpus></host></match>`:                               {"application/xml", 400, "no text between"},
		`<match><host a="b"/></match>`:                                                      {"application/xml", 400, "no such attribute"},
		`<match><hots/></match>`:                                                            {"application/xml", 400, "no such element"},
		`<match><host/></match><match/>`:                                                    {"application/xml", 400, "goes on after the end"},
		`host`:                                                                              {"text/plain", 415, "application/x-yaml"},
	} {
		s := newSetup(t)
		w := s.do(t, "POST /v1/match", body, "Content-Type: "+want.mediaType)
		if w.Code != want.status || !strings.Contains(strings.ReplaceAll(w.Body.String(), "&#34;", `\"`), want.words) && !strings.Contains(w.Body.String(), want.words) {
			t.Errorf("%s: %d %s; not %d %s", body, w.Code, w.Body, want.status, want.words)
		}
		if got := s.market.called(); got != "" {
			t.Errorf("%s: called %s", body, got)
		}
	}
	// One node that cannot be read is told of by itself.
	s := newSetup(t)
	s.market.matches = []marketplace.Match{fitting}
	w := s.do(t, "POST /v1/match", `{"node_templates": {"bad": {"type": "Compute", "capabilities": {"host": {"properties": {"num_cpus": "x"}}}}, "good": {"type": "Compute"}}}`)
	wantStatus(t, w, 200)
	if body := w.Body.String(); !strings.Contains(body, `{"name": "bad", "type": "Compute", "flavors": [], "reason": "`) || !strings.Contains(body, fitJSON) {
		t.Errorf("got %s", body)
	}
}

func TestMatchAnswers(t *testing.T) {
	const host = `{"host": {"num_cpus": 2, "cpu_frequency": "1 GHz"}}`
	const template = `{"node_templates": {"a": {"type": "tosca.nodes.Compute"}, "b": {"type": "tosca.nodes.Compute"}}}`
	fitXML := `<regions><region>Trento</region></regions><waste><vcpus>2</vcpus><ram>512</ram><disk>10</disk><gpus>1</gpus><total>18.225</total></waste><price>8.5</price><currency>DKK</currency><period>hour</period></flavor>`
	inner := string(encodeFlavor(asJSON, &withGPU))
	inner = strings.TrimSuffix(strings.TrimPrefix(inner, `{"flavor": `), "}}")
	flavorXML := strings.TrimSuffix(strings.TrimPrefix(string(encodeFlavor(asXML, &withGPU)), xmlDeclaration), "</flavor>")
	for _, c := range []struct{ body, accept, want string }{
		{host, "application/json", `{"flavors": [` + inner + ", " + fitJSON + `], "ignored": ["cpu_frequency"]}`},
		{host, "application/xml", xmlDeclaration + "<match><flavors>" + flavorXML + fitXML + "</flavors><ignored>cpu_frequency</ignored></match>"},
		{template, "application/json", `{"nodes": [{"name": "a", "type": "tosca.nodes.Compute", "flavors": [` + inner + ", " + fitJSON + `]}, {"name": "b", "type": "tosca.nodes.Compute", "flavors": [], "reason": "too large"}]}`},
		{template, "text/xml", xmlDeclaration + `<match><node name="a"><type>tosca.nodes.Compute</type><flavors>` + flavorXML + fitXML + `</flavors></node><node name="b"><type>tosca.nodes.Compute</type><flavors></flavors><reason>too large</reason></node></match>`},
	} {
		s := newSetup(t)
		s.market.matches = []marketplace.Match{fitting, {Reason: "too large"}}
		w := s.do(t, "POST /v1/match", c.body, "Accept: "+c.accept)
		wantStatus(t, w, 200)
		if diff := cmp.Diff(c.want, w.Body.String()); diff != "" {
			t.Error(diff)
		}
	}
	for accept, want := range map[string]string{
		"application/x-yaml": "application/x-yaml; charset=utf-8", "application/yaml": "application/x-yaml; charset=utf-8",
		"application/json;q=0.5, text/yaml": "application/x-yaml; charset=utf-8", "application/x-yaml;q=0.1, application/xml": "application/xml; charset=utf-8",
		"*/*": "application/json; charset=utf-8", "text/*": "text/xml; charset=utf-8", "image/png": "application/json; charset=utf-8",
	} {
		s := newSetup(t)
		s.market.matches = []marketplace.Match{fitting, fitting}
		w := s.do(t, "POST /v1/match", template, "Accept: "+accept)
		wantStatus(t, w, http.StatusOK)
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("Accept: %s gives %s", accept, got)
		}
		if strings.Contains(want, "yaml") && (strings.Count(w.Body.String(), "flavor_id") != 1 || !strings.Contains(w.Body.String(), "tosca_simple_yaml_1_3")) {
			t.Errorf("Accept: %s gives\n%s", accept, w.Body)
		}
	}
}

// A short body must not ask for an answer of gigabytes.
func TestMatchAnswersAreBounded(t *testing.T) {
	nodes := ""
	for i := range 30 {
		nodes += `, "n` + string(rune('a'+i%26)) + string(rune('a'+i/26)) + `": {"type": "Compute"}`
	}
	s := newSetup(t)
	s.market.matches = make([]marketplace.Match, 31)
	body := func(limit string) string {
		return `{"node_templates": {"first": {"type": "Compute"}` + nodes + `}, "limit": ` + limit + `}`
	}
	wantStatus(t, s.do(t, "POST /v1/match", body("64")), 200)
	w := s.do(t, "POST /v1/match", body("2147483647"))
	wantStatus(t, w, 400)
	if !strings.Contains(w.Body.String(), "limit: 2147483647 flavors for each of 31 nodes are more than the 2000") {
		t.Errorf("got %s", w.Body)
	}
	w = s.do(t, "GET /v1/flavors?gpu_model="+strings.Repeat("a", 256), "")
	wantStatus(t, w, 400)
}
