package httpapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

var withGPU = flavor.Flavor{
	ID: "567b200e-0aca-49c4-8b52-6c3c2f0b4d12", Public: true, Nodes: []string{"Trento"},
	Spec: flavor.Spec{Name: "uc-t4-1", VCPUs: 10, RAM: 40960, Disk: 1000, RxTxFactor: 1, ExtraSpecs: map[string]string{
		"Accelerator:Number": "2", "Accelerator:Vendor": "NVIDIA", "Accelerator:Model": "Tesla T4", "Accelerator:Memory": "16", "Accelerator:Type": "GPU",
	}},
}

// A widget that knows no accelerators reads what it always read, and sends back
// what it read: they come last, only where there are some, and are taken back.
func TestAccelerators(t *testing.T) {
	if body := string(encodeFlavor(asJSON, &insane)) + string(encodeFlavor(asXML, &insane)); strings.Contains(body, "accelerator") {
		t.Errorf("a flavor without any: %s", body)
	}
	for as, want := range map[format]string{
		asJSON: `, "accelerators": [{"number": 2, "vendor": "NVIDIA", "model": "Tesla T4", "memory": 16, "type": "GPU"}]}}`,
		asXML:  `<accelerators><accelerator><number>2</number><vendor>NVIDIA</vendor><model>Tesla T4</model><memory>16</memory><type>GPU</type></accelerator></accelerators></flavor>`,
	} {
		body := encodeFlavor(as, &withGPU)
		if !strings.HasSuffix(string(body), want) {
			t.Errorf("got %s", body)
		}
		var patch flavor.Patch
		decode := decodeJSON
		if as == asXML {
			decode = decodeXML
		}
		if err := decode(body, flavorDocument(&patch)); err != nil {
			t.Errorf("%s: %v", body, err)
		} else if diff := cmp.Diff(withGPU.Accelerators(), *patch.Accelerators); diff != "" {
			t.Error(diff)
		}
	}
	// That it has none is said, too.
	var none flavor.Patch
	if err := decodeJSON([]byte(`{"accelerators": []}`), flavorDocument(&none)); err != nil || none.Accelerators == nil {
		t.Errorf("an empty list: %v, %v", none.Accelerators, err)
	}
	var patch flavor.Patch
	for body, words := range map[string]string{
		`{"accelerators": {}}`:                           "accelerators: must be an array of objects, not an object",
		`{"accelerators": [1]}`:                          "accelerators: must be an array of objects, without a number",
		`{"accelerators": [{"number": "1"}]}`:            "number: must be a whole number, not a string",
		`{"accelerators": [{"speed": 1}]}`:               `"speed": there is no such field`,
		`{"accelerators": [{"number": 1, "number": 1}]}`: "number: is given twice",
		`{"accelerators": [{"number": 1}`:                "ends too soon",
	} {
		if err := decodeJSON([]byte(body), flavorDocument(&patch)); flavor.CodeOf(err) != flavor.CodeInvalid || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", body, err)
		}
	}
	for body, words := range map[string]string{
		`<flavor><accelerators><gpu/></accelerators></flavor>`:                                                  "no such element",
		`<flavor><accelerators><accelerator><number>x</number></accelerator></accelerators></flavor>`:           "number: must be a whole number",
		`<flavor><accelerators>2</accelerators></flavor>`:                                                       "no text between",
		`<flavor><accelerators><accelerator><type>a</type><type>b</type></accelerator></accelerators></flavor>`: "type: is given twice",
	} {
		if err := decodeXML([]byte(body), flavorDocument(&patch)); flavor.CodeOf(err) != flavor.CodeInvalid || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Who needs a GPU asks for one in any list of flavors.
func TestFilterByGPU(t *testing.T) {
	for _, path := range []string{"/v1/flavors", "/v1/promotedflavors", "/v1/regions/Trento/flavors"} {
		for query, want := range map[string]string{
			"": "insane uc-t4-1", "?gpu": "insane uc-t4-1", "?gpu=true": "uc-t4-1", "?gpu=0": "insane", "?gpu_model=t4": "uc-t4-1",
			"?gpu_model=A100": "", "?gpu_model=": "insane uc-t4-1", "?gpu=false&gpu_model=T4": "", "?gpu=1&limit=1": "uc-t4-1",
		} {
			s := newSetup(t)
			s.market.list = []flavor.Flavor{insane, withGPU}
			w := s.do(t, "GET "+path+query, "")
			wantStatus(t, w, 200)
			var got struct{ Flavors []struct{ Name string } }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range got.Flavors {
				names = append(names, f.Name)
			}
			if strings.Join(names, " ") != want || w.Header().Get("Link") != "" {
				t.Errorf("%s%s: %v, Link %q; not %s", path, query, names, w.Header().Get("Link"), want)
			}
		}
		w := newSetup(t).do(t, "GET "+path+"?gpu=yes", "")
		wantStatus(t, w, 400)
	}
}
