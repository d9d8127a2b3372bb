package httpapi

import (
	"slices"
	"strconv"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// A flavor's accelerators are the last of its members, where it has any: each
// with number, and vendor, model, memory (GB of each) and type where something
// tells them.
func appendAcceleratorsJSON(b []byte, list []flavor.Accelerator) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, `, "accelerators": [`...)
	for i, a := range list {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(append(b, `{"number": `...), int64(a.Number), 10)
		if a.Vendor != "" {
			b = appendString(append(b, `, "vendor": `...), a.Vendor)
		}
		if a.Model != "" {
			b = appendString(append(b, `, "model": `...), a.Model)
		}
		if a.Memory != 0 {
			b = strconv.AppendInt(append(b, `, "memory": `...), int64(a.Memory), 10)
		}
		if a.Type != "" {
			b = appendString(append(b, `, "type": `...), a.Type)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendAcceleratorsXML(b []byte, list []flavor.Accelerator) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, "<accelerators>"...)
	for _, a := range list {
		b = appendElement(append(b, "<accelerator>"...), "number", strconv.Itoa(a.Number))
		if a.Vendor != "" {
			b = appendElement(b, "vendor", a.Vendor)
		}
		if a.Model != "" {
			b = appendElement(b, "model", a.Model)
		}
		if a.Memory != 0 {
			b = appendElement(b, "memory", strconv.Itoa(a.Memory))
		}
		if a.Type != "" {
			b = appendElement(b, "type", a.Type)
		}
		b = append(b, "</accelerator>"...)
	}
	return append(b, "</accelerators>"...)
}

// maxModelQuery is longer than the name of any GPU.
const maxModelQuery = 255

// byGPU keeps what ?gpu and ?gpu_model ask for.
func (k *call) byGPU(list []flavor.Flavor) ([]flavor.Flavor, error) {
	has, err := k.filter("gpu")
	if err != nil {
		return nil, err
	}
	model, _, err := k.queryValue("gpu_model")
	if err != nil || has == nil && model == "" {
		return list, err
	}
	if len(model) > maxModelQuery {
		return nil, flavor.Invalid("gpu_model: must have at most %d bytes in the query", maxModelQuery)
	}
	kept := []flavor.Flavor{}
	for _, f := range list {
		if (has == nil || *has == (f.GPUs() > 0)) &&
			(model == "" || slices.ContainsFunc(f.Accelerators(), func(a flavor.Accelerator) bool { return a.IsGPU() && a.IsModel(model) })) {
			kept = append(kept, f)
		}
	}
	return kept, nil
}
