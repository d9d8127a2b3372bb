package contract_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// badInput: everything a client can get wrong. Each has a clear message and
// the documented status, and the database and every Nova are as they were.
func badInput(t *testing.T, s *setup) {
	n := s.names(t)
	pr := s.product
	manager := pr.as(s.manager)
	token := keystone(s.cloud.token(t, "operator"))
	promotedFlavor := manager.post(t, "/promotedflavors", sized(n("promoted"))).want(t, 201).flavor(t)
	public := manager.post(t, "/flavors", sized(n("public")).and("public", true).and("nodes", []string{spain2})).want(t, 201).flavor(t)
	private := manager.post(t, "/flavors", sized(n("private")).and("nodes", []string{trento})).want(t, 201).flavor(t)
	manager.put(t, "/promotedflavors/"+promotedFlavor.ID+"/product", productOf("price", "0.34", "currency", "DKK", "category", n("cat"))).want(t, 200)

	// Where a flavor, a change of one, an infrastructure or a change of one is
	// sent, a change of a product, and what is to be matched.
	const (
		creates = 1 << iota
		changes
		ofInfrastructure
		ofProduct
		matches
	)
	type target struct {
		method, path string
		kind         int
	}
	targets := []target{
		{http.MethodPost, "/promotedflavors", creates},
		{http.MethodPut, "/promotedflavors/" + promotedFlavor.ID, changes},
		{http.MethodPost, "/regions/Trento/flavors", creates},
		{http.MethodPut, "/regions/Trento/flavors/" + private.ID, changes},
		{http.MethodPost, "/flavors", creates},
		{http.MethodPut, "/flavors/" + public.ID, changes},
		{http.MethodPost, "/infrastructures", creates | ofInfrastructure},
		{http.MethodPut, "/infrastructures/Trento", changes | ofInfrastructure},
		{http.MethodPut, "/promotedflavors/" + promotedFlavor.ID + "/product", changes | ofProduct},
		{http.MethodPost, "/match", matches},
	}

	// state is all that may not change: the catalogue, the infrastructures
	// without their status, and every Nova.
	state := func(t *testing.T) string {
		t.Helper()
		var b strings.Builder
		b.Write(manager.get(t, "/flavors?public=true").want(t, 200).body)
		b.Write(manager.get(t, "/products").want(t, 200).body)
		for _, i := range manager.get(t, "/infrastructures").want(t, 200).infrastructures(t) {
			i.Status = nil
			fmt.Fprintf(&b, "\n%+v", i)
		}
		return b.String() + "\n" + s.cloud.state(t)
	}
	before := state(t)
	unchanged := func(t *testing.T) {
		t.Helper()
		if after := state(t); after != before {
			t.Errorf("something was changed. Before:\n%s\nafter:\n%s", before, after)
			before = after
		}
	}
	// refused sends a body everywhere it makes sense.
	refused := func(t *testing.T, status int, contentType, body string, kinds int, shapes ...shape) {
		t.Helper()
		for _, to := range targets {
			if kinds == 0 || to.kind == kinds {
				shapes := append([]shape{raw(contentType, body), token}, shapes...)
				a := manager.do(t, to.method, to.path, nil, shapes...)
				if a.status != status {
					t.Errorf("status %d, not %d: %s", a.status, status, a)
				}
			}
		}
		unchanged(t)
	}

	deepJSON := strings.Repeat(`{"flavor":`, 20000) + "1" + strings.Repeat("}", 20000)
	deepList := `{"flavor": {"nodes": ` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}}`
	for what, body := range map[string]string{
		"empty":                          "",
		"only white space":               " \n\t ",
		"malformed":                      `{"flavor": {"name": }}`,
		"truncated":                      `{"flavor": {"name": "x", "vcpus": 1, "ra`,
		"truncated at the end":           `{"flavor": {"name": "x"}`,
		"null":                           `null`,
		"a null flavor":                  `{"flavor": null, "infrastructure": null}`,
		"a string":                       `"flavor"`,
		"a number":                       `17`,
		"a list":                         `[{"flavor": {"name": "x"}}]`,
		"a flavor that is a list":        `{"flavor": [], "infrastructure": []}`,
		"followed by something":          `{"flavor": {"description": "x"}} {"flavor": {}}`,
		"followed by a brace":            `{"flavor": {"description": "x"}}}`,
		"deeply nested":                  deepJSON,
		"a deeply nested list":           deepList,
		"not UTF-8":                      "{\"flavor\": {\"name\": \"\xff\xfe\"}}",
		"UTF-16":                         "\xff\xfe{\x00}\x00",
		"a lone surrogate":               `{"flavor": {"name": "\ud800"}}`,
		"with a comment":                 `{"flavor": {/* x */ "name": "x"}}`,
		"with single quotes":             `{'flavor': {'name': 'x'}}`,
		"with NaN":                       `{"flavor": {"ram": NaN}}`,
		"XML":                            `<flavor><name>x</name></flavor>`,
		"a form":                         `name=x&vcpus=1`,
		"a duplicate envelope":           `{"flavor": {}, "flavor": {}}`,
		"an unknown envelope":            `{"flavour": {"name": "x"}}`,
		"an unknown field at the root":   `{"flavor": {"description": "x"}, "colour": "blue"}`,
		"the XML media type's own error": "\x00",
	} {
		t.Run("a JSON body that is "+what+" is 400", func(t *testing.T) {
			refused(t, 400, "application/json", body, 0)
		})
	}

	deepXML := strings.Repeat("<flavor>", 20000) + strings.Repeat("</flavor>", 20000)
	const doctype = `<?xml version="1.0"?><!DOCTYPE flavor [<!ENTITY x "y">]>`
	for what, body := range map[string]string{
		"empty":                       "",
		"only white space":            " \n ",
		"only a declaration":          `<?xml version="1.0" encoding="UTF-8"?>`,
		"malformed":                   `<flavor><name>x</flavor>`,
		"truncated":                   `<flavor><name>x</name><vcp`,
		"truncated at the end":        `<flavor><name>x</name>`,
		"two documents":               `<flavor><description>x</description></flavor><flavor/>`,
		"followed by text":            `<flavor><description>x</description></flavor>x`,
		"another document":            `<server><name>x</name></server>`,
		"a list":                      `<flavors><flavor><name>x</name></flavor></flavors>`,
		"with a DTD":                  doctype + `<flavor><description>x</description></flavor>`,
		"with an entity":              doctype + `<flavor><description>&x;</description></flavor>`,
		"with an external entity":     `<!DOCTYPE flavor [<!ENTITY x SYSTEM "file:///etc/passwd">]><flavor><description>&x;</description></flavor>`,
		"with an external DTD":        `<!DOCTYPE flavor SYSTEM "http://127.0.0.1:9/x.dtd"><flavor><description>x</description></flavor>`,
		"a billion laughs":            `<!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]><flavor><name>&b;</name></flavor>`,
		"with an undeclared entity":   `<flavor><description>&nbsp;</description></flavor>`,
		"deeply nested":               deepXML,
		"in a namespace":              `<flavor xmlns="http://example.org/"><description>x</description></flavor>`,
		"with a prefixed element":     `<flavor xmlns:a="http://example.org/"><a:description>x</a:description></flavor>`,
		"with an unknown attribute":   `<flavor colour="blue"><description>x</description></flavor>`,
		"with an unknown element":     `<flavor><description>x</description><colour>blue</colour></flavor>`,
		"with a repeated element":     `<flavor><description>x</description><description>y</description></flavor>`,
		"with an attribute on a leaf": `<flavor><description lang="en">x</description></flavor>`,
		"with text between":           `<flavor>x<description>x</description></flavor>`,
		"with an element in a leaf":   `<flavor><description>x<b>y</b></description></flavor>`,
		"in another charset":          `<?xml version="1.0" encoding="ISO-8859-1"?><flavor><description>x</description></flavor>`,
		"not UTF-8":                   "<flavor><description>\xff\xfe</description></flavor>",
		"with NUL":                    "<flavor><description>\x00</description></flavor>",
		"with a reference to NUL":     `<flavor><description>&#0;</description></flavor>`,
		"JSON":                        `{"flavor": {"name": "x"}}`,
	} {
		t.Run("an XML body that is "+what+" is 400", func(t *testing.T) {
			refused(t, 400, "application/xml", body, 0)
		})
	}

	t.Run("a body of 2 MiB is 413", func(t *testing.T) {
		big := strings.Repeat("x", 2<<20)
		refused(t, 413, "application/json", `{"flavor": {"name": "`+big+`"}}`, 0)
		refused(t, 413, "application/xml", `<flavor><name>`+big+`</name></flavor>`, 0)
		refused(t, 413, "application/json", strings.Repeat("[", 2<<20), 0, chunked)
		refused(t, 413, "text/plain", big, 0)
	})

	t.Run("an unsupported media type is 415", func(t *testing.T) {
		for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "image/png", "application/json5"} {
			refused(t, 415, contentType, `{"flavor": {"name": "x"}}`, 0)
		}
	})

	t.Run("duplicate keys are 400 and said", func(t *testing.T) {
		for _, body := range []string{
			`{"flavor": {"name": "%s", "name": "y", "vcpus": 1, "ram": 1, "disk": 1}}`,
			`{"flavor": {"name": "%s", "vcpus": 1, "ram": 1, "disk": 1, "ram": 1}}`,
			`{"name": "%s", "vcpus": 1, "ram": 1, "disk": 1, "ram": 2}`,
			`{"flavor": {"name": "%s", "vcpus": 1, "ram": 1, "disk": 1, "extra_specs": {"a": "1", "a": "2"}}}`,
			`{"flavor": {"name": "%s", "vcpus": 1, "ram": 1, "disk": 1, "n\u0061me": "z"}}`,
		} {
			refused(t, 400, "application/json", fmt.Sprintf(body, n("x")), creates)
		}
	})

	// A field of a flavor with a value it cannot have, as JSON and as XML; ""
	// where a format cannot say it. Each goes to all that create and all that
	// change a flavor.
	for _, c := range []struct {
		what, field, asJSON, asXML string
	}{
		{"an empty name", "name", `""`, `<name></name>`},
		{"an empty name element", "name", `""`, `<name/>`},
		{"a name of 256 characters", "name", `"` + strings.Repeat("x", 256) + `"`, `<name>` + strings.Repeat("x", 256) + `</name>`},
		{"a name of 256 two-byte characters", "name", `"` + strings.Repeat("ä", 256) + `"`, `<name>` + strings.Repeat("ä", 256) + `</name>`},
		{"a name with a newline", "name", `"a\nb"`, "<name>a&#10;b</name>"},
		{"a name with a tab", "name", `"a\tb"`, "<name>a\tb</name>"},
		{"a name with NUL", "name", `"a\u0000b"`, ""},
		{"a name with DEL", "name", `"a\u007fb"`, "<name>a\x7fb</name>"},
		{"a name of spaces", "name", `"   "`, `<name>   </name>`},
		{"a name that begins with a blank", "name", `" a"`, `<name> a</name>`},
		{"a name that ends with a blank", "name", `"a "`, `<name>a </name>`},
		{"a name with an emoji", "name", `"a😀"`, `<name>a😀</name>`},
		{"a name with an escaped emoji", "name", `"a\ud83d\ude00"`, `<name>a&#x1F600;</name>`},
		{"a name that is a number", "name", `17`, ""},
		{"a name that is a list", "name", `["a"]`, ""},
		{"a name that is null", "name", `null`, ""},
		{"a name that is an object", "name", `{"a": 1}`, ""},
		{"no vcpus at all", "vcpus", `0`, `<vcpus>0</vcpus>`},
		{"negative vcpus", "vcpus", `-1`, `<vcpus>-1</vcpus>`},
		{"over-large vcpus", "vcpus", `2147483648`, `<vcpus>2147483648</vcpus>`},
		{"vcpus that are a fraction", "vcpus", `1.5`, `<vcpus>1.5</vcpus>`},
		{"vcpus that are a string", "vcpus", `"2"`, `<vcpus>two</vcpus>`},
		{"vcpus that are a boolean", "vcpus", `true`, `<vcpus>true</vcpus>`},
		{"vcpus that are null", "vcpus", `null`, `<vcpus/>`},
		{"vcpus beyond every integer", "vcpus", `99999999999999999999`, `<vcpus>99999999999999999999</vcpus>`},
		{"vcpus with an exponent beyond", "vcpus", `1e400`, `<vcpus>1e400</vcpus>`},
		{"vcpus in hexadecimal", "vcpus", `"0x2"`, `<vcpus>0x2</vcpus>`},
		{"no ram", "ram", `0`, `<ram>0</ram>`},
		{"negative ram", "ram", `-512`, `<ram>-512</ram>`},
		{"over-large ram", "ram", `2147483648`, `<ram>2147483648</ram>`},
		{"ram with a unit", "ram", `"512MB"`, `<ram>512MB</ram>`},
		{"negative disk", "disk", `-1`, `<disk>-1</disk>`},
		{"over-large disk", "disk", `2147483648`, `<disk>2147483648</disk>`},
		{"negative swap", "swap", `-1`, `<swap>-1</swap>`},
		{"over-large swap", "swap", `4294967296`, `<swap>4294967296</swap>`},
		{"Nova's own empty swap", "swap", `""`, `<swap></swap>`},
		{"negative ephemeral", "ephemeral", `-1`, `<ephemeral>-1</ephemeral>`},
		{"over-large ephemeral", "ephemeral", `2147483648`, `<ephemeral>2147483648</ephemeral>`},
		{"an rxtx_factor of 0", "rxtx_factor", `0`, `<rxtx_factor>0</rxtx_factor>`},
		{"an rxtx_factor below 1, which Nova refuses,", "rxtx_factor", `0.5`, `<rxtx_factor>0.5</rxtx_factor>`},
		{"a negative rxtx_factor", "rxtx_factor", `-1.5`, `<rxtx_factor>-1.5</rxtx_factor>`},
		{"an rxtx_factor that is a word", "rxtx_factor", `"fast"`, `<rxtx_factor>fast</rxtx_factor>`},
		{"an rxtx_factor that is no number", "rxtx_factor", `"NaN"`, `<rxtx_factor>NaN</rxtx_factor>`},
		{"an infinite rxtx_factor", "rxtx_factor", `1e39`, `<rxtx_factor>Infinity</rxtx_factor>`},
		{"a description of 65536 characters", "description", `"` + strings.Repeat("x", 65536) + `"`, `<description>` + strings.Repeat("x", 65536) + `</description>`},
		{"a description of two lines, which Nova refuses,", "description", `"a\nb"`, "<description>a\nb</description>"},
		{"a description with NUL", "description", `"a\u0000b"`, ""},
		{"a description that is a number", "description", `5`, ""},
		{"an extra spec whose key has a slash", "extra_specs", `{"a/b": "c"}`, `<extra_specs><spec key="a/b">c</spec></extra_specs>`},
		{"an extra spec without key", "extra_specs", `{"": "c"}`, `<extra_specs><spec>c</spec></extra_specs>`},
		{"an extra spec whose key is too long", "extra_specs", `{"` + strings.Repeat("k", 256) + `": "c"}`, `<extra_specs><spec key="` + strings.Repeat("k", 256) + `">c</spec></extra_specs>`},
		{"an extra spec whose value is too long", "extra_specs", `{"a": "` + strings.Repeat("v", 256) + `"}`, `<extra_specs><spec key="a">` + strings.Repeat("v", 256) + `</spec></extra_specs>`},
		{"an extra spec that is a number", "extra_specs", `{"a": 1}`, ""},
		{"an extra spec that is null", "extra_specs", `{"a": null}`, ""},
		{"extra specs that are a list", "extra_specs", `["a"]`, ""},
		{"extra specs that are a string", "extra_specs", `"a=b"`, `<extra_specs>a=b</extra_specs>`},
		{"extra specs with a key twice", "extra_specs", ``, `<extra_specs><spec key="a">1</spec><spec key="a">2</spec></extra_specs>`},
		{"promoted that is a word", "promoted", `"yes"`, `<promoted>yes</promoted>`},
		{"promoted that is a number", "promoted", `1`, `<promoted>2</promoted>`},
		{"public that is a word", "public", `"true"`, `<public>wahr</public>`},
		{"public that is null", "public", `null`, `<public/>`},
		{"nodes that are a string", "nodes", `"Trento"`, ""},
		{"nodes that are numbers", "nodes", `[1]`, ""},
		{"nodes that are null", "nodes", `null`, ""},
		{"a node that is a list", "node", `["Trento"]`, `<node><name>Trento</name></node>`},
		{"an id that is a number", "id", `1`, ""},
		{"an unknown field", "colour", `"blue"`, `<colour>blue</colour>`},
		{"a field in capitals", "RAM", `512`, `<RAM>512</RAM>`},
		{"Nova's own name of a field", "OS-FLV-EXT-DATA:ephemeral", `1`, ""},
	} {
		t.Run(c.what+" is 400 and said", func(t *testing.T) {
			others := map[string][2]string{
				"name":  {`"` + n("bad") + `"`, `<name>` + n("bad") + `</name>`},
				"vcpus": {"1", `<vcpus>1</vcpus>`},
				"ram":   {"64", `<ram>64</ram>`},
				"disk":  {"1", `<disk>1</disk>`},
			}
			delete(others, c.field)
			for _, to := range targets {
				if to.kind != creates && to.kind != changes {
					continue
				}
				var j, x strings.Builder
				fmt.Fprintf(&j, `{"flavor": {%q: %s`, c.field, c.asJSON)
				x.WriteString(`<flavor>` + c.asXML)
				if to.kind == creates {
					for _, field := range []string{"name", "vcpus", "ram", "disk"} {
						if good, ok := others[field]; ok {
							fmt.Fprintf(&j, `, %q: %s`, field, good[0])
							x.WriteString(good[1])
						}
					}
					if to.path == "/flavors" && c.field != "nodes" && c.field != "node" {
						j.WriteString(`, "nodes": ["Trento"]`)
						x.WriteString(`<node>Trento</node>`)
					}
				}
				j.WriteString(`}}`)
				x.WriteString(`</flavor>`)
				if c.asJSON != "" {
					checkRefusal(t, manager.do(t, to.method, to.path, nil, raw("application/json", j.String()), token), c.field)
				}
				if c.asXML != "" {
					checkRefusal(t, manager.do(t, to.method, to.path, nil, raw("application/xml", x.String()), token), c.field)
				}
			}
			unchanged(t)
		})
	}

	for _, field := range []string{"name", "vcpus", "ram", "disk"} {
		t.Run("a flavor without "+field+" is 400 and said", func(t *testing.T) {
			for _, to := range targets {
				if to.kind != creates {
					continue
				}
				for _, f := range formats {
					d := sized(n("bad")).and("nodes", []string{trento}).no(field)
					checkRefusal(t, manager.do(t, to.method, to.path, d, in(f), token), field)
				}
			}
			unchanged(t)
		})
	}

	for _, c := range []struct {
		what, field, value string
	}{
		{"an empty name", "name", ""},
		{"a name with a blank", "name", "Middle Earth"},
		{"a name with a slash", "name", "Middle/Earth"},
		{"a name of 65 characters", "name", strings.Repeat("R", 65)},
		{"a name with a newline", "name", "R\nS"},
		{"a name with a dotless ı", "name", "Trıento"},
		{"the name ..", "name", ".."},
		{"the name .", "name", "."},
		{"a name with %2F", "name", "a%2Fb"},
		{"a Keystone URL that is a word", "keystone_url", "keystone"},
		{"an empty Keystone URL", "keystone_url", ""},
		{"a Keystone URL without host", "keystone_url", "http:///v3"},
		{"a Keystone URL of another scheme", "keystone_url", "ftp://127.0.0.1/v3"},
		{"a Keystone URL that is a file", "keystone_url", "file:///etc/passwd"},
		{"a Keystone URL with a user", "keystone_url", "http://u:p@127.0.0.1/v3"},
		{"a Keystone URL with a newline", "keystone_url", "http://127.0.0.1/\nv3"},
		{"a Nova URL that is a word", "nova_url", "nova"},
		{"a Nova URL of another scheme", "nova_url", "gopher://127.0.0.1/"},
		{"an empty user name", "username", ""},
		{"an empty tenant", "tenant", ""},
		{"an empty password", "password", ""},
		{"a tenant of 300 characters", "tenant", strings.Repeat("t", 300)},
		{"an unknown field", "colour", "blue"},
	} {
		t.Run("an infrastructure with "+c.what+" is 400 and said", func(t *testing.T) {
			for _, f := range formats {
				d := s.cloud.infrastructure(n("region")).and(c.field, c.value)
				checkRefusal(t, manager.post(t, "/infrastructures", d, in(f)), c.field)
			}
			unchanged(t)
		})
	}

	for _, field := range []string{"name", "keystone_url", "username", "password", "tenant"} {
		t.Run("an infrastructure without "+field+" is 400 and said", func(t *testing.T) {
			for _, f := range formats {
				checkRefusal(t, manager.post(t, "/infrastructures", s.cloud.infrastructure(n("region")).no(field), in(f)), field)
			}
			unchanged(t)
		})
	}

	for what, body := range map[string]string{
		"name":         `{"infrastructure": {"name": 5, "keystone_url": "http://127.0.0.1:9", "username": "u", "password": "p", "tenant": "t"}}`,
		"keystone_url": `{"infrastructure": {"name": "R", "keystone_url": ["http://127.0.0.1:9"], "username": "u", "password": "p", "tenant": "t"}}`,
		"password":     `{"infrastructure": {"name": "R", "keystone_url": "http://127.0.0.1:9", "username": "u", "password": null, "tenant": "t"}}`,
		"trusted":      `{"infrastructure": {"name": "R", "keystone_url": "http://127.0.0.1:9", "username": "u", "password": "p", "tenant": "t", "trusted": "yes"}}`,
		"tenant":       `{"infrastructure": {"name": "R", "keystone_url": "http://127.0.0.1:9", "username": "u", "password": "p", "tenant": "t", "tenant": "t"}}`,
	} {
		t.Run("an infrastructure with a wrong type of "+what+" is 400 and said", func(t *testing.T) {
			checkRefusal(t, manager.post(t, "/infrastructures", nil, raw("application/json", body)), what)
			unchanged(t)
		})
	}

	// Ids in paths, as they are sent.
	for _, id := range []string{
		"a%2Fb", "a%252Fb", "%2e%2e", "..%2F..%2Fservers", "%00", "a%00b", "%0a", "%20", "%F0%9F%98%80", "%ff%fe",
		"a%5Cb", "%3Cscript%3E", "a%3Bb", "a%3Fb", strings.Repeat("a", 300), "'%20OR%20'1'%3D'1", "detail", "*", "null", "-1", "0",
	} {
		t.Run("the id "+shorten(id)+" is of no flavor", func(t *testing.T) {
			for _, collection := range []string{"/promotedflavors/", "/flavors/", "/regions/Trento/flavors/"} {
				manager.get(t, collection+id, token).wantOneOf(t, 404, 400)
				manager.put(t, collection+id, flavorOf("description", "x"), token).wantOneOf(t, 404, 400)
				manager.delete(t, collection+id, token).wantOneOf(t, 404, 400)
			}
			manager.get(t, "/infrastructures/"+id).wantOneOf(t, 404, 400)
			manager.put(t, "/infrastructures/"+id, infrastructureOf("nova_url", "http://127.0.0.1:9")).wantOneOf(t, 404, 400)
			manager.delete(t, "/infrastructures/"+id).wantOneOf(t, 404, 400)
			manager.get(t, "/promotedflavors/"+id+"/product").wantOneOf(t, 404, 400)
			manager.put(t, "/promotedflavors/"+id+"/product", productOf("price", "1", "currency", "DKK")).wantOneOf(t, 404, 400)
			manager.delete(t, "/promotedflavors/"+id+"/product").wantOneOf(t, 404, 400)
			manager.get(t, "/regions/"+id+"/glue2").wantOneOf(t, 404, 400)
			manager.get(t, "/regions/"+id+"/flavors", token).wantOneOf(t, 404, 400)
			manager.get(t, "/flavors", query("public", mustUnescape(id))).wantOneOf(t, 400, 200)
			unchanged(t)
		})
	}

	t.Run("an unknown node is told by name", func(t *testing.T) {
		for _, f := range formats {
			manager.put(t, "/flavors/"+public.ID, flavorOf("node", "Nowhere"), in(f)).want(t, 409).says(t, "Nowhere")
			manager.put(t, "/flavors/"+public.ID, flavorOf("node", "trento"), in(f)).want(t, 409).says(t, "trento")
			manager.put(t, "/flavors/"+public.ID, flavorOf("node", "a b/c"), in(f)).wantOneOf(t, 400, 409)
		}
		unchanged(t)
	})

	t.Run("an unknown region and an unknown flavor are 404", func(t *testing.T) {
		manager.get(t, "/regions/Nowhere/flavors", token).want(t, 404).says(t, "Nowhere")
		manager.post(t, "/regions/Nowhere/flavors", sized(n("x")), token).want(t, 404).says(t, "Nowhere")
		for _, path := range []string{"/flavors/", "/promotedflavors/", "/regions/Trento/flavors/"} {
			manager.get(t, path+someUUID, token).want(t, 404)
			manager.put(t, path+someUUID, flavorOf("description", "x"), token).want(t, 404)
			manager.delete(t, path+someUUID, token).want(t, 404)
		}
		unchanged(t)
	})

	t.Run("what Nova refuses for its size is told, and not done", func(t *testing.T) {
		// 300 extra specs of 255 characters are valid one by one, but Nova takes
		// no body over 114688 bytes.
		specs := make(map[string]string)
		for i := range 500 {
			specs[fmt.Sprintf("key-%03d", i)] = strings.Repeat("v", 255)
		}
		d := sized(n("huge")).and("extra_specs", specs)
		manager.post(t, "/regions/Trento/flavors", d, token).wantOneOf(t, 400, 413)
		manager.post(t, "/flavors", d.and("nodes", []string{trento})).wantOneOf(t, 400, 413)
		unchanged(t)
	})
}

// checkRefusal: a 400 whose message names the field.
func checkRefusal(t *testing.T, a *answer, field string) {
	t.Helper()
	if a.status != 400 {
		t.Errorf("status %d, not 400: %s", a.status, a)
		return
	}
	a.says(t, field)
}

func shorten(text string) string {
	if len(text) > 40 {
		return text[:40] + "..."
	}
	return text
}

func mustUnescape(text string) string {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return plain
}
