package ucloud

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// plan is what makes Core have what it is to have.
type plan struct {
	batches   []batch // by category
	adopted   []entry // Core has them; only we did not know
	unchanged int     // adopted ones, too
	refused   []Failure
	// categories are those that Core has, as far as one of our units tells them.
	categories map[string]flavor.Unit
}

// batch is what of one category is to be sent.
type batch struct {
	category string
	unit     flavor.Unit
	entries  []entry // by name
}

// entry is one product to be sent or written down.
type entry struct {
	flavorID string
	ref      flavor.Reference
	item     jsontext.Value
}

func (b batch) names() []string { return names(b.entries) }

func names(entries []entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.ref.Name
	}
	return all
}

// planner compares what is wanted with what is there.
type planner struct {
	generation
	provider string
	found    map[flavor.Reference]product
	// first is a product of each category that Core has: what is the category's
	// is in all of them.
	first  map[string]product
	pushed map[string]store.Pushed
	plan
}

func newPlanner(g generation, provider string, found []product, pushed map[string]store.Pushed) *planner {
	pl := &planner{
		generation: g, provider: provider, found: map[flavor.Reference]product{}, first: map[string]product{}, pushed: pushed,
		plan: plan{categories: map[string]flavor.Unit{}},
	}
	for _, p := range found {
		pl.found[p.Reference] = p
		if _, known := pl.first[p.Category]; !known {
			pl.first[p.Category] = p
		}
	}
	for name, p := range pl.first {
		if u, ok := g.unit(p.accounting); ok && p.productType == compute {
			pl.categories[name] = u
		}
	}
	return pl
}

// compare makes the plan for all offers that are not retired.
func (pl *planner) compare(offers []flavor.Offer) (plan, error) {
	byCategory := categories(offers)
	for _, name := range slices.Sorted(maps.Keys(byCategory)) {
		if err := pl.category(name, byCategory[name]); err != nil {
			return plan{}, err
		}
	}
	return pl.plan, nil
}

// categories are the offers that are to be pushed, each category's in their order.
func categories(offers []flavor.Offer) map[string][]flavor.Offer {
	all := map[string][]flavor.Offer{}
	for _, o := range offers {
		if !o.Retired {
			all[o.Category] = append(all[o.Category], o)
		}
	}
	return all
}

func (pl *planner) category(name string, offers []flavor.Offer) error {
	for _, o := range offers {
		pl.recognize(o)
	}
	a, fitting, err := pl.accounting(name, offers)
	if err != nil {
		refused := make([]string, len(offers))
		for i, o := range offers {
			refused[i] = o.Name
		}
		pl.refuse(name, err, refused...)
		return nil
	}
	b := batch{category: name, unit: fitting[0].Unit()}
	for _, o := range fitting {
		wanted, err := pl.define(pl.provider, o, a)
		if err != nil {
			pl.refuse(name, err, o.Name)
			continue
		}
		e, send, err := pl.product(o, wanted)
		if err != nil {
			return err
		}
		if send {
			b.entries = append(b.entries, e)
			continue
		}
		pl.unchanged++
		if pl.pushed[o.FlavorID].Reference != e.ref {
			pl.adopted = append(pl.adopted, e)
		}
	}
	if len(b.entries) > 0 {
		pl.batches = append(pl.batches, b)
	}
	return nil
}

// recognize takes down that Core knows o already, whatever it has of it, where we
// have not told it: its users may have it on their lists, from the provider or the
// database before this one.
func (pl *planner) recognize(o flavor.Offer) {
	ref := flavor.Reference{Provider: pl.provider, Category: o.Category, Name: o.Name}
	_, there := pl.found[ref]
	if _, told := pl.pushed[o.FlavorID]; there && !told {
		pl.adopted = append(pl.adopted, entry{flavorID: o.FlavorID, ref: ref})
	}
}

// accounting is how the category's products are accounted for, and those that can
// be so; the others are refused. Its error says why none can be.
func (pl *planner) accounting(name string, offers []flavor.Offer) (accounting, []flavor.Offer, error) {
	there, known := pl.first[name]
	unit, agreed := common(offers)
	switch {
	case known:
		ours, ok := pl.unit(there.accounting)
		a, err := pl.account(ours)
		if !ok || err != nil || a != there.accounting {
			return a, nil, pl.fixed(there.accounting, unit)
		}
		unit = ours
	case !agreed:
		return accounting{}, nil, disagree(offers)
	}
	fitting := slices.DeleteFunc(slices.Clone(offers), func(o flavor.Offer) bool { return o.Unit() != unit })
	if len(fitting) == 0 {
		return accounting{}, nil, pl.fixed(there.accounting, offers[0].Unit())
	}
	for _, o := range offers {
		if o.Unit() != unit && known {
			pl.refuse(name, pl.fixed(there.accounting, o.Unit()), o.Name)
		} else if o.Unit() != unit {
			pl.refuse(name, disagree(offers), o.Name)
		}
	}
	a, err := pl.account(unit)
	return a, fitting, err
}

