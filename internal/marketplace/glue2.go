package marketplace

import (
	"context"
	"time"

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
	l := m.lookAt(ctx, r, false)
	if l.err != nil {
		return nil, l.err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	site := m.glue2.Site(region)
	var instances []glue2.Instance
	for _, nf := range l.flavors {
		if !p.Owns(region) && !view(cat, region, nf).Public {
			continue
		}
		i := glue2.Instance{NovaFlavor: nf}
		if !nf.IsPublic && len(site.VOs) > 0 {
			i.Projects, err = m.clouds.Service(r).Access(ctx, nf.ID)
			if err != nil && flavor.CodeOf(err) != flavor.CodeNotFound { // gone since: nobody may use it
				return nil, err
			}
		}
		instances = append(instances, i)
	}
	// To the minute: what has not changed is the same document for a while.
	return glue2.Render(site, instances, m.now().Truncate(time.Minute), glue2.Validity, "")
}
