package marketplace

import (
	"context"
	"slices"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// The Private group: what Nova of one region says now to the caller's own
// Keystone token. Nova decides who may, but for a node of a public flavor.

// delegated opens a region with the caller's Keystone token, which must be their
// own where it is known who they are there.
func (m *Market) delegated(ctx context.Context, p flavor.Principal, region string, token flavor.Secret) (flavor.Region, *openstack.Compute, error) {
	r, err := m.region(ctx, region)
	if err != nil {
		return r, nil, err
	}
	compute, err := m.clouds.Delegated(ctx, r, token, p.KeystoneUser)
	return r, compute, err
}

// RegionFlavors lists all flavors of the region, in order.
func (m *Market) RegionFlavors(ctx context.Context, p flavor.Principal, region string, token flavor.Secret) ([]flavor.Flavor, error) {
	// Validating the token and reading share one time limit.
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	_, compute, err := m.delegated(ctx, p, region, token)
	if err != nil {
		return nil, err
	}
	all, err := compute.List(ctx)
	if err != nil {
		return nil, err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]flavor.Flavor, len(all))
	for i, nf := range all {
		list[i] = view(cat, region, nf)
	}
	slices.SortFunc(list, flavor.Compare)
	return list, nil
}

// RegionFlavor is one flavor of the region, by Nova's own id.
func (m *Market) RegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, id string) (flavor.Flavor, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	_, compute, err := m.delegated(ctx, p, region, token)
	if err != nil {
		return flavor.Flavor{}, err
	}
	nf, err := compute.Get(ctx, id)
	if err != nil {
		return flavor.Flavor{}, err
	}
	return m.viewed(ctx, region, nf)
}

func (m *Market) viewed(ctx context.Context, region string, nf flavor.NovaFlavor) (flavor.Flavor, error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return flavor.Flavor{}, err
	}
	return view(cat, region, nf), nil
}

// CreateRegionFlavor creates a flavor in the region's Nova.
func (m *Market) CreateRegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, patch flavor.Patch) (flavor.Flavor, error) {
	_, compute, err := m.delegated(ctx, p, region, token)
	if err != nil {
		return flavor.Flavor{}, err
	}
	spec, err := patch.Spec()
	if err != nil {
		return flavor.Flavor{}, err
	}
	var id string
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		id, err = m.freeID(tx, patch.ID)
		return err
	})
	if err != nil {
		return flavor.Flavor{}, err
	}
	nf, err := m.createNew(ctx, compute, region, id, spec)
	if err != nil {
		return flavor.Flavor{}, err
	}
	return m.viewed(ctx, region, nf)
}

// ChangeRegionFlavor changes any of a flavor's fields. Description and extra
// specs change in place; anything else is the careful change of change.go.
func (m *Market) ChangeRegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, id string, patch flavor.Patch) (flavor.Flavor, error) {
	r, compute, err := m.delegated(ctx, p, region, token)
	if err != nil {
		return flavor.Flavor{}, err
	}
	nf, err := compute.Get(ctx, id)
	if err != nil {
		return flavor.Flavor{}, err
	}
	shown, err := m.viewed(ctx, region, nf)
	if err != nil {
		return flavor.Flavor{}, err
	}
	if err := unchangeableInRegion(shown, patch); err != nil {
		return flavor.Flavor{}, err
	}
	spec := patch.Apply(nf.Spec)
	if err := spec.Validate(); err != nil {
		return flavor.Flavor{}, err
	}
	switch {
	case spec.Equal(nf.Spec):
		return shown, nil
	case samePlace(nf.Spec, spec):
		if err := m.changeInPlace(ctx, compute, region, nf, spec); err != nil {
			return flavor.Flavor{}, err
		}
	case shown.Public:
		return flavor.Flavor{}, publicNode(nf.Name, region)
	default:
		if err := m.replace(ctx, r, compute, nf, spec); err != nil {
			return flavor.Flavor{}, err
		}
	}
	if nf, err = compute.Get(context.WithoutCancel(ctx), id); err != nil {
		return flavor.Flavor{}, err
	}
	return m.viewed(ctx, region, nf)
}

