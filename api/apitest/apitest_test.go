package apitest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flavorsync/flavorsync/api"
)

func compiled(t testing.TB) *description {
	t.Helper()
	d, err := compile(api.OpenAPI, api.XSD)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// exchange is one request with its answer, as a test changes it.
type exchange struct {
	method, url string
	header      map[string]string
	body        string
	status      int
	answered    map[string]string
	answer      string
}

func (e exchange) problems(d *description) []string {
	req := httptest.NewRequest(e.method, e.url, nil)
	for name, value := range e.header {
		req.Header.Set(name, value)
	}
	resp := &http.Response{StatusCode: e.status, Header: http.Header{}}
	for name, value := range e.answered {
		resp.Header.Set(name, value)
	}
	return d.check(req, []byte(e.body), resp, []byte(e.answer))
}

const (
	jsonType  = "application/json; charset=utf-8"
	xmlType   = "application/xml; charset=utf-8"
	aFlavor   = `{"flavor": {"id": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "insane", "vcpus": 640, "ram": 1232896, "disk": 1262485504, "swap": 0, "promoted": false, "public": false, "nodes": ["Mordor"]}}`
	aFlavorID = "567b200e-0aca-49c4-8b52-6c3c2f0b4d11"
	yamlType  = "application/x-yaml; charset=utf-8"
	aProduct  = `{"product": {"id": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "insane", "category": "uc-general", "price": "0.34", "currency": "DKK", "period": "hour", "free_to_use": false, "hidden_in_grant_applications": false, "vcpus": 640, "ram": 1232896, "gpus": 0}}`
	aFit      = `{"id": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "insane", "vcpus": 640, "ram": 1232896, "disk": 40, "swap": 0, "promoted": true, "public": true, "nodes": [], "regions": [], "waste": {"vcpus": 638, "ram": 0, "disk": 40, "gpus": 0, "total": "638.4"}}`
	nodeTypes = "tosca_definitions_version: tosca_simple_yaml_1_3\nnode_types:\n  flavorsync.nodes.Compute.insane:\n    derived_from: tosca.nodes.Compute\n" +
		"    metadata: {flavor_id: \"567b200e-0aca-49c4-8b52-6c3c2f0b4d11\", flavor_name: \"insane\"}\n    capabilities:\n      host:\n        type: tosca.capabilities.Compute\n" +
		"        properties:\n          num_cpus: {type: integer, default: 640, constraints: [{equal: 640}]}\n          mem_size: {type: scalar-unit.size, default: 4 MiB, constraints: [{equal: 4 MiB}]}\n" +
		"          disk_size: {type: scalar-unit.size, default: 0 GiB, constraints: [{equal: 0 GiB}]}\n"
	productsOfCore = `{"responses":[]}`
	xmlFlavor      = declaration + "\n" + `<flavor id="567b200e-0aca-49c4-8b52-6c3c2f0b4d11"><name>insane</name><vcpus>640</vcpus><ram>1232896</ram><disk>1262485504</disk><swap>0</swap><promoted>false</promoted><public>false</public><node>Mordor</node></flavor>`
)

func read(media, body string) exchange {
	return exchange{
		method: "GET", url: "/v1/flavors/" + aFlavorID, header: map[string]string{"X-Auth-Token": "user"}, status: 200,
		answered: map[string]string{"Content-Type": media, "X-Request-Id": "req-1", "ETag": `"abc"`, "Vary": "Accept, X-Auth-Token", "Cache-Control": "private"},
		answer:   body,
	}
}

func create(media, body string) exchange {
	return exchange{
		method: "POST", url: "/v1/flavors", header: map[string]string{"X-Auth-Token": "owner", "Content-Type": media}, body: body, status: 201,
		answered: map[string]string{"Content-Type": jsonType, "X-Request-Id": "req-1", "Location": "/v1/flavors/" + aFlavorID},
		answer:   aFlavor,
	}
}

func change(media, body string) exchange {
	e := create(media, body)
	e.method, e.url, e.status = "PUT", "/v1/flavors/"+aFlavorID, 200
	delete(e.answered, "Location")
	return e
}

func refuse(status int, media, body string) exchange {
	e := read(media, body)
	e.status = status
	e.answered = map[string]string{"Content-Type": media, "X-Request-Id": "req-1"}
	return e
}

// core is a call of UCloud's Core, and ucloudError an error as Core reads one.
func core(status int, body string) exchange {
	e := read(jsonType, body).at("/ucloud/aau/jobs/retrieveProducts").with("X-Auth-Token", "").with("Authorization", "Bearer eyJ")
	e.status = status
	return e
}

func ucloudError(status int) string {
	return fmt.Sprintf(`{"statusCode":%d,"why":"no","errorCode":"","detailedCode":0}`, status)
}

// ask is a question for flavors that fit, with its answer.
func ask(media, body, answered, answer string) exchange {
	e := create(media, body).at("/v1/match").answering("Location", "").answering("Content-Type", answered)
	e.status, e.answer = 200, answer
	return e
}

// inFlavor reads the flavor with a replacement.
func inFlavor(t *testing.T, from, to string) exchange {
	t.Helper()
	if !strings.Contains(aFlavor, from) {
		t.Fatalf("%s is not in the flavor", from)
	}
	return read(jsonType, strings.Replace(aFlavor, from, to, 1))
}

func priced(media, body string) exchange {
	e := change(media, body).at("/v1/promotedflavors/" + aFlavorID + "/product")
	e.answer = aProduct
	return e
}

func pushed(answer string) exchange {
	e := create("", "").at("/v1/products/push?dry_run=true").answering("Location", "")
	e.status, e.answer = 200, answer
	return e
}

func (e exchange) at(url string) exchange { e.url = url; return e }

func (e exchange) by(method string) exchange { e.method = method; return e }

func (e exchange) with(name, value string) exchange {
	e.header = clone(e.header, name, value)
	return e
}

func (e exchange) answering(name, value string) exchange {
	e.answered = clone(e.answered, name, value)
	return e
}

func clone(m map[string]string, name, value string) map[string]string {
	c := map[string]string{name: value}
	for n, v := range m {
		if n != name {
			c[n] = v
		}
	}
	if value == "" {
		delete(c, name)
	}
	return c
}

// What clients rely on passes: both prefixes, aliases, a trailing slash, each
// credential, both formats, bare bodies.
func TestGoodExchangesPass(t *testing.T) {
	d := compiled(t)
	login := "Could not verify your access level for that URL. You have to login with proper token"
	regions := read(jsonType, `{"Infrastructures": [{"id": "Trento", "name": "Trento"}]}`)
	list := read(jsonType, `{"flavors": []}`)
	tests := map[string]exchange{
		"JSON":             read(jsonType, aFlavor),
		"XML":              read(xmlType, xmlFlavor),
		"text/xml":         read("text/xml; charset=utf-8", xmlFlavor),
		"other prefix":     read(jsonType, aFlavor).at("/api/v1/flavors/" + aFlavorID),
		"trailing slash":   read(jsonType, aFlavor).at("/v1/flavors/" + aFlavorID + "/"),
		"access_token":     read(jsonType, aFlavor).with("X-Auth-Token", "").at("/v1/flavors/x?access_token=t"),
		"bearer":           read(jsonType, aFlavor).with("X-Auth-Token", "").with("Authorization", "Bearer t"),
		"header pair":      read(jsonType, aFlavor).with("X-Auth-Token", "").with("user", "u").with("password", "p"),
		"HEAD":             read(jsonType, "").by("HEAD"),
		"regions":          regions.at("/v1/regions"),
		"nodes":            regions.at("/api/v1/nodes/"),
		"region, singular": read(jsonType, strings.Replace(aFlavor, "Mordor", "Trento", 1)).at("/v1/region/Trento/flavors/m1%20tiny").with("X-Auth-Token-KeyStone", "gAAAA"),
		"bare filter":      list.at("/v1/flavors?public&promoted=1&limit=2"),
		"unknown query":    list.at("/v1/flavors?_=1700000000"),
		"next page":        list.at("/v1/flavors?limit=1").answering("Link", `</v1/flavors?limit=1&marker=abc>; rel="next"`),
		"create":           create("application/json", `{"flavor": {"name": "a", "vcpus": 1, "ram": 1, "disk": 0}}`),
		"create, bare":     create("application/json; charset=UTF-8", `{"name": "a", "vcpus": 1, "ram": 1, "disk": 0}`),
		"create, XML":      create("text/xml", `<flavor><disk>0</disk><name>a</name><ram>1</ram><vcpus>1</vcpus></flavor>`),
		"read, posted":     create("application/json", aFlavor),
		"read, posted XML": create("application/xml", xmlFlavor),
		"install":          change("application/json", `{"node": "Trento"}`),
		"install, XML":     change("application/xml", `<flavor><node>Trento</node><node>Spain2</node></flavor>`),
		"install, bare":    change("application/xml", `<?xml version="1.0"?> <node>Trento</node>`),
		"bad request":      refuse(400, xmlType, declaration+`<error><message>no</message></error>`),
		"unknown nodes":    refuse(409, jsonType, `{"error": {"message": "no", "nodes": [{"node": "a b/c", "status": 409, "message": "no"}, {"node": "", "status": 409, "message": "no"}]}}`).by("PUT"),
		"unknown, XML":     refuse(409, xmlType, declaration+`<error><message>no</message><nodes><node><name>a b/c</name><status>409</status><message>no</message></node></nodes></error>`).by("PUT"),
		"refused body": func() exchange {
			e := change("text/csv", "?")
			e.status = 415
			e.answer = `{"error": {"message": "m"}}`
			return e
		}(),
		"login":          refuse(401, "text/plain; charset=utf-8", login).answering("WWW-Authenticate", "Bearer"),
		"unknown path":   refuse(404, jsonType, `{"error": {"message": "no"}}`).at("/v1/nothing"),
		"unknown method": refuse(405, jsonType, `{"error": {"message": "no"}}`).by("PATCH").answering("Allow", "GET, OPTIONS"),
		"OPTIONS":        {method: "OPTIONS", url: "/v1/flavors", status: 204, answered: map[string]string{"Allow": "GET, OPTIONS"}},
		"not modified":   refuse(304, "", "").answering("ETag", `"abc"`),
		"deleted":        refuse(204, "", "").by("DELETE"),
		"health":         refuse(200, "text/plain; charset=utf-8", "ok\n").at("/healthz"),

		"GPUs":              inFlavor(t, `"nodes"`, `"accelerators": [{"number": 1, "memory": 16}], "nodes"`),
		"GPUs, posted":      create("application/json", `{"name": "a", "vcpus": 1, "ram": 1, "disk": 0, "accelerators": [{"number": 1}]}`),
		"GPUs, put in XML":  change("text/xml", `<flavor><accelerators><accelerator><type>GPU</type><number>1</number></accelerator></accelerators></flavor>`),
		"with GPUs":         list.at("/v1/flavors?gpu&gpu_model=Tesla+T4"),
		"product":           read(jsonType, aProduct).at("/v1/promotedflavors/" + aFlavorID + "/product"),
		"products, XML":     read(xmlType, declaration+`<products/>`).at("/v1/products"),
		"price":             priced("application/json", `{"price": "0.340", "currency": ""}`),
		"product, put back": priced("application/json", aProduct),
		"price, XML":        priced("application/xml", `<product><price/><by_formula>true</by_formula></product>`),
		"price, bare":       priced("application/xml", `<price>0.34</price>`),
		"push":              pushed(`{"push": {"mode": "v2", "state": "running", "sent": [{"category": "c", "products": ["p"]}], "unchanged": 0, "failed": []}}`),
		"GLUE 2":            read(jsonType, "").by("HEAD").at("/v1/nodes/Trento/glue2"),

		"match":           ask("application/json", `{"host": {"num_cpus": [{"greater_than": "1"}], "sgx": true}, "regions": "any"}`, jsonType, `{"flavors": [`+aFit+`], "reason": "r", "ignored": ["sgx"]}`),
		"match, XML":      ask("text/xml", `<match><region>A</region><host><mem_size>4 GB</mem_size></host><region>B</region></match>`, xmlType, declaration+`<match></match>`),
		"match, YAML":     ask("text/yaml", "match:\n  template: |\n    a\n  inputs: {a: 1}\n", yamlType, nodeTypes),
		"match, template": ask("application/x-yaml", "tosca_definitions_version: tosca_simple_yaml_1_3\ntopology_template: {node_templates: {}}\n", jsonType, `{"nodes": [{"name": "a", "type": "", "flavors": []}]}`),
		"match, nodes":    ask("application/yaml", "node_templates: {}\nlimit: 2\n", jsonType, `{"nodes": []}`),
		"match, unknown media": func() exchange {
			e := ask("text/csv", "", jsonType, `{"error": {"message": "m"}}`)
			e.status = 415
			return e
		}(),

		"Core":                  core(200, productsOfCore),
		"Core, no token":        core(401, ucloudError(401)).with("Authorization", "").answering("WWW-Authenticate", "Bearer").answering("ETag", ""),
		"Core, another method":  core(405, ucloudError(405)).by("POST").answering("Allow", "GET").answering("ETag", ""),
		"Core, DELETE":          core(405, ucloudError(405)).by("DELETE").answering("Allow", "GET").answering("ETag", ""),
		"Core, jobs":            core(501, ucloudError(501)).by("POST").at("/ucloud/aau/jobs").answering("ETag", ""),
		"Core, terminate":       core(501, ucloudError(501)).by("POST").at("/ucloud/aau/jobs/terminate/").answering("ETag", ""),
		"Core, utilization":     core(501, ucloudError(501)).at("/ucloud/aau/jobs/retrieveUtilization"),
		"Core, another path":    core(404, ucloudError(404)).at("/ucloud/aau/files"),
		"Core, no HEAD of jobs": core(501, "").by("HEAD").at("/ucloud/aau/jobs"),
		"Core below /api":       core(404, `{"error": {"message": "no"}}`).at("/api/ucloud/aau/jobs/retrieveProducts"),
	}
	for name, e := range tests {
		if problems := e.problems(d); len(problems) > 0 {
			t.Errorf("%s: %s", name, strings.Join(problems, "; "))
		}
	}
}

// Each is one mistake away from a good exchange; a validator that lets it pass
// proves nothing about the rest.
func TestBadExchangesAreFound(t *testing.T) {
	d := compiled(t)
	inJSON := func(from, to string) exchange { t.Helper(); return inFlavor(t, from, to) }
	inProduct := func(from, to string) exchange {
		return read(jsonType, strings.Replace(aProduct, from, to, 1)).at("/v1/promotedflavors/" + aFlavorID + "/product")
	}
	matched := func(from, to string) exchange {
		return ask("application/json", `{"host": {}}`, jsonType, `{"flavors": [`+strings.Replace(aFit, from, to, 1)+`]}`)
	}
	withoutWaste, _, _ := strings.Cut(aFit, `, "waste"`)
	asked := func(media, body string) exchange { return ask(media, body, jsonType, `{"nodes": []}`) }
	inXML := func(from, to string) exchange {
		if !strings.Contains(xmlFlavor, from) {
			t.Fatalf("%s is not in the flavor", from)
		}
		return read(xmlType, strings.Replace(xmlFlavor, from, to, 1))
	}
	tests := map[string]exchange{
		// The answer's body.
		"a field too many":                  inJSON(`"swap"`, `"price": 1, "swap"`),
		"a field missing":                   inJSON(`"swap": 0, `, ``),
		"a key twice":                       inJSON(`"swap": 0`, `"swap": 0, "swap": 0`),
		"a number as text":                  inJSON(`640`, `"640"`),
		"beyond Nova's limit":               inJSON(`1262485504`, `2147483648`),
		"no vcpus":                          inJSON(`640`, `0`),
		"null":                              inJSON(`["Mordor"]`, `null`),
		"a node's name":                     inJSON(`Mordor`, `Mor dor`),
		"a private flavor in two regions":   inJSON(`"Mordor"`, `"Mordor", "Trento"`),
		"promoted, not public":              inJSON(`"promoted": false`, `"promoted": true`),
		"an option that says nothing":       inJSON(`"nodes"`, `"ephemeral": 0, "nodes"`),
		"an empty description":              inJSON(`"nodes"`, `"description": "", "nodes"`),
		"extra specs that are no strings":   inJSON(`"nodes"`, `"extra_specs": {"k": 1}, "nodes"`),
		"retired false":                     inJSON(`"nodes"`, `"retired": false, "nodes"`),
		"trailing junk":                     read(jsonType, aFlavor+"x"),
		"a truncated body":                  read(jsonType, aFlavor[:100]),
		"no body":                           read(jsonType, ""),
		"no envelope":                       read(jsonType, strings.TrimSuffix(strings.TrimPrefix(aFlavor, `{"flavor": `), "}")),
		"a list for a flavor":               read(jsonType, `{"flavors": []}`),
		"XML out of order":                  inXML(`<vcpus>640</vcpus><ram>1232896</ram>`, `<ram>1232896</ram><vcpus>640</vcpus>`),
		"XML, an element too many":          inXML(`<swap>`, `<price>1</price><swap>`),
		"XML, an element missing":           inXML(`<swap>0</swap>`, ``),
		"XML, an element twice":             inXML(`<swap>0</swap>`, `<swap>0</swap><swap>0</swap>`),
		"XML, no id":                        inXML(` id="567b200e-0aca-49c4-8b52-6c3c2f0b4d11"`, ``),
		"XML, an attribute too many":        inXML(`<name>`, `<name lang="en">`),
		"XML, a namespace":                  inXML(`<flavor `, `<flavor xmlns="urn:x" `),
		"XML, a number":                     inXML(`640`, `many`),
		"XML, 1 for true":                   inXML(`<public>false`, `<public>0`),
		"XML, beyond Nova's limit":          inXML(`1262485504`, `2147483648`),
		"XML, nodes in one element":         inXML(`<node>Mordor</node>`, `<nodes>Mordor</nodes>`),
		"XML, no declaration":               inXML(declaration+"\n", ``),
		"XML, another document":             read(xmlType, declaration+`<flavors/>`),
		"XML, text between":                 inXML(`<swap>`, `x<swap>`),
		"XML, not closed":                   inXML(`</flavor>`, ``),
		"JSON said to be XML":               read(xmlType, aFlavor),
		"another media type":                read("text/html", "<html/>"),
		"no media type":                     read("", aFlavor),
		"Latin-1":                           read("application/json; charset=iso-8859-1", aFlavor),
		"a body to HEAD":                    read(jsonType, aFlavor).by("HEAD"),
		"a body with 304":                   refuse(304, jsonType, aFlavor).answering("ETag", `"abc"`),
		"an error without a message":        refuse(404, jsonType, `{"error": {}}`),
		"an error of another shape":         refuse(404, jsonType, `{"message": "no"}`),
		"an error in plain text":            refuse(404, "text/plain", `no`),
		"the wrong 401 text":                refuse(401, "text/plain", `Unauthorized`).answering("WWW-Authenticate", "Bearer"),
		"the regions, without the capital":  read(jsonType, `{"infrastructures": []}`).at("/v1/regions"),
		"the regions, in full":              read(xmlType, declaration+`<infrastructures><infrastructure id="A"><name>A</name><keystone_url>http://a</keystone_url></infrastructure></infrastructures>`).at("/v1/regions"),
		"an infrastructure with a password": read(jsonType, `{"infrastructure": {"id": "A", "name": "A", "keystone_url": "http://a", "username": "u", "password": "p", "tenant": "t", "user_domain_name": "d", "project_domain_name": "d", "trusted": false, "status": {"state": "up", "last_error": ""}}}`).at("/v1/infrastructures/A"),
		"a promoted flavor that is not":     read(jsonType, aFlavor).at("/v1/promotedflavors/" + aFlavorID),
		"a private flavor in no region":     inJSON(`["Mordor"]`, `[]`),

		"no accelerators":                  inJSON(`"nodes"`, `"accelerators": [], "nodes"`),
		"an accelerator of no number":      inJSON(`"nodes"`, `"accelerators": [{"model": "T4"}], "nodes"`),
		"XML, accelerators before nodes":   inXML(`<node>`, `<accelerators><accelerator><number>1</number></accelerator></accelerators><node>`),
		"a price as a number":              inProduct(`"0.34"`, `0.34`),
		"a price with zeros at its end":    inProduct(`"0.34"`, `"0.340"`),
		"a price of 7 digits":              inProduct(`"0.34"`, `"0.3400001"`),
		"a period of Core's":               inProduct(`"hour"`, `"PERIODIC_HOUR"`),
		"by_formula false":                 inProduct(`"gpus"`, `"by_formula": false, "gpus"`),
		"a push without its state":         pushed(`{"push": {"mode": "v2", "sent": [], "unchanged": 0, "failed": []}}`),
		"a push that tells a token":        pushed(`{"push": {"mode": "off", "state": "never", "sent": [], "unchanged": 0, "failed": [], "refresh_token": "t"}}`),
		"GLUE 2 in XML":                    read(xmlType, declaration+"<CloudComputingService/>").at("/v1/regions/Trento/glue2"),
		"GLUE 2 without shares":            read(jsonType, `{"CloudComputingService": []}`).at("/v1/regions/Trento/glue2"),
		"a private flavor that fits":       matched(`"public": true`, `"public": false`),
		"a retired flavor that fits":       matched(`"nodes"`, `"retired": true, "nodes"`),
		"a waste as a number":              matched(`"638.4"`, `638.4`),
		"a price without its currency":     matched(`"nodes"`, `"price": "1", "nodes"`),
		"a fit without its waste":          ask("application/json", `{"host": {}}`, jsonType, `{"flavors": [`+withoutWaste+`}]}`),
		"fits of a host and of nodes":      ask("application/json", `{"host": {}}`, jsonType, `{"flavors": [], "nodes": []}`),
		"XML, fits of a host and of nodes": ask("application/json", `{"host": {}}`, xmlType, declaration+`<match><flavors/><node name="a"><type/><flavors/></node></match>`),
		"node types of another version":    ask("application/json", `{"host": {}}`, yamlType, strings.Replace(nodeTypes, "1_3", "1_0", 1)),
		"node types with a key twice":      ask("application/json", `{"host": {}}`, yamlType, nodeTypes+"node_types: {}\n"),
		"two documents of node types":      ask("application/json", `{"host": {}}`, yamlType, nodeTypes+"---\na: 1\n"),
		"YAML that is none":                ask("application/json", `{"host": {}}`, yamlType, "a: b: c"),
		"products of Core in XML":          core(200, declaration+"<products/>").answering("Content-Type", xmlType),
		"an error of ours for Core":        core(404, `{"error": {"message": "no"}}`).answering("ETag", ""),
		"plain text for Core":              core(401, "Could not verify your access level for that URL. You have to login with proper token").answering("Content-Type", "text/plain").answering("WWW-Authenticate", "Bearer").answering("ETag", ""),
		"an error of ours, undescribed":    core(404, `{"error": {"message": "no"}}`).at("/ucloud/aau/files"),
		"plain text, undescribed":          core(404, "no").at("/ucloud/aau/files").answering("Content-Type", "text/plain"),

		// Status, path, method and headers.
		"Core without its token":      core(200, productsOfCore).with("Authorization", "").with("X-Auth-Token", "user"),
		"Core's path below /api":      core(200, productsOfCore).at("/api/ucloud/aau/jobs/retrieveProducts"),
		"jobs that start":             core(200, "{}").by("POST").at("/ucloud/aau/jobs").answering("ETag", ""),
		"501 outside UCloud":          refuse(501, jsonType, `{"error": {"message": "no"}}`).by("PATCH"),
		"503 for Core":                core(503, ucloudError(503)).answering("ETag", ""),
		"an undescribed status":       refuse(418, jsonType, `{"error": {"message": "no"}}`),
		"an undescribed path":         read(jsonType, aFlavor).at("/v1/secret"),
		"v1 under another prefix":     read(jsonType, aFlavor).at("/v2/flavors/x"),
		"health below /api":           refuse(200, "text/plain", "ok").at("/api/healthz"),
		"an undescribed method":       read(jsonType, aFlavor).by("PATCH"),
		"405 without Allow":           refuse(405, jsonType, `{"error": {"message": "no"}}`).by("PATCH"),
		"401 without a challenge":     refuse(401, "text/plain", "Could not verify your access level for that URL. You have to login with proper token"),
		"429 without Retry-After":     refuse(429, jsonType, `{"error": {"message": "no"}}`),
		"Retry-After is a word":       refuse(429, jsonType, `{"error": {"message": "no"}}`).answering("Retry-After", "soon"),
		"no request id":               read(jsonType, aFlavor).answering("X-Request-Id", ""),
		"no ETag":                     read(jsonType, aFlavor).answering("ETag", ""),
		"a weak ETag":                 read(jsonType, aFlavor).answering("ETag", `W/"abc"`),
		"a public answer":             read(jsonType, aFlavor).answering("Cache-Control", "public"),
		"Vary without Accept":         read(jsonType, aFlavor).answering("Vary", "X-Auth-Token"),
		"Location where none is":      read(jsonType, aFlavor).answering("Location", "/v1/flavors/x"),
		"201 without Location":        create("application/json", `{"name": "a", "vcpus": 1, "ram": 1, "disk": 0}`).answering("Location", ""),
		"Location with a token":       create("application/json", `{"name": "a", "vcpus": 1, "ram": 1, "disk": 0}`).answering("Location", "/v1/flavors/x?access_token=t"),
		"Link with a token":           read(jsonType, `{"flavors": []}`).at("/v1/flavors").answering("Link", `</v1/flavors?access_token=t&marker=m>; rel="next"`),
		"success without credentials": read(jsonType, aFlavor).with("X-Auth-Token", ""),
		"only half of the pair":       read(jsonType, aFlavor).with("X-Auth-Token", "").with("user", "u"),
		"no Keystone token":           read(jsonType, aFlavor).at("/v1/regions/Mordor/flavors/x"),

		// A request that should not have succeeded.
		"no such filter of GPUs":           read(jsonType, `{"flavors": []}`).at("/v1/promotedflavors?gpu=2"),
		"a bare dry run":                   pushed(`{"push": {"mode": "off", "state": "never", "sent": [], "unchanged": 0, "failed": []}}`).at("/v1/products/push?dry_run"),
		"a price that is a number":         priced("application/json", `{"price": 0.34}`),
		"a price below 0":                  priced("application/xml", `<price>-1</price>`),
		"a currency in small letters":      priced("application/json", `{"product": {"currency": "dkk"}}`),
		"a product's element twice":        priced("application/xml", `<product><gpus>1</gpus><gpus>1</gpus></product>`),
		"an accelerator's element twice":   change("application/xml", `<flavor><accelerators><accelerator><type>a</type><type>b</type></accelerator></accelerators></flavor>`),
		"nothing to match":                 asked("application/json", `{}`),
		"two things to match":              asked("application/json", `{"host": {}, "template": "a"}`),
		"a host with inputs":               asked("application/json", `{"host": {}, "inputs": {}}`),
		"an unknown property":              asked("application/json", `{"host": {"num_cpu": 2}}`),
		"an unknown constraint":            asked("application/json", `{"host": {"num_cpus": {"pattern": "2"}}}`),
		"a size without its unit":          asked("application/json", `{"host": {"mem_size": "4096"}}`),
		"a range of one":                   asked("application/x-yaml", "host: {num_cpus: {in_range: [1]}}"),
		"limit 0 of fits":                  asked("application/x-yaml", "host: {}\nlimit: 0"),
		"no regions":                       asked("application/json", `{"host": {}, "regions": []}`),
		"a region outside YAML's template": asked("text/yaml", "node_templates: {}\nregion: Trento"),
		"XML, a property twice":            asked("text/xml", `<match><host><num_cpus>1</num_cpus><num_cpus>1</num_cpus></host></match>`),
		"XML, limit twice":                 asked("text/xml", `<match><host/><limit>1</limit><limit>1</limit></match>`),
		"XML, inputs":                      asked("text/xml", `<match><template>a</template><inputs/></match>`),
		"no such filter":                   read(jsonType, `{"flavors": []}`).at("/v1/flavors?public=perhaps"),
		"limit 0":                          read(jsonType, `{"flavors": []}`).at("/v1/flavors?limit=0"),
		"limit is a word":                  read(jsonType, `{"flavors": []}`).at("/v1/flavors?limit=all"),
		"a bare flag":                      refuse(204, "", "").by("DELETE").at("/v1/promotedflavors/x?uninstall"),
		"an impossible id":                 read(jsonType, aFlavor).at("/v1/flavors/detail"),
		"a slash in the region":            read(jsonType, aFlavor).at("/v1/regions/a%2Fb/flavors/x").with("X-Auth-Token-KeyStone", "t"),
		"create without a name":            create("application/json", `{"vcpus": 1, "ram": 1, "disk": 0}`),
		"create with an envelope and more": create("application/json", `{"flavor": {"name": "a", "vcpus": 1, "ram": 1, "disk": 0}, "name": "b"}`),
		"an unknown field":                 change("application/json", `{"flavour": {}}`),
		"node and nodes":                   change("application/json", `{"node": "A", "nodes": ["B"]}`),
		"a key twice in a body":            change("application/json", `{"node": "A", "node": "B"}`),
		"an element twice":                 change("application/xml", `<flavor><ram>1</ram><ram>2</ram></flavor>`),
		"an unknown element":               change("application/xml", `<flavor><price>1</price></flavor>`),
		"an unknown root":                  change("application/xml", `<price>1</price>`),
		"a CSV":                            change("text/csv", `node`),
		"an emoji for a spec key":          change("application/json", `{"extra_specs": {"😀": "x"}}`),
		"a name with a newline":            change("application/json", `{"name": "a\nb"}`),
		"a name of blanks":                 change("application/json", `{"name": "  "}`),
	}
	for name, e := range tests {
		if problems := e.problems(d); len(problems) == 0 {
			t.Errorf("%s passes", name)
		}
	}
}

// Nobody's credentials get into the log of a test.
func TestProblemsHoldNoSecret(t *testing.T) {
	d := compiled(t)
	e := change("application/json", `{"password": "hush", "name": 7}`).at("/v1/flavors/x?access_token=hush&node=hush%20hush").with("X-Auth-Token", "hush").with("If-Match", "")
	for _, e := range []exchange{e, change("application/xml", "<flavor><ram>hush</ram></flavor>"), change("application/json", `{"name": " hush"}`),
		ask("text/yaml", "hush: hush\nhush: hush", jsonType, `{"nodes": []}`), ask("text/yaml", "host: {num_cpus: hush}", jsonType, `{"nodes": []}`)} {
		problems := e.problems(d)
		if len(problems) == 0 || strings.Contains(strings.Join(problems, ";"), "hush") {
			t.Errorf("problems are %q", problems)
		}
	}
}

// The examples are what people copy: each must be what its schema says, for
// this package's validators and for libxml2.
func TestExamplesAreAsDescribed(t *testing.T) {
	d := compiled(t)
	c := reader(t)
	lint := newReferee(t)
	bodies := 0
	for _, kind := range []string{"requestBodies", "responses"} {
		for name := range c.object("/components/" + kind) {
			at := "/components/" + kind + "/" + name + "/content"
			contents, err := c.contents(at)
			if err != nil {
				t.Fatal(err)
			}
			for media, body := range contents {
				examples := c.object(at + "/" + escape(media) + "/examples")
				if media == "text/event-stream" { // no document: it has no end
					continue
				}
				if len(examples) == 0 && media != "text/plain" {
					t.Errorf("%s %s has no example in %s", kind, name, media)
				}
				for example := range examples {
					bodies++
					value := c.value(c.resolve(at+"/"+escape(media)+"/examples/"+example) + "/value")
					text, isText := value.(string)
					if media == "application/json" || strings.HasSuffix(media, "yaml") {
						if err := body.schema.Validate(value); err != nil {
							t.Errorf("%s %s, example %s: %s", kind, name, example, explain(err))
						}
						continue
					}
					if !isText || body.xml == nil {
						t.Errorf("%s %s, example %s is no XML document of ours", kind, name, example)
						continue
					}
					if err := body.checkXML([]byte(text), kind == "responses"); err != nil {
						t.Errorf("%s %s, example %s: %v", kind, name, example, err)
					}
					if !lint.valid(body.xml, text) {
						t.Errorf("%s %s, example %s: xmllint refuses it", kind, name, example)
					}
				}
			}
		}
	}
	for _, kind := range []string{"parameters", "headers"} {
		for name, component := range c.object("/components/" + kind) {
			at := "/components/" + kind + "/" + name
			if example, ok := component.(map[string]any)["example"]; ok {
				schema, number, err := c.schema(at + "/schema")
				if err != nil {
					t.Fatal(err)
				}
				if problems := (header{schema: schema, number: number}).check(name, []string{fmt.Sprint(example)}); problems != nil {
					t.Errorf("%s: %s", kind, problems[0])
				}
			}
		}
	}
	if bodies < 150 || len(d.operations) != 46 {
		t.Errorf("only %d examples and %d operations were found", bodies, len(d.operations))
	}
}

// helium and libxml2 are of one mind on mutated documents, so what the suite
// lets pass an integrator's xmllint lets pass too, and the other way round.
func TestBothXMLValidatorsAgree(t *testing.T) {
	lint := newReferee(t)
	if lint.xmllint == "" {
		t.Skip("xmllint (libxml2-utils) is not installed")
	}
	c := reader(t)
	for _, test := range []struct{ element, kind, good string }{
		{"flavor", "Flavor", "FlavorWithOptionsXML"},
		{"flavors", "Flavors", "FlavorsXML"},
		{"flavor", "FlavorRequest", "FlavorCreateXML"},
		{"flavor", "FlavorRequest", "FlavorWithOptionsXML"},
		{"product", "Product", "ProductWithOptionsXML"},
		{"products", "Products", "ProductsXML"},
		{"product", "ProductRequest", "ProductWithOptionsXML"},
		{"push", "Push", "PushXML"},
		{"match", "Match", "MatchedXML"},
		{"match", "Match", "MatchedNodesXML"},
		{"match", "MatchRequest", "MatchConstraintsXML"},
		{"infrastructures", "Regions", "RegionsXML"},
		{"infrastructures", "Infrastructures", "InfrastructuresXML"},
		{"infrastructures", "Infrastructures", "RegionsXML"},
		{"infrastructure", "InfrastructureDetail", "InfrastructureXML"},
		{"infrastructure", "InfrastructureName", "InfrastructureNameXML"},
		{"infrastructure", "Infrastructure", "InfrastructureNameXML"},
		{"infrastructure", "InfrastructureRequest", "InfrastructureCreateXML"},
		{"status", "FederationStatus", "FederationStatusXML"},
		{"whoami", "Whoami", "WhoamiXML"},
		{"error", "Error", "NodesErrorXML"},
	} {
		text, _ := c.value("/components/examples/" + test.good + "/value").(string)
		doc, err := c.document(test.element, test.kind)
		if err != nil {
			t.Fatal(err)
		}
		all := mutants(text)
		theirs := lint.judge(doc, all)
		refused := 0
		for i, mutant := range all {
			// The schema's part only; checkChildren is ours alone.
			ours := doc.checkSchema([]byte(mutant)) == nil
			if ours != theirs[i] {
				t.Errorf("%s as %s: helium says %t, xmllint %t of\n%s", test.good, test.kind, ours, theirs[i], mutant)
			}
			if i == 0 && !ours {
				t.Errorf("%s as %s is refused unchanged", test.good, test.kind)
			}
			if !ours {
				refused++
			}
		}
		if refused == 0 {
			t.Errorf("no mutant of %s was refused", test.good)
		}
	}
}

// mutants are a document, and it with one element left out, doubled, renamed,
// emptied or with an attribute more.
func mutants(text string) []string {
	all := []string{text}
	for i := range len(text) {
		if text[i] != '<' || text[i+1] == '/' || text[i+1] == '?' {
			continue
		}
		end := i + strings.IndexAny(text[i:], " />")
		name := text[i+1 : end]
		after := endOf(text, i, name)
		if after < 0 {
			continue
		}
		if strings.TrimSpace(text[after:]) == "" {
			all = append(all, text[:end]+` extra="1"`+text[end:])
			continue // the root
		}
		element := text[i:after]
		all = append(all,
			text[:i]+text[after:],
			text[:after]+element+text[after:],
			text[:i]+strings.NewReplacer("<"+name, "<other", "</"+name, "</other").Replace(element)+text[after:],
			text[:i]+"<"+name+"/>"+text[after:],
			text[:i]+"<"+name+">x y</"+name+">"+text[after:],
			text[:end]+` extra="1"`+text[end:])
	}
	return all
}

// endOf is the place behind the element that begins at i; -1 where it is empty
// and so has no end tag. One of its name may be inside it.
func endOf(text string, i int, name string) int {
	if strings.HasSuffix(text[:i+strings.Index(text[i:], ">")], "/") {
		return -1
	}
	tag := regexp.MustCompile(`<(/?)` + name + `(?: [^>]*)?>`)
	depth := 0
	for _, m := range tag.FindAllStringSubmatchIndex(text[i:], -1) {
		switch {
		case m[2] == m[3]:
			depth++
		case depth == 1:
			return i + m[1]
		default:
			depth--
		}
	}
	return -1
}

// reader is a compiler on the real descriptions.
func reader(t *testing.T) *compiler {
	t.Helper()
	c, err := newCompiler(api.OpenAPI, api.XSD)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// referee is xmllint; without it everything is valid.
type referee struct {
	t       *testing.T
	xmllint string
	dir     string
}

func newReferee(t *testing.T) *referee {
	xmllint, _ := exec.LookPath("xmllint")
	return &referee{t, xmllint, t.TempDir()}
}

func (r *referee) valid(d *document, text string) bool {
	return r.xmllint == "" || r.judge(d, []string{text})[0]
}

// judge says of each document whether it is valid, in one run.
func (r *referee) judge(d *document, documents []string) []bool {
	r.t.Helper()
	dir, err := os.MkdirTemp(r.dir, "")
	if err != nil {
		r.t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			r.t.Fatal(err)
		}
		return path
	}
	schema, err := retype(api.XSD, d.element, d.kind)
	if err != nil {
		r.t.Fatal(err)
	}
	arguments := []string{"--noout", "--nonet", "--schema", write("schema.xsd", schema)}
	for i, text := range documents {
		arguments = append(arguments, write(fmt.Sprintf("%d.xml", i), []byte(text)))
	}
	out, _ := exec.Command(r.xmllint, arguments...).CombinedOutput()
	verdicts := make([]bool, len(documents))
	for i := range documents {
		file := arguments[4+i]
		verdicts[i] = bytes.Contains(out, []byte(file+" validates\n"))
		if !verdicts[i] && !bytes.Contains(out, []byte(file+" fails to validate\n")) {
			r.t.Fatalf("xmllint says neither of document %d: %s", i, out)
		}
	}
	return verdicts
}

// What was seen is no longer missing, and a wrong exchange covers nothing.
func TestUncovered(t *testing.T) {
	d := compiled(t)
	const key = "GET /v1/flavors/{id} 200 application/xml"
	missing := func() bool { return slices.Contains(d.uncovered(), key) }
	if !missing() {
		t.Fatal("covered before anything was seen")
	}
	read(jsonType, aFlavor).problems(d)
	read(xmlType, declaration+"<flavor/>").problems(d)
	if !missing() {
		t.Error("covered by JSON, or by a wrong exchange")
	}
	read("text/xml", xmlFlavor).at("/api/v1/flavors/x").problems(d)
	if missing() {
		t.Error("not covered by the exchange itself")
	}
	const yamlRequest, anyYAML = "POST /v1/match request application/x-yaml", "POST /v1/match request text/yaml"
	ask("text/yaml", "host: {}", yamlType, nodeTypes).problems(d)
	for _, missing := range d.uncovered() {
		if missing == yamlRequest || missing == anyYAML || missing == "POST /v1/match 200 application/x-yaml" {
			t.Errorf("%s is not covered by YAML of another name", missing)
		}
	}
	before := len(d.uncovered())
	change("application/json", `{"node": "Trento"}`).problems(d)
	if after := len(d.uncovered()); after != before-2 {
		t.Errorf("a PUT in JSON covers %d, wanted its request and its answer", before-after)
	}
}

// The suite runs its tests side by side.
func TestValidateIsSafeForConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				for _, e := range []exchange{read(jsonType, aFlavor), read(xmlType, xmlFlavor)} {
					req := httptest.NewRequest(e.method, e.url, nil)
					req.Header.Set("X-Auth-Token", "user")
					resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}}
					for name, value := range e.answered {
						resp.Header.Set(name, value)
					}
					Validate(t, req, nil, resp, []byte(e.answer))
					Uncovered()
				}
			}
		})
	}
	wg.Wait()
}

// A suite makes thousands of exchanges.
func BenchmarkValidate(b *testing.B) {
	d := compiled(b)
	for name, e := range map[string]exchange{"JSON": read(jsonType, aFlavor), "XML": read(xmlType, xmlFlavor)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if problems := e.problems(d); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}
