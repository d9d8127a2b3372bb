package coretest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ProductV2 is a definition as a Current Core keeps and lists it.
type ProductV2 struct {
	Type             string     `json:"type"`
	Category         CategoryV2 `json:"category"`
	Name             string     `json:"name"`
	Description      string     `json:"description"`
	ProductType      string     `json:"productType"`
	Price            int64      `json:"price"`
	Fraction         Fraction   `json:"fraction"`
	Hidden           bool       `json:"hiddenInGrantApplications"` // taken, and forgotten
	Usage            *int64     `json:"usage"`
	CPU              int        `json:"cpu,omitempty"`
	MemoryInGigs     int        `json:"memoryInGigs,omitempty"`
	GPU              int        `json:"gpu,omitempty"`
	CPUModel         string     `json:"cpuModel,omitempty"`
	MemoryModel      string     `json:"memoryModel,omitempty"`
	GPUModel         string     `json:"gpuModel,omitempty"`
	Balance          int64      `json:"balance"`
	MaxUsableBalance int64      `json:"maxUsableBalance"`
	PricePerUnit     int64      `json:"pricePerUnit"` // always 0
}

// CategoryV2 is a category of V2.
type CategoryV2 struct {
	Name                string         `json:"name"`
	Provider            string         `json:"provider"`
	ProductType         string         `json:"productType"`
	AccountingUnit      AccountingUnit `json:"accountingUnit"`
	AccountingFrequency string         `json:"accountingFrequency"`
	FreeToUse           bool           `json:"freeToUse,omitempty"`
	AllowSubAllocations bool           `json:"allowSubAllocations,omitempty"`
}

// AccountingUnit is what a category is counted in.
type AccountingUnit struct {
	Name                   string `json:"name"`
	NamePlural             string `json:"namePlural"`
	FloatingPoint          bool   `json:"floatingPoint"`
	DisplayFrequencySuffix bool   `json:"displayFrequencySuffix"`
}

// Fraction is how much of a machine a product is.
type Fraction struct {
	Numerator   int `json:"numerator"`
	Denominator int `json:"denominator"`
}

// ProductV1 is a definition as a Classic Core keeps and lists it. It has no
// models, and drops those it is sent.
type ProductV1 struct {
	Type         string     `json:"type"`
	Balance      *int64     `json:"balance"`
	Name         string     `json:"name"`
	PricePerUnit int64      `json:"pricePerUnit"`
	Category     CategoryV1 `json:"category"`
	Description  string     `json:"description"`
	Priority     int        `json:"priority"`
	CPU          *int       `json:"cpu"`
	MemoryInGigs *int       `json:"memoryInGigs"`
	GPU          *int       `json:"gpu"`
	Version      int        `json:"version"`
	FreeToUse    bool       `json:"freeToUse"`
	UnitOfPrice  string     `json:"unitOfPrice"`
	ChargeType   string     `json:"chargeType"`
	Hidden       bool       `json:"hiddenInGrantApplications"`
	ProductType  string     `json:"productType"`
}

// CategoryV1 is a category of V1.
type CategoryV1 struct {
	Name     string `json:"name"`
	Provider string `json:"provider"`
}

func (p ProductV2) reference() Reference {
	return Reference{p.Name, p.Category.Name, p.Category.Provider}
}

func (p ProductV1) reference() Reference {
	return Reference{p.Name, p.Category.Name, p.Category.Provider}
}

// compare orders products as a browse does.
func compare(a, b Reference) int {
	return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Category, b.Category), cmp.Compare(a.ID, b.ID))
}

// ProductsV2 are all definitions of a Current Core, in the order of a browse.
func (c *Core) ProductsV2() []ProductV2 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.v2), func(a, b ProductV2) int { return compare(a.reference(), b.reference()) })
}

// ProductsV1 are the last versions of all definitions of a Classic Core, in the
// order of a browse.
func (c *Core) ProductsV1() []ProductV1 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []ProductV1
	for _, versions := range c.v1 {
		all = append(all, versions[len(versions)-1])
	}
	slices.SortFunc(all, func(a, b ProductV1) int { return compare(a.reference(), b.reference()) })
	return all
}

// RegisterV2 puts definitions in as the Core's own people would, unchecked.
func (c *Core) RegisterV2(products ...ProductV2) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range products {
		c.v2[p.reference()] = p
	}
}

// RegisterV1 is RegisterV2 for a Classic Core.
func (c *Core) RegisterV1(products ...ProductV1) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range products {
		p.Version = len(c.v1[p.reference()]) + 1
		c.v1[p.reference()] = append(c.v1[p.reference()], p)
	}
}

// page is how a Core lists.
type page[T any] struct {
	Items        []T     `json:"items"`
	ItemsPerPage int     `json:"itemsPerPage"`
	Next         *string `json:"next"`
}

func (c *Core) browseV2(query url.Values) any {
	n, err := strconv.Atoi(query.Get("itemsPerPage"))
	if err != nil || n <= 0 {
		n = 50
	}
	all := slices.DeleteFunc(c.ProductsV2(), func(p ProductV2) bool {
		return differs(query, "filterProductType", p.ProductType) || unwanted(query, p.reference())
	})
	return pageOf(all, ProductV2.reference, min(n, c.opts.MaxPage), query.Get("next"))
}