// changeInPlace is inPlace by the one writer of nf.
func (m *Market) changeInPlace(ctx context.Context, compute *openstack.Compute, region string, nf flavor.NovaFlavor, spec flavor.Spec) error {
	w, err := m.writing(ctx, region, nf.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	return m.inPlace(ctx, w, compute, nf, spec)
}

func publicNode(name, region string) error {
	return flavor.Conflict("%q in %s is a node of a public flavor: its name and sizes may not change; create another flavor instead", name, region)
}

// unchangeableInRegion refuses a change of what a private flavor's PUT does not
// change; the same value again is fine.
func unchangeableInRegion(f flavor.Flavor, patch flavor.Patch) error {
	changes := func(said *bool, is bool) bool { return said != nil && *said != is }
	switch {
	case patch.ID != nil && *patch.ID != f.ID:
		return flavor.Invalid("id: an id may not change")
	case changes(patch.Public, f.Public):
		return flavor.Invalid("public: may not change here; PUT /v1/flavors/{id} publishes")
	case changes(patch.Promoted, f.Promoted):
		return flavor.Invalid("promoted: may not change here; PUT /v1/flavors/{id} promotes")
	case changes(patch.Retired, f.Retired):
		return flavor.Invalid("retired: may not change here; PUT /v1/promotedflavors/{id} retires")
	case patch.Nodes != nil && !sameNodes(*patch.Nodes, f.Nodes):
		return flavor.Invalid("nodes: may not change here; PUT /v1/flavors/{id} installs")
	}
	return patch.AcceleratorsUnchanged(f.Spec)
}

// inPlace changes the description and the extra specs of nf to spec's: both or,
// as far as Nova lets us, none.
func (m *Market) inPlace(ctx context.Context, w *writer, compute *openstack.Compute, nf flavor.NovaFlavor, spec flavor.Spec) error {
	change := inNova{region: w.region, id: nf.ID, before: nf.Audited(), after: spec.Audited()}
	if nf.Equal(spec) {
		return nil
	}
	if err := m.begin(ctx, change); err != nil {
		return err
	}
	if err := w.sure(ctx); err != nil {
		return err
	}
	if err := m.putInPlace(ctx, compute, nf, spec); err != nil {
		return err
	}
	nf.Spec = spec
	w.has(nf)
	m.done(ctx, change)
	return nil
}

func (m *Market) putInPlace(ctx context.Context, compute *openstack.Compute, nf flavor.NovaFlavor, spec flavor.Spec) error {
	described := nf.Description != spec.Description
	if described {
		if err := compute.Describe(ctx, nf.ID, spec.Description); err != nil {
			return err
		}
	}
	without := nf.Spec
	without.Description = spec.Description
	if without.Equal(spec) {
		return nil
	}
	err := compute.SetExtraSpecs(ctx, nf.ID, spec.ExtraSpecs)
	if err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if undo := compute.SetExtraSpecs(ctx, nf.ID, nf.ExtraSpecs); undo != nil {
		m.log.ErrorContext(ctx, "extra specs are half changed", "id", nf.ID, "error", undo.Error())
	}
	if described {
		if undo := compute.Describe(ctx, nf.ID, nf.Description); undo != nil {
			m.log.ErrorContext(ctx, "a description stays changed", "id", nf.ID, "error", undo.Error())
		}
	}
	return err
}

// DeleteRegionFlavor deletes a flavor from the region. A node of a public
// flavor goes as with DELETE /v1/flavors/{id}.
func (m *Market) DeleteRegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, id string) error {
	r, compute, err := m.delegated(ctx, p, region, token)
	if err != nil {
		return err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	nf, err := compute.Get(ctx, id)
	switch {
	case flavor.CodeOf(err) == flavor.CodeNotFound:
		// A node that is gone from Nova already still has a row to go.
		if !p.Can(flavor.DeleteFlavor, region) {
			return err // it may be there, hidden from this token
		}
		for _, f := range cat.Flavors {
			d, drifted := cat.DriftIn(f.ID, region)
			row := func(i flavor.Installation) bool { return i.Region == region && i.NodeID == id }
			if slices.ContainsFunc(cat.Installed(f.ID), row) || drifted && d.NodeID == id {
				return m.removeOne(ctx, p, f, &look{region: r})
			}
		}
		return err
	case err != nil:
		return err
	}
	f, public := cat.ByName(nf.Name)
	public = public && f.Equal(nf.Spec)
	// One that was a node, and was changed since, may be the last of its flavor.
	bound := slices.ContainsFunc(cat.In(region), func(i flavor.Installation) bool { return i.NodeID == id })
	switch {
	case (public || bound) && !p.Can(flavor.DeleteFlavor, region):
		return flavor.Forbidden("%q in %s is a node of a public flavor, and %s does not own %s", nf.Name, region, p.Name, region)
	case !public:
		return m.deleteUnlisted(ctx, compute, region, nf.Spec, id)
	}
	return m.removing(ctx, p, f, &look{region: r}, func(ctx context.Context) error {
		if err := m.removeNode(ctx, compute, f, region, id); err != nil {
			return err
		}
		return m.dropIfNowhere(ctx, f.ID)
	})
}
