package contract_test

import (
	"strings"
	"testing"
)

// negotiation: which format comes in and which goes out.
func negotiation(t *testing.T, s *setup) {
	manager := s.product.as(s.manager)
	n := unique()
	made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
	product := "/promotedflavors/" + made.ID + "/product"
	manager.put(t, product, productOf("price", "0.34", "currency", "DKK", "category", n("cat"))).want(t, 200)

	for accept, wantXML := range map[string]bool{
		"application/json":                false,
		"application/xml":                 true,
		"text/xml":                        true,
		"application/xml; charset=utf-8":  true,
		"*/*":                             false,
		"application/*":                   false,
		"text/*":                          true,
		"application/jsom":                false, // a deployed widget's spelling
		"image/png":                       false,
		"text/html,application/xhtml+xml": false,
		"application/json;q=0.5, application/xml":           true,
		"application/xml;q=0.5, application/json;q=0.6":     false,
		"application/xml;q=0.2, */*;q=0.1":                  true,
		"application/json;q=0, application/xml;q=0.1":       true,
		"application/xml;q=0, */*":                          false,
		"image/png, application/xml;q=0.1":                  true,
		"APPLICATION/XML":                                   true,
		"nonsense;;;q=":                                     false,
		"text/html, application/xml;q=0.9, image/*;q=0.8":   true,
		"application/json;q=0.9,application/xml;q=0.95;v=1": true,
	} {
		t.Run("Accept: "+accept, func(t *testing.T) {
			a := manager.get(t, "/promotedflavors/"+made.ID, header("Accept", accept)).want(t, 200)
			if a.isXML(t) != wantXML {
				t.Errorf("XML: %t, not %t: %s", a.isXML(t), wantXML, a)
			}
			a.flavor(t)
			a = manager.get(t, product, header("Accept", accept)).want(t, 200)
			if a.isXML(t) != wantXML {
				t.Errorf("XML: %t, not %t: %s", a.isXML(t), wantXML, a)
			}
			a.offer(t)
			a = manager.post(t, "/match", nil, raw("application/json", `{"host": {"num_cpus": 1}, "limit": 1}`), header("Accept", accept)).want(t, 200)
			if a.isXML(t) != wantXML {
				t.Errorf("XML: %t, not %t: %s", a.isXML(t), wantXML, a)
			}
		})
	}

	t.Run("without Accept it is JSON", func(t *testing.T) {
		if a := manager.get(t, "/promotedflavors/"+made.ID).want(t, 200); a.isXML(t) {
			t.Errorf("not JSON: %s", a)
		}
	})

	t.Run("the format of the answer is that of Accept, not that of the body", func(t *testing.T) {
		n := unique()
		xmlBody := string(asXML.encode(sized(n("a")), false))
		if a := manager.post(t, "/promotedflavors", nil, raw("application/xml", xmlBody)).want(t, 201); a.isXML(t) {
			t.Errorf("not JSON: %s", a)
		}
		if a := manager.post(t, "/promotedflavors", sized(n("b")), header("Accept", "application/xml")).want(t, 201); !a.isXML(t) {
			t.Errorf("not XML: %s", a)
		}
	})

	for _, contentType := range []string{
		"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON",
	} {
		t.Run("a body of "+contentType, func(t *testing.T) {
			manager.post(t, "/promotedflavors", nil, raw(contentType, string(asJSON.encode(sized(unique()("x")), false)))).want(t, 201)
		})
	}
	for _, contentType := range []string{
		"application/xml", "text/xml", "application/xml; charset=utf-8", `text/xml; charset="utf-8"`, "TEXT/XML",
	} {
		t.Run("a body of "+contentType, func(t *testing.T) {
			manager.post(t, "/promotedflavors", nil, raw(contentType, string(asXML.encode(sized(unique()("x")), false)))).want(t, 201)
		})
	}

	for _, contentType := range []string{
		"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsom",
		"application/octet-stream", "application/yaml", "nonsense", "application/", "application/json, application/xml",
	} {
		t.Run("a body of "+contentType+" is 415", func(t *testing.T) {
			name := unique()("x")
			for _, path := range []string{"/promotedflavors", "/flavors", "/infrastructures"} {
				manager.post(t, path, nil, raw(contentType, string(asJSON.encode(sized(name), false)))).want(t, 415)
			}
			manager.put(t, "/promotedflavors/"+made.ID, nil, raw(contentType, `{"description": "x"}`)).want(t, 415)
			manager.put(t, product, nil, raw(contentType, `{"price": "1"}`)).want(t, 415)
			if contentType != "application/yaml" { // which /match knows
				manager.post(t, "/match", nil, raw(contentType, `{"host": {"num_cpus": 1}}`)).want(t, 415)
			}
		})
	}

	t.Run("a body without a media type is 415", func(t *testing.T) {
		manager.post(t, "/promotedflavors", nil, raw("", string(asJSON.encode(sized(unique()("x")), false)))).want(t, 415)
		manager.put(t, product, nil, raw("", `{"price": "1"}`)).want(t, 415)
		manager.post(t, "/match", nil, raw("", `{"host": {"num_cpus": 1}}`)).want(t, 415)
	})

	t.Run("a body over 1 MiB is 413, and its size is looked at before its media type", func(t *testing.T) {
		huge := `{"flavor": {"name": "` + strings.Repeat("x", 2<<20) + `"}}`
		for _, contentType := range []string{"application/json", "application/xml", "text/plain", ""} {
			manager.post(t, "/promotedflavors", nil, raw(contentType, huge)).want(t, 413)
			manager.post(t, "/promotedflavors", nil, raw(contentType, huge), chunked).want(t, 413)
		}
		manager.put(t, "/promotedflavors/"+made.ID, nil, raw("application/json", huge)).want(t, 413)
		manager.put(t, product, nil, raw("application/json", huge)).want(t, 413)
		manager.post(t, "/match", nil, raw("application/x-yaml", huge)).want(t, 413)
	})

	t.Run("a body of 1 MiB is looked at", func(t *testing.T) {
		body := string(asJSON.encode(sized(unique()("x")), false))
		body += strings.Repeat(" ", 1<<20-len(body))
		manager.post(t, "/promotedflavors", nil, raw("application/json", body)).want(t, 201)
		manager.post(t, "/promotedflavors", nil, raw("application/json", body+" ")).want(t, 413)
	})
}
