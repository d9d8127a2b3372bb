package contract_test

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// productOf makes the document of a product from names and values in turn.
func productOf(pairs ...any) *document { return documentOf("product", pairs) }

// offerBody is a promoted flavor as a product; what is absent is zero.
type offerBody struct {
	ID          string `json:"id" xml:"id,attr"`
	Name        string `json:"name" xml:"name"`
	Category    string `json:"category" xml:"category"`
	Price       string `json:"price" xml:"price"`
	Currency    string `json:"currency" xml:"currency"`
	Period      string `json:"period" xml:"period"`
	Free        bool   `json:"free_to_use" xml:"free_to_use"`
	Hidden      bool   `json:"hidden_in_grant_applications" xml:"hidden_in_grant_applications"`
	VCPUs       int    `json:"vcpus" xml:"vcpus"`
	RAM         int    `json:"ram" xml:"ram"`
	GPUs        int    `json:"gpus" xml:"gpus"`
	CPUModel    string `json:"cpu_model" xml:"cpu_model"`
	MemoryModel string `json:"memory_model" xml:"memory_model"`
	GPUModel    string `json:"gpu_model" xml:"gpu_model"`
	Description string `json:"description" xml:"description"`
	ByFormula   bool   `json:"by_formula" xml:"by_formula"`
	Retired     bool   `json:"retired" xml:"retired"`
}

// offer is the one product an answer holds, in whichever format.
func (a *answer) offer(t *testing.T) offerBody {
	t.Helper()
	var (
		body struct {
			XMLName xml.Name   `json:"-" xml:"product"`
			Product *offerBody `json:"product" xml:"-"`
			offerBody
		}
		err error
	)
	if a.isXML(t) {
		err = decodeXML(a.body, &body)
	} else if err = decodeStrict(a.body, &body); err == nil && body.Product != nil {
		body.offerBody = *body.Product
	}
	if err == nil && body.ID == "" {
		err = errors.New("it has no id")
	}
	if err != nil {
		t.Fatalf("not a product: %v: %s", err, a)
	}
	return body.offerBody
}

// offers is the list of products an answer holds.
func (a *answer) offers(t *testing.T) []offerBody {
	t.Helper()
	var (
		list struct {
			XMLName  xml.Name    `json:"-" xml:"products"`
			Products []offerBody `json:"products" xml:"product"`
		}
		err error
	)
	if a.isXML(t) {
		err = decodeXML(a.body, &list)
	} else if err = decodeStrict(a.body, &list); err == nil && list.Products == nil {
		err = errors.New(`there is no list under "products"`)
	}
	if err != nil {
		t.Fatalf("not a list of products: %v: %s", err, a)
	}
	return list.Products
}

// offered is the product of that flavor in GET /v1/products.
func (c client) offered(t *testing.T, id string) (offerBody, bool) {
	t.Helper()
	for _, o := range c.get(t, "/products").want(t, 200).offers(t) {
		if o.ID == id {
			return o, true
		}
	}
	return offerBody{}, false
}

// reads sees that the product at path is want, alone in every format and in
// GET /v1/products.
func (c client) reads(t *testing.T, path string, want offerBody) {
	t.Helper()
	for _, f := range formats {
		if got := c.get(t, path, in(f)).want(t, 200).offer(t); got != want {
			t.Errorf("in %s it is %+v, not %+v", f.name, got, want)
		}
	}
	if got, _ := c.offered(t, want.ID); got != want {
		t.Errorf("in the list it is %+v, not %+v", got, want)
	}
}

// sell makes a promoted flavor, and a product of it.
func (c client) sell(t *testing.T, flavor, product *document) (path string, made offerBody) {
	t.Helper()
	f := c.post(t, "/promotedflavors", flavor).want(t, 201).flavor(t)
	path = "/promotedflavors/" + f.ID + "/product"
	return path, c.put(t, path, product).want(t, 200).offer(t)
}

// remains expects what a GET of path answers to be as it was before.
func (c client) remains(t *testing.T, path string, before *answer) {
	t.Helper()
	if after := c.get(t, path).want(t, before.status); !bytes.Equal(after.body, before.body) {
		t.Errorf("a refused change was done: it was\n%s and is\n%s", before, after)
	}
}

