package marketplace

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// shop is a world without regions: products call no cloud.
func shop(t *testing.T) world {
	w := newWorld(t, time.Second)
	w.category, w.provider = "uc-default", "aau"
	w.pricing.Period = flavor.Hour
	return w
}

func (w world) put(t *testing.T, id string, patch flavor.ProductPatch) flavor.Offer {
	t.Helper()
	o, err := w.ChangeProduct(t.Context(), manager, id, patch)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (w world) products(t *testing.T) []string {
	t.Helper()
	list, err := w.Products(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, o := range list {
		names = append(names, o.Name)
	}
	return names
}

func priced(price string) flavor.ProductPatch {
	return flavor.ProductPatch{Price: &price, Currency: new("DKK")}
}

// Without a formula a promoted flavor is a product when a manager says so, and
// no longer than that.
func TestAProductIsWhatAManagerMadeOne(t *testing.T) {
	w := shop(t)
	f, other := w.promoted(t, "small"), w.promoted(t, "other")
	if _, err := w.Product(t.Context(), f.ID); flavor.CodeOf(err) != flavor.CodeNotFound || !strings.Contains(err.Error(), "is no product") {
		t.Errorf("before: %v", err)
	}
	o := w.put(t, f.ID, priced("0.34"))
	want := flavor.Offer{
		FlavorID: f.ID, Name: "small", Category: "uc-default", Price: 340_000, Currency: "DKK", Period: flavor.Hour, VCPUs: 2, RAM: 2048,
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	// What is not named stays; "" goes back.
	w.put(t, f.ID, flavor.ProductPatch{Category: new("uc-other"), GPUModel: new("T4"), Hidden: new(true)})
	o = w.put(t, f.ID, flavor.ProductPatch{GPUModel: new(""), Description: new("cheap")})
	want.Category, want.Hidden, want.Description = "uc-other", true, "cheap"
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	if read, err := w.Product(t.Context(), f.ID); err != nil || cmp.Diff(o, read) != "" {
		t.Errorf("read: %+v, %v", read, err)
	}
	if diff := cmp.Diff([]string{"small"}, w.products(t)); diff != "" {
		t.Error(diff)
	}
	first, _ := w.Products(t.Context())
	second, _ := w.Products(t.Context())
	if &first[0] != &second[0] {
		t.Error("the list is made again although nothing has changed")
	}
	for range 2 {
		err := w.EndProduct(t.Context(), manager, f.ID)
		if code := flavor.CodeOf(err); code != "" && code != flavor.CodeNotFound {
			t.Fatal(err)
		}
	}
	if names := w.products(t); len(names) != 0 {
		t.Errorf("after the end there are %v", names)
	}
	if err := w.EndProduct(t.Context(), manager, other.ID); flavor.CodeOf(err) != flavor.CodeNotFound {
		t.Errorf("ending what is no product: %v", err)
	}
	// Made one again, nothing of the old one is left.
	if o := w.put(t, f.ID, priced("1")); o.Category != "uc-default" || o.Hidden || o.Description != "" {
		t.Errorf("made again: %+v", o)
	}
}

// What follows from the flavor follows it on, also for a widget that sends back all
// that it read.
func TestWhatFollowsFromTheFlavorIsNotSaid(t *testing.T) {
	w := shop(t)
	s := spec("gpu")
	s.Description, s.ExtraSpecs = strings.Repeat("long ", 500)+".", map[string]string{"Accelerator:Number": "1", "Accelerator:Model": "T4"}
	f, err := w.CreatePromoted(t.Context(), manager, flavor.Patch{
		Name: &s.Name, VCPUs: &s.VCPUs, RAM: &s.RAM, Disk: &s.Disk, Description: &s.Description, ExtraSpecs: &s.ExtraSpecs,
	})
	if err != nil {
		t.Fatal(err)
	}
	o := w.put(t, f.ID, priced("1"))
	if o.GPUModel != "T4" || o.GPUs != 1 || o.Description != s.Description {
		t.Fatalf("got %+v", o)
	}
	back := flavor.ProductPatch{
		ID: &o.FlavorID, Name: &o.Name, Category: &o.Category, Price: new(o.Price.String()), Currency: &o.Currency, Period: new(string(o.Period)),
		Free: &o.Free, Hidden: &o.Hidden, GPUModel: &o.GPUModel, Description: &o.Description, VCPUs: &o.VCPUs, RAM: &o.RAM, GPUs: &o.GPUs,
	}
	if diff := cmp.Diff(o, w.put(t, f.ID, back)); diff != "" {
		t.Error(diff)
	}
	specs := map[string]string{"Accelerator:Number": "2", "Accelerator:Model": "A100"}
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Description: new("short"), ExtraSpecs: &specs}); err != nil {
		t.Fatal(err)
	}
	if o, err = w.Product(t.Context(), f.ID); err != nil || o.GPUModel != "A100" || o.GPUs != 2 || o.Description != "short" {
		t.Errorf("after the flavor changed: %+v, %v", o, err)
	}
}

// With a formula every promoted flavor is a product, but those that a manager
// has ended; his own price goes before the formula's, and he can go back to it.
func TestFormula(t *testing.T) {
	w := shop(t)
	w.pricing = flavor.Pricing{VCPU: 100_000, GB: 50_000, Currency: "EUR", Period: flavor.Day}
	f, ended := w.promoted(t, "small"), w.promoted(t, "ended")
	o, err := w.Product(t.Context(), f.ID)
	if err != nil || o.Price != 300_000 || !o.ByFormula || o.Currency != "EUR" || o.Period != flavor.Day {
		t.Fatalf("by the formula: %+v, %v", o, err)
	}
	if err := w.EndProduct(t.Context(), manager, ended.ID); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"small"}, w.products(t)); diff != "" {
		t.Error(diff)
	}
	if o := w.put(t, f.ID, flavor.ProductPatch{Price: new("9")}); o.Price != 9_000_000 || o.ByFormula || o.Currency != "EUR" {
		t.Errorf("with a price: %+v", o)
	}
	for _, back := range []flavor.ProductPatch{{Price: new("")}, {ByFormula: new(true)}, {ByFormula: new(true), Price: new("0.3")}} {
		w.put(t, f.ID, flavor.ProductPatch{Price: new("9")})
		if o := w.put(t, f.ID, back); o.Price != 300_000 || !o.ByFormula {
			t.Errorf("back to the formula: %+v", o)
		}
	}
	w.pricing = flavor.Pricing{Currency: "EUR", Period: flavor.Day}
	w.shelf.Store(nil)
	if _, err := w.Product(t.Context(), f.ID); flavor.CodeOf(err) != flavor.CodeNotFound {
		t.Errorf("a product by the formula, once there is none: %v", err)
	}
	w.pricing.VCPU = 1 << 62
	if _, err := w.Product(t.Context(), f.ID); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("a price beyond what can be counted: %v", err)
	}
	if err := w.EndProduct(t.Context(), manager, f.ID); err != nil {
		t.Errorf("ending what costs too much to count: %v", err)
	}
}

