package httpapi

import (
	"strconv"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Promoted flavors as products.

func listProducts(k *call) error {
	list, err := k.s.cfg.Market.Products(k.ctx)
	if err != nil {
		return err
	}
	return k.answer(encodeProducts(k.format, list))
}

func getProduct(k *call) error {
	id, err := k.flavorID()
	if err != nil {
		return err
	}
	o, err := k.s.cfg.Market.Product(k.ctx, id)
	if err != nil {
		return err
	}
	return k.answer(encodeProduct(k.format, &o))
}

// guardProduct is guard for a promoted flavor as a product. With mayBegin the call
// can make it one, so that it is none yet is no error but a state, without a tag.
func (k *call) guardProduct(id string, mayBegin bool) (release func(), err error) {
	return k.guard("product "+id, func() (string, error) {
		o, err := k.s.cfg.Market.Product(k.ctx, id)
		if mayBegin && flavor.CodeOf(err) == flavor.CodeNotFound {
			_, err := k.s.cfg.Market.PromotedFlavor(k.ctx, id)
			return "", err
		}
		return etag(encodeProduct(k.format, &o)), err
	})
}

func changeProduct(k *call) error {
	id, err := k.flavorID()
	if err != nil {
		return err
	}
	var patch flavor.ProductPatch
	if err := k.decode(productDocument(&patch)); err != nil {
		return err
	}
	release, err := k.guardProduct(id, true)
	if err != nil {
		return err
	}
	defer release()
	o, err := k.s.cfg.Market.ChangeProduct(k.ctx, k.who, id, patch)
	if err != nil {
		return err
	}
	return k.changed(encodeProduct(k.format, &o))
}

func endProduct(k *call) error {
	id, err := k.flavorID()
	if err != nil {
		return err
	}
	release, err := k.guardProduct(id, false)
	if err != nil {
		return err
	}
	defer release()
	return k.deleted(k.s.cfg.Market.EndProduct(k.ctx, k.who, id))
}

// encodeProduct is {"product": {...}}, or <product>.
func encodeProduct(as format, o *flavor.Offer) []byte {
	if as == asJSON {
		return append(appendProductJSON([]byte(`{"product": `), o), '}')
	}
	return appendProductXML([]byte(xmlDeclaration), o)
}

// encodeProducts is {"products": [...]}, or <products>.
func encodeProducts(as format, list []flavor.Offer) []byte {
	return encodeList(as, "products", 384, list, appendProductJSON, appendProductXML)
}

// The keys of a product in their order: id (the flavor's), name, category, price
// (a decimal, as text: no reader makes a float of it), currency, period,
// free_to_use, hidden_in_grant_applications, vcpus, ram (MB), gpus; then, where
// they say something, cpu_model, memory_model, gpu_model, description,
// by_formula, retired. The XML elements are the same, id an attribute.
func appendProductJSON(b []byte, o *flavor.Offer) []byte {
	b = appendString(append(b, `{"id": `...), o.FlavorID)
	b = appendString(append(b, `, "name": `...), o.Name)
	b = appendString(append(b, `, "category": `...), o.Category)
	b = appendString(append(b, `, "price": `...), o.Price.String())
	b = appendString(append(b, `, "currency": `...), o.Currency)
	b = appendString(append(b, `, "period": `...), string(o.Period))
	b = strconv.AppendBool(append(b, `, "free_to_use": `...), o.Free)
	b = strconv.AppendBool(append(b, `, "hidden_in_grant_applications": `...), o.Hidden)
	b = strconv.AppendInt(append(b, `, "vcpus": `...), int64(o.VCPUs), 10)
	b = strconv.AppendInt(append(b, `, "ram": `...), int64(o.RAM), 10)
	b = strconv.AppendInt(append(b, `, "gpus": `...), int64(o.GPUs), 10)
	for _, t := range productTexts(o) {
		if t.value != "" {
			b = appendString(append(append(append(b, `, "`...), t.name...), `": `...), t.value)
		}
	}
	if o.ByFormula {
		b = append(b, `, "by_formula": true`...)
	}
	if o.Retired {
		b = append(b, `, "retired": true`...)
	}
	return append(b, '}')
}

func appendProductXML(b []byte, o *flavor.Offer) []byte {
	b = appendXMLText(append(b, `<product id="`...), o.FlavorID)
	b = appendElement(append(b, `">`...), "name", o.Name)
	b = appendElement(b, "category", o.Category)
	b = appendElement(b, "price", o.Price.String())
	b = appendElement(b, "currency", o.Currency)
	b = appendElement(b, "period", string(o.Period))
	b = appendElement(b, "free_to_use", strconv.FormatBool(o.Free))
	b = appendElement(b, "hidden_in_grant_applications", strconv.FormatBool(o.Hidden))
	b = appendElement(b, "vcpus", strconv.Itoa(o.VCPUs))
	b = appendElement(b, "ram", strconv.Itoa(o.RAM))
	b = appendElement(b, "gpus", strconv.Itoa(o.GPUs))
	for _, t := range productTexts(o) {
		if t.value != "" {
			b = appendElement(b, t.name, t.value)
		}
	}
	if o.ByFormula {
		b = append(b, "<by_formula>true</by_formula>"...)
	}
	if o.Retired {
		b = append(b, "<retired>true</retired>"...)
	}
	return append(b, "</product>"...)
}

type namedText struct{ name, value string }

func productTexts(o *flavor.Offer) [4]namedText {
	return [4]namedText{
		{"cpu_model", o.CPUModel}, {"memory_model", o.MemoryModel}, {"gpu_model", o.GPUModel}, {"description", o.Description},
	}
}
