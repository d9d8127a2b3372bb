package ucloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

const (
	createPath = "/api/products/v2"
	browsePath = "/api/products/v2/browse"
)

// gatewayRow is a line of OpenStackGateway's price table: the bodies that bring
// it in, and what Core is to be told.
type gatewayRow struct {
	Post struct {
		Flavor struct {
			Name  string
			VCPUs int
			RAM   int
		}
	}
	Put struct {
		Product struct {
			Category string
			Price    string
			Currency string
			Period   flavor.Period
			GPUModel string `json:"gpu_model"`
		}
	}
	V2 int64  `json:"v2_price"`
	V1 *int64 `json:"v1_price_per_unit"` // nil: V1 cannot say it
}

func gateway(t *testing.T) (rows []gatewayRow, offers []flavor.Offer) {
	t.Helper()
	text, err := os.ReadFile("../../testdata/openstackgateway.json")
	if err == nil {
		err = json.Unmarshal(text, &rows)
	}
	if err != nil || len(rows) != 5 {
		t.Fatal(err, len(rows))
	}
	for _, r := range rows {
		price, err := flavor.ParseAmount("price", r.Put.Product.Price)
		if err != nil {
			t.Fatal(err)
		}
		o := flavor.Offer{
			Name: r.Post.Flavor.Name, VCPUs: r.Post.Flavor.VCPUs, RAM: r.Post.Flavor.RAM, Category: r.Put.Product.Category, Price: price,
			Currency: r.Put.Product.Currency, Period: r.Put.Product.Period, GPUModel: r.Put.Product.GPUModel,
		}
		if o.GPUModel != "" {
			o.GPUs = 1
		}
		offers = append(offers, o)
	}
	return rows, offers
}

// The prices that AAU has today arrive at Core to the millionth.
func TestGatewayPricesInV2(t *testing.T) {
	w := newWorld(t)
	rows, offers := gateway(t)
	w.shelf.set(t, offers...)
	w.mustPush(t)
	got := map[string]int64{}
	for _, p := range w.core.ProductsV2() {
		got[p.Name] = p.Price
		equal(t, "how "+p.Name+" is paid", p.Category, coretest.CategoryV2{
			Name: p.Category.Name, Provider: "aau", ProductType: "COMPUTE", AccountingUnit: coretest.AccountingUnit{Name: "DKK", NamePlural: "DKK", FloatingPoint: true},
			AccountingFrequency: "PERIODIC_HOUR", AllowSubAllocations: true,
		})
	}
	want := map[string]int64{}
	for _, r := range rows {
		want[r.Post.Flavor.Name] = r.V2
	}
	equal(t, "prices", got, want)
	w.expectSent(t, []string{"uc-general-large", "uc-general-medium", "uc-general-small", "uc-general-xlarge"}, []string{"uc-t4-1"})
}

// V1 counts by vCPU: 5.50 for 64 of them is no whole number of millionths, and
// is said here, with what to do, instead of being rounded.
func TestGatewayPricesInV1(t *testing.T) {
	w := classicWorld(t)
	rows, offers := gateway(t)
	w.shelf.set(t, offers...)
	r, err := w.push(t)
	expectCode(t, err, flavor.CodeConflict)
	expectText(t, "the error", messageOf(err), "uc-general", "5.5", "64", "5.499968", "5.500032", "GET /v1/products/push")
	got, want := map[string]int64{}, map[string]int64{}
	for _, p := range w.core.ProductsV1() {
		got[p.Name] = p.PricePerUnit
		if p.UnitOfPrice != "CREDITS_PER_HOUR" || p.ChargeType != "ABSOLUTE" {
			t.Errorf("%s is paid by %s, %s", p.Name, p.UnitOfPrice, p.ChargeType)
		}
	}
	for _, row := range rows {
		if row.V1 != nil {
			want[row.Post.Flavor.Name] = *row.V1
		}
	}
	equal(t, "prices", got, want)
	if len(r.Failed) != 1 || r.Failed[0].Status != 0 || !slices.Equal(r.Failed[0].Products, []string{"uc-general-xlarge"}) {
		t.Errorf("failed: %+v", r.Failed)
	}
}