// common is the unit of the offers: the one that they all have, else the one that
// managers gave, which goes before what follows from the formula.
func common(offers []flavor.Offer) (unit flavor.Unit, agreed bool) {
	units := func(of func(flavor.Offer) bool) []flavor.Unit {
		var all []flavor.Unit
		for _, o := range offers {
			if of(o) && !slices.Contains(all, o.Unit()) {
				all = append(all, o.Unit())
			}
		}
		return all
	}
	all := units(func(flavor.Offer) bool { return true })
	given := units(func(o flavor.Offer) bool { return !o.ByFormula })
	switch {
	case len(all) == 1:
		return all[0], true
	case len(given) == 1:
		return given[0], true
	}
	return offers[0].Unit(), false
}

func disagree(offers []flavor.Offer) error {
	one := offers[0]
	i := slices.IndexFunc(offers, func(o flavor.Offer) bool { return o.Unit() != one.Unit() })
	return fmt.Errorf("UCloud accounts for a category in one way, and its products here disagree: %s is %s, %s is %s; "+
		"set the same currency, period and free_to_use for all of them, or create a new category for some",
		one.Name, one.Unit(), offers[i].Name, offers[i].Unit())
}

func (pl *planner) fixed(there accounting, ours flavor.Unit) error {
	if _, err := pl.account(ours); err != nil {
		return err // nor could it be in any other category
	}
	if told := pl.tell(there); told != ours.String() && pl.expresses(there) {
		return fmt.Errorf("UCloud's Core has this category as %s, and can never change that; its products here are %s: "+
			"create a new category for them, or set what the category has", told, ours)
	}
	return fmt.Errorf("UCloud's Core has this category as %s, which no product here can be (%s), and can never change that: "+
		"create a new category for its products here, which are %s", pl.tell(there), pl.differences(there, ours), ours)
}

// expresses says whether a unit of ours is accounted for as a.
func (pl *planner) expresses(a accounting) bool {
	u, ok := pl.unit(a)
	if !ok {
		return false
	}
	ours, err := pl.account(u)
	return err == nil && ours == a
}

// differences are what of a category's accounting is not as ours would be, in
// UCloud's words.
func (pl *planner) differences(there accounting, ours flavor.Unit) string {
	wanted, err := pl.account(ours)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, d := range []struct {
		name          string
		there, wanted any
	}{
		{"productType", there.productType, wanted.productType}, {"unit", there.unit, wanted.unit}, {"namePlural", there.plural, wanted.plural},
		{"floatingPoint", there.float, wanted.float}, {"displayFrequencySuffix", there.suffix, wanted.suffix},
		{"frequency", there.frequency, wanted.frequency}, {"freeToUse", there.free, wanted.free},
	} {
		if d.there != d.wanted {
			all = append(all, fmt.Sprintf("%s is %s there, not %v", d.name, quoted(fmt.Sprintf("%.20s", fmt.Sprint(d.there))), d.wanted))
		}
	}
	return strings.Join(all, ", ")
}

// tell is a category of Core's in words.
func (pl *planner) tell(a accounting) string {
	if u, ok := pl.unit(a); ok && a.productType == compute {
		if ours, err := pl.account(u); err == nil && ours == a {
			return u.String()
		}
	}
	free := ""
	if a.free {
		free = ", free to use"
	}
	return quoted(strings.Join(slices.DeleteFunc([]string{a.productType, a.unit, a.frequency}, func(s string) bool { return s == "" }), " ")) + free
}

// product says whether wanted is to be sent.
func (pl *planner) product(o flavor.Offer, wanted product) (e entry, send bool, err error) {
	found, there := pl.found[wanted.Reference]
	wanted.kept = pl.keep(wanted)
	item, err := json.Marshal(pl.encode(wanted))
	if err != nil {
		return e, false, fmt.Errorf("while writing the product %s: %w", o.Name, err)
	}
	e = entry{o.FlavorID, wanted.Reference, item}
	return e, !there || !pl.holds(wanted, found, pl.sent(o.FlavorID, wanted.Reference)), nil
}

// keep is what Core's own people may have set for wanted or its category.
func (pl *planner) keep(wanted product) kept {
	if found, there := pl.found[wanted.Reference]; there {
		return found.kept
	}
	if category, known := pl.first[wanted.Category]; known {
		return kept{subAllocations: category.kept.subAllocations}
	}
	return pl.fresh
}

// sent is what Core was told last of that product, nil for nothing.
func (pl *planner) sent(flavorID string, ref flavor.Reference) *product {
	row, ok := pl.pushed[flavorID]
	if !ok || row.Reference != ref {
		return nil
	}
	p, err := pl.decode(jsontext.Value(row.Sent))
	if err != nil {
		return nil
	}
	return &p
}

func (pl *planner) refuse(category string, why error, products ...string) {
	pl.refused = append(pl.refused, Failure{Category: category, Products: products, Message: why.Error(), final: true})
}

// chunks parts a batch into what Core takes at once.
func (b batch) chunks() [][]entry {
	return slices.Collect(slices.Chunk(b.entries, maxBulk))
}

const maxBulk = 1000

func compareFailures(a, b Failure) int {
	return cmp.Or(cmp.Compare(a.Category, b.Category), slices.Compare(a.Products, b.Products))
}
