package marketplace

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// shelf is the products of one state of the catalogue.
type shelf struct {
	cat    *store.Catalogue
	offers []flavor.Offer // in the order of flavor.CompareOffers
	choice choice
}

// Products are the promoted flavors that are products, in order: those that a
// manager has made one, and with a formula all that none has ended. Nothing is
// called but the database. It is the same slice as long as nothing changes;
// callers do not change it.
func (m *Market) Products(ctx context.Context) ([]flavor.Offer, error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	return m.shelve(cat).offers, nil
}

// ProductsNow are Products with every change that was finished before, whichever
// process made it. It costs a query.
func (m *Market) ProductsNow(ctx context.Context) ([]flavor.Offer, error) {
	cat, err := m.store.CatalogueNow(ctx)
	if err != nil {
		return nil, err
	}
	return m.shelve(cat).offers, nil
}

func (m *Market) shelve(cat *store.Catalogue) *shelf {
	if s := m.shelf.Load(); s != nil && s.cat == cat {
		return s
	}
	s := &shelf{cat: cat, offers: []flavor.Offer{}}
	for _, f := range cat.Promoted {
		if o, err := m.offer(f, cat.Products[f.ID]); err == nil {
			o.Pushed = cat.Pushed[f.ID].Reference
			s.offers = append(s.offers, o)
		}
	}
	slices.SortFunc(s.offers, flavor.CompareOffers)
	m.shelf.Store(s)
	return s
}

// offer is f as a product; said is what a manager said of it, if anything.
// CodeNotFound where it is none, CodeConflict where its price is beyond what can
// be counted.
func (m *Market) offer(f flavor.Flavor, said flavor.Product) (flavor.Offer, error) {
	byFormula := said.Price == nil && !said.Free
	if byFormula {
		said.Currency, said.Period = "", "" // its price is in the formula's
	}
	currency := cmp.Or(said.Currency, m.pricing.Currency)
	if said.Ended || byFormula && !m.pricing.Configured() || currency == "" {
		return flavor.Offer{}, flavor.NotFound("%q is no product: PUT /v1/promotedflavors/%s/product makes it one", f.Name, f.ID)
	}
	o := flavor.Offer{
		FlavorID: f.ID, Name: f.Name, Retired: f.Retired, VCPUs: f.VCPUs, RAM: f.RAM, GPUs: f.GPUs(), ByFormula: byFormula,
		Category: cmp.Or(said.Category, flavor.DefaultCategory(f.Spec, m.category)),
		Currency: currency, Period: cmp.Or(said.Period, m.pricing.Period),
		Free: said.Free, Hidden: said.Hidden, CPUModel: said.CPUModel, MemoryModel: said.MemoryModel,
		GPUModel: cmp.Or(said.GPUModel, gpuModel(f.Spec)), Description: cmp.Or(said.Description, f.Description),
	}
	if said.Price != nil {
		o.Price = *said.Price
	}
	if !byFormula {
		return o, nil
	}
	var err error
	if o.Price, err = m.pricing.Price(f.Spec, o.GPUs); err != nil {
		return flavor.Offer{}, flavor.Conflict("%q costs more by the formula than can be counted: PUT /v1/promotedflavors/%s/product with a price: %w", f.Name, f.ID, err)
	}
	return o, nil
}

// gpuModel is the model of the first GPU that s tells of, "" where none is told or
// UCloud would not take it.
func gpuModel(s flavor.Spec) string {
	for _, a := range s.Accelerators() {
		if a.IsGPU() && utf8.RuneCountInString(a.Model) <= flavor.MaxModel {
			return a.Model
		}
	}
	return ""
}

// Product is the promoted flavor as a product; CodeNotFound where it is not
// promoted, or no product.
func (m *Market) Product(ctx context.Context, id string) (flavor.Offer, error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return flavor.Offer{}, err
	}
	f, ok := cat.ByID(id)
	if !ok || !f.Promoted {
		return flavor.Offer{}, notPromoted(id)
	}
	o, err := m.offer(f, cat.Products[id])
	o.Pushed = cat.Pushed[id].Reference
	return o, err
}

// ChangeProduct makes a promoted flavor a product, or changes it: what patch does
// not name stays. All products of one category are accounted for in one way, and
// one that UCloud's Core knows keeps its own for ever: another is CodeConflict.
func (m *Market) ChangeProduct(ctx context.Context, p flavor.Principal, id string, patch flavor.ProductPatch) (flavor.Offer, error) {
	if err := p.May(flavor.ChangeProduct); err != nil {
		return flavor.Offer{}, err
	}
	var changed flavor.Offer
	err := m.store.Write(ctx, func(tx *store.Tx) error {
		f, err := tx.Flavor(id)
		if flavor.CodeOf(err) == flavor.CodeNotFound || err == nil && !f.Promoted {
			return notPromoted(id)
		}
		if err != nil {
			return err
		}
		all, err := tx.Products()
		if err != nil {
			return err
		}
		said := all[id]
		if said.Ended {
			said = flavor.Product{}
		}
		if said, changed, err = m.repriced(f, said, patch); err != nil {
			return err
		}
		if err := patch.Unchanged(changed); err != nil {
			return err
		}
		if err := m.nameable(changed); err != nil {
			return err
		}
		if err := m.oneUnit(tx, all, changed); err != nil {
			return err
		}
		return tx.PutProduct(said)
	})
	return changed, err
}

