package ucloud

import (
	"cmp"
	"context"
	"slices"
	"unsafe"

	"github.com/go-json-experiment/json"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// support is one product of the answer to Core's retrieveProducts. UCloud 2022
// calls it ComputeSupport, its successors JobSupport; either ignores what only
// the other knows, so one answer serves both.
type support struct {
	Product        reference `json:"product"`
	Docker         features  `json:"docker"`
	VirtualMachine machine   `json:"virtualMachine"`
}

type reference struct {
	ID       string `json:"id"` // the product's name
	Category string `json:"category"`
	Provider string `json:"provider"`
}

// features are those of containers: there are none here.
type features struct {
	Enabled       bool `json:"enabled"`
	Web           bool `json:"web"`
	VNC           bool `json:"vnc"`
	Logs          bool `json:"logs"`
	Terminal      bool `json:"terminal"`
	Peers         bool `json:"peers"`
	TimeExtension bool `json:"timeExtension"`
	Utilization   bool `json:"utilization"`
}

// machine are the features of virtual machines, which is what a flavor is for.
type machine struct {
	Enabled       bool `json:"enabled"`
	Logs          bool `json:"logs"`
	VNC           bool `json:"vnc"`
	Terminal      bool `json:"terminal"`
	TimeExtension bool `json:"timeExtension"`
	Suspension    bool `json:"suspension"`
	Utilization   bool `json:"utilization"`
}

// listing is the last answer, and the products that it was made of.
type listing struct {
	of   []flavor.Offer
	body []byte
}

// RetrieveProducts is the answer to GET .../jobs/retrieveProducts. Where
// products are pushed it names those that Core was told of, as it was told
// last, so that it never names what Core does not know. The body is shared:
// change nothing of it.
func (p *Provider) RetrieveProducts(ctx context.Context) ([]byte, error) {
	if p == nil {
		return nil, flavor.NotFound("no UCloud provider is configured here")
	}
	offers, err := p.cfg.Products.Products(ctx)
	if err != nil {
		// Never an empty list: Core would take it at its word.
		return nil, err
	}
	if last := p.listed.Load(); last != nil && same(last.of, offers) {
		return last.body, nil
	}
	listed := p.supports(offers)
	if len(listed) == 0 && slices.ContainsFunc(offers, func(o flavor.Offer) bool { return !o.Retired }) {
		// Core may know them from a provider before us, or a database before this one.
		return nil, flavor.Errorf(flavor.CodeUnreachable, "no product could be pushed to UCloud yet: GET /v1/products/push tells why")
	}
	body, err := json.Marshal(struct {
		Responses []support `json:"responses"`
	}{listed})
	if err != nil {
		return nil, err
	}
	p.listed.Store(&listing{offers, body})
	return body, nil
}

// Manifest is the answer to GET .../integration/retrieveManifest: users need
// not be connected to accounts here.
func (*Provider) Manifest() []byte { return []byte(`{"enabled":false,"expireAfterMs":null}`) }

func (p *Provider) supports(offers []flavor.Offer) []support {
	refs := make([]flavor.Reference, 0, len(offers))
	for _, o := range offers {
		if ref, listed := p.reference(o); listed {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, func(a, b flavor.Reference) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Category, b.Category))
	})
	// Of two flavors that swapped their names, one can still be known by the
	// other's.
	refs = slices.Compact(refs)
	all := make([]support, len(refs))
	for i, ref := range refs {
		all[i] = support{Product: reference{ref.Name, ref.Category, ref.Provider}, VirtualMachine: machine{Enabled: true}}
	}
	return all
}

// reference is how o is listed, if it is.
func (p *Provider) reference(o flavor.Offer) (ref flavor.Reference, listed bool) {
	if p.pushes() {
		return o.Pushed, !o.Retired && o.Pushed.Provider == p.cfg.ProviderID
	}
	return p.wanted(o), !o.Retired
}

// wanted is how o is to be known.
func (p *Provider) wanted(o flavor.Offer) flavor.Reference {
	return flavor.Reference{Provider: p.cfg.ProviderID, Category: o.Category, Name: o.Name}
}

// same says whether a and b are one slice. Its place in memory is not used again
// while one of them is kept.
func same(a, b []flavor.Offer) bool {
	return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b) //nolint:gosec // compared, never followed
}
