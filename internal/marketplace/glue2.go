package marketplace

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/glue2"
)

// GLUE2 is the region in GLUE 2.1, as JSON, with the flavors that its Nova has
// now and p may see: those of the catalogue, and to its owner the private ones.
// CodeUnreachable where the region does not answer: the document says that it
// does.
func (m *Market) GLUE2(ctx context.Context, p flavor.Principal, region string) ([]byte, error) {
	r, err := m.region(ctx, region)
	if err != nil {
		return nil, err
	}
	l := m.lookAt(ctx, r, brief)
	if l.err != nil {
		return nil, l.err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	site := m.glue2.Site(region)
	instances := make([]glue2.Instance, 0, len(l.flavors))
	for _, nf := range l.flavors {
		if p.Can(flavor.ReadPrivate, region) || view(cat, region, nf).Public {
			instances = append(instances, glue2.Instance{NovaFlavor: nf})
		}
	}
	if len(site.VOs) > 0 {
		if err := m.whoMayUse(ctx, r, instances); err != nil {
			return nil, err
		}
	}
	// To the minute: what has not changed is the same document for a while.
	return glue2.Render(site, instances, m.now().Truncate(time.Minute), glue2.Validity, "")
}

// whoMayUse fills in the projects of those that are not public, side by side as
// far as the region's slots go, within the time of one region.
func (m *Market) whoMayUse(ctx context.Context, r flavor.Region, instances []glue2.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	compute := m.clouds.Service(r)
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(4)
	for i := range instances {
		if instances[i].IsPublic {
			continue
		}
		all.Go(func() (err error) {
			instances[i].Projects, err = compute.Access(ctx, instances[i].ID)
			if flavor.CodeOf(err) == flavor.CodeNotFound {
				return nil // gone since: nobody may use it
			}
			return err
		})
	}
	return all.Wait()
}