// What is sent, to the byte.
func TestItems(t *testing.T) {
	full := flavor.Offer{
		Name: "a", Category: "x", Price: 5, Currency: "EUR", Period: flavor.Day, Free: true, Hidden: true, VCPUs: 2, RAM: 4095, GPUs: 3,
		CPUModel: "EPYC", MemoryModel: "DDR5", GPUModel: "T4", Description: " two\n\tlines ",
	}
	for _, c := range []struct {
		gen  generation
		o    flavor.Offer
		want string
	}{
		{v2, full, `{"type":"compute","category":{"name":"x","provider":"aau","productType":"COMPUTE","accountingUnit":{"name":"EUR","namePlural":"EUR","floatingPoint":true,` +
			`"displayFrequencySuffix":false},"accountingFrequency":"PERIODIC_DAY","freeToUse":true,"allowSubAllocations":true},"name":"a","description":"two lines","productType":"COMPUTE",` +
			`"price":5,"fraction":{"numerator":1,"denominator":1},"hiddenInGrantApplications":true,"cpu":2,"memoryInGigs":3,"gpu":3,"cpuModel":"EPYC","memoryModel":"DDR5","gpuModel":"T4"}`},
		{v2, flavor.Offer{Name: "a", Category: "x", Currency: "DKK", Period: flavor.Minute, VCPUs: 1, RAM: 512},
			`{"type":"compute","category":{"name":"x","provider":"aau","productType":"COMPUTE","accountingUnit":{"name":"DKK","namePlural":"DKK","floatingPoint":true,` +
				`"displayFrequencySuffix":false},"accountingFrequency":"PERIODIC_MINUTE","freeToUse":false,"allowSubAllocations":true},"name":"a","description":"","productType":"COMPUTE",` +
				`"price":0,"fraction":{"numerator":1,"denominator":1},"hiddenInGrantApplications":false,"cpu":1}`},
		{v1, but(full, func(o *flavor.Offer) { o.Currency, o.Price = "DKK", 10 }),
			`{"type":"compute","name":"a","pricePerUnit":5,"category":{"name":"x","provider":"aau"},"description":"two lines","priority":0,"cpu":2,"memoryInGigs":3,"gpu":3,` +
				`"cpuModel":"EPYC","memoryModel":"DDR5","gpuModel":"T4","freeToUse":true,"unitOfPrice":"CREDITS_PER_DAY","chargeType":"ABSOLUTE","hiddenInGrantApplications":true}`},
	} {
		got, err := newPlanner(c.gen, "aau", nil, nil).compare([]flavor.Offer{c.o})
		if err != nil || len(got.batches) != 1 {
			t.Fatalf("%v, %+v", err, got)
		}
		equal(t, "the item", string(got.batches[0].entries[0].item), c.want)
	}
}

// Where nothing has changed nothing is sent, whatever a Core forgets of what it
// was sent: neither V2's hiddenInGrantApplications nor V1's models come back.
func TestNothingIsSentTwice(t *testing.T) {
	for name, w := range map[string]world{"current": newWorld(t), "classic": classicWorld(t)} {
		full := but(offer("a", "x", 400), func(o *flavor.Offer) {
			o.Hidden, o.GPUs, o.CPUModel, o.MemoryModel, o.GPUModel = true, 2, "EPYC", "DDR5", "T4"
		})
		w.shelf.set(t, full, offer("b", "x", 800), offer("c", "y", 4))
		equal(t, name+": sent", w.mustPush(t).Sent, []Batch{{"x", []string{"a", "b"}}, {"y", []string{"c"}}})
		w.creates()
		for range 3 {
			r := w.mustPush(t)
			if r.Unchanged != 3 || len(r.Sent) != 0 {
				t.Errorf("%s: %+v", name, r)
			}
		}
		w.expectSent(t)

		// What did change goes, alone.
		w.shelf.set(t, but(full, func(o *flavor.Offer) { o.Hidden = false }), offer("b", "x", 800), offer("c", "y", 8))
		w.mustPush(t)
		w.expectSent(t, []string{"a"}, []string{"c"})
		w.shelf.set(t, but(full, func(o *flavor.Offer) { o.Hidden, o.GPUModel = false, "A10" }), offer("b", "x", 800), offer("c", "y", 8))
		w.mustPush(t)
		w.expectSent(t, []string{"a"})
		w.mustPush(t)
		w.expectSent(t)
	}
}