// What cannot be a product is refused, with the field, and nothing is stored.
func TestProductRefusals(t *testing.T) {
	w := shop(t)
	f := w.promoted(t, "small")
	for words, patch := range map[string]flavor.ProductPatch{
		"price is missing":                    {Currency: new("DKK")},
		"currency is missing":                 {Price: new("1")},
		"price: must not be below 0":          priced("-1"),
		"price: must have at most 6 digits":   priced("0.3400000"),
		"price: must be at most":              priced("9223372036854.775808"),
		"price: must be a decimal":            priced("1e3"),
		"category: must have":                 {Category: new("sdu/uc-general"), Price: new("1"), Currency: new("DKK")},
		"name: is the flavor's":               {Name: new("large"), Price: new("1"), Currency: new("DKK")},
		"vcpus: is the flavor's":              {VCPUs: new(3), Price: new("1"), Currency: new("DKK")},
		"retired: is the flavor's":            {Retired: new(true), Price: new("1"), Currency: new("DKK")},
		"by_formula: is true where no price":  {ByFormula: new(true), Free: new(true), Currency: new("DKK")},
		"period: must be minute, hour or day": {Period: new("week"), Price: new("1"), Currency: new("DKK")},
	} {
		_, err := w.ChangeProduct(t.Context(), manager, f.ID, patch)
		if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
	if names := w.products(t); len(names) != 0 {
		t.Errorf("a refused product is there: %v", names)
	}
	if _, err := w.ChangeProduct(t.Context(), user, f.ID, priced("1")); flavor.CodeOf(err) != flavor.CodeManagerOnly {
		t.Errorf("a user's PUT: %v", err)
	}
	if err := w.EndProduct(t.Context(), user, f.ID); flavor.CodeOf(err) != flavor.CodeManagerOnly {
		t.Errorf("a user's DELETE: %v", err)
	}
	for _, id := range []string{"0c0ffee0-0000-4000-8000-000000000001", "1"} {
		_, err1 := w.Product(t.Context(), id)
		_, err2 := w.ChangeProduct(t.Context(), manager, id, priced("1"))
		err3 := w.EndProduct(t.Context(), manager, id)
		for _, err := range []error{err1, err2, err3} {
			if flavor.CodeOf(err) != flavor.CodeNotFound {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
}

// UCloud accounts for a category: two ways in one would bill somebody wrongly.
func TestOneCategoryIsAccountedForInOneWay(t *testing.T) {
	w := shop(t)
	f, g := w.promoted(t, "small"), w.promoted(t, "large")
	w.put(t, f.ID, priced("1"))
	for _, patch := range []flavor.ProductPatch{
		{Price: new("1"), Currency: new("EUR")}, {Price: new("1"), Currency: new("DKK"), Period: new("day")}, {Free: new(true), Currency: new("DKK")},
	} {
		_, err := w.ChangeProduct(t.Context(), manager, g.ID, patch)
		if flavor.CodeOf(err) != flavor.CodeConflict || !strings.Contains(err.Error(), `"small" in "uc-default" is paid in DKK each hour`) {
			t.Errorf("%+v: %v", patch, err)
		}
	}
	// Alone in it, and unknown to Core, it may change.
	w.put(t, f.ID, flavor.ProductPatch{Period: new("day")})
	w.put(t, g.ID, flavor.ProductPatch{Price: new("1"), Currency: new("EUR"), Category: new("uc-euro")})
	// What Core has does not change any more, even when it is alone.
	err := w.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutCategory("aau", "uc-default", flavor.Unit{Currency: "DKK", Period: flavor.Day})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ChangeProduct(t.Context(), manager, f.ID, flavor.ProductPatch{Free: new(true)})
	if flavor.CodeOf(err) != flavor.CodeConflict || !strings.Contains(err.Error(), "choose a new category") {
		t.Errorf("free to use, where Core has it paid: %v", err)
	}
	if o := w.put(t, f.ID, flavor.ProductPatch{Price: new("2")}); o.Price != 2_000_000 || o.Free {
		t.Errorf("a new price: %+v", o)
	}
	w.put(t, f.ID, flavor.ProductPatch{Free: new(true), Category: new("uc-free")})
}

// A promoted flavor of a product's name is refused as any other of a taken name
// is: UCloud knows products by their names.
func TestTwoProductsHaveNoCommonName(t *testing.T) {
	w := shop(t)
	f, g := w.promoted(t, "small"), w.promoted(t, "large")
	w.put(t, f.ID, priced("1"))
	if _, err := w.ChangePromoted(t.Context(), manager, g.ID, flavor.Patch{Name: new("small")}); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("a second product named small: %v", err)
	}
	// A new name is the product's name, too; a retired flavor's product says so.
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Name: new("tiny"), Retired: new(true)}); err != nil {
		t.Fatal(err)
	}
	o, err := w.Product(t.Context(), f.ID)
	if err != nil || o.Name != "tiny" || !o.Retired {
		t.Errorf("renamed and retired: %+v, %v", o, err)
	}
	if err := w.DeletePromoted(t.Context(), manager, f.ID, false); err != nil {
		t.Fatal(err)
	}
	if names := w.products(t); len(names) != 0 {
		t.Errorf("a product whose flavor is gone: %v", names)
	}
}

// What only follows from the formula is no reason to refuse what a manager says.
func TestTheFormulaGivesWay(t *testing.T) {
	w := shop(t)
	f := w.promoted(t, "free")
	w.put(t, f.ID, flavor.ProductPatch{Free: new(true), Currency: new("EUR"), Period: new("day")})
	w.pricing = flavor.Pricing{VCPU: 1, Currency: "DKK", Period: flavor.Hour}
	w.promoted(t, "newcomer")
	w.put(t, f.ID, flavor.ProductPatch{Description: new("still free")})
	w.put(t, w.promoted(t, "other").ID, flavor.ProductPatch{Free: new(true), Currency: new("EUR"), Period: new("day")})
}

// UCloud pages through products by names parted at an @.
func TestNoProductHasAnAt(t *testing.T) {
	w := shop(t)
	at, f := w.promoted(t, "a@b"), w.promoted(t, "small")
	if _, err := w.ChangeProduct(t.Context(), manager, at.ID, priced("1")); flavor.CodeOf(err) != flavor.CodeConflict || !strings.Contains(err.Error(), "has an @") {
		t.Errorf("a product named a@b: %v", err)
	}
	w.put(t, f.ID, priced("1"))
	if _, err := w.ChangePromoted(t.Context(), manager, f.ID, flavor.Patch{Name: new("small@b")}); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Errorf("a product renamed to small@b: %v", err)
	}
	w.provider = ""
	w.put(t, at.ID, priced("1"))
}

