package ucloud

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// itemV1 is UCloud's Product.Compute, without what Core alone fills in.
type itemV1 struct {
	Type         string     `json:"type"`
	Name         string     `json:"name"`
	Price        int64      `json:"pricePerUnit"` // millionths, for each vCPU
	Category     categoryV1 `json:"category"`
	Description  string     `json:"description"`
	Priority     int        `json:"priority"`
	CPU          int        `json:"cpu"`
	Memory       int        `json:"memoryInGigs"`
	GPU          int        `json:"gpu"`
	CPUModel     string     `json:"cpuModel,omitzero"` // UCloud 2022 has no models
	MemoryModel  string     `json:"memoryModel,omitzero"`
	GPUModel     string     `json:"gpuModel,omitzero"`
	Free         bool       `json:"freeToUse"`
	RequestsFrom string     `json:"allowAllocationRequestsFrom,omitzero"`
	Unit         string     `json:"unitOfPrice"`
	ChargeType   string     `json:"chargeType"`
	Hidden       bool       `json:"hiddenInGrantApplications"`
}

type categoryV1 struct {
	Name     string `json:"name"`
	Provider string `json:"provider"`
}

var v1 = generation{
	browse: "/api/products/browse", create: "/api/products", perPage: 250,
	account: func(u flavor.Unit) (accounting, error) {
		if u.Currency != currencyV1 {
			return accounting{}, fmt.Errorf("their currency is %s, and V1 of UCloud knows %s only: set that, or push with v2 (ucloud.push)", u.Currency, currencyV1)
		}
		return accounting{
			productType: compute, unit: unitPrefix + strings.ToUpper(string(u.Period)), frequency: "ABSOLUTE", free: u.Free,
		}, nil
	},
	unit: func(a accounting) (flavor.Unit, bool) {
		return unitOf(currencyV1, a.unit, unitPrefix, a.free)
	},
	price:  priceV1,
	encode: encodeV1,
	decode: decodeV1,
	overlay: func(found, sent product) product {
		found.cpuModel, found.memoryModel, found.gpuModel = sent.cpuModel, sent.memoryModel, sent.gpuModel
		return found
	},
}

const (
	currencyV1 = "DKK"
	unitPrefix = "CREDITS_PER_"
)

// priceV1 is the price for each vCPU, which must be whole.
func priceV1(o flavor.Offer) (int64, error) {
	price, cpus := int64(o.Price), int64(o.VCPUs)
	if cpus < 1 {
		return 0, fmt.Errorf("%s has no vCPU, and V1 of UCloud wants a price for each: push with v2 (ucloud.push)", o.Name)
	}
	if price%cpus == 0 {
		return price / cpus, nil
	}
	below := flavor.Amount(price / cpus * cpus)
	return 0, fmt.Errorf("V1 of UCloud wants a price for each vCPU, and the price %s of %s is no whole number of millionths for each of its %d: "+
		"set one that is, such as %s or %s, or push with v2 (ucloud.push)", o.Price, o.Name, cpus, below, below+flavor.Amount(cpus))
}

func encodeV1(p product) any {
	return itemV1{
		Type: "compute", Name: p.Name, Price: p.price, Category: categoryV1{p.Category, p.Provider}, Description: p.description,
		Priority: p.kept.priority, CPU: p.cpu, Memory: p.memory, GPU: p.gpu,
		CPUModel: p.cpuModel, MemoryModel: p.memoryModel, GPUModel: p.gpuModel,
		Free: p.free, RequestsFrom: p.kept.requestsFrom, Unit: p.unit, ChargeType: p.frequency, Hidden: p.hidden,
	}
}

func decodeV1(item jsontext.Value) (product, error) {
	i, err := decodeAs[itemV1](item)
	return product{
		Reference: flavor.Reference{Provider: i.Category.Provider, Category: i.Category.Name, Name: i.Name},
		accounting: accounting{
			productType: strings.ToUpper(i.Type), unit: cmp.Or(i.Unit, unitPrefix+"MINUTE"), frequency: cmp.Or(i.ChargeType, "ABSOLUTE"), free: i.Free,
		},
		price: i.Price, description: i.Description, hidden: i.Hidden, cpu: i.CPU, memory: i.Memory, gpu: i.GPU,
		cpuModel: i.CPUModel, memoryModel: i.MemoryModel, gpuModel: i.GPUModel,
		kept: kept{priority: i.Priority, requestsFrom: i.RequestsFrom},
	}, err
}