// Each field of a definition that changes here, or that somebody changes at Core,
// is put right.
func TestEveryFieldCounts(t *testing.T) {
	base := but(offer("a", "x", 400), func(o *flavor.Offer) { o.GPUs, o.CPUModel, o.MemoryModel, o.GPUModel = 1, "c", "m", "g" })
	for name, change := range map[string]func(*flavor.Offer){
		"price": func(o *flavor.Offer) { o.Price += 4 }, "description": func(o *flavor.Offer) { o.Description = "new" },
		"vcpus": func(o *flavor.Offer) { o.VCPUs = 8 }, "ram": func(o *flavor.Offer) { o.RAM += 1024 }, "gpus": func(o *flavor.Offer) { o.GPUs = 2 },
		"cpu model": func(o *flavor.Offer) { o.CPUModel = "" }, "memory model": func(o *flavor.Offer) { o.MemoryModel = "n" },
		"gpu model": func(o *flavor.Offer) { o.GPUModel = "n" }, "hidden": func(o *flavor.Offer) { o.Hidden = true },
	} {
		for gen, g := range map[string]generation{"v1": v1, "v2": v2} {
			base.FlavorID = "f"
			first, err := newPlanner(g, "aau", nil, nil).compare([]flavor.Offer{base})
			if err != nil {
				t.Fatal(err)
			}
			e := first.batches[0].entries[0]
			found, err := g.decode(e.item)
			if err != nil {
				t.Fatal(err)
			}
			pushed := map[string]store.Pushed{"f": {FlavorID: "f", Reference: e.ref, Sent: string(e.item)}}
			again, err := newPlanner(g, "aau", []product{found}, pushed).compare([]flavor.Offer{base})
			if err != nil || len(again.batches) != 0 || again.unchanged != 1 || len(again.adopted) != 0 {
				t.Fatalf("%s: unchanged: %v, %+v", gen, err, again)
			}
			changed, err := newPlanner(g, "aau", []product{found}, pushed).compare([]flavor.Offer{but(base, change)})
			if err != nil || len(changed.batches) != 1 {
				t.Errorf("%s: a change of the %s is not sent: %v, %+v", gen, name, err, changed)
			}
		}
	}
	// What was sent of it elsewhere says nothing of what Core has here.
	hidden := but(base, func(o *flavor.Offer) { o.Hidden = true })
	there, err := v2.define("aau", base, accounting{})
	if err != nil {
		t.Fatal(err)
	}
	there.accounting, _ = v2.account(base.Unit())
	elsewhere := map[string]store.Pushed{"f": {FlavorID: "f", Reference: flavor.Reference{Provider: "aau", Category: "y", Name: "a"}, Sent: `{"hiddenInGrantApplications":true}`}}
	if got, err := newPlanner(v2, "aau", []product{there}, elsewhere).compare([]flavor.Offer{hidden}); err != nil || len(got.batches) != 1 {
		t.Errorf("it is taken for hidden: %v, %+v", err, got)
	}
	w := newWorld(t)
	w.shelf.set(t, base)
	w.mustPush(t)
	touched := w.core.ProductsV2()[0]
	touched.Price = 1
	w.core.RegisterV2(touched)
	w.creates()
	w.mustPush(t)
	w.expectSent(t, []string{"a"})
}

// What Core's own people decide stays: whether a category may be sub-allocated,
// and in V1 the order of display.
func TestWhatCoreDecides(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 1))
	w.mustPush(t)
	p := w.core.ProductsV2()[0]
	p.Category.AllowSubAllocations = false
	w.core.RegisterV2(p)
	w.creates()
	w.mustPush(t)
	w.expectSent(t)
	w.shelf.set(t, offer("a", "x", 2), offer("b", "x", 1), offer("c", "new", 1))
	w.mustPush(t)
	for _, p := range w.core.ProductsV2() {
		if want := p.Category.Name == "new"; p.Category.AllowSubAllocations != want {
			t.Errorf("allowSubAllocations of %s is %t", p.Name, !want)
		}
	}

	w = classicWorld(t)
	w.shelf.set(t, offer("a", "x", 4))
	w.mustPush(t)
	first := w.core.ProductsV1()[0]
	first.Priority = 7
	w.core.RegisterV1(first)
	w.creates()
	w.mustPush(t)
	w.expectSent(t)
	w.shelf.set(t, offer("a", "x", 8), offer("b", "x", 8))
	w.mustPush(t)
	if p := w.core.ProductsV1(); p[0].Priority != 7 || p[0].PricePerUnit != 2 || p[0].Version != 3 || p[1].Priority != 0 {
		t.Errorf("the products are %+v", p)
	}
}

