package ucloud

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// itemV2 is UCloud's ProductV2, without what Core alone fills in. Like Core's
// own encoding it leaves out sizes of 0 and models that are "", and nothing else:
// Core takes an absent allowSubAllocations for false.
type itemV2 struct {
	Type        string     `json:"type"`
	Category    categoryV2 `json:"category"`
	Name        string     `json:"name"`
	Description string     `json:"description"`
	ProductType string     `json:"productType"`
	Price       int64      `json:"price"` // millionths, of one whole product
	Fraction    fraction   `json:"fraction"`
	Hidden      bool       `json:"hiddenInGrantApplications"`
	CPU         int        `json:"cpu,omitzero"`
	Memory      int        `json:"memoryInGigs,omitzero"`
	GPU         int        `json:"gpu,omitzero"`
	CPUModel    string     `json:"cpuModel,omitzero"`
	MemoryModel string     `json:"memoryModel,omitzero"`
	GPUModel    string     `json:"gpuModel,omitzero"`
}

type categoryV2 struct {
	Name           string `json:"name"`
	Provider       string `json:"provider"`
	ProductType    string `json:"productType"`
	Unit           unitV2 `json:"accountingUnit"`
	Frequency      string `json:"accountingFrequency"`
	Free           bool   `json:"freeToUse"`
	SubAllocations bool   `json:"allowSubAllocations"`
}

type unitV2 struct {
	Name   string `json:"name"`
	Plural string `json:"namePlural"`
	Float  bool   `json:"floatingPoint"`
	Suffix bool   `json:"displayFrequencySuffix"`
}

type fraction struct {
	Numerator   int `json:"numerator"`
	Denominator int `json:"denominator"`
}

var v2 = generation{
	browse: "/api/products/v2/browse", create: "/api/products/v2", perPage: 1000,
	account: func(u flavor.Unit) (accounting, error) {
		return accounting{
			productType: compute, unit: u.Currency, plural: u.Currency, float: true,
			frequency: frequencyPrefix + strings.ToUpper(string(u.Period)), free: u.Free,
		}, nil
	},
	unit: func(a accounting) (flavor.Unit, bool) {
		return unitOf(a.unit, a.frequency, frequencyPrefix, a.free)
	},
	price:  func(o flavor.Offer) (int64, error) { return int64(o.Price), nil },
	encode: encodeV2,
	decode: decodeV2,
	fresh:  kept{subAllocations: true},
	// UCloud since 2026 does not store it.
	overlay: func(found, sent product) product {
		found.hidden = sent.hidden
		return found
	},
}

const frequencyPrefix = "PERIODIC_"

func encodeV2(p product) any {
	return itemV2{
		Type: "compute", Name: p.Name, Description: p.description, ProductType: p.productType, Price: p.price,
		Category: categoryV2{
			Name: p.Category, Provider: p.Provider, ProductType: p.productType,
			Unit: unitV2{p.unit, p.plural, p.float, p.suffix}, Frequency: p.frequency,
			Free: p.free, SubAllocations: p.kept.subAllocations,
		},
		// A product is one whole one. Core may store it otherwise written.
		Fraction: fraction{1, 1}, Hidden: p.hidden, CPU: p.cpu, Memory: p.memory, GPU: p.gpu,
		CPUModel: p.cpuModel, MemoryModel: p.memoryModel, GPUModel: p.gpuModel,
	}
}

func decodeV2(item jsontext.Value) (product, error) {
	i, err := decodeAs[itemV2](item)
	c := i.Category
	return product{
		Reference: flavor.Reference{Provider: c.Provider, Category: c.Name, Name: i.Name},
		accounting: accounting{
			productType: c.ProductType, unit: c.Unit.Name, plural: c.Unit.Plural, float: c.Unit.Float, suffix: c.Unit.Suffix,
			frequency: c.Frequency, free: c.Free,
		},
		price: i.Price, description: i.Description, hidden: i.Hidden, cpu: i.CPU, memory: i.Memory, gpu: i.GPU,
		cpuModel: i.CPUModel, memoryModel: i.MemoryModel, gpuModel: i.GPUModel,
		kept: kept{subAllocations: c.SubAllocations},
	}, err
}
