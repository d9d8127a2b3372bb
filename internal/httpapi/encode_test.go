package httpapi

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// full is a flavor that says everything.
var full = flavor.Flavor{
	ID: "1",
	Spec: flavor.Spec{
		Name: `a<b>&"c"`, VCPUs: 1, RAM: 512, Disk: 10, Swap: 64, Ephemeral: 5, RxTxFactor: 0.5,
		Description: "été\r\n\tdone", ExtraSpecs: map[string]string{"z": "1", "hw:cpu_policy": "<dedicated>"},
	},
	Promoted: true, Public: true, Retired: true, Nodes: []string{"Spain2", "Trento"},
}

// Clients of flavor-sync 1.0 compare these bodies: keys, their order and types.
func TestEncodings(t *testing.T) {
	checked := mordor
	checked.NovaURL = "https://nova.mordor.example.org/v2.1"
	checked.Trusted = true
	checked.Status = flavor.RegionStatus{
		State: flavor.RegionRefused, LastError: "Mordor refuses sauron's password",
		CheckedAt: time.Date(2026, 11, 21, 5, 6, 7, 89, time.FixedZone("", 3600)),
	}
	failed := flavor.Conflict("one of two nodes failed")
	failed.Nodes = []flavor.NodeError{
		{Node: "Trento", Err: flavor.Conflict("Trento has another \"a\"")},
		{Node: "Lannion2", Err: &flavor.Error{Code: flavor.CodeInternal, Message: "hush", Cause: io.EOF}},
		{Node: "Nowhere"},
	}
	ann := flavor.Principal{ID: "ann", Name: "Ann <a>", Provider: "keyrock", Roles: []string{"InfrastructureOwner", "x"}, Regions: []string{"Trento"}}
	for _, row := range []struct {
		name string
		got  func(format) []byte
		json string
		xml  string
	}{
		{
			"flavor", func(as format) []byte { return encodeFlavor(as, &insane) },
			`{"flavor": {"id": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "insane", "vcpus": 640, "ram": 1232896, "disk": 1262485504, "swap": 0, "promoted": false, "public": false, "nodes": ["Mordor"]}}`,
			`<flavor id="567b200e-0aca-49c4-8b52-6c3c2f0b4d11"><name>insane</name><vcpus>640</vcpus><ram>1232896</ram><disk>1262485504</disk><swap>0</swap><promoted>false</promoted><public>false</public><node>Mordor</node></flavor>`,
		},
		{
			"full flavor", func(as format) []byte { return encodeFlavor(as, &full) },
			`{"flavor": {"id": "1", "name": "a<b>&\"c\"", "vcpus": 1, "ram": 512, "disk": 10, "swap": 64, "promoted": true, "public": true, "nodes": ["Spain2", "Trento"], "description": "été\r\n\tdone", "ephemeral": 5, "rxtx_factor": 0.5, "extra_specs": {"hw:cpu_policy": "<dedicated>", "z": "1"}, "retired": true}}`,
			`<flavor id="1"><name>a&lt;b&gt;&amp;&#34;c&#34;</name><vcpus>1</vcpus><ram>512</ram><disk>10</disk><swap>64</swap><promoted>true</promoted><public>true</public><node>Spain2</node><node>Trento</node><description>été&#13;&#10;&#9;done</description><ephemeral>5</ephemeral><rxtx_factor>0.5</rxtx_factor><extra_specs><spec key="hw:cpu_policy">&lt;dedicated&gt;</spec><spec key="z">1</spec></extra_specs><retired>true</retired></flavor>`,
		},
		{
			"empty flavor", func(as format) []byte { return encodeFlavor(as, &flavor.Flavor{}) },
			`{"flavor": {"id": "", "name": "", "vcpus": 0, "ram": 0, "disk": 0, "swap": 0, "promoted": false, "public": false, "nodes": []}}`,
			`<flavor id=""><name></name><vcpus>0</vcpus><ram>0</ram><disk>0</disk><swap>0</swap><promoted>false</promoted><public>false</public></flavor>`,
		},
		{
			"no flavors", func(as format) []byte { return encodeFlavors(as, nil) },
			`{"flavors": []}`, `<flavors/>`,
		},
		{
			"two flavors", func(as format) []byte {
				return encodeFlavors(as, []flavor.Flavor{{ID: "1", Nodes: []string{"A"}}, {ID: "2"}})
			},
			`{"flavors": [{"id": "1", "name": "", "vcpus": 0, "ram": 0, "disk": 0, "swap": 0, "promoted": false, "public": false, "nodes": ["A"]}, {"id": "2", "name": "", "vcpus": 0, "ram": 0, "disk": 0, "swap": 0, "promoted": false, "public": false, "nodes": []}]}`,
			`<flavors><flavor id="1"><name></name><vcpus>0</vcpus><ram>0</ram><disk>0</disk><swap>0</swap><promoted>false</promoted><public>false</public><node>A</node></flavor><flavor id="2"><name></name><vcpus>0</vcpus><ram>0</ram><disk>0</disk><swap>0</swap><promoted>false</promoted><public>false</public></flavor></flavors>`,
		},
		{
			"regions", func(as format) []byte { return encodeRegions(as, []string{"Spain2", "Trento"}) },
			`{"Infrastructures": [{"id": "Spain2", "name": "Spain2"}, {"id": "Trento", "name": "Trento"}]}`,
			`<infrastructures><infrastructure id="Spain2"><name>Spain2</name></infrastructure><infrastructure id="Trento"><name>Trento</name></infrastructure></infrastructures>`,
		},
		{
			"no regions", func(as format) []byte { return encodeRegions(as, nil) },
			`{"Infrastructures": []}`, `<infrastructures/>`,
		},
		{
			"infrastructure's name", func(as format) []byte { return encodeInfrastructureName(as, "Mordor") },
			`{"infrastructure": {"name": "Mordor"}}`, `<infrastructure><name>Mordor</name></infrastructure>`,
		},
		{
			"new infrastructure", func(as format) []byte { return encodeInfrastructure(as, &mordor) },
			`{"infrastructure": {"id": "Mordor", "name": "Mordor", "keystone_url": "https://mordor.example.org:5000/v3", "username": "sauron", "tenant": "service", "user_domain_name": "Default", "project_domain_name": "Default", "trusted": false, "status": {"state": "unknown", "last_error": ""}}}`,
			`<infrastructure id="Mordor"><name>Mordor</name><keystone_url>https://mordor.example.org:5000/v3</keystone_url><username>sauron</username><tenant>service</tenant><user_domain_name>Default</user_domain_name><project_domain_name>Default</project_domain_name><trusted>false</trusted><status><state>unknown</state><last_error></last_error></status></infrastructure>`,
		},
		{
			"infrastructures", func(as format) []byte { return encodeInfrastructures(as, []flavor.Region{checked}) },
			`{"infrastructures": [{"id": "Mordor", "name": "Mordor", "keystone_url": "https://mordor.example.org:5000/v3", "nova_url": "https://nova.mordor.example.org/v2.1", "username": "sauron", "tenant": "service", "user_domain_name": "Default", "project_domain_name": "Default", "trusted": true, "status": {"state": "refused", "last_error": "Mordor refuses sauron's password", "checked_at": "2026-11-21T04:06:07Z"}}]}`,
			`<infrastructures><infrastructure id="Mordor"><name>Mordor</name><keystone_url>https://mordor.example.org:5000/v3</keystone_url><nova_url>https://nova.mordor.example.org/v2.1</nova_url><username>sauron</username><tenant>service</tenant><user_domain_name>Default</user_domain_name><project_domain_name>Default</project_domain_name><trusted>true</trusted><status><state>refused</state><last_error>Mordor refuses sauron's password</last_error><checked_at>2026-11-21T04:06:07Z</checked_at></status></infrastructure></infrastructures>`,
		},
		{
			"infrastructure with an access token", func(as format) []byte {
				return encodeInfrastructure(as, &flavor.Region{
					Name: "Mordor", KeystoneURL: "https://k", AuthType: flavor.AuthOIDCAccessToken, IdentityProvider: "egi.eu", Protocol: "openid",
					Password: "hush", Tenant: "vo", ProjectDomain: "Default", CACertificate: "-----\nAA\n-----\n",
				})
			},
			`{"infrastructure": {"id": "Mordor", "name": "Mordor", "keystone_url": "https://k", "auth_type": "v3oidcaccesstoken", "tenant": "vo", "project_domain_name": "Default", "identity_provider": "egi.eu", "protocol": "openid", "ca_certificate": "-----\nAA\n-----\n", "trusted": false, "status": {"state": "unknown", "last_error": ""}}}`,
			`<infrastructure id="Mordor"><name>Mordor</name><keystone_url>https://k</keystone_url><auth_type>v3oidcaccesstoken</auth_type><tenant>vo</tenant><project_domain_name>Default</project_domain_name><identity_provider>egi.eu</identity_provider><protocol>openid</protocol><ca_certificate>-----&#10;AA&#10;-----&#10;</ca_certificate><trusted>false</trusted><status><state>unknown</state><last_error></last_error></status></infrastructure>`,
		},
		{
			"no infrastructures", func(as format) []byte { return encodeInfrastructures(as, nil) },
			`{"infrastructures": []}`, `<infrastructures/>`,
		},
		{
			"whoami", func(as format) []byte { return encodeWhoami(as, &ann) },
			`{"whoami": {"id": "ann", "name": "Ann <a>", "provider": "keyrock", "roles": ["InfrastructureOwner", "x"], "regions": ["Trento"]}}`,
			`<whoami><id>ann</id><name>Ann &lt;a&gt;</name><provider>keyrock</provider><role>InfrastructureOwner</role><role>x</role><region>Trento</region></whoami>`,
		},
		{
			"error", func(as format) []byte { return encodeError(as, flavor.NotFound("no such <flavor>")) },
			`{"error": {"message": "no such <flavor>"}}`, `<error><message>no such &lt;flavor&gt;</message></error>`,
		},
		{
			"error of nodes", func(as format) []byte { return encodeError(as, failed) },
			`{"error": {"message": "one of two nodes failed", "nodes": [{"node": "Trento", "status": 409, "message": "Trento has another \"a\""}, {"node": "Lannion2", "status": 500, "message": "internal error"}, {"node": "Nowhere", "status": 500, "message": "internal error"}]}}`,
			`<error><message>one of two nodes failed</message><nodes><node><name>Trento</name><status>409</status><message>Trento has another &#34;a&#34;</message></node><node><name>Lannion2</name><status>500</status><message>internal error</message></node><node><name>Nowhere</name><status>500</status><message>internal error</message></node></nodes></error>`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := row.got(asJSON)
			if diff := cmp.Diff(row.json, string(got)); diff != "" {
				t.Errorf("JSON: %s", diff)
			}
			if !json.Valid(got) {
				t.Errorf("not JSON: %s", got)
			}
			for _, as := range []format{asXML, asTextXML} {
				if diff := cmp.Diff(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+row.xml, string(row.got(as))); diff != "" {
					t.Errorf("XML: %s", diff)
				}
			}
			if strings.Contains(string(got), "precious") {
				t.Error("a password came out")
			}
		})
	}
}