// How a category is accounted for can never change at Core, which would ignore
// it without a word: users would pay by a unit that nobody set.
func TestCategoriesAreForEver(t *testing.T) {
	for name, change := range map[string]func(*flavor.Offer){
		"currency": func(o *flavor.Offer) { o.Currency = "EUR" },
		"period":   func(o *flavor.Offer) { o.Period = flavor.Minute },
		"free":     func(o *flavor.Offer) { o.Free = true },
	} {
		for gen, w := range map[string]world{"v2": newWorld(t), "v1": classicWorld(t)} {
			w.shelf.set(t, offer("a", "x", 4))
			w.mustPush(t)
			w.creates()
			w.shelf.set(t, but(offer("a", "x", 4), change), but(offer("b", "x", 4), change), offer("c", "y", 4))
			r, err := w.push(t)
			expectCode(t, err, flavor.CodeConflict)
			w.expectSent(t, []string{"c"})
			if len(r.Failed) != 1 || r.Failed[0].Category != "x" || r.Failed[0].Status != 0 || !slices.Equal(r.Failed[0].Products, []string{"a", "b"}) {
				t.Errorf("%s: %s: failed: %+v", gen, name, r.Failed)
				continue
			}
			if gen == "v1" && name == "currency" {
				expectText(t, name, r.Failed[0].Message, "EUR", "DKK", "v2")
			} else {
				expectText(t, gen+": "+name, r.Failed[0].Message, "paid in DKK each hour", "create a new category")
			}
			equal(t, "listed", w.listed(t), []string{"x/a", "y/c"})
		}
	}
}

// A category that others made at Core: in units, of another type.
func TestForeignCategories(t *testing.T) {
	for name, c := range map[string]struct {
		category coretest.CategoryV2
		words    []string
	}{
		"units": {coretest.CategoryV2{ProductType: "COMPUTE", AccountingUnit: coretest.AccountingUnit{Name: "Core", NamePlural: "Core", DisplayFrequencySuffix: true},
			AccountingFrequency: "PERIODIC_MINUTE"}, []string{`"COMPUTE Core PERIODIC_MINUTE"`, "paid in DKK each hour", "new category"}},
		"storage": {coretest.CategoryV2{ProductType: "STORAGE", AccountingUnit: coretest.AccountingUnit{Name: "DKK", NamePlural: "DKK", FloatingPoint: true},
			AccountingFrequency: "PERIODIC_HOUR"}, []string{`"STORAGE DKK PERIODIC_HOUR"`, "new category"}},
		"a unit that is no word": {coretest.CategoryV2{ProductType: "COMPUTE", AccountingUnit: coretest.AccountingUnit{Name: "a\"\n\x1b[31m" + strings.Repeat("x", 999)},
			AccountingFrequency: "ONCE", FreeToUse: true}, []string{`\"  [31mxxx`, "free to use"}},
	} {
		w := newWorld(t)
		c.category.Name, c.category.Provider = "x", "aau"
		w.core.RegisterV2(coretest.ProductV2{Name: "theirs", Type: "compute", ProductType: c.category.ProductType, Category: c.category})
		w.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4))
		r, err := w.push(t)
		expectCode(t, err, flavor.CodeConflict)
		w.expectSent(t, []string{"b"})
		expectText(t, name, r.Failed[0].Message, c.words...)
		if len(r.Failed[0].Message) > 600 || strings.ContainsAny(r.Failed[0].Message, "\n\x1b") {
			t.Errorf("%s: the message is %q", name, r.Failed[0].Message)
		}
	}
}

