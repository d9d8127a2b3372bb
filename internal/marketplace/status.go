package marketplace

import (
	"context"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Status is how the federation is, as far as p may know: of every region its name,
// whether it is up and when it last answered, and of p's own everything. No cloud is
// asked.
func (m *Market) Status(ctx context.Context, p flavor.Principal) (flavor.FederationStatus, error) {
	if err := p.May(flavor.ReadStatus); err != nil {
		return flavor.FederationStatus{}, err
	}
	return m.status(ctx, func(region string) bool { return p.Can(flavor.ReadInfrastructure, region) })
}

// Overview is the whole Status, for whom no rights need be asked: the metrics.
func (m *Market) Overview(ctx context.Context) (flavor.FederationStatus, error) {
	return m.status(ctx, func(string) bool { return true })
}

// status tells in full what is of the regions that whole allows.
func (m *Market) status(ctx context.Context, whole func(region string) bool) (flavor.FederationStatus, error) {
	var regions []flavor.Region
	var all, mine store.Tally
	err := m.store.Read(ctx, func(tx *store.Tx) (err error) {
		if regions, err = tx.Regions(); err != nil {
			return err
		}
		if all, err = tx.Tally(nil); err != nil {
			return err
		}
		mine = all
		told := []string{}
		for _, r := range regions {
			if whole(r.Name) {
				told = append(told, r.Name)
			}
		}
		if len(told) < len(regions) {
			mine, err = tx.Tally(told)
		}
		return err
	})
	if err != nil {
		return flavor.FederationStatus{}, err
	}
	s := flavor.FederationStatus{Operations: mine.Operations, Failed: mine.Failed}
	for _, r := range regions {
		o := overviewOf(r, all)
		if o.Whole = whole(r.Name); !o.Whole {
			o = o.Outline()
		}
		s.Regions = append(s.Regions, o)
	}
	for _, n := range mine.Nodes {
		s.Nodes = s.Nodes.Plus(n)
	}
	return s, nil
}

// overviewOf is what the last call to r, on whosever behalf, has told, and what is
// counted of it.
func overviewOf(r flavor.Region, t store.Tally) flavor.RegionOverview {
	look, nodes := t.Looks[r.Name], t.Nodes[r.Name]
	o := flavor.RegionOverview{
		Name: r.Name, State: r.Status.State, SeenAt: look.SeenAt, LookedAt: look.LookedAt, NextLook: look.Due, Took: look.Duration,
		LastError: r.Status.LastError, Pending: nodes.Waiting + nodes.Running, Failed: nodes.Failed, Drift: t.Drift[r.Name],
	}
	if o.State == "" {
		o.State = flavor.RegionUnknown
	}
	// Others than the looks ask a region too, and may have done so since.
	if r.Status.CheckedAt.After(o.LookedAt) {
		o.LookedAt = r.Status.CheckedAt
	}
	if o.State == flavor.RegionUp && r.Status.CheckedAt.After(o.SeenAt) {
		o.SeenAt = r.Status.CheckedAt
	}
	return o
}
