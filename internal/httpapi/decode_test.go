package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

func decodeFlavor(as format, body string) (flavor.Patch, error) {
	var patch flavor.Patch
	decode := decodeJSON
	if as == asXML {
		decode = decodeXML
	}
	err := decode([]byte(body), flavorDocument(&patch))
	return patch, err
}

// What every field says must arrive, the same from either format.
func TestDecodeWholeFlavor(t *testing.T) {
	want := flavor.Patch{
		ID: new("567b200e-0aca-49c4-8b52-6c3c2f0b4d11"), Name: new("a & b"), VCPUs: new(1), RAM: new(512), Disk: new(10), Swap: new(0),
		Promoted: new(true), Public: new(false), Nodes: &[]string{"Trento", "Spain2"}, Description: new("two\nlines"),
		Ephemeral: new(3), RxTxFactor: new(1.5), ExtraSpecs: &map[string]string{"hw:cpu_policy": "dedicated", "x": ""}, Retired: new(true),
	}
	members := `"id": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "a & b", "vcpus": 1, "ram": 512, "disk": 10, "swap": 0,
		"promoted": true, "public": false, "nodes": ["Trento", "Spain2", "Trento"], "description": "two\nlines",
		"ephemeral": 3, "rxtx_factor": 1.5, "extra_specs": {"hw:cpu_policy": "dedicated", "x": ""}, "retired": true`
	elements := `<name>a &amp; b</name><vcpus>1</vcpus><ram> 512 </ram><!-- MB --><disk>10</disk><swap>0</swap>
		<promoted>true</promoted><public>0</public><node>Trento</node><node>Spain2</node><description>two
lines</description><ephemeral>3</ephemeral><rxtx_factor>1.5</rxtx_factor>
		<extra_specs><spec key="hw:cpu_policy">dedi<![CDATA[cated]]></spec><spec key="x"/></extra_specs><retired>true</retired>`
	for name, row := range map[string]struct {
		as   format
		body string
	}{
		"JSON":                 {asJSON, `{"flavor": {` + members + `}}`},
		"JSON, no envelope":    {asJSON, "\r\n {" + members + "}\n"},
		"XML":                  {asXML, `<flavor id="567b200e-0aca-49c4-8b52-6c3c2f0b4d11">` + elements + `</flavor>`},
		"XML with declaration": {asXML, "\uFEFF" + `<?xml version="1.0" encoding="utf-8"?>` + "\n<!-- hello -->" + `<flavor id='567b200e-0aca-49c4-8b52-6c3c2f0b4d11'>` + elements + "</flavor>\n<!-- bye -->\n"},
	} {
		got, err := decodeFlavor(row.as, row.body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDecodeSingleFields(t *testing.T) {
	for body, want := range map[string]flavor.Patch{
		`{"node": "Trento"}`:              {Nodes: &[]string{"Trento"}}, // what the widget PUTs
		`{"nodes": []}`:                   {Nodes: &[]string{}},
		`{"flavor": {"public": true}}`:    {Public: new(true)},
		`{}`:                              {},
		`{"flavor": {}}`:                  {},
		`{"swap": -1}`:                    {Swap: new(-1)}, // for validation to refuse
		`{"rxtx_factor": 1e3}`:            {RxTxFactor: new(1000.)},
		`{"extra_specs": {}}`:             {ExtraSpecs: &map[string]string{}},
		`{"name": "\u00e9"}`:              {Name: new("é")},
		`{"description": ""}`:             {Description: new("")},
		`<node>Trento</node>`:             {Nodes: &[]string{"Trento"}},
		`<public>true</public>`:           {Public: new(true)},
		`<flavor/>`:                       {},
		`<flavor><description/></flavor>`: {Description: new("")},
		`<extra_specs/>`:                  {ExtraSpecs: &map[string]string{}},
		`<flavor id=""/>`:                 {ID: new("")},
		`<name>a&#233;b</name>`:           {Name: new("aéb")},
	} {
		as := asJSON
		if body[0] == '<' {
			as = asXML
		}
		got, err := decodeFlavor(as, body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

// Each of these is refused, and the message says what is wrong, for a client
// that wrote it must be able to mend it.
func TestDecodeRefuses(t *testing.T) {
	many := func(n int) string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%q", fmt.Sprint("R", i))
		}
		return strings.Join(names, ",")
	}
	for _, row := range []struct{ body, message string }{
		{` `, "ends too soon"},
		{`{`, "ends too soon"},
		{`{"name": "a"`, "ends too soon"},
		{`{"name": "a}`, "ends too soon"},
		{`{"name": }`, "not JSON"},
		{`{name: "a"}`, "not JSON"},
		{`{"name": "a",}`, "not JSON"},
		{`nonsense`, "not JSON"},
		{"\uFEFF{}", "not JSON"},
		{`null`, "must be an object, not null"},
		{`[]`, "must be an object, not an array"},
		{`"a"`, "must be an object, not a string"},
		{`{} {}`, "goes on after"},
		{`{} x`, "goes on after"},
		{`{"flavor": {}}}`, "goes on after"},
		{`{"flavor": null}`, "flavor: must be an object, not null"},
		{`{"flavor": {"flavor": {}}}`, `"flavor": there is no such field`},
		{`{"flavor": {}, "name": "a"}`, `"name": there is no such field beside`},
		{`{"name": "a", "flavor": {}}`, `"flavor": there is no such field`},
		{`{"Name": "a"}`, `"Name": there is no such field`},
		{`{"links": []}`, `"links": there is no such field`},
		{`{"name": "a", "name": "a"}`, "name: is given twice"},
		{`{"flavor": {"ram": 1, "r\u0061m": 1}}`, "ram: is given twice"},
		{`{"extra_specs": {"k": "1", "k": "2"}}`, "k: is given twice"},
		{`{"node": "A", "nodes": ["B"]}`, "node or nodes, not both"},
		{`{"name": null}`, "name: must be a string, not null"},
		{`{"name": 1}`, "name: must be a string, not a number"},
		{`{"id": 1}`, "id: must be a string"},
		{`{"vcpus": "1"}`, "vcpus: must be a whole number, not a string"},
		{`{"vcpus": null}`, "vcpus: must be a whole number, not null"},
		{`{"vcpus": 1.0}`, `vcpus: must be a whole number, not "1.0"`},
		{`{"ram": 1e3}`, "ram: must be a whole number"},
		{`{"ram": true}`, "ram: must be a whole number, not true or false"},
		{`{"ram": 01}`, "not JSON"},
		{`{"disk": 99999999999999999999}`, "disk: must be at most 2147483647"},
		{`{"disk": -99999999999999999999}`, "disk: must be at most 2147483647"},
		{`{"rxtx_factor": "1"}`, "rxtx_factor: must be a number, not a string"},
		{`{"rxtx_factor": 1e999}`, "rxtx_factor: 1e999 is out of range"},
		{`{"rxtx_factor": NaN}`, "not JSON"},
		{`{"public": "true"}`, "public: must be true or false, not a string"},
		{`{"public": 1}`, "public: must be true or false, not a number"},
		{`{"promoted": null}`, "promoted: must be true or false, not null"},
		{`{"nodes": "Trento"}`, "nodes: must be an array of strings, not a string"},
		{`{"nodes": null}`, "nodes: must be an array of strings, not null"},
		{`{"nodes": ["A", 1]}`, "nodes: must be an array of strings, without a number"},
		{`{"nodes": [["A"]]}`, "nodes: must be an array of strings, without an array"},
		{`{"nodes": [` + many(1001) + `]}`, "nodes: must be at most 1000"},
		{`{"node": ["Trento"]}`, "node: must be a string, not an array"},
		{`{"extra_specs": {"k": 1}}`, "extra_specs.k: must be a string, not a number"},
		{`{"extra_specs": {"k": null}}`, "extra_specs.k: must be a string, not null"},
		{`{"extra_specs": []}`, "extra_specs: must be an object"},
		{"{\"name\": \"\xff\"}", "not JSON"},
		{`{"name": "\ud800"}`, "not JSON"},
		{"{\"name\": \"a\nb\"}", "not JSON"},
		{strings.Repeat("[", 100000), "must be an object"},
		{strings.Repeat(`{"a":`, 100000), "no such field"},
		{`{"extra_specs":` + strings.Repeat(`{"a":`, 100000), "must be a string, not an object"},

		{`<flavor>`, "not well-formed"},
		{`<flavor`, "not well-formed"},
		{`<flavor></flavors>`, "not well-formed"},
		{`<flavor><name>a</flavor>`, "not well-formed"},
		{`<flavor/><flavor/>`, "goes on after"},
		{`<flavor/>x`, "no text between"},
		{`x<flavor/>`, "no text between"},
		{`<!-- only this -->`, "has no element"},
		{`<flavors/>`, "must be <flavor>"},
		{`<Flavor/>`, "must be <flavor>"},
		{`<id>1</id>`, "must be <flavor>"},
		{`<flavor><flavor/></flavor>`, `"flavor": there is no such element`},
		{`<flavor><id>1</id></flavor>`, `"id": there is no such element`},
		{`<flavor><nodes><node>A</node></nodes></flavor>`, `"nodes": there is no such element`},
		{`<flavor><color>red</color></flavor>`, `"color": there is no such element`},
		{`<flavor><name>a</name><name>a</name></flavor>`, "name: is given twice"},
		{`<flavor color="red"/>`, `"color": <flavor> has no such attribute`},
		{`<flavor name="a"/>`, `"name": <flavor> has no such attribute`},
		{`<flavor id="a" id="b"/>`, "id: is given twice"},
		{`<flavor ` + strings.Repeat(`id="a" `, 11) + `/>`, "has 11 attributes"},
		{`<flavor><name lang="en">a</name></flavor>`, `"lang": <name> has no such attribute`},
		{`<flavor><name>a<b/></name></flavor>`, "name: must hold text only"},
		{`<flavor>text</flavor>`, "flavor: there must be no text between"},
		{`<flavor xmlns="urn:x"/>`, "no namespace"},
		{`<flavor xmlns=""/>`, "namespaces are not accepted"},
		{`<x:flavor xmlns:x="urn:x"/>`, "no namespace"},
		{`<flavor xmlns:x="urn:x"><x:name>a</x:name></flavor>`, "namespaces are not accepted"},
		{`<flavor x:id="1"/>`, "namespaces are not accepted"},
		{`<!DOCTYPE flavor><flavor/>`, "DOCTYPE"},
		{`<!DOCTYPE flavor [<!ENTITY x SYSTEM "file:///etc/passwd">]><flavor><name>&x;</name></flavor>`, "DOCTYPE"},
		{`<flavor><name>&x;</name></flavor>`, "not well-formed"},
		{`<flavor><name>&#0;</name></flavor>`, "not well-formed"},
		{"<flavor><name>\x01</name></flavor>", "not well-formed"},
		{"<flavor><name>\xff</name></flavor>", "not well-formed"},
		{`<?xml version="1.0" encoding="ISO-8859-1"?><flavor/>`, "in UTF-8"},
		{`<?xml version="1.1"?><flavor/>`, "XML 1.0"},
		{` <?xml version="1.0"?><flavor/>`, "processing instruction"},
		{`<flavor><?xml version="1.0"?></flavor>`, "processing instruction"},
		{`<?php x ?><flavor/>`, "processing instruction"},
		{`<vcpus/>`, "vcpus: must be a whole number"},
		{`<vcpus> </vcpus>`, "vcpus: must be a whole number"},
		{`<vcpus>1.0</vcpus>`, "vcpus: must be a whole number"},
		{`<vcpus>0x10</vcpus>`, "vcpus: must be a whole number"},
		{`<vcpus>1_0</vcpus>`, "vcpus: must be a whole number"},
		{`<ram>99999999999999999999</ram>`, "ram: must be at most"},
		{`<rxtx_factor/>`, "rxtx_factor: must be a number"},
		{`<rxtx_factor>INF</rxtx_factor>`, "rxtx_factor: must be a number"},
		{`<rxtx_factor>0x1p-2</rxtx_factor>`, "rxtx_factor: must be a number"},
		{`<public>yes</public>`, "public: must be true or false"},
		{`<public/>`, "public: must be true or false"},
		{`<extra_specs><spec>1</spec></extra_specs>`, "attribute key"},
		{`<extra_specs><spec key="k" x="y">1</spec></extra_specs>`, "attribute key"},
		{`<extra_specs><spec key="k">1</spec><spec key="k">1</spec></extra_specs>`, "extra_specs.k: is given twice"},
		{`<extra_specs><k>1</k></extra_specs>`, `"k": there is no such element`},
		{`<extra_specs>k</extra_specs>`, "extra_specs: there must be no text between"},
		{strings.Repeat("<flavor>", 100000), "no such element"},
		{`<flavor><name>` + strings.Repeat("<a>", 100000), "must hold text only"},
	} {
		as := asJSON
		if strings.Contains(row.body, "<") {
			as = asXML
		}
		_, err := decodeFlavor(as, row.body)
		shown := row.body[:min(len(row.body), 80)]
		if flavor.CodeOf(err) != flavor.CodeInvalid {
			t.Errorf("%s: %v, want it refused", shown, err)
			continue
		}
		if !strings.Contains(err.Error(), row.message) {
			t.Errorf("%s: %q does not say %q", shown, err, row.message)
		}
		if len(err.Error()) > 600 {
			t.Errorf("%s: a message of %d bytes", shown, len(err.Error()))
		}
	}
}

// What a GET of an infrastructure gave may be sent back.
func TestDecodeInfrastructure(t *testing.T) {
	want := flavor.RegionPatch{
		Name: new("Mordor"), KeystoneURL: new("https://mordor.example.org:5000/v3"), Username: new("sauron"), Tenant: new("service"),
		UserDomain: new("Default"), ProjectDomain: new("Default"), Trusted: new(false),
	}
	for as, decode := range map[format]func([]byte, document) error{asJSON: decodeJSON, asXML: decodeXML} {
		var got flavor.RegionPatch
		var id *string
		body := encodeInfrastructure(as, &mordor)
		if err := decode(body, infrastructureDocument(&got, &id)); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" || id == nil || *id != "Mordor" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	for _, body := range []string{
		`{"infrastructure": {"name": "Mordor", "password": "precious", "nova_url": "https://x"}}`,
		`{"name": "Mordor", "password": "precious", "nova_url": "https://x"}`,
		`<infrastructure><name>Mordor</name><password>precious</password><nova_url>https://x</nova_url></infrastructure>`,
	} {
		var got flavor.RegionPatch
		var id *string
		decode := decodeJSON
		if body[0] == '<' {
			decode = decodeXML
		}
		if err := decode([]byte(body), infrastructureDocument(&got, &id)); err != nil || *got.Password != "precious" || *got.NovaURL != "https://x" {
			t.Errorf("%s: %v", body, err)
		}
	}
	for body, message := range map[string]string{
		`{"password": 1}`:             "password: must be a string",
		`{"trusted": "yes"}`:          "trusted: must be true or false",
		`{"status": "up"}`:            "status: must be an object",
		`{"status": {"since": "x"}}`:  `"since": there is no such field`,
		`{"status": {"state": null}}`: "state: must be a string, not null",
		`{"region": "x"}`:             `"region": there is no such field`,
	} {
		var got flavor.RegionPatch
		var id *string
		if err := decodeJSON([]byte(body), infrastructureDocument(&got, &id)); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestPutInfrastructureID: the id is the name, and cannot be changed.
func TestPutInfrastructureID(t *testing.T) {
	s := newSetup(t)
	wantStatus(t, s.do(t, "PUT /v1/infrastructures/Mordor", `{"id": "Mordor", "tenant": "x"}`), 200)
	wantStatus(t, s.do(t, "PUT /v1/infrastructures/Mordor", `{"id": "Shire", "tenant": "x"}`), 400)
	wantStatus(t, s.do(t, "POST /v1/infrastructures", `{"id": "Shire", "name": "Mordor"}`), 201)
}

func TestBodies(t *testing.T) {
	big := `{"name": "` + strings.Repeat("a", 2<<20) + `"}`
	exact := `{"description": "` + strings.Repeat("a", maxBody-19) + `"}`
	for _, row := range []struct {
		name, body, contentType string
		status                  int
	}{
		{"JSON", `{"name": "a"}`, "application/json", 200},
		{"JSON with charset", `{"name": "a"}`, "application/json;charset=UTF-8", 200},
		{"JSON with a parameter", `{"name": "a"}`, "Application/JSON; version=1", 200},
		{"XML", `<name>a</name>`, "application/xml", 200},
		{"text/xml", `<name>a</name>`, "text/xml; charset=utf-8", 200},
		{"another charset", `<name>a</name>`, "text/xml; charset=iso-8859-1", 415},
		{"none", `{"name": "a"}`, "", 415},
		{"form", `name=a`, "application/x-www-form-urlencoded", 415},
		{"jsom", `{"name": "a"}`, "application/jsom", 415},
		{"garbage", `{"name": "a"}`, ";;;", 415},
		{"empty", "", "application/json", 400},
		{"empty, no type", "", "", 400},
		{"XML as JSON", `<name>a</name>`, "application/json", 400},
		{"exactly 1 MiB", exact, "application/json", 200},
		{"one byte more", exact + " ", "application/json", 413},
		{"2 MiB", big, "application/json", 413},
		{"2 MiB of another type", big, "text/plain", 413},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSetup(t)
			w := s.do(t, "PUT /v1/promotedflavors/1", row.body, "Content-Type: "+row.contentType)
			wantStatus(t, w, row.status)
			if row.status != 200 && s.market.called() != "" {
				t.Errorf("did %s", s.market.called())
			}
		})
	}
	s := newSetup(t)
	wantStatus(t, s.do(t, "PUT /v1/promotedflavors/1", "\x1f\x8b", "Content-Type: application/json", "Content-Encoding: gzip"), 415)
}
