package marketplace

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Match tells of the flavors of the catalogue that fit one requirement.
type Match struct {
	Fits []match.Fit
	// Reason is why none fits, or what is to be done before the first can be used;
	// "" where there is nothing to say.
	Reason string
}

// choice is what can be chosen from in one state of the catalogue.
type choice struct {
	once sync.Once
	all  *match.Catalogue
	// nowhere are those that no region has yet: they are recommended everywhere,
	// and come when the others are told.
	nowhere *match.Catalogue
}

// Match finds the flavors that fit each of the requirements, the best first, at
// most limit for each; 0 is no limit. Nothing is called but the database. An
// unknown region is CodeConflict.
func (m *Market) Match(ctx context.Context, _ flavor.Principal, wanted []match.Requirement, limit int) ([]Match, error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(wanted, func(r match.Requirement) bool { return len(r.Regions) > 0 }) {
		regions, err := m.Regions(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range wanted {
			for _, name := range r.Regions {
				if !slices.Contains(regions, name) {
					return nil, unknownNode(name)
				}
			}
		}
	}
	c := m.choose(cat)
	found := make([]Match, len(wanted))
	for i, r := range wanted {
		found[i] = c.match(r, limit)
	}
	return found, nil
}

func (c *choice) match(r match.Requirement, limit int) Match {
	found := Match{Fits: c.all.Match(r, limit)}
	left := limit - len(found.Fits)
	if len(r.Regions) == 0 && (limit == 0 || left > 0) {
		first := len(found.Fits)
		found.Fits = append(found.Fits, c.nowhere.Match(r, max(left, 0))...)
		for i := first; i < len(found.Fits); i++ {
			e := *found.Fits[i].Entry
			e.Nodes = []string{}
			found.Fits[i].Entry, found.Fits[i].Regions = &e, nil
		}
		if first == 0 && len(found.Fits) > 0 {
			f := found.Fits[0]
			found.Reason = fmt.Sprintf("no region has a flavor that fits; %q is promoted, and can be used where PUT /v1/flavors/%s installs it", f.Name, f.ID)
		}
	}
	if len(found.Fits) == 0 {
		found.Reason = c.all.Why(r)
	}
	return found
}

// choose is the choice of cat, made when it is first asked for.
func (m *Market) choose(cat *store.Catalogue) *choice {
	s := m.shelve(cat)
	s.choice.once.Do(func() {
		offers := make(map[string]*flavor.Offer, len(s.offers))
		for i := range s.offers {
			offers[s.offers[i].FlavorID] = &s.offers[i]
		}
		all := make([]match.Entry, len(cat.Flavors))
		var nowhere []match.Entry
		for i, f := range cat.Flavors {
			e := match.Entry{Flavor: f}
			if o := offers[f.ID]; o != nil {
				e.Price, e.Currency, e.Period = &o.Price, o.Currency, o.Period
			}
			all[i] = e
			if len(f.Nodes) == 0 {
				e.Nodes = []string{""} // a region that none is called
				nowhere = append(nowhere, e)
			}
		}
		s.choice.all, s.choice.nowhere = match.New(all), match.New(nowhere)
	})
	return &s.choice
}
