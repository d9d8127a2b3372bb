package httpapi

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Compliance is what the routes call that compare regions with promoted flavors.
type Compliance interface {
	Compliance(ctx context.Context, p flavor.Principal, region string) (c flavor.Compliance, age time.Duration, err error)
	Coverage(ctx context.Context, p flavor.Principal, id string) (c flavor.Coverage, age time.Duration, err error)
}

// aged tells how old the looks are that an answer rests on (RFC 9111).
func (k *call) aged(age time.Duration) {
	k.Response().Header().Set("Age", strconv.FormatInt(int64(max(age, 0)/time.Second), 10)) // another process's clock may be ahead
}

// seen tells what the nodes of flavors rest on.
func (k *call) seen(unreachable []string, age time.Duration) {
	k.aged(age)
	if len(unreachable) > 0 {
		k.Response().Header().Set(unreachableHeader, strings.Join(unreachable, ", "))
	}
}

func getCompliance(k *call) error {
	region, err := k.region("region")
	if err != nil {
		return err
	}
	c, age, err := k.s.cfg.Market.Compliance(k.ctx, k.who, region)
	if err != nil {
		return err
	}
	k.aged(age)
	return k.answer(encodeCompliance(k.format, &c))
}

func getCoverage(k *call) error {
	id, err := k.flavorID()
	if err != nil {
		return err
	}
	c, age, err := k.s.cfg.Market.Coverage(k.ctx, k.who, id)
	if err != nil {
		return err
	}
	k.aged(age)
	return k.answer(encodeCoverage(k.format, &c))
}

// encodeCompliance is {"compliance": {"region", "flavors": [{"id", "name", "state",
// "differences": [{"field", "wanted", "found"}], "refused"}]}}; refused only where
// it is true. In XML <compliance region=".."><flavor id=".."><name/><state/>, then
// <difference> with field, wanted, found for each, and <refused>.
func encodeCompliance(as format, c *flavor.Compliance) []byte {
	if as == asJSON {
		b := appendString([]byte(`{"compliance": {"region": `), c.Region)
		b = append(b, `, "flavors": [`...)
		for i := range c.Flavors {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendString(append(b, `{"id": `...), c.Flavors[i].FlavorID)
			b = appendString(append(b, `, "name": `...), c.Flavors[i].Name)
			b = appendPairJSON(b, &c.Flavors[i])
		}
		return append(b, "]}}"...)
	}
	b := append(appendXMLText([]byte(xmlDeclaration+`<compliance region="`), c.Region), `">`...)
	for i := range c.Flavors {
		b = append(appendXMLText(append(b, `<flavor id="`...), c.Flavors[i].FlavorID), `">`...)
		b = appendElement(b, "name", c.Flavors[i].Name)
		b = append(appendPairXML(b, &c.Flavors[i]), "</flavor>"...)
	}
	return append(b, "</compliance>"...)
}

// encodeCoverage is {"coverage": {"id", "name", "regions": [{"region", "state",
// "differences", "refused"}]}}, as encodeCompliance turned round.
func encodeCoverage(as format, c *flavor.Coverage) []byte {
	if as == asJSON {
		b := appendString([]byte(`{"coverage": {"id": `), c.FlavorID)
		b = append(appendString(append(b, `, "name": `...), c.Name), `, "regions": [`...)
		for i := range c.Regions {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendString(append(b, `{"region": `...), c.Regions[i].Region)
			b = appendPairJSON(b, &c.Regions[i])
		}
		return append(b, "]}}"...)
	}
	b := append(appendXMLText([]byte(xmlDeclaration+`<coverage id="`), c.FlavorID), `">`...)
	b = appendElement(b, "name", c.Name)
	for i := range c.Regions {
		b = append(appendXMLText(append(b, `<region name="`...), c.Regions[i].Region), `">`...)
		b = append(appendPairXML(b, &c.Regions[i]), "</region>"...)
	}
	return append(b, "</coverage>"...)
}

func appendPairJSON(b []byte, p *flavor.Pair) []byte {
	b = appendString(append(b, `, "state": `...), string(p.State))
	b = append(b, `, "differences": [`...)
	for i, d := range p.Differences {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(append(b, `{"field": `...), d.Field)
		b = appendString(append(b, `, "wanted": `...), d.Wanted)
		b = append(appendString(append(b, `, "found": `...), d.Found), '}')
	}
	b = append(b, ']')
	if p.Refused {
		b = append(b, `, "refused": true`...)
	}
	return append(b, '}')
}

func appendPairXML(b []byte, p *flavor.Pair) []byte {
	b = appendElement(b, "state", string(p.State))
	for _, d := range p.Differences {
		b = appendElement(append(b, "<difference>"...), "field", d.Field)
		b = appendElement(b, "wanted", d.Wanted)
		b = append(appendElement(b, "found", d.Found), "</difference>"...)
	}
	if p.Refused {
		b = append(b, "<refused>true</refused>"...)
	}
	return b
}
