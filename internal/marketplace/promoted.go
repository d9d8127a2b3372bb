package marketplace

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// PromotedFlavors are the recommended flavors, in order, with the nodes known.
// Nothing is called but the database; callers do not change the slice.
func (m *Market) PromotedFlavors(ctx context.Context) ([]flavor.Flavor, error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	return cat.Promoted, nil
}

// PromotedFlavor is one of them; CodeNotFound where id is not promoted.
func (m *Market) PromotedFlavor(ctx context.Context, id string) (flavor.Flavor, error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return flavor.Flavor{}, err
	}
	f, ok, err := m.byID(ctx, cat, id)
	if err == nil && (!ok || !f.Promoted) {
		err = notPromoted(id)
	}
	if err != nil {
		return flavor.Flavor{}, err
	}
	return f, nil
}

// byID finds a flavor by its id in the catalogue. One that is not in the snapshot
// may be a moment old and another process's: whoever was just told its id gets it.
func (m *Market) byID(ctx context.Context, cat *store.Catalogue, id string) (f flavor.Flavor, there bool, err error) {
	if f, there = cat.ByID(id); there {
		return f, true, nil
	}
	err = m.store.Read(ctx, func(tx *store.Tx) error {
		f, err = tx.Flavor(id)
		return err
	})
	if flavor.CodeOf(err) == flavor.CodeNotFound {
		return flavor.Flavor{}, false, nil
	}
	return f, err == nil, err
}

func notPromoted(id string) error {
	return flavor.NotFound("no promoted flavor has the id %q: GET /v1/promotedflavors lists them", id)
}

// CreatePromoted puts a flavor straight into the catalogue; no Nova is called.
func (m *Market) CreatePromoted(ctx context.Context, p flavor.Principal, patch flavor.Patch) (flavor.Flavor, error) {
	if err := p.May(flavor.CreatePromoted); err != nil {
		return flavor.Flavor{}, err
	}
	spec, err := patch.Spec()
	if err != nil {
		return flavor.Flavor{}, err
	}
	f := flavor.Flavor{Spec: spec, Promoted: true, Public: true, Nodes: []string{}}
	err = m.store.Write(ctx, func(tx *store.Tx) error {
		if err := nameFree(tx, spec, ""); err != nil {
			return err
		}
		if f.ID, err = m.freeID(tx, patch.ID); err != nil {
			return err
		}
		return tx.InsertFlavor(f)
	})
	return f, err
}

// freeID is the id a POST asked for if it is a UUID and free in the catalogue,
// else a new one.
func (m *Market) freeID(tx *store.Tx, wanted *string) (string, error) {
	if wanted == nil || !flavor.IsUUID(*wanted) {
		return m.newID(), nil
	}
	switch _, err := tx.Flavor(*wanted); flavor.CodeOf(err) {
	case "":
		return m.newID(), nil
	case flavor.CodeNotFound:
		return *wanted, nil
	default:
		return "", err
	}
}

// nameFree refuses a name that a public flavor other than except has.
func nameFree(tx *store.Tx, spec flavor.Spec, except string) error {
	switch taken, err := tx.FlavorByName(spec.Name); {
	case flavor.CodeOf(err) == flavor.CodeNotFound:
		return nil
	case err != nil || taken.ID == except:
		return err
	case spec.Equal(taken.Spec):
		return flavor.Conflict("the catalogue has this very flavor already, with id %s", taken.ID)
	default:
		return nameTakenBy(taken, spec)
	}
}

func nameTakenBy(taken flavor.Flavor, spec flavor.Spec) error {
	return flavor.Conflict("the catalogue has another public flavor named %q (id %s): %s; choose another name",
		taken.Name, taken.ID, differing(spec, taken.Spec))
}

// ChangePromoted changes description and extra specs at any time, name and
// sizes while no region has it, and whether it is retired. A changed
// description or extra specs go on to the nodes that we created.
func (m *Market) ChangePromoted(ctx context.Context, p flavor.Principal, id string, patch flavor.Patch) (flavor.Flavor, error) {
	if err := p.May(flavor.ChangePromoted); err != nil {
		return flavor.Flavor{}, err
	}
	if err := patch.Validate(); err != nil {
		return flavor.Flavor{}, err
	}
	old, err := m.PromotedFlavor(ctx, id)
	if err != nil {
		return flavor.Flavor{}, err
	}
	if patch.ID != nil && *patch.ID != id {
		return flavor.Flavor{}, flavor.Invalid("id: an id may not change")
	}
	if err := patch.AcceleratorsUnchanged(old.Spec); err != nil {
		return flavor.Flavor{}, err
	}
	spec := patch.Apply(old.Spec)
	if err := spec.Validate(); err != nil {
		return flavor.Flavor{}, err
	}
	switch {
	case patch.Public != nil && !*patch.Public:
		return flavor.Flavor{}, flavor.Conflict("public: a promoted flavor stays public")
	case patch.Promoted != nil && !*patch.Promoted:
		return flavor.Flavor{}, flavor.Conflict("promoted: a flavor is not unpromoted; retire it (\"retired\": true) or DELETE it")
	case patch.Nodes != nil && !sameNodes(*patch.Nodes, old.Nodes):
		return flavor.Flavor{}, flavor.Errorf(flavor.CodeNotAllowed,
			"nodes: install it with PUT /v1/flavors/%s and remove it with DELETE /v1/flavors/%s?node=REGION", id, id)
	}
	inPlace := samePlace(old.Spec, spec)
	if !inPlace {
		nodes, err := m.nodesNow(ctx, old)
		if err != nil {
			return flavor.Flavor{}, err
		}
		if len(nodes) > 0 {
			return flavor.Flavor{}, installedThere(old.Name, nodes)
		}
	}
	spreads := inPlace && (patch.Description != nil || patch.ExtraSpecs != nil)
	var changed flavor.Flavor
	var o flavor.Operation
	err = m.store.Write(ctx, func(tx *store.Tx) error {
		now, err := tx.Flavor(id)
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			return notPromoted(id)
		}
		if err != nil {
			return err
		}
		changed = now
		changed.Spec = patch.Apply(now.Spec)
		if patch.Retired != nil {
			changed.Retired = *patch.Retired
		}
		if !samePlace(now.Spec, changed.Spec) {
			// Nodes that were known before have just been asked, and are none.
			if added := without(now.Nodes, old.Nodes); len(added) > 0 {
				return installedThere(now.Name, added)
			}
		}
		if err := nameFree(tx, changed.Spec, id); err != nil {
			return err
		}
		if err := m.staysInUnit(tx, now, changed); err != nil {
			return err
		}
		if err := tx.UpdateFlavor(changed); err != nil || !spreads {
			return err
		}
		o, err = m.wantSpread(tx, p, changed)
		return err
	})
	if err != nil || !spreads {
		return changed, err
	}
	err = m.spread(ctx, changed, o)
	m.recompare(ctx, changed.ID)
	return changed, err
}