// One category whose products disagree among themselves, and one name that would
// break Core's cursor, hold up nobody else.
func TestRefusedHere(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t,
		offer("a", "x", 4), but(offer("b", "x", 4), func(o *flavor.Offer) { o.Period = flavor.Day }),
		but(offer("r", "x", 4), func(o *flavor.Offer) { o.Retired, o.Currency = true, "EUR" }),
		offer("n@me", "y", 4), offer("c", "y", 4), offer("d", "z", 4),
	)
	r, err := w.push(t)
	expectCode(t, err, flavor.CodeConflict)
	w.expectSent(t, []string{"c"}, []string{"d"})
	if len(r.Failed) != 2 {
		t.Fatalf("failed: %+v", r.Failed)
	}
	expectText(t, "x", r.Failed[0].Message, "a is paid in DKK each hour", "b is paid in DKK each day", "the same currency, period and free_to_use", "new category")
	expectText(t, "y", r.Failed[1].Message, `"n@me"`, "@", "another name")
	equal(t, "refused", [][]string{r.Failed[0].Products, r.Failed[1].Products}, [][]string{{"a", "b"}, {"n@me"}})
}

// Core has it already, as wanted: registered by hand, or by a push that died
// before it could write that down. It is not sent again, and is listed.
func TestAdopted(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 4), but(offer("h", "x", 4), func(o *flavor.Offer) { o.Hidden = true }))
	w.core.Fault(coretest.Fault{Kind: coretest.Lost, Path: createPath, Times: 1})
	r, err := w.push(t)
	expectCode(t, err, flavor.CodeUnreachable)
	if len(r.Failed) != 1 || len(w.core.ProductsV2()) != 2 {
		t.Fatalf("failed: %+v", r.Failed)
	}
	equal(t, "listed after the crash", w.listed(t), []string{})
	w.creates()
	r = w.mustPush(t)
	// Whether Core took the hidden one as hidden it does not say.
	w.expectSent(t, []string{"h"})
	equal(t, "listed", w.listed(t), []string{"x/a", "x/h"})
	if r.Unchanged != 1 {
		t.Errorf("the report is %+v", r)
	}
	w.mustPush(t)
	w.expectSent(t)

	// Deleted and promoted again: another flavor, the same product.
	w.shelf.mu.Lock()
	gone := w.shelf.offers[0].FlavorID
	w.shelf.mu.Unlock()
	if err := w.cfg.Store.Write(t.Context(), func(tx *store.Tx) error { return tx.DeleteFlavor(gone) }); err != nil {
		t.Fatal(err)
	}
	w.shelf.set(t, offer("a", "x", 4))
	equal(t, "listed before", w.listed(t), []string{})
	w.mustPush(t)
	w.expectSent(t)
	equal(t, "listed after", w.listed(t), []string{"x/a"})
}

// The categories that Core has are known here afterwards, so that a product in
// another unit can be refused when it is made.
func TestCategoriesAreNoted(t *testing.T) {
	w := newWorld(t)
	theirs := coretest.CategoryV2{Name: "old", Provider: "aau", ProductType: "COMPUTE", AccountingFrequency: "PERIODIC_DAY", FreeToUse: true,
		AccountingUnit: coretest.AccountingUnit{Name: "EUR", NamePlural: "EUR", FloatingPoint: true}}
	units, foreign, storage := theirs, theirs, theirs
	storage.Name, storage.ProductType = "storage", "STORAGE"
	units.Name, units.AccountingUnit.Name = "units", "Core"
	foreign.Name, foreign.Provider = "foreign", "sdu"
	for _, c := range []coretest.CategoryV2{theirs, units, foreign, storage} {
		w.core.RegisterV2(coretest.ProductV2{Name: "p", ProductType: "COMPUTE", Type: "compute", Category: c})
	}
	w.shelf.set(t, offer("a", "x", 4))
	w.mustPush(t)
	var got map[string]flavor.Unit
	if err := w.cfg.Store.Read(t.Context(), func(tx *store.Tx) (err error) { got, err = tx.Categories("aau"); return err }); err != nil {
		t.Fatal(err)
	}
	equal(t, "categories", got, map[string]flavor.Unit{
		"old": {Currency: "EUR", Period: flavor.Day, Free: true}, "x": {Currency: "DKK", Period: flavor.Hour},
	})
}