// products: promoted flavors with a price.
func products(t *testing.T, s *setup) {
	manager, user, owner := s.product.as(s.manager), s.product.as(s.user), s.product.as(s.owner(spain2))
	hourly := func(n namer) *document {
		return productOf("price", "0.34", "currency", "DKK", "period", "hour", "category", n("cat"))
	}

	for _, f := range formats {
		t.Run("a product lives from PUT to DELETE in "+f.name, func(t *testing.T) {
			n := unique()
			made := manager.post(t, "/promotedflavors", sized(n("life")), in(f)).want(t, 201).flavor(t)
			path := "/promotedflavors/" + made.ID + "/product"
			user.get(t, path, in(f)).want(t, 404).says(t, n("life"))
			manager.delete(t, path, in(f)).want(t, 404)
			if o, ok := user.offered(t, made.ID); ok {
				t.Errorf("it is a product before it was made one: %+v", o)
			}

			want := offerBody{
				ID: made.ID, Name: n("life"), Category: n("cat"), Price: "0.34", Currency: "DKK", Period: "hour", Hidden: true,
				VCPUs: 2, RAM: 2048, CPUModel: "EPYC <7763>", MemoryModel: "DDR4 & more", GPUModel: "keiner", Description: `"für alle"`,
			}
			if got := manager.put(t, path, productOf("price", "0.34", "currency", "DKK", "period", "hour", "category", n("cat"),
				"hidden_in_grant_applications", true, "free_to_use", false, "cpu_model", "EPYC <7763>", "memory_model", "DDR4 & more",
				"gpu_model", "keiner", "description", `"für alle"`), in(f)).want(t, 200).offer(t); got != want {
				t.Errorf("the answer is %+v, not %+v", got, want)
			}
			for _, out := range formats {
				if got := user.get(t, path, in(out)).want(t, 200).offer(t); got != want {
					t.Errorf("in %s it is %+v, not %+v", out.name, got, want)
				}
				if all := user.get(t, "/products", in(out)).want(t, 200).offers(t); !slices.Contains(all, want) {
					t.Errorf("the list in %s does not hold %+v: %+v", out.name, want, all)
				}
			}

			want.Price = "5.5"
			if got := manager.put(t, path, productOf("price", "5.50"), in(f)).want(t, 200).offer(t); got != want {
				t.Errorf("with another price it is %+v, not %+v", got, want)
			}
			if got, _ := user.offered(t, made.ID); got != want {
				t.Errorf("with another price the list has %+v, not %+v", got, want)
			}

			manager.delete(t, path, in(f)).want(t, 204)
			user.get(t, path, in(f)).want(t, 404)
			manager.delete(t, path, in(f)).want(t, 404)
			if o, ok := user.offered(t, made.ID); ok {
				t.Errorf("the list still holds %+v", o)
			}
			if got := user.get(t, "/promotedflavors/"+made.ID, in(f)).want(t, 200).flavor(t); got.Name != n("life") || got.Retired != nil {
				t.Errorf("the flavor is %+v", got)
			}
			// What was said of it is forgotten, so it has no currency any more.
			manager.put(t, path, productOf("price", "1"), in(f)).want(t, 400).says(t, "currency")
			again := offerBody{ID: made.ID, Name: n("life"), Category: n("cat"), Price: "1", Currency: "EUR", Period: "day", VCPUs: 2, RAM: 2048}
			if got := manager.put(t, path, productOf("price", "1", "currency", "EUR", "period", "day", "category", n("cat")), in(f)).want(t, 200).offer(t); got != again {
				t.Errorf("made a product again it is %+v, not %+v", got, again)
			}
			for _, region := range s.cloud.regions {
				s.cloud.hasNone(t, region, made.ID)
				s.cloud.hasNone(t, region, made.Name)
			}
		})
	}

	t.Run("a product has exactly the documented keys in their order, and optional ones only where they say something", func(t *testing.T) {
		n := unique()
		path, made := manager.sell(t, sized(n("keys")), hourly(n))
		a := user.get(t, path).want(t, 200)
		want := fmt.Sprintf(`{"product":{"id":%q,"name":%q,"category":%q,"price":"0.34","currency":"DKK","period":"hour","free_to_use":false,`+
			`"hidden_in_grant_applications":false,"vcpus":2,"ram":2048,"gpus":0}}`, made.ID, n("keys"), n("cat"))
		if got := string(compactJSON(a.body)); got != want {
			t.Errorf("the body is %s, not %s", got, want)
		}
		a = user.get(t, path, in(asXML)).want(t, 200)
		want = fmt.Sprintf(`<product id=%q><name>%s</name><category>%s</category><price>0.34</price><currency>DKK</currency><period>hour</period>`+
			`<free_to_use>false</free_to_use><hidden_in_grant_applications>false</hidden_in_grant_applications><vcpus>2</vcpus><ram>2048</ram><gpus>0</gpus></product>`,
			made.ID, n("keys"), n("cat"))
		if got := squeeze(a.body); got != want || !bytes.HasPrefix(a.body, []byte(`<?xml version="1.0" encoding="UTF-8"?>`)) {
			t.Errorf("the body is %s, not %s", a.body, want)
		}
	})

	t.Run("without a product the list is empty, and a list", func(t *testing.T) {
		pr := s.serve(t)
		pr.as(s.manager).post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201)
		if a := pr.as(s.user).get(t, "/products").want(t, 200); string(compactJSON(a.body)) != `{"products":[]}` {
			t.Errorf("not {\"products\": []}: %s", a)
		}
		if a := pr.as(s.user).get(t, "/products", in(asXML)).want(t, 200); squeeze(a.body) != `<products/>` {
			t.Errorf("not <products/>: %s", a)
		}
	})

	t.Run("the list is by name", func(t *testing.T) {
		n := unique()
		for _, word := range []string{"c", "a", "B", "b"} {
			manager.sell(t, sized(n(word)), hourly(n))
		}
		for _, f := range formats {
			all := user.get(t, "/products", in(f)).want(t, 200).offers(t)
			if !slices.IsSortedFunc(all, func(a, b offerBody) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) }) {
				t.Errorf("in %s it is in another order: %+v", f.name, all)
			}
			var mine []string
			for _, o := range all {
				if word, ok := strings.CutPrefix(o.Name, n("")); ok {
					mine = append(mine, word)
				}
			}
			if want := []string{"B", "a", "b", "c"}; !slices.Equal(mine, want) {
				t.Errorf("in %s it has %v, not %v", f.name, mine, want)
			}
		}
	})

	t.Run("managers alone make, change and end a product, every user reads it", func(t *testing.T) {
		n := unique()
		path, made := manager.sell(t, sized(n("theirs")), hourly(n))
		plain := manager.post(t, "/promotedflavors", sized(n("plain"))).want(t, 201).flavor(t)
		before := manager.get(t, path).want(t, 200)
		for _, c := range []client{user, owner} {
			for _, f := range formats {
				c.put(t, path, productOf("price", "0"), in(f)).wantManagersOnly(t)
				c.delete(t, path, in(f)).wantManagersOnly(t)
				c.put(t, "/promotedflavors/"+plain.ID+"/product", hourly(n), in(f)).wantManagersOnly(t)
				c.delete(t, "/promotedflavors/"+plain.ID+"/product", in(f)).wantManagersOnly(t)
				if got := c.get(t, path, in(f)).want(t, 200).offer(t); got != made {
					t.Errorf("%s reads %+v, not %+v", c.caller.name, got, made)
				}
			}
			if got, _ := c.offered(t, made.ID); got != made {
				t.Errorf("%s is listed %+v, not %+v", c.caller.name, got, made)
			}
		}
		manager.remains(t, path, before)
		manager.get(t, "/promotedflavors/"+plain.ID+"/product").want(t, 404)
	})

	t.Run("what is not named stays", func(t *testing.T) {
		n := unique()
		path, want := manager.sell(t, sized(n("stays")), hourly(n).and("description", "a").and("cpu_model", "b").and("memory_model", "c").
			and("gpu_model", "d").and("hidden_in_grant_applications", true))
		for i, c := range []struct {
			field string
			value any
			apply func()
		}{
			{"price", "7", func() { want.Price = "7" }},
			{"currency", "EUR", func() { want.Currency = "EUR" }},
			{"period", "minute", func() { want.Period = "minute" }},
			{"category", n("other"), func() { want.Category = n("other") }},
			{"hidden_in_grant_applications", false, func() { want.Hidden = false }},
			{"free_to_use", true, func() { want.Free = true }},
			{"cpu_model", "B", func() { want.CPUModel = "B" }},
			{"memory_model", "C", func() { want.MemoryModel = "C" }},
			{"gpu_model", "D", func() { want.GPUModel = "D" }},
			{"description", "A", func() { want.Description = "A" }},
		} {
			c.apply()
			if got := manager.put(t, path, productOf(c.field, c.value), in(formats[i%2])).want(t, 200).offer(t); got != want {
				t.Errorf("after a change of %s it is %+v, not %+v", c.field, got, want)
			}
		}
		for body, contentType := range map[string]string{`{}`: "application/json", `{"product": {}}`: "application/json", `<product/>`: "application/xml"} {
			if got := manager.put(t, path, nil, raw(contentType, body)).want(t, 200).offer(t); got != want {
				t.Errorf("after a change of nothing it is %+v, not %+v", got, want)
			}
		}
		if got := manager.get(t, path).want(t, 200).offer(t); got != want {
			t.Errorf("it is %+v, not %+v", got, want)
		}
	})

	for _, f := range formats {
		t.Run(`"" goes back to what holds where nothing was said, in `+f.name, func(t *testing.T) {
			n := unique()
			path, want := manager.sell(t,
				sized(n("resets")).and("description", "the flavor's").and("extra_specs", map[string]string{
					"availability_zone": n("zone"), "Accelerator:Number": "2", "Accelerator:Model": "Tesla T4",
				}),
				hourly(n).and("period", "day").and("description", "a").and("cpu_model", "b").and("memory_model", "c").and("gpu_model", "d"))
			if want.GPUs != 2 || want.GPUModel != "d" || want.Category != n("cat") || want.Period != "day" {
				t.Errorf("at first it is %+v", want)
			}
			for _, c := range []struct {
				field string
				apply func()
			}{
				{"category", func() { want.Category = n("zone") }},
				{"period", func() { want.Period = "hour" }},
				{"cpu_model", func() { want.CPUModel = "" }},
				{"memory_model", func() { want.MemoryModel = "" }},
				{"gpu_model", func() { want.GPUModel = "Tesla T4" }},
				{"description", func() { want.Description = "the flavor's" }},
			} {
				c.apply()
				if got := manager.put(t, path, productOf(c.field, ""), in(f)).want(t, 200).offer(t); got != want {
					t.Errorf("without a %s of its own it is %+v, not %+v", c.field, got, want)
				}
			}
			// Here nothing is configured that a price and a currency could go back to.
			before := manager.get(t, path).want(t, 200)
			manager.put(t, path, productOf("price", ""), in(f)).want(t, 400).says(t, "price", "pricing")
			manager.put(t, path, productOf("by_formula", true), in(f)).want(t, 400).says(t, "price", "pricing")
			manager.put(t, path, productOf("currency", ""), in(f)).want(t, 400).says(t, "currency", "pricing.currency")
			manager.remains(t, path, before)
		})
	}

	t.Run("a product needs a price or is free to use, and needs a currency", func(t *testing.T) {
		n := unique()
		made := manager.post(t, "/promotedflavors", sized(n("needs"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + made.ID + "/product"
		for _, f := range formats {
			manager.put(t, path, productOf("currency", "DKK", "category", n("cat")), in(f)).want(t, 400).says(t, "price")
			manager.put(t, path, productOf("currency", "DKK", "category", n("cat"), "free_to_use", false), in(f)).want(t, 400).says(t, "price")
			manager.put(t, path, productOf("price", "1", "category", n("cat")), in(f)).want(t, 400).says(t, "currency", "pricing.currency")
			manager.put(t, path, productOf("free_to_use", true, "category", n("cat")), in(f)).want(t, 400).says(t, "currency", "pricing.currency")
			manager.get(t, path).want(t, 404)
		}
		got := manager.put(t, path, productOf("free_to_use", true, "currency", "DKK", "category", n("cat"))).want(t, 200).offer(t)
		if want := (offerBody{ID: made.ID, Name: made.Name, Category: n("cat"), Price: "0", Currency: "DKK", Period: "hour", Free: true, VCPUs: 2, RAM: 2048}); got != want {
			t.Errorf("free to use it is %+v, not %+v", got, want)
		}
		manager.put(t, path, productOf("free_to_use", false)).want(t, 400).says(t, "price")
	})

	t.Run("the category follows availability_zone, then the configuration, with -h as the flavor's name has it", func(t *testing.T) {
		pr := s.serve(t, with("ucloud", map[string]any{"default_category": "default-cat"}))
		manager, n := pr.as(s.manager), unique()
		for _, c := range []struct{ name, zone, want string }{
			{"a", "", "default-cat"}, {"a-h", "", "default-cat-h"}, {"b", "zone.1", "zone.1"}, {"b-h", "zone.1", "zone.1-h"},
			{"c", "sdu/uc-general", "default-cat"}, {"-h", strings.Repeat("z", 64), "default-cat-h"}, {"d-H", "zone.1", "zone.1"},
		} {
			d := sized(n(c.name))
			if c.zone != "" {
				d = d.and("extra_specs", map[string]string{"availability_zone": c.zone})
			}
			if _, got := manager.sell(t, d, productOf("price", "1", "currency", "DKK")); got.Category != c.want {
				t.Errorf("of %q in the zone %q it is %q, not %q", c.name, c.zone, got.Category, c.want)
			}
		}
		manager.sell(t, sized(n("e")), productOf("price", "1", "currency", "DKK", "category", "uc-general"))
	})

	t.Run("a price is exact", func(t *testing.T) {
		n := unique()
		path, _ := manager.sell(t, sized(n("exact")), hourly(n))
		for sent, want := range map[string]string{
			"0.34": "0.34", "5.50": "5.5", "0": "0", "0.0": "0", "0.000001": "0.000001", "0.100000": "0.1", "0.3": "0.3", "10": "10", "1000000": "1000000",
			"1.010101": "1.010101", "123456789.987654": "123456789.987654", "9007199254.740993": "9007199254.740993", // no float holds it
			"9223372036854.775807": "9223372036854.775807", "9223372036854": "9223372036854",
		} {
			for _, body := range []struct{ contentType, text string }{
				{"application/json", `{"product": {"price": "` + sent + `"}}`}, {"application/json", `{"price": "` + sent + `"}`},
				{"application/xml", `<product><price>` + sent + `</price></product>`}, {"text/xml", `<price>` + sent + `</price>`},
			} {
				manager.put(t, path, productOf("price", "77.7")).want(t, 200)
				if got := manager.put(t, path, nil, raw(body.contentType, body.text)).want(t, 200).offer(t); got.Price != want {
					t.Errorf("%s: the answer says %s, not %s", body.text, got.Price, want)
				}
				for _, f := range formats {
					if got := user.get(t, path, in(f)).want(t, 200).offer(t); got.Price != want {
						t.Errorf("%s: in %s it is %s, not %s", body.text, f.name, got.Price, want)
					}
				}
			}
		}
	})

	t.Run("what no product can have is 400, said, and not done", func(t *testing.T) {
		n := unique()
		path, _ := manager.sell(t, sized(n("bad")), hourly(n))
		before := manager.get(t, path).want(t, 200)
		long := strings.Repeat("x", 129)
		for _, c := range []struct{ field, asJSON, asXML string }{
			{"price", `"-1"`, `<price>-1</price>`},
			{"price", `"-0.000001"`, `<price>-0.000001</price>`},
			{"price", `"-0"`, `<price>-0</price>`},
			{"price", `"0.3400000"`, `<price>0.3400000</price>`},
			{"price", `"0.0000001"`, `<price>0.0000001</price>`},
			{"price", `"9223372036854.775808"`, `<price>9223372036854.775808</price>`},
			{"price", `"9223372036855"`, `<price>9223372036855</price>`},
			{"price", `"` + strings.Repeat("9", 400) + `"`, `<price>` + strings.Repeat("9", 400) + `</price>`},
			{"price", `"1e3"`, `<price>1e3</price>`},
			{"price", `"1E3"`, `<price>1E3</price>`},
			{"price", `"0x10"`, `<price>0x10</price>`},
			{"price", `"+1"`, `<price>+1</price>`},
			{"price", `"1."`, `<price>1.</price>`},
			{"price", `".5"`, `<price>.5</price>`},
			{"price", `"01"`, `<price>01</price>`},
			{"price", `"1,5"`, `<price>1,5</price>`},
			{"price", `"1.5.1"`, `<price>1.5.1</price>`},
			{"price", `"1 000"`, `<price>1 000</price>`},
			{"price", `"١"`, `<price>١</price>`},
			{"price", `"NaN"`, `<price>NaN</price>`},
			{"price", `"Infinity"`, `<price>Infinity</price>`},
			{"price", `"free"`, `<price>free</price>`},
			{"price", `"0.34 DKK"`, `<price>0.34 DKK</price>`},
			{"price", `" "`, `<price> </price>`},
			{"price", `0.34`, `<price><amount>0.34</amount></price>`},
			{"price", `5`, `<price currency="DKK">5</price>`},
			{"price", `null`, ""},
			{"price", `true`, ""},
			{"price", `["0.34"]`, ""},
			{"category", `"sdu/uc-general"`, `<category>sdu/uc-general</category>`},
			{"category", `" "`, `<category> </category>`},
			{"category", `"-x"`, `<category>-x</category>`},
			{"category", `"a b"`, `<category>a b</category>`},
			{"category", `"ä"`, `<category>ä</category>`},
			{"category", `"` + strings.Repeat("x", 65) + `"`, `<category>` + strings.Repeat("x", 65) + `</category>`},
			{"category", `7`, ""},
			{"category", `null`, ""},
			{"category", `{"name": "x"}`, `<category><name>x</name></category>`},
			{"currency", `"dkk"`, `<currency>dkk</currency>`},
			{"currency", `"DK"`, `<currency>DK</currency>`},
			{"currency", `"EURO"`, `<currency>EURO</currency>`},
			{"currency", `"D1K"`, `<currency>D1K</currency>`},
			{"currency", `"€"`, `<currency>€</currency>`},
			{"currency", `null`, ""},
			{"period", `"HOUR"`, `<period>HOUR</period>`},
			{"period", `"week"`, `<period>week</period>`},
			{"period", `"PERIODIC_HOUR"`, `<period>PERIODIC_HOUR</period>`},
			{"period", `3600`, `<period>3600</period>`},
			{"period", `null`, ""},
			{"free_to_use", `"true"`, `<free_to_use>yes</free_to_use>`},
			{"free_to_use", `1`, `<free_to_use>2</free_to_use>`},
			{"free_to_use", `null`, `<free_to_use/>`},
			{"hidden_in_grant_applications", `"no"`, `<hidden_in_grant_applications>no</hidden_in_grant_applications>`},
			{"hidden_in_grant_applications", `null`, `<hidden_in_grant_applications/>`},
			{"cpu_model", `"` + long + `"`, `<cpu_model>` + long + `</cpu_model>`},
			{"cpu_model", `"a\nb"`, "<cpu_model>a\nb</cpu_model>"},
			{"cpu_model", `5`, ""},
			{"memory_model", `"` + long + `"`, `<memory_model>` + long + `</memory_model>`},
			{"memory_model", `" a"`, `<memory_model> a</memory_model>`},
			{"gpu_model", `"` + long + `"`, `<gpu_model>` + long + `</gpu_model>`},
			{"gpu_model", `"a\u0000b"`, ""},
			{"description", `"` + strings.Repeat("x", 1001) + `"`, `<description>` + strings.Repeat("x", 1001) + `</description>`},
			{"description", `"a\nb"`, "<description>a&#10;b</description>"},
			{"description", `"a\tb"`, "<description>a&#9;b</description>"},
			{"description", `[]`, `<description><b>x</b></description>`},
			{"by_formula", `"true"`, `<by_formula>ja</by_formula>`},
			{"by_formula", `1`, `<by_formula/>`},
			// What is the flavor's own changes with the flavor alone.
			{"id", `"` + newUUID() + `"`, ""},
			{"name", `"` + n("renamed") + `"`, `<name>` + n("renamed") + `</name>`},
			{"name", `""`, `<name/>`},
			{"vcpus", `3`, `<vcpus>3</vcpus>`},
			{"vcpus", `"2"`, `<vcpus>two</vcpus>`},
			{"vcpus", `99999999999999999999`, `<vcpus>99999999999999999999</vcpus>`},
			{"ram", `1`, `<ram>1</ram>`},
			{"ram", `2048.5`, `<ram>2048.5</ram>`},
			{"gpus", `1`, `<gpus>1</gpus>`},
			{"gpus", `null`, `<gpus/>`},
			{"retired", `true`, `<retired>true</retired>`},
			{"retired", `"false"`, `<retired>nein</retired>`},
			{"unit", `"core"`, `<unit>core</unit>`},
			{"Price", `"1"`, `<Price>1</Price>`},
			{"accelerators", `[]`, `<accelerators/>`},
		} {
			j := fmt.Sprintf(`{"product": {%q: %s}}`, c.field, c.asJSON)
			checkRefusal(t, manager.put(t, path, nil, raw("application/json", j)), c.field)
			if c.asXML != "" {
				checkRefusal(t, manager.put(t, path, nil, raw("application/xml", `<product>`+c.asXML+`</product>`)), c.field)
			}
		}
		checkRefusal(t, manager.put(t, path, nil, raw("application/xml", `<product id="`+newUUID()+`"><price>1</price></product>`)), "id")
		for _, c := range []struct{ field, contentType, body string }{
			{"price", "application/json", `{"product": {"price": "1", "price": "2"}}`},
			{"price", "application/json", `{"price": "1", "currency": "DKK", "pr\u0069ce": "1"}`},
			{"price", "application/json", `{"product": {}, "price": "1"}`},
			{"product", "application/json", `{"product": {}, "product": {}}`},
			{"flavor", "application/json", `{"flavor": {"name": "x"}}`},
			{"product", "application/json", `{"product": []}`},
			{"product", "application/json", `{"product": "0.34"}`},
			{"price", "application/xml", `<product><price>1</price><price>2</price></product>`},
			{"colour", "application/xml", `<product colour="blue"><price>1</price></product>`},
			{"flavor", "application/xml", `<flavor><price>1</price></flavor>`},
			{"products", "application/xml", `<products><product><price>1</price></product></products>`},
		} {
			checkRefusal(t, manager.put(t, path, nil, raw(c.contentType, c.body)), c.field)
		}
		manager.remains(t, path, before)
	})

	t.Run("there is a product of a promoted flavor alone", func(t *testing.T) {
		n := s.names(t)
		public := manager.post(t, "/flavors", sized(n("public")).and("nodes", []string{spain2}).and("public", true)).want(t, 201).flavor(t)
		private := manager.post(t, "/flavors", sized(n("private")).and("nodes", []string{spain2})).want(t, 201).flavor(t)
		for _, id := range []string{someUUID, "m1.tiny", public.ID, private.ID} {
			path := "/promotedflavors/" + id + "/product"
			for _, f := range formats {
				manager.get(t, path, in(f)).want(t, 404).says(t, id)
				manager.put(t, path, hourly(n), in(f)).want(t, 404).says(t, id)
				manager.delete(t, path, in(f)).want(t, 404).says(t, id)
			}
		}
		manager.put(t, "/flavors/"+public.ID, flavorOf("promoted", true)).want(t, 200)
		path := "/promotedflavors/" + public.ID + "/product"
		manager.get(t, path).want(t, 404)
		if got := manager.put(t, path, hourly(n)).want(t, 200).offer(t); got.Name != n("public") || got.Price != "0.34" {
			t.Errorf("once promoted it is %+v", got)
		}
		s.cloud.hasFlavor(t, spain2, flavorIn(public.ID, public.Name))
	})

	t.Run("a product follows its flavor", func(t *testing.T) {
		n := unique()
		path, want := manager.sell(t, sized(n("before")), hourly(n))
		flavor := strings.TrimSuffix(path, "/product")
		manager.put(t, flavor, flavorOf("name", n("after"), "vcpus", 4, "ram", 8192, "description", "new",
			"extra_specs", map[string]string{"resources:VGPU": "2", "Accelerator:Model": "A40"})).want(t, 200)
		want.Name, want.VCPUs, want.RAM, want.GPUs, want.GPUModel, want.Description = n("after"), 4, 8192, 2, "A40", "new"
		user.reads(t, path, want)
	})

	t.Run("a product of a retired flavor says so", func(t *testing.T) {
		n := unique()
		path, want := manager.sell(t, sized(n("old")), hourly(n))
		flavor := strings.TrimSuffix(path, "/product")
		for _, retired := range []bool{true, false} {
			manager.put(t, flavor, flavorOf("retired", retired)).want(t, 200)
			want.Retired = retired
			user.reads(t, path, want)
		}
	})

	t.Run("a name is of one product, as it is of one promoted flavor", func(t *testing.T) {
		n := unique()
		_, made := manager.sell(t, sized(n("one")), hourly(n))
		manager.post(t, "/promotedflavors", sized(n("one")).and("ram", 4096)).want(t, 409).says(t, n("one"))
		other := manager.post(t, "/promotedflavors", sized(n("other"))).want(t, 201).flavor(t)
		manager.put(t, "/promotedflavors/"+other.ID+"/product", hourly(n)).want(t, 200)
		manager.put(t, "/promotedflavors/"+other.ID, flavorOf("name", n("one"))).want(t, 409).says(t, made.ID)
		var ids []string
		for _, o := range user.get(t, "/products").want(t, 200).offers(t) {
			if o.Name == n("one") {
				ids = append(ids, o.ID)
			}
		}
		if !slices.Equal(ids, []string{made.ID}) {
			t.Errorf("the products of that name are %v", ids)
		}
	})

	t.Run("a product ends with its flavor", func(t *testing.T) {
		n := unique()
		path, made := manager.sell(t, sized(n("ends")).and("id", newUUID()), hourly(n))
		flavor := strings.TrimSuffix(path, "/product")
		manager.delete(t, flavor).want(t, 204)
		for _, f := range formats {
			user.get(t, path, in(f)).want(t, 404)
			manager.put(t, path, hourly(n), in(f)).want(t, 404)
			manager.delete(t, path, in(f)).want(t, 404)
		}
		if o, ok := user.offered(t, made.ID); ok {
			t.Errorf("the list still holds %+v", o)
		}
		// Another flavor of that id and name is no product for it.
		if again := manager.post(t, "/promotedflavors", sized(n("ends")).and("id", made.ID)).want(t, 201).flavor(t); again.ID != made.ID {
			t.Fatalf("the id is %s, not %s", again.ID, made.ID)
		}
		user.get(t, path).want(t, 404)
	})

	t.Run("one category has one currency, period and free_to_use", func(t *testing.T) {
		n := unique()
		first, made := manager.sell(t, sized(n("first")), hourly(n))
		other := manager.post(t, "/promotedflavors", sized(n("other"))).want(t, 201).flavor(t)
		second := "/promotedflavors/" + other.ID + "/product"
		for field, value := range map[string]any{"currency": "EUR", "period": "day", "free_to_use": true} {
			for _, f := range formats {
				manager.put(t, second, hourly(n).and(field, value), in(f)).want(t, 409).says(t, n("first"), n("cat"))
			}
		}
		manager.get(t, second).want(t, 404)
		manager.put(t, second, hourly(n).and("price", "9")).want(t, 200)
		before := manager.get(t, first).want(t, 200)
		for field, value := range map[string]any{"currency": "EUR", "period": "minute", "free_to_use": true} {
			for _, f := range formats {
				manager.put(t, first, productOf(field, value), in(f)).want(t, 409).says(t, n("other"), n("cat"))
			}
		}
		manager.remains(t, first, before)
		// It may go to another category with another unit, but not come back with it.
		manager.put(t, first, productOf("category", n("cat2"), "currency", "EUR", "period", "day")).want(t, 200)
		manager.put(t, first, productOf("category", n("cat"))).want(t, 409).says(t, n("other"))
		manager.put(t, first, productOf("category", n("cat"), "currency", "DKK", "period", "hour")).want(t, 200)
		// One that is retired, or is no product, is in nobody's way.
		manager.put(t, "/promotedflavors/"+other.ID, flavorOf("retired", true)).want(t, 200)
		manager.put(t, first, productOf("currency", "EUR")).want(t, 200)
		manager.put(t, first, productOf("currency", "DKK")).want(t, 200)
		manager.put(t, "/promotedflavors/"+other.ID, flavorOf("retired", false)).want(t, 200)
		manager.put(t, first, productOf("currency", "EUR")).want(t, 409)
		manager.delete(t, second).want(t, 204)
		if got := manager.put(t, first, productOf("currency", "EUR")).want(t, 200).offer(t); got.Currency != "EUR" || got.ID != made.ID {
			t.Errorf("alone in its category it is %+v", got)
		}
	})

	for _, c := range []struct {
		what, zone string // the second where its flavor is at first
		retired    bool
		change     func(n namer) *document
	}{
		{"takes its flavor back", "zone", true, func(namer) *document { return flavorOf("retired", false) }},
		{"moves its flavor", "elsewhere", false, func(n namer) *document {
			return flavorOf("extra_specs", map[string]string{"availability_zone": n("zone")})
		}},
	} {
		t.Run("one category has one currency, also where a manager "+c.what, func(t *testing.T) {
			n := unique()
			in := func(zone string) map[string]string { return map[string]string{"availability_zone": n(zone)} }
			_, first := manager.sell(t, sized(n("first")).and("extra_specs", in(c.zone)), productOf("price", "1", "currency", "DKK"))
			manager.put(t, "/promotedflavors/"+first.ID, flavorOf("retired", c.retired)).want(t, 200)
			second, _ := manager.sell(t, sized(n("second")).and("extra_specs", in("zone")), productOf("price", "1", "currency", "EUR"))
			manager.put(t, "/promotedflavors/"+first.ID, c.change(n)).wantOneOf(t, 200, 409)
			var currencies []string
			for _, o := range user.get(t, "/products").want(t, 200).offers(t) {
				if o.Category == n("zone") && !o.Retired && !slices.Contains(currencies, o.Currency) {
					currencies = append(currencies, o.Currency)
				}
			}
			if len(currencies) != 1 {
				t.Errorf("products of one category are paid in %v", currencies)
			}
			manager.put(t, second, productOf("price", "2")).want(t, 200)
		})
	}

	t.Run("of a crowd that opens one category, one decides how it is accounted for", func(t *testing.T) {
		n := unique()
		paths := make(chan string, 6)
		currencies := make(chan string, 6)
		for i := range 6 {
			paths <- "/promotedflavors/" + manager.post(t, "/promotedflavors", sized(n(fmt.Sprint(i)))).want(t, 201).flavor(t).ID + "/product"
			currencies <- string(rune('A'+i)) + "AA"
		}
		counts := crowd(t, 6, func() *answer {
			return manager.do(t, "PUT", <-paths, hourly(n).and("currency", <-currencies))
		})
		if counts[200] != 1 || counts[409] != 5 {
			t.Errorf("the statuses are %v", counts)
		}
	})

	t.Run("what was read can be sent back unchanged", func(t *testing.T) {
		n := unique()
		paths := map[string]string{}
		paths["plain"], _ = manager.sell(t, sized(n("plain")), hourly(n))
		paths["full"], _ = manager.sell(t, sized(n("full")).and("extra_specs", map[string]string{"Accelerator:Number": "1"}), hourly(n).
			and("description", "für alle & <jeden>").and("cpu_model", `"`).and("memory_model", "'").and("gpu_model", "a  b").and("hidden_in_grant_applications", true))
		paths["inherited"], _ = manager.sell(t, sized(n("inherited")).and("description", "the flavor's").and("extra_specs", map[string]string{
			"Accelerator:Number": "2", "Accelerator:Model": "Tesla T4", "availability_zone": n("zone"),
		}), productOf("price", "1", "currency", "DKK"))
		paths["free"], _ = manager.sell(t, sized(n("free")), productOf("free_to_use", true, "currency", "EUR", "category", n("free")))
		paths["retired"], _ = manager.sell(t, sized(n("retired")), hourly(n))
		manager.put(t, strings.TrimSuffix(paths["retired"], "/product"), flavorOf("retired", true)).want(t, 200)
		for what, path := range paths {
			for _, f := range formats {
				before := manager.get(t, path, in(f)).want(t, 200)
				tag := header("If-Match", before.header.Get("ETag"))
				if a := manager.put(t, path, nil, raw(f.mediaType, string(before.body)), header("Accept", f.mediaType), tag).want(t, 200); !bytes.Equal(a.body, before.body) {
					t.Errorf("%s in %s: it was\n%s and the answer is\n%s", what, f.name, before, a)
				}
				if after := manager.get(t, path, in(f)).want(t, 200); !bytes.Equal(after.body, before.body) {
					t.Errorf("%s in %s: it was\n%s and is\n%s", what, f.name, before, after)
				}
			}
		}
	})

	for _, f := range formats {
		t.Run("what follows the flavor follows it on, though it was sent back, in "+f.name, func(t *testing.T) {
			n := unique()
			path, want := manager.sell(t, sized(n("x")).and("description", "old").and("extra_specs", map[string]string{
				"Accelerator:Number": "1", "Accelerator:Model": "T4",
			}), hourly(n))
			manager.put(t, path, nil, raw(f.mediaType, string(manager.get(t, path, in(f)).want(t, 200).body))).want(t, 200)
			manager.put(t, strings.TrimSuffix(path, "/product"), flavorOf("description", "new", "extra_specs", map[string]string{
				"Accelerator:Number": "2", "Accelerator:Model": "A100",
			})).want(t, 200)
			want.Description, want.GPUs, want.GPUModel = "new", 2, "A100"
			if got := manager.get(t, path).want(t, 200).offer(t); got != want {
				t.Errorf("it is %+v, not %+v", got, want)
			}
		})
	}

	// What a product has of its flavor may be longer than what a manager may say.
	for what, flavor := range map[string]*document{
		"a long description":                     sized("").and("description", strings.Repeat("x", 1001)),
		"a description that begins with a blank": sized("").and("description", " x"),
		"a GPU of a long model":                  sized("").and("extra_specs", map[string]string{"Accelerator:Number": "1", "Accelerator:Model": strings.Repeat("x", 129)}),
	} {
		t.Run("what was read can be sent back unchanged, though its flavor has "+what, func(t *testing.T) {
			n := unique()
			path, _ := manager.sell(t, flavor.and("name", n("x")), hourly(n))
			for _, f := range formats {
				before := manager.get(t, path, in(f)).want(t, 200)
				manager.put(t, path, nil, raw(f.mediaType, string(before.body))).want(t, 200)
			}
		})
	}

	t.Run("If-Match and If-None-Match guard a product", func(t *testing.T) {
		n := unique()
		path, _ := manager.sell(t, sized(n("guarded")), hourly(n))
		before := manager.get(t, path).want(t, 200)
		tag, inXML := before.header.Get("ETag"), manager.get(t, path, in(asXML)).want(t, 200).header.Get("ETag")
		if tag == inXML {
			t.Errorf("JSON and XML have the same ETag %s", tag)
		}
		change := productOf("price", "1")
		for _, value := range []string{`"outdated"`, "W/" + tag, inXML} {
			manager.put(t, path, change, header("If-Match", value)).want(t, 412)
			manager.delete(t, path, header("If-Match", value)).want(t, 412)
		}
		for _, value := range []string{"*", tag, "W/" + tag} {
			manager.put(t, path, change, header("If-None-Match", value)).want(t, 412)
			manager.delete(t, path, header("If-None-Match", value)).want(t, 412)
		}
		manager.remains(t, path, before)
		for i, f := range formats {
			manager.put(t, path, productOf("price", fmt.Sprint(i+1)), in(f), header("If-Match", manager.get(t, path, in(f)).header.Get("ETag"))).want(t, 200)
		}
		if got := manager.get(t, path).want(t, 200); got.header.Get("ETag") == tag || got.offer(t).Price != "2" {
			t.Errorf("after the changes it is %s with the ETag %s", got, got.header.Get("ETag"))
		}
		manager.put(t, path, change, header("If-Match", tag)).want(t, 412)
		manager.put(t, path, change, header("If-Match", "*")).want(t, 200)
		manager.put(t, path, change, header("If-None-Match", `"other"`)).want(t, 200)
		manager.delete(t, path, header("If-Match", `"other", `+manager.get(t, path).header.Get("ETag"))).want(t, 204)
		// What is no product yet has no ETag: it can be made one on the condition
		// that nobody else has.
		manager.put(t, path, hourly(n), header("If-Match", "*")).want(t, 412)
		manager.put(t, path, hourly(n), header("If-Match", tag)).want(t, 412)
		manager.delete(t, path, header("If-Match", "*")).want(t, 404)
		manager.put(t, "/promotedflavors/"+someUUID+"/product", hourly(n), header("If-None-Match", "*")).want(t, 404)
		manager.get(t, path).want(t, 404)
		manager.put(t, path, hourly(n), header("If-None-Match", "*")).want(t, 200)
		manager.put(t, path, hourly(n), header("If-None-Match", "*")).want(t, 412)
	})

	t.Run("of a crowd that makes a product of what is none yet, one succeeds", func(t *testing.T) {
		n := unique()
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		counts := crowd(t, 8, func() *answer {
			return manager.do(t, "PUT", "/promotedflavors/"+made.ID+"/product", hourly(n), header("If-None-Match", "*"))
		})
		if counts[200] != 1 || counts[412] != 7 {
			t.Errorf("the statuses are %v", counts)
		}
	})

	t.Run("of a crowd that changes a product it has read, one succeeds", func(t *testing.T) {
		n := unique()
		path, _ := manager.sell(t, sized(n("read")), hourly(n))
		tag := manager.get(t, path).want(t, 200).header.Get("ETag")
		counts := crowd(t, 8, func() *answer { return manager.do(t, "PUT", path, productOf("price", "3"), header("If-Match", tag)) })
		if counts[200] != 1 || counts[412] != 7 {
			t.Errorf("the statuses are %v", counts)
		}
	})

	t.Run("nothing of it calls a cloud", func(t *testing.T) {
		pr := s.serve(t, with("engine", map[string]any{"region_timeout": s.regionTimeout().String(), "sweep_interval": "1h"}))
		c := extra(t, "uncalled")
		c.register(t, s, pr)
		manager, n := pr.as(s.manager), unique()
		installed := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+installed.ID, flavorOf("node", c.regions[0])).want(t, 200)
		held := c.state(t)
		c.stack.ForgetRequests()
		path := "/promotedflavors/" + installed.ID + "/product"
		manager.put(t, path, hourly(n)).want(t, 200)
		manager.put(t, path, productOf("price", "2"), header("If-Match", "*")).want(t, 200)
		manager.get(t, path).want(t, 200)
		manager.get(t, "/products").want(t, 200)
		manager.delete(t, path).want(t, 204)
		manager.sell(t, sized(n("y")), hourly(n))
		for _, service := range []simstack.Service{simstack.Nova, simstack.Keystone} {
			if calls := c.stack.Count(service, "", "", ""); calls != 0 {
				t.Errorf("%s was called %d times", service, calls)
			}
		}
		if got := c.state(t); got != held {
			t.Errorf("the Nova held\n%s and holds\n%s", held, got)
		}
	})

	t.Run("OpenStackGateway's price table goes in and comes out", func(t *testing.T) {
		pr := s.serve(t)
		manager := pr.as(s.manager)
		want := map[string]*big.Rat{}
		for _, row := range priceTable(t) {
			made := manager.post(t, "/promotedflavors", nil, raw("application/json", string(row.raw.Post))).want(t, 201).flavor(t)
			manager.put(t, "/promotedflavors/"+made.ID+"/product", nil, raw("application/json", string(row.raw.Put))).want(t, 200)
			want[made.Name] = big.NewRat(row.V2Price, 1_000_000)
		}
		for _, f := range formats {
			var names []string
			got := map[string]string{}
			for _, o := range pr.as(s.user).get(t, "/products", in(f)).want(t, 200).offers(t) {
				if want[o.Name] == nil || rational(t, o.Price).Cmp(want[o.Name]) != 0 {
					t.Errorf("%s costs %q, not %v", o.Name, o.Price, want[o.Name])
				}
				names, got[o.Name] = append(names, o.Name), strings.Join([]string{o.Category, o.Price, o.Currency, o.Period, fmt.Sprint(o.VCPUs, o.RAM, o.GPUs), o.GPUModel}, " ")
			}
			if table := map[string]string{
				"uc-general-small": "uc-general 0.34 DKK hour 4 16384 0 ", "uc-general-medium": "uc-general 0.68 DKK hour 8 32768 0 ",
				"uc-general-large": "uc-general 1.37 DKK hour 16 65536 0 ", "uc-general-xlarge": "uc-general 5.5 DKK hour 64 262144 0 ",
				"uc-t4-1": "uc-t4 8.5 DKK hour 10 40960 1 NVIDIA T4",
			}; !maps.Equal(got, table) {
				t.Errorf("in %s the products are %v, not %v", f.name, got, table)
			}
			if !slices.IsSorted(names) {
				t.Errorf("in %s they come as %v", f.name, names)
			}
		}
	})
}

// pricedByFormula: a server with a formula, by which every promoted flavor is a
// product.
func pricedByFormula(t *testing.T, s *setup) {
	pr := s.serve(t, with("pricing", map[string]any{"per_vcpu": "0.05", "per_gb": "0.010001", "per_gpu": "7.50", "currency": "DKK"}))
	manager, user := pr.as(s.manager), pr.as(s.user)
	gpu := map[string]string{"resources:VGPU": "1"}

	t.Run("a flavor costs its vCPUs, GB and GPUs, rounded half up to a millionth", func(t *testing.T) {
		n := unique()
		for i, c := range []struct {
			flavor *document
			want   string
		}{
			{flavorOf("vcpus", 2, "ram", 2048, "disk", 20), "0.120002"},
			{flavorOf("vcpus", 1, "ram", 512, "disk", 0), "0.055001"}, // of 0.0550005
			{flavorOf("vcpus", 1, "ram", 511, "disk", 0), "0.054991"}, // of 0.054990733...
			{flavorOf("vcpus", 1, "ram", 1, "disk", 999999), "0.05001"},
			{flavorOf("vcpus", 10, "ram", 40960, "disk", 0, "extra_specs", gpu), "8.40004"},
			{flavorOf("vcpus", 10, "ram", 40960, "disk", 0, "extra_specs", map[string]string{"Accelerator:Number": "8"}), "60.90004"},
		} {
			made := manager.post(t, "/promotedflavors", c.flavor.and("name", n(fmt.Sprint(i)))).want(t, 201).flavor(t)
			for _, f := range formats {
				got := user.get(t, "/promotedflavors/"+made.ID+"/product", in(f)).want(t, 200).offer(t)
				if got.Price != c.want || !got.ByFormula || got.Currency != "DKK" || got.Period != "hour" || got.Category != "uc-general" || got.Free || got.Name != made.Name {
					t.Errorf("%+v: in %s it is %+v, not %s", made, f.name, got, c.want)
				}
			}
			if got, ok := user.offered(t, made.ID); !ok || got.Price != c.want || !got.ByFormula {
				t.Errorf("the list has %+v, not %s", got, c.want)
			}
		}
	})

	for _, f := range formats {
		t.Run("a manager's price goes before the formula's, and can be taken back, in "+f.name, func(t *testing.T) {
			n := unique()
			made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
			path := "/promotedflavors/" + made.ID + "/product"
			formula := offerBody{ID: made.ID, Name: n("x"), Category: "uc-general", Price: "0.120002", Currency: "DKK", Period: "hour", VCPUs: 2, RAM: 2048, ByFormula: true}
			named := formula
			named.Price, named.ByFormula = "9", false
			for _, back := range []*document{
				productOf("price", ""), productOf("by_formula", true), productOf("price", "", "by_formula", true), productOf("price", "0.120002", "by_formula", true),
			} {
				if got := manager.put(t, path, productOf("price", "9"), in(f)).want(t, 200).offer(t); got != named {
					t.Errorf("with a price it is %+v, not %+v", got, named)
				}
				if got, _ := user.offered(t, made.ID); got != named {
					t.Errorf("with a price it is listed as %+v, not %+v", got, named)
				}
				if got := manager.put(t, path, back, in(f)).want(t, 200).offer(t); got != formula {
					t.Errorf("after %v it is %+v, not %+v", back.fields, got, formula)
				}
			}
			before := manager.get(t, path).want(t, 200)
			manager.put(t, path, productOf("price", "9", "by_formula", true), in(f)).want(t, 400).says(t, "price", "0.120002")
			manager.put(t, path, productOf("by_formula", false), in(f)).want(t, 400).says(t, "by_formula")
			manager.remains(t, path, before)
			// What else was said stays when the price goes back.
			manager.put(t, path, productOf("price", "9", "description", "kept"), in(f)).want(t, 200)
			if got := manager.put(t, path, productOf("by_formula", true), in(f)).want(t, 200).offer(t); got.Description != "kept" || got.Price != "0.120002" {
				t.Errorf("it is %+v", got)
			}
		})

		t.Run("DELETE ends a product although there is a formula, in "+f.name, func(t *testing.T) {
			n := unique()
			made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
			path := "/promotedflavors/" + made.ID + "/product"
			for _, again := range []*document{productOf(), productOf("by_formula", true), productOf("price", "4")} {
				manager.put(t, path, productOf("description", "forgotten")).want(t, 200)
				manager.delete(t, path, in(f)).want(t, 204)
				user.get(t, path, in(f)).want(t, 404)
				manager.delete(t, path, in(f)).want(t, 404)
				if o, ok := user.offered(t, made.ID); ok {
					t.Errorf("the list still holds %+v", o)
				}
				manager.put(t, "/promotedflavors/"+made.ID, flavorOf("description", "changed")).want(t, 200)
				manager.get(t, path).want(t, 404)
				if got := manager.put(t, path, again, in(f)).want(t, 200).offer(t); got.ByFormula == (got.Price == "4") || got.Description != "changed" {
					t.Errorf("made a product again by %v it is %+v", again.fields, got)
				}
			}
		})

		t.Run("a product by the formula can be sent back unchanged in "+f.name, func(t *testing.T) {
			n := unique()
			made := manager.post(t, "/promotedflavors", sized(n("x")).and("extra_specs", gpu).and("description", "its own")).want(t, 201).flavor(t)
			path := "/promotedflavors/" + made.ID + "/product"
			before := manager.get(t, path, in(f)).want(t, 200)
			if a := manager.put(t, path, nil, raw(f.mediaType, string(before.body)), header("Accept", f.mediaType)).want(t, 200); !bytes.Equal(a.body, before.body) {
				t.Errorf("it was\n%s and is\n%s", before, a)
			}
			// It is the formula's still, not that price's.
			manager.put(t, "/promotedflavors/"+made.ID, flavorOf("vcpus", 4)).want(t, 200)
			if got := manager.get(t, path).want(t, 200).offer(t); got.Price != "7.720002" || !got.ByFormula {
				t.Errorf("it is %+v", got)
			}
		})
	}

	t.Run("the configured currency and period hold for prices that name none", func(t *testing.T) {
		n := unique()
		path, made := manager.sell(t, sized(n("x")), productOf("price", "1", "currency", "EUR", "period", "day", "category", n("cat")))
		if made.Currency != "EUR" || made.Period != "day" {
			t.Errorf("it is %+v", made)
		}
		if got := manager.put(t, path, productOf("currency", "", "period", "")).want(t, 200).offer(t); got.Currency != "DKK" || got.Period != "hour" || got.Price != "1" {
			t.Errorf("it is %+v", got)
		}
	})

	t.Run("a price by the formula is in the formula's currency, and gives way to what a manager says of its category", func(t *testing.T) {
		n := unique()
		zone := map[string]string{"availability_zone": n("zone")}
		formula := manager.post(t, "/promotedflavors", sized(n("formula")).and("extra_specs", zone)).want(t, 201).flavor(t)
		other := manager.post(t, "/promotedflavors", sized(n("other")).and("extra_specs", zone)).want(t, 201).flavor(t)
		path := "/promotedflavors/" + other.ID + "/product"
		before := manager.get(t, path).want(t, 200)
		for _, f := range formats {
			manager.put(t, path, productOf("currency", "EUR"), in(f)).want(t, 400).says(t, "currency", "formula")
			manager.put(t, path, productOf("period", "day"), in(f)).want(t, 400).says(t, "period", "formula")
		}
		manager.remains(t, path, before)
		if got := manager.put(t, path, productOf("free_to_use", true)).want(t, 200).offer(t); got.Price != "0" || got.ByFormula || !got.Free {
			t.Errorf("free to use it is %+v", got)
		}
		if got := manager.get(t, "/promotedflavors/"+formula.ID+"/product").want(t, 200).offer(t); !got.ByFormula || got.Free || got.Currency != "DKK" {
			t.Errorf("the other is %+v", got)
		}
	})

	t.Run("what was said is there after a restart", func(t *testing.T) {
		n := unique()
		manager.sell(t, sized(n("named")), productOf("price", "1.000001", "gpu_model", "x", "hidden_in_grant_applications", true))
		ended, _ := manager.sell(t, sized(n("ended")), productOf("price", "2"))
		manager.delete(t, ended).want(t, 204)
		before := manager.get(t, "/products").want(t, 200)
		pr.kill(t)
		pr.run(t)
		manager.remains(t, "/products", before)
		manager.get(t, ended).want(t, 404)
	})

	t.Run("a price beyond what can be counted is told, until a manager names one", func(t *testing.T) {
		pr := s.serve(t, with("pricing", map[string]any{"per_vcpu": "5000000000000", "currency": "DKK", "period": "day"}))
		manager, n := pr.as(s.manager), unique()
		small := manager.post(t, "/promotedflavors", sized(n("small")).and("vcpus", 1)).want(t, 201).flavor(t)
		if got := manager.get(t, "/promotedflavors/"+small.ID+"/product").want(t, 200).offer(t); got.Price != "5000000000000" || got.Period != "day" {
			t.Errorf("%+v", got)
		}
		dear := manager.post(t, "/promotedflavors", sized(n("dear"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + dear.ID + "/product"
		for _, f := range formats {
			manager.get(t, path, in(f)).want(t, 409).says(t, n("dear"), "price")
			manager.put(t, path, productOf("description", "x"), in(f)).want(t, 409).says(t, n("dear"), "price")
		}
		if o, ok := manager.offered(t, dear.ID); ok {
			t.Errorf("the list holds %+v", o)
		}
		manager.delete(t, path, header("If-Match", "*")).want(t, 409)
		manager.delete(t, path).want(t, 204)
		manager.get(t, path).want(t, 404)
		if got := manager.put(t, path, productOf("price", "1")).want(t, 200).offer(t); got.Price != "1" || got.Description != "" {
			t.Errorf("%+v", got)
		}
	})

	t.Run("a currency alone prices nothing", func(t *testing.T) {
		pr := s.serve(t, with("pricing", map[string]any{"currency": "EUR", "period": "minute"}))
		manager, n := pr.as(s.manager), unique()
		made := manager.post(t, "/promotedflavors", sized(n("x"))).want(t, 201).flavor(t)
		path := "/promotedflavors/" + made.ID + "/product"
		manager.get(t, path).want(t, 404)
		manager.put(t, path, productOf("description", "x")).want(t, 400).says(t, "price")
		if got := manager.put(t, path, productOf("price", "1")).want(t, 200).offer(t); got.Currency != "EUR" || got.Period != "minute" || got.ByFormula {
			t.Errorf("%+v", got)
		}
	})
}
