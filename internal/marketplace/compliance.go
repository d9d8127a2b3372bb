package marketplace

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Compliance compares a region, as it was last seen, with the flavors that are
// promoted. What it has besides is extra: flavors of the catalogue that are not
// promoted, or are retired, and to its owner the private ones. The age is that of
// the look.
func (m *Market) Compliance(ctx context.Context, p flavor.Principal, region string) (flavor.Compliance, time.Duration, error) {
	c := flavor.Compliance{Region: region, Flavors: []flavor.Pair{}}
	cat, inv, err := m.known(ctx)
	if err != nil {
		return c, 0, err
	}
	l := inv.Of(region)
	if l == nil {
		return c, 0, flavor.NotFound("no region %q is registered: GET /v1/regions lists them", region)
	}
	seen := m.lastLook(l)
	for _, f := range cat.Flavors {
		if pair, there := m.pair(cat, f, seen, p); there {
			c.Flavors = append(c.Flavors, pair)
		}
	}
	if seen != nil && p.Can(flavor.ReadPrivate, region) {
		for _, nf := range seen.flavors {
			if _, public := cat.ByName(nf.Name); !public {
				c.Flavors = append(c.Flavors, flavor.Pair{FlavorID: nf.ID, Name: nf.Name, Region: region, State: flavor.PairExtra})
			}
		}
	}
	for i := range c.Flavors {
		c.Flavors[i].Region = region
	}
	slices.SortFunc(c.Flavors, func(a, b flavor.Pair) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.FlavorID, b.FlavorID))
	})
	return c, m.ageOf(l), nil
}

// Coverage compares a promoted flavor with all regions, as they were last seen.
// The age is that of the oldest look.
func (m *Market) Coverage(ctx context.Context, p flavor.Principal, id string) (flavor.Coverage, time.Duration, error) {
	cat, inv, err := m.known(ctx)
	if err != nil {
		return flavor.Coverage{}, 0, err
	}
	f, ok := cat.ByID(id)
	if !ok || !f.Promoted {
		return flavor.Coverage{}, 0, notPromoted(id)
	}
	c := flavor.Coverage{FlavorID: f.ID, Name: f.Name, Regions: []flavor.Pair{}}
	var age time.Duration
	for _, l := range inv.Looks {
		pair, there := m.pair(cat, f, m.lastLook(l), p)
		if !there {
			continue
		}
		pair.Region, pair.Refused = l.Region, cat.Refuses(f.ID, l.Region) // also of one that was not seen
		c.Regions = append(c.Regions, pair)
		age = max(age, m.ageOf(l))
	}
	return c, age, nil
}

// known is what is known of the catalogue and of the regions.
func (m *Market) known(ctx context.Context) (*store.Catalogue, *store.Inventory, error) {
	inv, err := m.store.Inventory(ctx)
	if err != nil {
		return nil, nil, err
	}
	cat, err := m.store.Catalogue(ctx)
	return cat, inv, err
}

// lastLook is what was seen lately of a region; nil where it was not seen.
func (m *Market) lastLook(known *flavor.Look) *look {
	if !m.seenLately(known) {
		return nil
	}
	l := &look{region: flavor.Region{Name: known.Region}}
	l.recalled(known.Flavors)
	return l
}

// ageOf is how old the look is that an answer rests on; 0 where it rests on none.
func (m *Market) ageOf(l *flavor.Look) time.Duration {
	if !m.seenLately(l) {
		return 0
	}
	return m.now().Sub(l.SeenAt)
}

// pair is how a flavor of the catalogue stands to a region; false where neither
// wants anything of the other. A flavor that only some projects may use is shown
// to others as differing, and not in what.
func (m *Market) pair(cat *store.Catalogue, f flavor.Flavor, l *look, p flavor.Principal) (flavor.Pair, bool) {
	pair := flavor.Pair{FlavorID: f.ID, Name: f.Name}
	wanted := f.Promoted && !f.Retired
	if l == nil {
		pair.State = flavor.PairUnknown
		return pair, wanted
	}
	region := l.region.Name
	pair.Refused = cat.Refuses(f.ID, region)
	if _, there := l.node(f); there {
		pair.State = flavor.PairPresent
		if !wanted {
			pair.State = flavor.PairExtra
		}
		return pair, true
	}
	if !wanted {
		return pair, false
	}
	other, differs := l.byName(f.Name)
	if !differs {
		other, differs = l.byID(f.ID)
	}
	for _, i := range cat.Installed(f.ID) {
		if !differs && i.Region == region {
			other, differs = l.byID(i.NodeID)
		}
	}
	if !differs {
		pair.State = flavor.PairMissing
		return pair, true
	}
	pair.State = flavor.PairDiffers
	if other.IsPublic || p.Can(flavor.ReadPrivate, region) {
		pair.Differences = f.Differences(other.Spec)
	}
	return pair, true
}