// Core's no is told with its reason, takes nothing off the list, and is not
// asked for again until something changes or a manager wants it.
func TestRefusedByCore(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusConflict} {
		w := newWorld(t)
		w.shelf.set(t, offer("a", "x", 4), offer("c", "y", 4))
		w.mustPush(t)
		w.creates()
		w.shelf.set(t, offer("a", "x", 8), offer("b", "x", 4), offer("c", "y", 8))
		cancel := w.core.Fault(coretest.Fault{Path: createPath, Status: status, Why: "no \"such\" thing\x07 " + w.core.RefreshToken(), Times: 1})
		r, err := w.push(t)
		expectCode(t, err, flavor.CodeConflict)
		expectText(t, "the error", messageOf(err), "x", fmt.Sprint(status), `no \"such\" thing`, "***", "GET /v1/products/push")
		w.expectSent(t, []string{"a", "b"}, []string{"c"})
		want := []Failure{{Category: "x", Products: []string{"a", "b"}, Status: status}}
		if diff := cmp.Diff(want, r.Failed, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Message" || p.Last().String() == ".final" }, cmp.Ignore())); diff != "" {
			t.Errorf("failed: %s", diff)
		}
		equal(t, "listed", w.listed(t), []string{"x/a", "y/c"})

		w.clock.advance(w.cfg.PushInterval * 2)
		w.mustStep(t)
		w.expectSent(t)
		told, err := w.PushReport(t.Context(), manager)
		if err != nil || told.State != Failed || told.Trigger != Period || len(told.Failed) != 1 || told.Failed[0].Status != status {
			t.Errorf("the report after a period is %+v, %v", told, err)
		}
		// A Core that is away for a moment is no reason to ask again, either.
		away := w.core.Fault(coretest.Fault{Path: browsePath, Status: 500})
		w.clock.advance(w.cfg.PushInterval * 2)
		w.mustStep(t)
		away()
		w.clock.advance(w.cfg.PushInterval * 2)
		w.mustStep(t)
		w.expectSent(t)
		// Another category's change is none of this one's.
		w.shelf.set(t, offer("a", "x", 8), offer("b", "x", 4), offer("c", "y", 12))
		w.settle(t)
		w.expectSent(t, []string{"c"})
		w.shelf.set(t, offer("a", "x", 8), offer("b", "x", 12), offer("c", "y", 12))
		w.settle(t)
		w.expectSent(t, []string{"a", "b"})

		// And a manager may always ask.
		cancel()
		again := w.core.Fault(coretest.Fault{Path: createPath, Status: status})
		w.shelf.set(t, offer("a", "x", 16), offer("b", "x", 12), offer("c", "y", 12))
		w.settle(t)
		w.expectSent(t, []string{"a"})
		again()
		w.mustPush(t)
		w.expectSent(t, []string{"a"})
		if st, err := w.state(t.Context()); err != nil || len(st.Refused) != 0 {
			t.Errorf("what was refused is still remembered: %+v, %v", st, err)
		}
	}
}

// A trouble of one category is none of the next one's; that Core is away is
// everybody's, and is not tried once for each.
func TestTroubleOfCore(t *testing.T) {
	for name, c := range map[string]struct {
		fault coretest.Fault
		sent  [][]string
	}{
		"500":       {coretest.Fault{Status: 500}, [][]string{{"a"}, {"b"}, {"c"}}},
		"web page":  {coretest.Fault{Kind: coretest.HTML}, [][]string{{"a"}, {"b"}, {"c"}}},
		"no body":   {coretest.Fault{Kind: coretest.Empty}, [][]string{{"a"}, {"b"}, {"c"}}},
		"not found": {coretest.Fault{Status: 404}, [][]string{{"a"}, {"b"}, {"c"}}},
		"not now":   {coretest.Fault{Status: 503, RetryAfter: "7"}, [][]string{{"a"}}},
		"too many":  {coretest.Fault{Status: 429}, [][]string{{"a"}}},
		"away":      {coretest.Fault{Kind: coretest.Refuse}, [][]string{{"a"}}},
	} {
		w := newWorld(t)
		w.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4), offer("c", "z", 4))
		c.fault.Path, c.fault.Times = createPath, 1
		w.core.Fault(c.fault)
		r, err := w.push(t)
		expectCode(t, err, flavor.CodeUnreachable)
		w.expectSent(t, c.sent...)
		if len(r.Failed)+len(r.Sent) != 3 || r.State != Failed || r.LastError != "x: "+r.Failed[0].Message {
			t.Errorf("%s: the report is %+v", name, r)
		}
		w.mustPush(t)
		equal(t, name+": listed", w.listed(t), []string{"x/a", "y/b", "z/c"})
	}
}

