package httpapi

import "strconv"

// encodeMatch is {"flavors": [...]} with reason and ignored where they say
// something, or <match> with the same.
func encodeMatch(as format, n *matchedNode) []byte {
	if as == asJSON {
		return append(appendMatchJSON([]byte{'{'}, n), '}')
	}
	return append(appendMatchXML([]byte(xmlDeclaration+"<match>"), n), "</match>"...)
}

// encodeMatchedNodes is {"nodes": [...]}, or <match> with a <node> for each: name
// and type, then what encodeMatch has.
func encodeMatchedNodes(as format, nodes []matchedNode) []byte {
	if as == asJSON {
		b := []byte(`{"nodes": [`)
		for i := range nodes {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendString(append(b, `{"name": `...), nodes[i].Name)
			b = appendString(append(b, `, "type": `...), nodes[i].Type)
			b = append(appendMatchJSON(append(b, ", "...), &nodes[i]), '}')
		}
		return append(b, "]}"...)
	}
	b := []byte(xmlDeclaration + "<match>")
	for i := range nodes {
		b = appendXMLText(append(b, `<node name="`...), nodes[i].Name)
		b = appendElement(append(b, `">`...), "type", nodes[i].Type)
		b = append(appendMatchXML(b, &nodes[i]), "</node>"...)
	}
	return append(b, "</match>"...)
}

// Behind the keys of a flavor a fit has regions (those wanted that have it), waste
// {vcpus, ram (MB), disk (GB), gpus, total (in vCPUs, as text)} and, where it is a
// product, price, currency and period.
func appendMatchJSON(b []byte, n *matchedNode) []byte {
	b = append(b, `"flavors": [`...)
	for i, f := range n.Fits {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendFlavorJSON(b, &f.Flavor)
		b = appendStrings(append(b[:len(b)-1], `, "regions": `...), f.Regions)
		b = strconv.AppendInt(append(b, `, "waste": {"vcpus": `...), int64(f.Waste.VCPUs), 10)
		b = strconv.AppendInt(append(b, `, "ram": `...), int64(f.Waste.RAMMB), 10)
		b = strconv.AppendInt(append(b, `, "disk": `...), int64(f.Waste.DiskGB), 10)
		b = strconv.AppendInt(append(b, `, "gpus": `...), int64(f.Waste.GPUs), 10)
		b = append(appendString(append(b, `, "total": `...), f.Waste.Total.String()), '}')
		if f.Price != nil {
			b = appendString(append(b, `, "price": `...), f.Price.String())
			b = appendString(append(b, `, "currency": `...), f.Currency)
			b = appendString(append(b, `, "period": `...), string(f.Period))
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	if n.Reason != "" {
		b = appendString(append(b, `, "reason": `...), n.Reason)
	}
	if len(n.Ignored) > 0 {
		b = appendStrings(append(b, `, "ignored": `...), n.Ignored)
	}
	return b
}

func appendMatchXML(b []byte, n *matchedNode) []byte {
	b = append(b, "<flavors>"...)
	for _, f := range n.Fits {
		b = appendFlavorXML(b, &f.Flavor)
		b = append(b[:len(b)-len("</flavor>")], "<regions>"...)
		for _, region := range f.Regions {
			b = appendElement(b, "region", region)
		}
		b = appendElement(append(b, "</regions><waste>"...), "vcpus", strconv.Itoa(f.Waste.VCPUs))
		b = appendElement(b, "ram", strconv.Itoa(f.Waste.RAMMB))
		b = appendElement(b, "disk", strconv.Itoa(f.Waste.DiskGB))
		b = appendElement(b, "gpus", strconv.Itoa(f.Waste.GPUs))
		b = append(appendElement(b, "total", f.Waste.Total.String()), "</waste>"...)
		if f.Price != nil {
			b = appendElement(b, "price", f.Price.String())
			b = appendElement(b, "currency", f.Currency)
			b = appendElement(b, "period", string(f.Period))
		}
		b = append(b, "</flavor>"...)
	}
	b = append(b, "</flavors>"...)
	if n.Reason != "" {
		b = appendElement(b, "reason", n.Reason)
	}
	for _, name := range n.Ignored {
		b = appendElement(b, "ignored", name)
	}
	return b
}