// A price of one currency and period must not become one of another because an
// operator changes what holds for products that name none.
func TestAPriceKeepsItsMeaning(t *testing.T) {
	w := shop(t)
	w.pricing = flavor.Pricing{VCPU: 100_000, Currency: "DKK", Period: flavor.Hour}
	own, byFormula := w.promoted(t, "own"), w.promoted(t, "formula")
	w.put(t, own.ID, flavor.ProductPatch{Price: new("1.1")})
	w.put(t, byFormula.ID, flavor.ProductPatch{CPUModel: new("EPYC")})
	if _, err := w.ChangeProduct(t.Context(), manager, byFormula.ID, flavor.ProductPatch{Currency: new("EUR")}); flavor.CodeOf(err) != flavor.CodeInvalid {
		t.Errorf("the formula's number in another currency: %v", err)
	}
	w.pricing = flavor.Pricing{VCPU: 100_000, Currency: "EUR", Period: flavor.Day}
	w.shelf.Store(nil)
	other := w.promoted(t, "other")
	w.put(t, other.ID, flavor.ProductPatch{Price: new("1"), Currency: new("DKK"), Period: new("hour"), Category: new("uc-own")})
	if o := w.put(t, other.ID, flavor.ProductPatch{Price: new(""), Category: new("uc-back")}); !o.ByFormula || o.Currency != "EUR" || o.Period != flavor.Day {
		t.Errorf("back to the formula: %+v", o)
	}
	if o, err := w.Product(t.Context(), own.ID); err != nil || o.Unit() != (flavor.Unit{Currency: "DKK", Period: flavor.Hour}) {
		t.Errorf("a manager's price: %+v, %v", o, err)
	}
	if o, err := w.Product(t.Context(), byFormula.ID); err != nil || o.Unit() != (flavor.Unit{Currency: "EUR", Period: flavor.Day}) {
		t.Errorf("the formula's price: %+v, %v", o, err)
	}
}