// Core takes a thousand at once.
func TestThousands(t *testing.T) {
	w := newWorld(t)
	var offers []flavor.Offer
	for i := range maxBulk + 2 {
		offers = append(offers, offer(fmt.Sprintf("f%04d", i), "x", 4))
	}
	w.shelf.set(t, offers...)
	w.core.Fault(coretest.Fault{Path: createPath, Status: 403, After: 1, Times: 1})
	r, err := w.push(t)
	expectCode(t, err, flavor.CodeConflict)
	sent := sentTo(t, w.creates())
	if len(sent) != 2 || len(sent[0]) != maxBulk || len(sent[1]) != 2 || len(r.Sent) != 1 || len(r.Sent[0].Products) != maxBulk || len(r.Failed[0].Products) != 2 {
		t.Fatalf("%d requests", len(sent))
	}
	if got := len(w.listed(t)); got != maxBulk {
		t.Errorf("%d are listed", got)
	}
	r = w.mustPush(t)
	w.expectSent(t, []string{"f1000", "f1001"})
	if r.Unchanged != maxBulk {
		t.Errorf("%d are unchanged", r.Unchanged)
	}
}

// A rehearsal tells what would be, and leaves no trace.
func TestDryRun(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4), offer("n@", "y", 4))
	lease, taken, err := w.cfg.Store.TakeLease(t.Context(), leaseName, "another", leaseFor)
	if err != nil || !taken {
		t.Fatal(err)
	}
	defer func() { _ = w.cfg.Store.ReleaseLease(t.Context(), lease) }()
	r, err := w.Push(t.Context(), manager, true)
	if err != nil {
		t.Fatal(err)
	}
	if !r.DryRun || r.State != Failed || len(r.Failed) != 1 || r.Failed[0].Category != "y" || r.Trigger != Manual || !r.StartedAt.Equal(w.clock.now()) {
		t.Errorf("the report is %+v", r)
	}
	equal(t, "would be sent", r.Sent, []Batch{{"x", []string{"a"}}, {"y", []string{"b"}}})
	w.expectSent(t)
	if told, err := w.PushReport(t.Context(), manager); err != nil || told.State != Never {
		t.Errorf("the report of pushes is %+v, %v", told, err)
	}
	w.core.Fault(coretest.Fault{Path: browsePath, Status: 500})
	r, err = w.Push(t.Context(), manager, true)
	expectCode(t, err, flavor.CodeUnreachable)
	if r.LastError == "" || !r.DryRun {
		t.Errorf("the report is %+v", r)
	}
}

// Who may not, and where it cannot be.
func TestPushRefused(t *testing.T) {
	var none *Provider
	w, off := newWorld(t), newWorld(t, pushOff)
	for name, p := range map[string]*Provider{"none": none, "on": w.Provider, "off": off.Provider} {
		_, err := p.Push(t.Context(), nobody, false)
		expectCode(t, err, flavor.CodeManagerOnly)
		_, err = p.PushReport(t.Context(), nobody)
		expectCode(t, err, flavor.CodeManagerOnly)
		r, err := p.PushReport(t.Context(), manager)
		if err != nil || r.State != Never || (r.Mode == Off) != (name != "on") {
			t.Errorf("%s: the report is %+v, %v", name, r, err)
		}
	}
	for _, dry := range []bool{true, false} {
		_, err := none.Push(t.Context(), manager, dry)
		expectCode(t, err, flavor.CodeConflict)
		expectText(t, "the error", messageOf(err), "ucloud.provider_id")
		_, err = off.Push(t.Context(), manager, dry)
		expectCode(t, err, flavor.CodeConflict)
		expectText(t, "the error", messageOf(err), "ucloud.push", "v2")
	}
	none.Run(t.Context()) // ends
	off.Run(t.Context())
	none.Close()

	// While one is under way another is not.
	w.shelf.set(t, offer("a", "x", 4))
	var second error
	var during Report
	w.core.Fault(coretest.Fault{Kind: coretest.Serve, Path: createPath, Before: func() {
		_, second = w.Push(t.Context(), manager, false)
		during, _ = w.PushReport(t.Context(), manager)
	}})
	w.mustPush(t)
	expectCode(t, second, flavor.CodeConflict)
	expectText(t, "the error", messageOf(second), "under way")
	if during.State != Running || during.Trigger != Manual || !during.NextAt.IsZero() || during.StartedAt.IsZero() {
		t.Errorf("the report meanwhile is %+v", during)
	}
	w.expectSent(t, []string{"a"})
}

