package flavor

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Period is what a price is for.
type Period string

// The periods of accounting.
const (
	Minute Period = "minute"
	Hour   Period = "hour"
	Day    Period = "day"
)

// Periods are all of them, the shortest first.
var Periods = []Period{Minute, Hour, Day}

// Product is what a manager has said of a promoted flavor as a product. What is
// not said is zero, and follows the flavor and the configuration.
type Product struct {
	FlavorID    string // in the catalogue
	Ended       bool   // a manager has ended it: it is no product, whatever the formula says
	Category    string
	Price       *Amount // for one whole product, each Period
	Currency    string  // three capital letters, as in ISO 4217
	Period      Period
	Free        bool // to use; nobody needs a wallet
	Hidden      bool // in grant applications
	CPUModel    string
	MemoryModel string
	GPUModel    string
	Description string // one line
}

// Reference is how UCloud names a product: it is the same one as long as all
// three are.
type Reference struct {
	Provider, Category, Name string
}

// Offer is a promoted flavor as a product, with all that readers want to know.
type Offer struct {
	FlavorID    string
	Name        string // the flavor's
	Category    string
	Price       Amount // for one whole product, each Period
	Currency    string
	Period      Period
	Free        bool
	Hidden      bool
	Retired     bool // the flavor is: it is shown, and no longer handed on
	ByFormula   bool // no manager has set the price
	VCPUs       int
	RAM         int // MB (Nova's MiB)
	GPUs        int
	CPUModel    string
	MemoryModel string
	GPUModel    string
	Description string
	// Pushed is what UCloud's Core knows it as; zero where it was never told.
	Pushed Reference
}

// Unit is what all the products of one category share: UCloud accounts for a
// category, not for a product.
type Unit struct {
	Currency string
	Period   Period
	Free     bool
}

// Unit is how o is accounted for.
func (o Offer) Unit() Unit { return Unit{o.Currency, o.Period, o.Free} }

func (u Unit) String() string {
	if u.Free {
		return "free to use, counted in " + u.Currency + " each " + string(u.Period)
	}
	return "paid in " + u.Currency + " each " + string(u.Period)
}

// CompareOffers orders products as every list shows them: by name, then id.
func CompareOffers(a, b Offer) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.FlavorID, b.FlavorID))
}

var (
	category = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
)

// ValidCategory says whether name can be a category's.
func ValidCategory(name string) bool { return category.MatchString(name) }

// ValidCurrency says whether code is one of ISO 4217's form.
func ValidCurrency(code string) bool { return currency.MatchString(code) }

// MaxModel is how many characters UCloud takes of a model.
const MaxModel = 128

// Validate tells the first field of p that no product can have.
func (p Product) Validate() error {
	switch {
	case p.Category != "" && !ValidCategory(p.Category):
		return Invalid("category: must have 1 to 64 letters, digits and . _ -, and begin with a letter or a digit; a provider's name is no part of it")
	case p.Price != nil && *p.Price < 0:
		return Invalid("price: must not be below 0")
	case p.Currency != "" && !ValidCurrency(p.Currency):
		return Invalid("currency: must be three capital letters, such as DKK, not %.40q", p.Currency)
	case p.Period != "" && !slices.Contains(Periods, p.Period):
		return Invalid("period: must be minute, hour or day, not %.40q", string(p.Period))
	}
	for _, t := range []struct {
		field, value string
		limit        int
	}{
		{"cpu_model", p.CPUModel, MaxModel}, {"memory_model", p.MemoryModel, MaxModel}, {"gpu_model", p.GPUModel, MaxModel},
		{"description", p.Description, 1000},
	} {
		if t.value == "" {
			continue
		}
		if err := text(t.field, t.value, t.limit); err != nil {
			return err
		}
		if strings.TrimSpace(t.value) != t.value {
			return Invalid("%s: must not begin or end with a blank", t.field)
		}
		if r, ok := firstUnprintable(t.value); ok {
			return Invalid("%s: must be one line of printable characters, without %U", t.field, r)
		}
	}
	return nil
}

// DefaultCategory is the category of a flavor for which none was said, as
// OpenStackGateway has it: the flavor's availability zone or else fallback, and
// with -h where the flavor's name ends so (its twin that is paid by the hour).
func DefaultCategory(s Spec, fallback string) string {
	for _, c := range []string{s.ExtraSpecs["availability_zone"], fallback} {
		if strings.HasSuffix(s.Name, "-h") {
			c += "-h"
		}
		if ValidCategory(c) {
			return c
		}
	}
	return fallback
}

// ProductPatch is what a PUT says of a product; nil is what it does not say, and
// "" goes back to what holds where nothing was said. The last six are the
// flavor's or follow from it: they may be said as they are.
type ProductPatch struct {
	Category    *string
	Price       *string // a decimal; see ParseAmount
	Currency    *string
	Period      *string
	Free        *bool
	Hidden      *bool
	CPUModel    *string
	MemoryModel *string
	GPUModel    *string
	Description *string
	ByFormula   *bool // true goes back to the price by the formula

	ID, Name         *string
	VCPUs, RAM, GPUs *int
	Retired          *bool
}

// Apply is old with what p names, validated by itself.
func (p ProductPatch) Apply(old Product) (Product, error) {
	set(&old.Category, p.Category)
	set(&old.Currency, p.Currency)
	set((*string)(&old.Period), p.Period)
	set(&old.Free, p.Free)
	set(&old.Hidden, p.Hidden)
	set(&old.CPUModel, p.CPUModel)
	set(&old.MemoryModel, p.MemoryModel)
	set(&old.GPUModel, p.GPUModel)
	set(&old.Description, p.Description)
	switch {
	case p.Price != nil && *p.Price != "":
		price, err := ParseAmount("price", *p.Price)
		if err != nil {
			return Product{}, err
		}
		old.Price = &price
	case p.Price != nil, p.ByFormula != nil && *p.ByFormula:
		old.Price = nil // by the formula
	}
	return old, old.Validate()
}

// Unchanged refuses a change of what is the flavor's own; now is the product as
// it stands.
func (p ProductPatch) Unchanged(now Offer) error {
	for _, f := range []struct {
		field   string
		changes bool
	}{
		{"id", p.ID != nil && *p.ID != now.FlavorID}, {"name", p.Name != nil && *p.Name != now.Name},
		{"vcpus", p.VCPUs != nil && *p.VCPUs != now.VCPUs}, {"ram", p.RAM != nil && *p.RAM != now.RAM},
		{"gpus", p.GPUs != nil && *p.GPUs != now.GPUs}, {"retired", p.Retired != nil && *p.Retired != now.Retired},
	} {
		if f.changes {
			return Invalid("%s: is the flavor's, and may not change here; PUT /v1/promotedflavors/{id} changes the flavor", f.field)
		}
	}
	return nil
}