// repriced is what is said of f as a product with what patch names, and f as
// that product.
func (m *Market) repriced(f flavor.Flavor, said flavor.Product, patch flavor.ProductPatch) (flavor.Product, flavor.Offer, error) {
	said.FlavorID = f.ID
	// What follows from the flavor goes on to follow it when it is sent back.
	if patch.Description != nil && said.Description == "" && *patch.Description == f.Description {
		patch.Description = nil
	}
	if patch.GPUModel != nil && said.GPUModel == "" && *patch.GPUModel == gpuModel(f.Spec) {
		patch.GPUModel = nil
	}
	byFormula := patch.ByFormula != nil && *patch.ByFormula
	another := func(said *string, is string) bool { return said != nil && *said != "" && *said != is }
	said, err := patch.Apply(said)
	if err != nil {
		return said, flavor.Offer{}, err
	}
	named := said.Price
	if byFormula {
		said.Price = nil // a price beside it is the formula's own, as it was read
	}
	o, err := m.offer(f, said)
	switch {
	case cmp.Or(said.Currency, m.pricing.Currency) == "":
		err = flavor.Invalid("currency is missing: say which, such as DKK; pricing.currency, which holds for all that name none, is not configured here")
	case flavor.CodeOf(err) == flavor.CodeNotFound:
		err = flavor.Invalid("price is missing: a product has one, is free_to_use, or is priced by the formula of pricing, which is not configured here")
	case err != nil:
	case byFormula && named != nil && *named != o.Price:
		err = flavor.Invalid("price: by the formula it is %s, not %s; leave by_formula out to set another", o.Price, *named)
	case o.ByFormula && (another(patch.Currency, o.Currency) || another(patch.Period, string(o.Period))):
		err = flavor.Invalid("currency and period: by the formula the price is in %s each %s; name a price for another", o.Currency, o.Period)
	case patch.ByFormula != nil && *patch.ByFormula != o.ByFormula:
		err = flavor.Invalid("by_formula: is true where no price is named and the product is not free_to_use, else false; it may be left out")
	}
	// A price keeps its meaning when the configuration changes; the formula's own
	// follows it.
	said.Currency, said.Period = o.Currency, o.Period
	if o.ByFormula {
		said.Currency, said.Period = "", ""
	}
	return said, o, err
}

// oneUnit refuses o where its category is accounted for in another way: by the
// other products in it, or by UCloud's Core, which changes that never.
func (m *Market) oneUnit(tx *store.Tx, products map[string]flavor.Product, o flavor.Offer) error {
	known, err := tx.Categories(m.provider)
	if err != nil {
		return err
	}
	if unit, ok := known[o.Category]; ok {
		if unit == o.Unit() {
			return nil // whoever differs is refused by the push
		}
		return flavor.Conflict("category: UCloud has %q as %s, which cannot change there, and this product is %s; choose a new category for it",
			o.Category, unit, o.Unit())
	}
	flavors, err := tx.Flavors()
	if err != nil {
		return err
	}
	for _, f := range flavors {
		said, there := products[f.ID]
		// What only follows from the formula gives way: the push refuses it alone.
		if !f.Promoted || f.Retired || f.ID == o.FlavorID || !there {
			continue
		}
		other, err := m.offer(f, said)
		if err == nil && other.Category == o.Category && other.Unit() != o.Unit() {
			return flavor.Conflict("category: %q in %q is %s, as all of one category are, and this product is %s; choose another category for it",
				other.Name, o.Category, other.Unit(), o.Unit())
		}
	}
	return nil
}

// nameable refuses a product whose name UCloud cannot page through, where this is
// a provider of it.
func (m *Market) nameable(o flavor.Offer) error {
	if m.provider != "" && strings.Contains(o.Name, "@") {
		return flavor.Conflict("name: %q has an @, at which UCloud parts the names of products; a product's flavor needs another name", o.Name)
	}
	return nil
}

// staysInUnit refuses a change of a promoted flavor that would put its product
// into a category which is accounted for in another way.
func (m *Market) staysInUnit(tx *store.Tx, before, after flavor.Flavor) error {
	products, err := tx.Products()
	if err != nil {
		return err
	}
	said, there := products[after.ID] // a change keeps the id
	is, err := m.offer(after, said)
	if err != nil || is.Retired || !there {
		return nil //nolint:nilerr // what is no product has no unit
	}
	if after.Name != before.Name {
		if err := m.nameable(is); err != nil {
			return err
		}
	}
	was, err := m.offer(before, said)
	if err == nil && !was.Retired && was.Category == is.Category {
		return nil // what was wrong before is not this change's
	}
	return m.oneUnit(tx, products, is)
}

// EndProduct makes a promoted flavor no product any more, whatever the formula
// says. The flavor stays as it is.
func (m *Market) EndProduct(ctx context.Context, p flavor.Principal, id string) error {
	if err := p.May(flavor.EndProduct); err != nil {
		return err
	}
	// One whose price cannot be counted is a product all the same.
	if _, err := m.Product(ctx, id); err != nil && flavor.CodeOf(err) != flavor.CodeConflict {
		return err
	}
	return m.store.Write(ctx, func(tx *store.Tx) error {
		err := tx.PutProduct(flavor.Product{FlavorID: id, Ended: true})
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			return notPromoted(id)
		}
		return err
	})
}
