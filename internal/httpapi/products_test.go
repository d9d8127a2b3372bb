package httpapi

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

var small = flavor.Offer{
	FlavorID: "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", Name: "uc-general-small", Category: "uc-general", Price: 340_000,
	Currency: "DKK", Period: flavor.Hour, VCPUs: 4, RAM: 16384,
}

// The price is text in JSON, so that no reader makes a float of it, and all
// keys that say nothing are left out.
func TestEncodeProduct(t *testing.T) {
	full := small
	full.Free, full.Hidden, full.GPUs, full.Retired, full.ByFormula = true, true, 1, true, true
	full.CPUModel, full.MemoryModel, full.GPUModel, full.Description = "EPYC", "DDR5", "T4 <16>", `"&"`
	for _, c := range []struct {
		offer flavor.Offer
		as    format
		want  string
	}{
		{small, asJSON, `{"product": {"id": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "uc-general-small", "category": "uc-general", "price": "0.34", "currency": "DKK", "period": "hour", "free_to_use": false, "hidden_in_grant_applications": false, "vcpus": 4, "ram": 16384, "gpus": 0}}`},
		{full, asJSON, `{"product": {"id": "567b200e-0aca-49c4-8b52-6c3c2f0b4d11", "name": "uc-general-small", "category": "uc-general", "price": "0.34", "currency": "DKK", "period": "hour", "free_to_use": true, "hidden_in_grant_applications": true, "vcpus": 4, "ram": 16384, "gpus": 1, "cpu_model": "EPYC", "memory_model": "DDR5", "gpu_model": "T4 <16>", "description": "\"&\"", "by_formula": true, "retired": true}}`},
		{small, asXML, xmlDeclaration + `<product id="567b200e-0aca-49c4-8b52-6c3c2f0b4d11"><name>uc-general-small</name><category>uc-general</category><price>0.34</price><currency>DKK</currency><period>hour</period><free_to_use>false</free_to_use><hidden_in_grant_applications>false</hidden_in_grant_applications><vcpus>4</vcpus><ram>16384</ram><gpus>0</gpus></product>`},
		{full, asXML, xmlDeclaration + `<product id="567b200e-0aca-49c4-8b52-6c3c2f0b4d11"><name>uc-general-small</name><category>uc-general</category><price>0.34</price><currency>DKK</currency><period>hour</period><free_to_use>true</free_to_use><hidden_in_grant_applications>true</hidden_in_grant_applications><vcpus>4</vcpus><ram>16384</ram><gpus>1</gpus><cpu_model>EPYC</cpu_model><memory_model>DDR5</memory_model><gpu_model>T4 &lt;16&gt;</gpu_model><description>&#34;&amp;&#34;</description><by_formula>true</by_formula><retired>true</retired></product>`},
	} {
		if diff := cmp.Diff(c.want, string(encodeProduct(c.as, &c.offer))); diff != "" {
			t.Error(diff)
		}
		// What was read is read back to the letter.
		var patch flavor.ProductPatch
		body := encodeProduct(c.as, &c.offer)
		decode := decodeJSON
		if c.as == asXML {
			decode = decodeXML
		}
		if err := decode(body, productDocument(&patch)); err != nil {
			t.Errorf("%s: %v", body, err)
		} else if err := patch.Unchanged(c.offer); err != nil || *patch.Price != "0.34" {
			t.Errorf("%s: %v, price %q", body, err, *patch.Price)
		}
	}
	for as, want := range map[format]string{asJSON: `{"products": []}`, asXML: xmlDeclaration + `<products/>`} {
		if got := string(encodeProducts(as, nil)); got != want {
			t.Errorf("an empty list is %s", got)
		}
	}
	if got := string(encodeProducts(asXML, []flavor.Offer{small, small})); len(got) < 2*len("<product></product>") || got[len(got)-len("</products>"):] != "</products>" {
		t.Errorf("a list is %s", got)
	}
}

// A price that came as a JSON number has been a float somewhere.
func TestProductPriceIsText(t *testing.T) {
	var patch flavor.ProductPatch
	err := decodeJSON([]byte(`{"product": {"price": 0.34}}`), productDocument(&patch))
	if flavor.CodeOf(err) != flavor.CodeInvalid || err.Error() != "price: must be a string, not a number" {
		t.Errorf("got %v", err)
	}
}

// A manager who makes a product of what nobody has made one yet says so, and is
// not surprised by another's.
func TestConditionalProduct(t *testing.T) {
	path := "PUT /v1/promotedflavors/" + small.FlavorID + "/product"
	tag := etag(encodeProduct(asJSON, &small))
	for _, c := range []struct {
		there  bool
		header string
		status int
	}{
		{false, "If-None-Match: *", 200}, {false, "If-Match: *", 412}, {false, "If-Match: " + tag, 412},
		{true, "If-None-Match: *", 412}, {true, "If-Match: *", 200}, {true, "If-Match: " + tag, 200}, {true, `If-Match: "x"`, 412},
	} {
		s := newSetup(t)
		s.market.offer = small
		if !c.there {
			s.market.noProduct = true
		}
		w := s.do(t, path, `{"price": "1"}`, c.header)
		wantStatus(t, w, c.status)
		if changed := strings.Contains(s.market.called(), "ChangeProduct"); changed != (c.status == 200) {
			t.Errorf("a product is there: %v, %s: called %s", c.there, c.header, s.market.called())
		}
	}
	s := newSetup(t)
	s.market.noProduct = true
	wantStatus(t, s.do(t, "DELETE /v1/promotedflavors/"+small.FlavorID+"/product", "", "If-Match: *"), 404)
}