// A flavor that is deleted while it is pushed spoils nothing for the others.
func TestDeletedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 4), offer("b", "x", 4))
	w.core.Fault(coretest.Fault{Kind: coretest.Serve, Path: createPath, Times: 1, Before: func() {
		gone := w.shelf.offers[0].FlavorID
		if err := w.cfg.Store.Write(t.Context(), func(tx *store.Tx) error { return tx.DeleteFlavor(gone) }); err != nil {
			t.Error(err)
		}
	}})
	w.mustPush(t)
	w.shelf.set(t, offer("b", "x", 4))
	equal(t, "listed", w.listed(t), []string{"x/b"})
}

// Who was paused for so long that another took over writes nothing down: what
// it believes is old.
func TestALostLeaseRecordsNothing(t *testing.T) {
	for name, when := range map[string]string{"before the create": browsePath, "after the create": createPath, "with nothing to create": browsePath} {
		w := newWorld(t)
		w.newID = func() string { return "paused" }
		if name != "with nothing to create" {
			w.shelf.set(t, offer("a", "x", 4), offer("b", "y", 4))
		}
		w.core.Fault(coretest.Fault{Kind: coretest.Serve, Path: when, Times: 1, Before: func() {
			s, ctx := w.cfg.Store, t.Context()
			if err := s.ReleaseLease(ctx, store.Lease{Name: leaseName, Owner: "paused", Fence: 1}); err != nil {
				t.Error(err)
			}
			if _, taken, err := s.TakeLease(ctx, leaseName, "another", leaseFor); err != nil || !taken {
				t.Error(taken, err)
			}
		}})
		_, err := w.push(t)
		expectCode(t, err, flavor.CodeConflict)
		expectText(t, name, messageOf(err), "taken over")
		equal(t, name+": listed", w.listed(t), []string{})
		if n := len(w.creates()); n != map[string]int{browsePath: 0, createPath: 1}[when] {
			t.Errorf("%s: %d requests to create", name, n)
		}
		st, err := w.state(t.Context())
		if err != nil || st.State != Running || len(st.Sent) != 0 {
			t.Errorf("%s: the state is %+v, %v", name, st, err)
		}
	}
}

// A newcomer that would be paid in another way is refused alone: the others of its
// category keep their prices up to date.
func TestOneMisfitDoesNotStopItsCategory(t *testing.T) {
	w := newWorld(t)
	byFormula := but(offer("new", "x", 7), func(o *flavor.Offer) { o.ByFormula, o.Currency = true, "EUR" })
	w.shelf.set(t, offer("a", "x", 1), byFormula)
	r, err := w.push(t)
	expectCode(t, err, flavor.CodeConflict)
	w.expectSent(t, []string{"a"})
	if len(r.Failed) != 1 || !slices.Equal(r.Failed[0].Products, []string{"new"}) {
		t.Errorf("failed: %+v", r.Failed)
	}
	// Core has the category now, and its word counts.
	w.shelf.set(t, offer("a", "x", 2), but(byFormula, func(o *flavor.Offer) { o.ByFormula = false }))
	_, err = w.push(t)
	expectCode(t, err, flavor.CodeConflict)
	w.expectSent(t, []string{"a"})
	equal(t, "listed", w.listed(t), []string{"x/a"})
}
