package ucloud

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// product is a definition as Core keeps one, in what the generations have in
// common. Two are the same where they are ==.
type product struct {
	flavor.Reference
	accounting
	price       int64 // millionths; V1: for each vCPU
	description string
	hidden      bool // in grant applications
	cpu         int
	memory      int // GiB
	gpu         int
	cpuModel    string
	memoryModel string
	gpuModel    string
	kept        kept
}

// accounting is what Core fixes for a whole category when its first product is
// created.
type accounting struct {
	productType string // COMPUTE
	unit        string // V2: accountingUnit.name; V1: unitOfPrice
	plural      string // V2
	float       bool   // V2
	suffix      bool   // V2
	frequency   string // V2: accountingFrequency; V1: chargeType
	free        bool
}

const compute = "COMPUTE"

// kept is what Core's own people may set, and a push leaves as it is.
type kept struct {
	subAllocations bool   // V2: of the category
	priority       int    // V1
	requestsFrom   string // V1: allowAllocationRequestsFrom
}

// generation is what differs between the two generations of the protocol.
type generation struct {
	browse, create string // paths
	perPage        int
	// account is how u is accounted for; its error says why it cannot be.
	account func(u flavor.Unit) (accounting, error)
	// unit is account's inverse, as far as there is one.
	unit func(accounting) (flavor.Unit, bool)
	// price is what o costs as Core has it; its error says why it cannot be said.
	price  func(o flavor.Offer) (int64, error)
	encode func(product) any
	decode func(jsontext.Value) (product, error)
	fresh  kept // of a new category
	// overlay is found with what this generation does not keep as it was sent.
	overlay func(found, sent product) product
}

var generations = map[Mode]generation{V1: v1, V2: v2}

// unitOf is a unit whose period stands behind prefix in text, in capitals; false
// where it can be no product's here.
func unitOf(currency, text, prefix string, free bool) (flavor.Unit, bool) {
	period, ok := strings.CutPrefix(text, prefix)
	u := flavor.Unit{Currency: currency, Period: flavor.Period(strings.ToLower(period)), Free: free}
	return u, ok && flavor.ValidCurrency(currency) && slices.Contains(flavor.Periods, u.Period)
}

// define is what Core is to have of o, which is accounted for as a; its error
// says why it cannot be.
func (g generation) define(provider string, o flavor.Offer, a accounting) (product, error) {
	if strings.Contains(o.Name, "@") {
		return product{}, fmt.Errorf("the name %q has an @, at which UCloud parts names: promote the flavor under another name", o.Name)
	}
	price, err := g.price(o)
	return product{
		Reference: flavor.Reference{Provider: provider, Category: o.Category, Name: o.Name}, accounting: a, price: price,
		description: oneLine(o.Description), hidden: o.Hidden,
		cpu: o.VCPUs, memory: o.RAM / 1024, gpu: o.GPUs,
		cpuModel: o.CPUModel, memoryModel: o.MemoryModel, gpuModel: o.GPUModel,
	}, err
}

// found reads what Core listed, without the products of other providers.
func (g generation) found(provider string, items []jsontext.Value) ([]product, error) {
	all := make([]product, 0, len(items))
	for _, item := range items {
		p, err := g.decode(item)
		if err != nil || p.Name == "" || p.Category == "" {
			return nil, cmp.Or(err, errNoProduct)
		}
		if p.Provider == provider {
			all = append(all, p)
		}
	}
	return all, nil
}

var errNoProduct = errors.New("a product without a name or a category")

// holds says whether Core, which has found, needs not be told of wanted.
// sent is what it was told last, nil for nothing.
func (g generation) holds(wanted, found product, sent *product) bool {
	if sent != nil {
		found = g.overlay(found, *sent)
	}
	return wanted == found
}

const maxDescription = 1000 // characters

// oneLine is text as UCloud takes a description.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if rs := []rune(text); len(rs) > maxDescription {
		text = string(rs[:maxDescription-1]) + "…"
	}
	return text
}

// decodeAs reads an item of Core's, whatever else is in it.
func decodeAs[T any](item jsontext.Value) (T, error) {
	var t T
	err := json.Unmarshal(item, &t, jsontext.AllowInvalidUTF8(true))
	return t, err
}