func (c *Core) browseV1(query url.Values) any {
	n, err := strconv.Atoi(query.Get("itemsPerPage"))
	if err != nil || !slices.Contains([]int{10, 25, 50, 100, 250}, n) {
		n = 50
	}
	all := slices.DeleteFunc(c.ProductsV1(), func(p ProductV1) bool {
		return differs(query, "filterArea", p.ProductType) || unwanted(query, p.reference())
	})
	return pageOf(all, ProductV1.reference, min(n, c.opts.MaxPage), query.Get("next"))
}

func unwanted(query url.Values, r Reference) bool {
	return differs(query, "filterProvider", r.Provider) || differs(query, "filterCategory", r.Category) || differs(query, "filterName", r.ID)
}

func differs(query url.Values, filter, value string) bool {
	return query.Has(filter) && query.Get(filter) != value
}

// pageOf is the page behind the cursor, which is the last product of the page
// before: provider@category@name. next is there whenever the page is full, so
// the last page can be empty.
func pageOf[T any](all []T, reference func(T) Reference, n int, cursor string) page[T] {
	if parts := strings.SplitN(cursor, "@", 3); len(parts) == 3 {
		last := Reference{Provider: parts[0], Category: parts[1], ID: parts[2]}
		all = slices.DeleteFunc(all, func(item T) bool { return compare(reference(item), last) <= 0 })
	}
	p := page[T]{Items: all, ItemsPerPage: n}
	if len(all) >= n {
		p.Items = all[:n]
		last := reference(all[n-1])
		next := last.Provider + "@" + last.Category + "@" + last.ID
		p.Next = &next
	}
	return p
}

// create checks who asks and what is in the body, and stores all of it or nothing.
func (c *Core) create(r *http.Request, body []byte, store func([]map[string]json.RawMessage) error) error {
	if err := c.authenticate(r); err != nil {
		return err
	}
	var bulk struct {
		Items []map[string]json.RawMessage `json:"items"`
	}
	if json.Unmarshal(body, &bulk) != nil {
		return fail(http.StatusBadRequest, "Bad request: not a list of items")
	}
	if len(bulk.Items) == 0 {
		return fail(http.StatusBadRequest, "No items were given")
	}
	if len(bulk.Items) > 1000 {
		return fail(http.StatusBadRequest, "Too many items: %d", len(bulk.Items))
	}
	return store(bulk.Items)
}

func (c *Core) createV2(items []map[string]json.RawMessage) error {
	products, err := parse(c.opts.Provider, items, checkV2, ProductV2.reference)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range products {
		p.Hidden, p.Usage, p.Balance, p.MaxUsableBalance, p.PricePerUnit = false, nil, 0, 0, 0
		if p.Fraction.Numerator <= 0 || p.Fraction.Denominator <= 0 {
			p.Fraction = Fraction{1, 1}
		}
		p.Category = c.settleCategory(p.Category)
		c.v2[p.reference()] = p
	}
	return nil
}

// settleCategory is a category as it is once that was said of it: what was said
// first stays, without a word, but for the product type and allowSubAllocations.
func (c *Core) settleCategory(said CategoryV2) CategoryV2 {
	settled := said
	for r, p := range c.v2 {
		if r.Provider == said.Provider && r.Category == said.Name {
			settled = p.Category
			settled.ProductType, settled.AllowSubAllocations = said.ProductType, said.AllowSubAllocations
			p.Category = settled
			c.v2[r] = p
		}
	}
	return settled
}

func (c *Core) createV1(items []map[string]json.RawMessage) error {
	products, err := parse(c.opts.Provider, items, checkV1, ProductV1.reference)
	if err != nil {
		return err
	}
	for _, p := range products {
		p.UnitOfPrice, p.ChargeType = cmp.Or(p.UnitOfPrice, "CREDITS_PER_MINUTE"), cmp.Or(p.ChargeType, "ABSOLUTE")
		for _, other := range c.ProductsV1() {
			if other.Category == p.Category { // how it is paid was said first, and stays
				p.UnitOfPrice, p.ChargeType, p.FreeToUse = other.UnitOfPrice, other.ChargeType, other.FreeToUse
			}
		}
		p.ProductType, p.Balance = "COMPUTE", nil
		c.RegisterV1(p)
	}
	return nil
}

// parse reads and checks items: what is malformed is 400, what is another
// provider's 403.
func parse[T any](provider string, items []map[string]json.RawMessage, check func(map[string]json.RawMessage) error, reference func(T) Reference) ([]T, error) {
	products := make([]T, len(items))
	seen := map[Reference]bool{}
	for i, item := range items {
		if err := check(item); err != nil {
			return nil, fail(http.StatusBadRequest, "items[%d].%s", i, err.Error())
		}
		text, err := json.Marshal(item)
		if err == nil {
			err = json.Unmarshal(text, &products[i])
		}
		if err != nil {
			return nil, fail(http.StatusBadRequest, "Bad request: %s", err.Error())
		}
		r := reference(products[i])
		if r.Provider != provider {
			return nil, fail(http.StatusForbidden, "Forbidden")
		}
		if seen[r] {
			return nil, fail(http.StatusBadRequest, "ON CONFLICT DO UPDATE command cannot affect row a second time")
		}
		seen[r] = true
	}
	return products, nil
}