// Whatever a foreign Nova has in its texts, the documents must stay well-formed.
func TestEncodeHostileTexts(t *testing.T) {
	for _, text := range []string{"\x00\x01\x1f", "\xff\xfe", "\uFFFE\uFFFF", "]]>", "\u2028", "😀", `\"`, "</name>", "a\rb"} {
		f := flavor.Flavor{ID: text, Spec: flavor.Spec{Name: text, Description: text, ExtraSpecs: map[string]string{text: text}}, Nodes: []string{text}}
		if b := encodeFlavor(asJSON, &f); !json.Valid(b) {
			t.Errorf("%q: not JSON: %s", text, b)
		}
		var back struct {
			Name string `xml:"name"`
		}
		b := encodeFlavor(asXML, &f)
		if err := xml.Unmarshal(b, &back); err != nil {
			t.Errorf("%q: %v: %s", text, err, b)
		}
		if want := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\r' && r != '\n' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
				return 0xFFFD
			}
			return r
		}, text); back.Name != want {
			t.Errorf("%q came back as %q", text, back.Name)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for accept, want := range map[string]format{
		"":                                  asJSON,
		"*/*":                               asJSON,
		"application/json":                  asJSON,
		"application/jsom":                  asJSON, // a deployed widget sends this
		"text/html":                         asJSON,
		"nonsense":                          asJSON,
		"application/xml":                   asXML,
		"Application/XML; charset=utf-8":    asXML,
		"text/xml":                          asTextXML,
		"text/*":                            asTextXML,
		"application/*":                     asJSON,
		"application/xml, application/json": asXML,
		"application/json, application/xml": asJSON,
		"application/json;q=0.5, application/xml":                         asXML,
		"application/json; q=0.5, application/xml; q=0.4":                 asJSON,
		"application/xml;q=0":                                             asJSON,
		"application/json;q=0, */*":                                       asXML,
		"application/xml, */*":                                            asXML,
		"application/xml;q=0.5, */*;q=0.1":                                asXML,
		"application/xml;q=0.1, */*;q=0.5":                                asJSON,
		"text/xml, application/xml":                                       asTextXML,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": asXML,
		"application/xml;q=2":                                             asJSON,
		"application/xml;q=NaN":                                           asJSON,
		", ,application/xml":                                              asXML,
		"application/*;q=0.5, application/json;q=0.1":                     asXML,
	} {
		if got := negotiate([]string{accept}); got != want {
			t.Errorf("%q: %s, want %s", accept, mediaTypes[got], mediaTypes[want])
		}
	}
	if got := negotiate([]string{"text/html", "text/xml"}); got != asTextXML {
		t.Error("a second Accept header was not read")
	}
	if got := negotiate(nil); got != asJSON {
		t.Error("without Accept")
	}
}

