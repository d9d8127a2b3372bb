package marketplace

import (
	"context"

	"github.com/flavorsync/flavorsync/internal/flavor"
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
	regions, err := m.regions(ctx)
	if err != nil {
		return flavor.FederationStatus{}, err
	}
	var s flavor.FederationStatus
	for _, r := range regions {
		o := overviewOf(r)
		if o.Whole = whole(r.Name); !o.Whole {
			o = o.Outline()
		}
		s.Regions = append(s.Regions, o)
	}
	return s, nil
}

// overviewOf is what the last call to r, on whosever behalf, has told.
func overviewOf(r flavor.Region) flavor.RegionOverview {
	o := flavor.RegionOverview{Name: r.Name, State: r.Status.State, LookedAt: r.Status.CheckedAt, LastError: r.Status.LastError}
	if o.State == "" {
		o.State = flavor.RegionUnknown
	}
	if o.State == flavor.RegionUp {
		o.SeenAt = r.Status.CheckedAt
	}
	return o
}