// recompare finds which nodes of a flavor are none any more, now that the flavor is
// another.
func (m *Market) recompare(ctx context.Context, id string) {
	ctx = flavor.WithoutActor(context.WithoutCancel(ctx))
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		m.log.WarnContext(ctx, "the nodes of a changed flavor are compared with the next look only", "flavor", id, "error", err.Error())
		return
	}
	for _, i := range cat.Installed(id) {
		err = errors.Join(err, m.noteWritten(ctx, &writer{m: m, region: i.Region}))
	}
	if err != nil {
		m.log.WarnContext(ctx, "the nodes of a changed flavor are compared with the next look only", "flavor", id, "error", err.Error())
	}
	m.wake()
}

func installedThere(name string, nodes []string) error {
	return flavor.Conflict("%q is installed in %s, so only its description and extra specs may change; remove it there first, or promote a new flavor and retire this one",
		name, strings.Join(nodes, ", "))
}

// without is list with nothing of other.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

// samePlace says whether Nova can change one into the other in place: they
// differ in description and extra specs at most.
func samePlace(a, b flavor.Spec) bool {
	a.Description, a.ExtraSpecs = b.Description, b.ExtraSpecs
	return a.Equal(b)
}

func sameNodes(a, b []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(a))), b)
}

// nodesNow are the regions that have f: as their Novas say, and as was known
// last of those that cannot be asked.
func (m *Market) nodesNow(ctx context.Context, f flavor.Flavor) ([]string, error) {
	regions, err := m.regions(ctx)
	if err != nil {
		return nil, err
	}
	return nodesOf(f, m.look(ctx, regions, alone)), nil
}

// nodesOf is f's nodes as the looks tell, and as f.Nodes has those regions that
// could not be asked or were not.
func nodesOf(f flavor.Flavor, looks map[string]*look) []string {
	nodes := make([]string, 0, len(f.Nodes))
	for _, known := range f.Nodes {
		if l := looks[known]; l == nil || l.err != nil {
			nodes = append(nodes, known)
		}
	}
	for name, l := range looks {
		if l.err == nil {
			if _, there := l.node(f); there {
				nodes = append(nodes, name)
			}
		}
	}
	slices.Sort(nodes)
	return nodes
}

// wantSpread writes down that a change of f is to go on to the nodes we created;
// of an operation without nodes there are none.
func (m *Market) wantSpread(tx *store.Tx, p flavor.Principal, f flavor.Flavor) (o flavor.Operation, err error) {
	rows, err := tx.Installations(f.ID)
	if err != nil {
		return o, err
	}
	var regions []string
	for _, i := range rows {
		if i.Created {
			regions = append(regions, i.Region)
		}
	}
	if len(regions) == 0 {
		return o, nil
	}
	return tx.InsertOperation(operation(flavor.Spread, p, f, regions), m.Claim())
}

// spread brings the description and extra specs of f to the nodes of o. The
// catalogue has them already, so those that fail for a while are tried again.
func (m *Market) spread(ctx context.Context, f flavor.Flavor, o flavor.Operation) error {
	looks := make([]*look, len(o.Nodes))
	for i, n := range o.Nodes {
		r, err := m.region(ctx, n.Region)
		looks[i] = &look{region: r, err: err}
		if err != nil {
			looks[i].region.Name = n.Region
		}
	}
	return several("the catalogue is changed, but not every node", m.workOff(ctx, o, looks, true, func(ctx context.Context, l *look) error {
		return m.spreadTo(ctx, f, l.region)
	}))
}

// spreadTo brings the description and extra specs of f to the node we created in r.
func (m *Market) spreadTo(ctx context.Context, f flavor.Flavor, r flavor.Region) error {
	w, err := m.writing(ctx, r.Name, f.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	// Another manager may have changed it again, and spread that already.
	if f, err = m.PromotedFlavor(ctx, f.ID); err != nil {
		return err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	row, _ := cat.InstalledIn(f.ID, r.Name)
	if !row.Created {
		return nil // it is no node any more
	}
	compute := m.clouds.Service(r)
	nf, err := compute.Get(ctx, row.NodeID)
	switch {
	case flavor.CodeOf(err) == flavor.CodeNotFound:
		return nil
	case err != nil:
		return err
	case !samePlace(nf.Spec, f.Spec):
		return flavor.Conflict("%s: the flavor with id %q is not %q any more: %s", r.Name, nf.ID, f.Name, differing(f.Spec, nf.Spec))
	}
	return m.inPlace(ctx, w, compute, nf, f.Spec)
}
