package contract_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// acceleratorBody is one kind of accelerator of a flavor; what is absent is zero.
type acceleratorBody struct {
	Number int    `json:"number" xml:"number"`
	Vendor string `json:"vendor" xml:"vendor"`
	Model  string `json:"model" xml:"model"`
	Memory int    `json:"memory" xml:"memory"`
	Type   string `json:"type" xml:"type"`
}

// tesla are the extra specs of a flavor with one GPU, in the keys of EGI's sites,
// and what the API tells of them. The model is this test's own.
func tesla(n namer) (specs map[string]string, want []acceleratorBody) {
	return map[string]string{
		"Accelerator:Type": "GPU", "Accelerator:Number": "1", "Accelerator:Vendor": "NVIDIA", "Accelerator:Model": n("T4"), "Accelerator:Memory": "16",
	}, []acceleratorBody{{1, "NVIDIA", n("T4"), 16, "GPU"}}
}

// gpus: the accelerators that a flavor tells of, and lists of flavors by them.
func gpus(t *testing.T, s *setup) {
	manager, user := s.product.as(s.manager), s.product.as(s.user)
	owner := s.product.as(s.owner(trento))
	token := keystone(s.cloud.token(t, "operator"))

	type specs map[string]string
	for _, c := range []struct {
		what   string
		name   string // behind the test's own; the flavor's
		prefix string // before it
		specs  specs
		want   []acceleratorBody
	}{
		{what: "EGI's Accelerator keys",
			specs: specs{"Accelerator:Number": "2", "Accelerator:Vendor": "NVIDIA", "Accelerator:Model": "Tesla T4", "Accelerator:Memory": "16", "Accelerator:Type": "gpu"},
			want:  []acceleratorBody{{2, "NVIDIA", "Tesla T4", 16, "GPU"}}},
		{what: "EGI's Accelerator keys, of an accelerator that is no GPU",
			specs: specs{"Accelerator:Number": "1", "Accelerator:Type": "FPGA", "Accelerator:Vendor": "Xilinx", "Accelerator:Model": "Alveo U250"},
			want:  []acceleratorBody{{1, "Xilinx", "Alveo U250", 0, "FPGA"}}},
		{what: "a share of a GPU, which is one",
			specs: specs{"Accelerator:Number": "0.5", "Accelerator:Model": "A100"}, want: []acceleratorBody{{1, "NVIDIA", "A100", 0, ""}}},
		{what: "resources of Placement", specs: specs{"resources:VGPU": "1"}, want: []acceleratorBody{{1, "", "", 0, "GPU"}}},
		{what: "resources of Placement, of several groups",
			specs: specs{"resources:VGPU": "1", "resources1:VGPU": "2", "resources2:PGPU": "1"}, want: []acceleratorBody{{4, "", "", 0, "GPU"}}},
		{what: "a PCI alias", specs: specs{"pci_passthrough:alias": "nvidia-a100:2"}, want: []acceleratorBody{{2, "NVIDIA", "a100", 0, "GPU"}}},
		{what: "several PCI aliases, one of which is no GPU",
			specs: specs{"pci_passthrough:alias": "mi250:1,qat:2,t4:4"},
			want:  []acceleratorBody{{1, "AMD", "mi250", 0, "GPU"}, {4, "NVIDIA", "t4", 0, "GPU"}}},
		{what: "INFN's keys",
			specs: specs{"gpu_number": "1", "gpu_vendor": "NVIDIA", "gpu_model": "A40"}, want: []acceleratorBody{{1, "NVIDIA", "A40", 0, "GPU"}}},
		{what: "INDIGO's keys",
			specs: specs{"gpu:number": "3", "gpu:vendor": "AMD", "gpu:model": "MI100"}, want: []acceleratorBody{{3, "AMD", "MI100", 0, "GPU"}}},
		{what: "SCS's keys",
			specs: specs{"scs:gpu-number": "2", "scs:gpu-vendor": "amd", "scs:gpu-model": "MI210", "scs:gpu-vram": "64"},
			want:  []acceleratorBody{{2, "AMD", "MI210", 64, "GPU"}}},
		{what: "SCS's keys without the number, which is one", specs: specs{"scs:gpu-vram": "24"}, want: []acceleratorBody{{1, "", "", 24, "GPU"}}},
		{what: "an SCS name among the extra specs",
			specs: specs{"scs:name-v2": "SCS-16V-64-500s_GNa-14h-6h"}, want: []acceleratorBody{{1, "NVIDIA", "Ampere", 6, "GPU"}}},
		{what: "an SCS name of its own", prefix: "SCS-4V-16_", name: "_gNt-8-4", want: []acceleratorBody{{1, "NVIDIA", "Turing", 4, "GPU"}}},

		{what: "all of it: the first of them counts",
			specs: specs{"scs:gpu-number": "5", "gpu_number": "4", "pci_passthrough:alias": "t4:3", "resources:VGPU": "2", "Accelerator:Number": "1"},
			want:  []acceleratorBody{{1, "", "", 0, ""}}},
		{what: "a number of 0, which says nothing: the next counts",
			specs: specs{"Accelerator:Number": "0", "gpu_number": "2", "gpu_model": "A2"}, want: []acceleratorBody{{2, "", "A2", 0, "GPU"}}},
		{what: "nothing of a GPU", specs: specs{"hw:cpu_policy": "dedicated", "availability_zone": "gpu", "pci_passthrough:alias": "qat:2"}},
		{what: "no number that can be", specs: specs{"Accelerator:Number": "many", "Accelerator:Model": "T4"}},
		{what: "a name like an SCS name's", prefix: "scs-4V-16_", name: "_GNa-8-4"},
	} {
		t.Run("a flavor's accelerators follow from "+c.what, func(t *testing.T) {
			n := unique()
			name := c.prefix + n("x") + c.name
			d := sized(name)
			if c.specs != nil {
				d = d.and("extra_specs", map[string]string(c.specs))
			}
			made := manager.post(t, "/promotedflavors", d).want(t, 201).flavor(t)
			for _, f := range formats {
				got := user.get(t, "/promotedflavors/"+made.ID, in(f)).want(t, 200).flavor(t)
				if !slices.Equal(got.Accelerators, c.want) || !maps.Equal(got.ExtraSpecs, c.specs) {
					t.Errorf("in %s they are %+v, not %+v: %+v", f.name, got.Accelerators, c.want, got)
				}
			}
		})
	}

	t.Run("they come last, in JSON and in XML", func(t *testing.T) {
		n := unique()
		specs, _ := tesla(n)
		made := manager.post(t, "/promotedflavors", sized(n("x")).and("extra_specs", specs)).want(t, 201).flavor(t)
		manager.put(t, "/promotedflavors/"+made.ID, flavorOf("retired", true)).want(t, 200)
		for _, f := range formats {
			want := map[string]string{
				"JSON": `,"retired":true,"accelerators":[{"number":1,"vendor":"NVIDIA","model":"` + n("T4") + `","memory":16,"type":"GPU"}]}}`,
				"XML": `<retired>true</retired><accelerators><accelerator><number>1</number><vendor>NVIDIA</vendor><model>` + n("T4") +
					`</model><memory>16</memory><type>GPU</type></accelerator></accelerators></flavor>`,
			}[f.name]
			a := user.get(t, "/promotedflavors/"+made.ID, in(f)).want(t, 200)
			if got := squeeze(compactJSON(a.body)); !strings.HasSuffix(got, want) {
				t.Errorf("%s does not end with %s", got, want)
			}
		}
	})

	t.Run("a flavor shows them wherever it is shown: private, public and promoted", func(t *testing.T) {
		n := s.names(t)
		specs, want := tesla(n)
		shows := func(t *testing.T, as client, list, id string) {
			t.Helper()
			for _, f := range formats {
				if got := as.get(t, list+"/"+id, in(f), token).want(t, 200).flavor(t); !slices.Equal(got.Accelerators, want) {
					t.Errorf("%s/%s in %s shows %+v, not %+v", list, id, f.name, got.Accelerators, want)
				}
				if got, ok := find(as.get(t, list, in(f), token, fresh).want(t, 200).flavors(t), id, ""); !ok || !slices.Equal(got.Accelerators, want) {
					t.Errorf("%s in %s has %+v, not %+v", list, f.name, got, want)
				}
			}
		}
		made := user.post(t, "/regions/Trento/flavors", sized(n("x")).and("id", newUUID()).and("extra_specs", specs), token).want(t, 201).flavor(t)
		if !slices.Equal(made.Accelerators, want) {
			t.Errorf("created with %+v", made)
		}
		shows(t, user, "/regions/Trento/flavors", made.ID)
		shows(t, owner, "/flavors", made.ID)
		published := owner.put(t, "/flavors/"+made.ID, flavorOf("public", true)).want(t, 200).flavor(t)
		if !slices.Equal(published.Accelerators, want) {
			t.Errorf("published with %+v", published)
		}
		shows(t, user, "/flavors", published.ID)
		promoted := manager.put(t, "/flavors/"+published.ID, flavorOf("promoted", true)).want(t, 200).flavor(t)
		if !slices.Equal(promoted.Accelerators, want) {
			t.Errorf("promoted with %+v", promoted)
		}
		shows(t, user, "/flavors", promoted.ID)
		shows(t, user, "/promotedflavors", promoted.ID)
		shows(t, user, "/regions/Trento/flavors", made.ID)
		if held := s.cloud.hasFlavor(t, trento, flavorIn(made.ID, made.Name)); !maps.Equal(held.ExtraSpecs, specs) {
			t.Errorf("Nova holds the extra specs %v, not %v", held.ExtraSpecs, specs)
		}
	})

	t.Run("they follow a change of the extra specs", func(t *testing.T) {
		n := unique()
		specs, _ := tesla(n)
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + made.ID
		for _, f := range formats {
			specs["Accelerator:Number"] = "8"
			if got := manager.put(t, path, flavorOf("extra_specs", specs), in(f)).want(t, 200).flavor(t); len(got.Accelerators) != 1 || got.Accelerators[0].Number != 8 {
				t.Errorf("%+v", got)
			}
			if got := manager.put(t, path, flavorOf("extra_specs", map[string]string{}), in(f)).want(t, 200).flavor(t); got.Accelerators != nil {
				t.Errorf("without extra specs it has %+v", got.Accelerators)
			}
		}
	})

	for _, f := range formats {
		t.Run("what was read can be posted back in "+f.name+", and POST does not take them from there", func(t *testing.T) {
			n := s.names(t)
			specs, want := tesla(n)
			made := manager.post(t, "/promotedflavors", sized(n("read")).and("extra_specs", specs)).want(t, 201).flavor(t)
			read := manager.get(t, "/promotedflavors/"+made.ID, in(f)).want(t, 200).body
			for i, c := range []struct {
				path string
				as   client
			}{
				{"/promotedflavors", manager}, {"/regions/Trento/flavors", user}, {"/flavors", owner},
			} {
				for j, number := range []string{"1", "7"} {
					name := n(fmt.Sprint("posted", i, j))
					body := strings.Replace(string(read), n("read"), name, 1)
					for _, spelled := range []string{`"number": %s,`, `"number":%s,`, `<number>%s</number>`} {
						body = strings.Replace(body, fmt.Sprintf(spelled, "1"), fmt.Sprintf(spelled, number), 1)
					}
					if (body == strings.Replace(string(read), n("read"), name, 1)) != (number == "1") {
						t.Fatalf("the number was not replaced in %s", read)
					}
					if c.path == "/flavors" {
						body = strings.NewReplacer(`"public": true`, `"public": false`, `"promoted": true`, `"promoted": false`, `"public":true`, `"public":false`,
							`"promoted":true`, `"promoted":false`, "<public>true", "<public>false", "<promoted>true", "<promoted>false").Replace(body)
					}
					got := c.as.post(t, c.path, nil, raw(f.mediaType, body), header("Accept", f.mediaType), token).want(t, 201).flavor(t)
					if !slices.Equal(got.Accelerators, want) || got.Name != name {
						t.Errorf("POST %s of %s made %+v", c.path, body, got)
					}
				}
			}
		})

		t.Run("what was read can be put back in "+f.name+", changed accelerators are 400", func(t *testing.T) {
			n := s.names(t)
			specs, want := tesla(n)
			promoted := manager.post(t, "/promotedflavors", sized(n("promoted")).and("extra_specs", specs)).want(t, 201).flavor(t)
			public := owner.post(t, "/flavors", sized(n("public")).and("public", true).and("extra_specs", specs)).want(t, 201).flavor(t)
			private := owner.post(t, "/flavors", sized(n("private")).and("extra_specs", specs)).want(t, 201).flavor(t)
			for _, c := range []struct {
				path string
				as   client
			}{
				{"/promotedflavors/" + promoted.ID, manager}, {"/flavors/" + promoted.ID, manager}, {"/flavors/" + public.ID, owner},
				{"/flavors/" + private.ID, owner}, {"/regions/Trento/flavors/" + private.ID, user}, {"/regions/Trento/flavors/" + public.ID, user},
			} {
				before := c.as.get(t, c.path, in(f), token).want(t, 200)
				put := func(body string) *answer {
					return c.as.put(t, c.path, nil, raw(f.mediaType, body), header("Accept", f.mediaType), token)
				}
				if a := put(string(before.body)).want(t, 200); !bytes.Equal(a.body, before.body) {
					t.Errorf("PUT %s: it was\n%s and is\n%s", c.path, before, a)
				}
				bare := map[string][2]string{"JSON": {`{"flavor": {"accelerators": [`, `]}}`}, "XML": {"<flavor><accelerators>", "</accelerators></flavor>"}}[f.name]
				one := func(number, model string) string {
					if f.name == "JSON" {
						return fmt.Sprintf(`{"model": %q, "vendor": "NVIDIA", "type": "GPU", "number": %s, "memory": 16}`, model, number)
					}
					return fmt.Sprintf(`<accelerator><number>%s</number><vendor>NVIDIA</vendor><model>%s</model><memory>16</memory><type>GPU</type></accelerator>`, number, model)
				}
				put(bare[0]+one("1", n("T4"))+bare[1]).want(t, 200)
				comma := map[string]string{"JSON": ",", "XML": ""}[f.name]
				for _, list := range []string{
					one("2", n("T4")), one("1", "A100"), one("1", n("T4")) + comma + one("1", n("T4")), one("0", n("T4")), one("-1", n("T4")), "",
				} {
					checkRefusal(t, put(bare[0]+list+bare[1]), "accelerators")
				}
				for _, body := range []string{
					bare[0] + one(`"1"`, n("T4")) + bare[1], bare[0] + one("1.5", n("T4")) + bare[1], bare[0] + "17" + bare[1],
					strings.Replace(bare[0]+one("1", n("T4"))+bare[1], "memory", "speed", 2),
					`{"flavor": {"accelerators": null}}`, `{"flavor": {"accelerators": {}}}`, `{"flavor": {"accelerators": [{"number": 1, "number": 1}]}}`,
					`<flavor><accelerators><gpu/></accelerators></flavor>`, `<flavor><accelerators><accelerator number="1"/></accelerators></flavor>`,
				} {
					put(body).want(t, 400)
				}
				if after := c.as.get(t, c.path, in(f), token).want(t, 200); !bytes.Equal(after.body, before.body) {
					t.Errorf("%s was\n%s and is\n%s", c.path, before, after)
				}
			}
			// Those that come with other extra specs may be said beside them.
			specs["Accelerator:Number"] = "4"
			want[0].Number = 4
			got := manager.put(t, "/promotedflavors/"+promoted.ID, flavorOf("extra_specs", specs), in(f)).want(t, 200)
			manager.put(t, "/promotedflavors/"+promoted.ID, flavorOf("extra_specs", map[string]string{}), in(f)).want(t, 200)
			if again := manager.put(t, "/promotedflavors/"+promoted.ID, nil, raw(f.mediaType, string(got.body))).want(t, 200).flavor(t); !slices.Equal(again.Accelerators, want) {
				t.Errorf("they are %+v, not %+v", again.Accelerators, want)
			}
		})
	}

	t.Run("the lists tell those with a GPU from those without", func(t *testing.T) {
		n := s.names(t)
		specs, _ := tesla(n)
		fpga := map[string]string{"Accelerator:Number": "1", "Accelerator:Type": "FPGA", "Accelerator:Model": n("U250")}
		a100 := map[string]string{"Accelerator:Number": "4", "Accelerator:Vendor": "NVIDIA", "Accelerator:Model": "Tesla " + n("A100") + " SXM"}
		for word, specs := range map[string]map[string]string{"1-t4": specs, "2-t4": specs, "3-t4": specs, "a100": a100, "fpga": fpga, "none": {}} {
			d := sized(n(word)).and("extra_specs", specs)
			manager.post(t, "/promotedflavors", d).want(t, 201)
			user.post(t, "/regions/Trento/flavors", d.and("name", n("private-"+word)), token).want(t, 201)
		}
		t4s, gpus, rest := []string{"1-t4", "2-t4", "3-t4"}, []string{"1-t4", "2-t4", "3-t4", "a100"}, []string{"fpga", "none"}
		all := []string{"1-t4", "2-t4", "3-t4", "a100", "fpga", "none"}
		for parameters, want := range map[string][]string{
			"": all, "gpu": all, "gpu=": all, "gpu_model": all, "gpu_model=": all, "gpu&gpu_model=": all,
			"gpu=true": gpus, "gpu=1": gpus, "gpu=true&gpu=true": gpus,
			"gpu=false": rest, "gpu=0": rest,
			"gpu_model=" + n("T4"):                              t4s,
			"gpu_model=" + strings.ToUpper(n("t4")):             t4s,
			"gpu_model=NVIDIA%20" + n("T4"):                     t4s,
			"gpu_model=nvidia+" + n("t4"):                       t4s,
			"gpu_model=" + strings.ReplaceAll(n("T4"), "-", ""): t4s,
			"gpu_model=AMD%20" + n("T4"):                        nil,
			"gpu_model=" + n("T40"):                             nil,
			"gpu_model=" + n("T"):                               nil,
			"gpu_model=" + n("A100"):                            {"a100"},
			"gpu_model=tesla-" + n("A100"):                      {"a100"},
			"gpu_model=" + n("A10"):                             nil,
			"gpu_model=" + n("A1000"):                           nil,
			"gpu_model=" + n("U250"):                            nil, // no GPU
			"gpu=true&gpu_model=" + n("T4"):                     t4s,
			"gpu=false&gpu_model=" + n("T4"):                    nil,
			"gpu_model=%3F":                                     nil,
		} {
			for _, list := range []struct {
				path, prefix string
				as           client
			}{
				{"/promotedflavors", n(""), user}, {"/flavors", n(""), user}, {"/regions/Trento/flavors", n("private-"), user}, {"/flavors", n("private-"), owner},
			} {
				for _, f := range formats {
					if f.name == "XML" && list.path != "/promotedflavors" {
						continue // the pages below come in XML
					}
					var got []string
					for _, one := range list.as.get(t, list.path+"?"+parameters, in(f), token).want(t, 200).flavors(t) {
						word, mine := strings.CutPrefix(one.Name, list.prefix)
						if mine && slices.Contains(all, word) {
							got = append(got, word)
						}
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s?%s in %s as %s has %v, not %v", list.path, parameters, f.name, list.as.caller.name, got, want)
					}
				}
			}
		}
		for _, path := range []string{"/promotedflavors", "/flavors", "/regions/Trento/flavors"} {
			for _, parameters := range []string{"gpu=yes", "gpu=2", "gpu=-1", "gpu=true%20", "gpu=true&gpu=false", "gpu=%00"} {
				user.get(t, path+"?"+parameters, token).want(t, 400).says(t, "gpu")
			}
			user.get(t, path+"?gpu_model=a&gpu_model=b", token).want(t, 400).says(t, "gpu_model")
		}

		for _, list := range []struct {
			path, prefix string
		}{
			{"/promotedflavors", n("")}, {"/flavors", n("")}, {"/regions/Trento/flavors", n("private-")},
		} {
			for _, f := range formats {
				t.Run("pages of "+list.path+" keep to it in "+f.name, func(t *testing.T) {
					var got []string
					next := list.path + "?gpu=true&limit=2&gpu_model=" + n("T4")
					for pages := 1; ; pages++ {
						a := user.get(t, next, in(f), token).want(t, 200)
						for _, one := range a.flavors(t) {
							got = append(got, one.Name)
						}
						link := a.nextPath(t)
						if link == "" {
							if pages != 2 {
								t.Errorf("there were %d pages", pages)
							}
							break
						}
						q := mustQuery(t, link)
						if q.Get("gpu") != "true" || q.Get("gpu_model") != n("T4") || q.Get("limit") != "2" || q.Get("marker") == "" {
							t.Fatalf("the next page is %s", link)
						}
						next = strings.TrimPrefix(link, "/v1")
					}
					if want := []string{list.prefix + "1-t4", list.prefix + "2-t4", list.prefix + "3-t4"}; !slices.Equal(got, want) {
						t.Errorf("the pages have %v, not %v", got, want)
					}
				})
			}
		}

		t.Run("the filters of a list hold together", func(t *testing.T) {
			for parameters, want := range map[string]int{"public=true": 3, "promoted=true": 3, "public=false": 3, "promoted=false": 3, "public=true&promoted=false": 0, "": 6} {
				got := owner.get(t, "/flavors?gpu=1&gpu_model="+n("T4")+"&"+parameters, fresh).want(t, 200).flavors(t)
				if len(got) != want {
					t.Errorf("with %q there are %d, not %d: %+v", parameters, len(got), want, got)
				}
			}
		})
	})
}