// The answer has the media type that was asked for, errors too.
func TestContentTypes(t *testing.T) {
	s := newSetup(t)
	for accept, want := range map[string]string{
		"application/json": "application/json; charset=utf-8", "application/xml": "application/xml; charset=utf-8", "text/xml": "text/xml; charset=utf-8",
	} {
		s.market.err = nil
		if got := s.do(t, "GET /v1/flavors", "", "Accept: "+accept).Header().Get("Content-Type"); got != want {
			t.Errorf("%s: %s", accept, got)
		}
		s.market.err = flavor.NotFound("nothing")
		w := s.do(t, "GET /v1/flavors", "", "Accept: "+accept)
		if got := w.Header().Get("Content-Type"); got != want || strings.Contains(accept, "xml") != strings.HasPrefix(w.Body.String(), "<?xml") {
			t.Errorf("error, %s: %s: %s", accept, got, w.Body)
		}
	}
}

func BenchmarkEncodeFlavors(b *testing.B) {
	for _, n := range []int{5, 1000} {
		list := make([]flavor.Flavor, n)
		for i := range list {
			list[i] = insane
		}
		for _, as := range []format{asJSON, asXML} {
			b.Run(fmt.Sprintf("%s/%d", strings.TrimPrefix(mediaTypes[as], "application/"), n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					b.SetBytes(int64(len(encodeFlavors(as, list))))
				}
			})
		}
	}
}
