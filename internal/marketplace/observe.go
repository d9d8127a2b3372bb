package marketplace

import (
	"context"
	"slices"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Observe looks at a region and writes down what it finds, with who may use the
// flavors that are not public. Its error is why the region could not be asked.
func (m *Market) Observe(ctx context.Context, region string) error {
	r, err := m.region(ctx, region)
	if err != nil {
		return err
	}
	l := m.lookAt(ctx, r, whole)
	if l.err != nil {
		return l.err
	}
	if err := m.observeAccess(ctx, l); err != nil {
		m.log.WarnContext(ctx, "who may use the flavors of a region is not known", "region", region, "error", err.Error())
	}
	return nil
}

// askedAgain is in how many looks the access to one flavor is asked once: that
// costs a call for each that is not public.
const askedAgain = 10

// observeAccess asks who may use those flavors of a look of which it is not known,
// and some of the others, and writes down what is news.
func (m *Market) observeAccess(ctx context.Context, l *look) error {
	private := slices.DeleteFunc(slices.Clone(l.flavors), func(nf flavor.NovaFlavor) bool { return nf.IsPublic })
	if len(private) == 0 {
		return nil
	}
	inv, err := m.store.Inventory(ctx)
	if err != nil {
		return err
	}
	known := map[string][]string{}
	if last := inv.Of(l.region.Name); last != nil {
		for _, f := range last.Flavors {
			known[f.ID] = f.Access
		}
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	compute := m.clouds.Service(l.region)
	news := map[string][]string{}
	for _, nf := range private {
		before := known[nf.ID]
		if before != nil && m.random() >= 1./askedAgain {
			continue
		}
		access, err := compute.Access(ctx, nf.ID)
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			continue // gone since
		}
		if err != nil {
			return err
		}
		slices.Sort(access)
		if before == nil || !slices.Equal(before, access) {
			news[nf.ID] = append([]string{}, access...)
		}
	}
	if len(news) == 0 {
		return nil
	}
	return m.store.Write(ctx, func(tx *store.Tx) error { return tx.PutAccess(l.region.Name, news) })
}
