package marketplace

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

// DeleteFlavor removes a flavor from the one region of p's that has it, or from
// node. A public one leaves the catalogue with its last node, unless promoted.
func (m *Market) DeleteFlavor(ctx context.Context, p flavor.Principal, id, node string) error {
	f, err := m.find(ctx, p, id, node, true)
	if err != nil {
		return err
	}
	if f.region != "" {
		return m.deletePrivate(ctx, f)
	}
	if node != "" {
		if err := p.May(flavor.DeleteFlavor, node); err != nil {
			return err
		}
	}
	regions, err := m.regions(ctx)
	if err != nil {
		return err
	}
	mine := slices.DeleteFunc(where(p, flavor.DeleteFlavor, regions), func(r flavor.Region) bool { return node != "" && r.Name != node })
	looks := m.look(ctx, mine, alone)
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	var has []string
	var down *look
	for _, r := range mine {
		l := looks[r.Name]
		_, there := l.node(f.Flavor)
		switch {
		case there, noted(cat, f.ID, r.Name): // also one that vanished: its row is to go
			has = append(has, r.Name)
		case l.err != nil:
			down = l
		}
	}
	switch {
	case len(has) > 1:
		return flavor.Invalid("node: %q is in %s: say which with ?node=REGION", f.Name, strings.Join(has, ", "))
	case len(has) == 1:
		return m.removeOne(ctx, p, f.Flavor, looks[has[0]])
	case f.Promoted && node != "" && m.policy.Installs(f.Flavor, node):
		// It is not there yet, and is not to be.
		return m.refuse(ctx, p, f.Flavor, node)
	case down != nil:
		return down.err
	case p.Can(flavor.DropFlavor) && !f.Promoted && node == "":
		// No region has it: what is left is a line in the catalogue.
		return m.dropIfNowhere(ctx, f.ID)
	}
	if node != "" {
		return flavor.Forbidden("%s does not have %q", node, f.Name)
	}
	return flavor.Forbidden("%s owns no region that has %q", p.Name, f.Name)
}

// noted says whether it is written down that a region has a flavor, or had it
// until somebody deleted it.
func noted(cat *store.Catalogue, id, region string) bool {
	_, drifted := cat.DriftIn(id, region)
	_, installed := cat.InstalledIn(id, region)
	return drifted || installed
}

// refuse notes that p does not want f in region, where it would be installed by
// itself.
func (m *Market) refuse(ctx context.Context, p flavor.Principal, f flavor.Flavor, region string) error {
	return m.store.Write(ctx, func(tx *store.Tx) error { return refuseIn(tx, p, f, region, m.now()) })
}

// refuseIn overtakes what is to be installed, and a promoted flavor is not to come
// back by itself either.
func refuseIn(tx *store.Tx, p flavor.Principal, f flavor.Flavor, region string, now time.Time) error {
	if !f.Promoted {
		return tx.CancelInstalls(f.ID, region)
	}
	return tx.PutRefusal(flavor.Refusal{FlavorID: f.ID, Region: region, Caller: p.Provider + "/" + p.ID, At: now})
}

// removeOne removes f from one region for good, as p wants it, and waits for that.
func (m *Market) removeOne(ctx context.Context, p flavor.Principal, f flavor.Flavor, l *look) error {
	return m.removing(ctx, p, f, l, func(ctx context.Context) error { return m.removeFrom(ctx, f, l) })
}

// removing writes down that p wants f out of l's region, and that it is not to come
// back by itself, does it, and notes what came of it.
func (m *Market) removing(ctx context.Context, p flavor.Principal, f flavor.Flavor, l *look, do func(context.Context) error) error {
	o := operation(flavor.Remove, p, f, []string{l.region.Name})
	err := m.store.Write(ctx, func(tx *store.Tx) (err error) {
		if err := refuseIn(tx, p, f, l.region.Name, m.now()); err != nil {
			return err
		}
		o, err = tx.InsertOperation(o, m.Claim())
		return err
	})
	if err != nil {
		return err
	}
	if err = l.err; err == nil {
		err = do(ctx)
	}
	m.endNode(ctx, o, o.Nodes[0], err, false)
	return err
}

// removeFrom removes f from a region as its service account, then from the
// catalogue where that was its last node.
func (m *Market) removeFrom(ctx context.Context, f flavor.Flavor, l *look) error {
	if l.err != nil {
		return l.err
	}
	nodeID, err := m.nodeID(ctx, f, l)
	if err != nil {
		return err
	}
	if err := m.removeNode(ctx, m.clouds.Service(l.region), f, l.region.Name, nodeID); err != nil {
		return err
	}
	return m.dropIfNowhere(ctx, f.ID)
}

// nodeID is the id of f's node in l's region: as Nova says, else as written down.
func (m *Market) nodeID(ctx context.Context, f flavor.Flavor, l *look) (string, error) {
	if nf, there := l.node(f); there {
		return nf.ID, nil
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return "", err
	}
	if i, installed := cat.InstalledIn(f.ID, l.region.Name); installed {
		return i.NodeID, nil
	}
	if d, drifted := cat.DriftIn(f.ID, l.region.Name); drifted {
		return d.NodeID, nil
	}
	return f.ID, nil
}

func (m *Market) deletePrivate(ctx context.Context, f found) error {
	r, err := m.region(ctx, f.region)
	if err != nil {
		return err
	}
	return m.deleteUnlisted(ctx, m.clouds.Service(r), f.region, f.Spec, f.ID)
}

// deleteUnlisted deletes a flavor that is in no catalogue; already gone is fine.
func (m *Market) deleteUnlisted(ctx context.Context, compute *openstack.Compute, region string, spec flavor.Spec, id string) error {
	w, err := m.writing(ctx, region, spec.Name)
	if err != nil {
		return err
	}
	defer w.done(ctx)
	change := inNova{region: region, id: id, before: spec.Audited()}
	if err := m.begin(ctx, change); err != nil {
		return err
	}
	if err := w.sure(ctx); err != nil {
		return err
	}
	if err := compute.Delete(ctx, id); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
		return err
	}
	w.hasNot(id)
	var bound []flavor.Installation
	err = m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if err := w.hold(tx); err != nil {
			return err
		}
		rows, err := tx.InstallationsIn(region)
		if err != nil {
			return err
		}
		// It was a node once, and was changed since.
		bound = slices.DeleteFunc(rows, func(i flavor.Installation) bool { return i.NodeID != id })
		for _, i := range bound {
			if err := m.refuseBound(ctx, tx, i); err != nil {
				return err
			}
			if err := tx.DeleteInstallation(i.FlavorID, region); err != nil {
				return err
			}
			if _, err := tx.DropDrift(i.FlavorID, region); err != nil {
				return err
			}
		}
		if err := tx.Audit(change.line(flavor.Success)); err != nil {
			return err
		}
		return forgetChange(tx, region, id)
	})
	if err != nil {
		return err
	}
	for _, i := range bound {
		if err := m.dropIfNowhere(ctx, i.FlavorID); err != nil {
			return err
		}
	}
	return nil
}

// refuseBound notes that what is deleted on purpose is not to come back by itself.
func (m *Market) refuseBound(ctx context.Context, tx *store.Tx, i flavor.Installation) error {
	f, err := tx.Flavor(i.FlavorID)
	if err != nil {
		return err
	}
	by, _ := flavor.ActorOf(ctx)
	return refuseIn(tx, flavor.Principal{Provider: by.Provider, ID: by.ID}, f, i.Region, m.now())
}

// forgetChange drops the stored change of a flavor that was deleted on purpose:
// nothing is to bring it back.
func forgetChange(tx *store.Tx, region, id string) error {
	changes, err := tx.Changes()
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Region == region && c.FlavorID == id {
			if err := tx.DeleteChange(c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeletePromoted takes a promoted flavor out of the catalogue. While a node has
// it that is not allowed, unless uninstall removes it from its nodes first.
func (m *Market) DeletePromoted(ctx context.Context, p flavor.Principal, id string, uninstall bool) error {
	if err := p.May(flavor.DeletePromoted); err != nil {
		return err
	}
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return err
	}
	f, ok := cat.ByID(id)
	if !ok {
		return notPromoted(id)
	}
	if !f.Promoted {
		return flavor.Errorf(flavor.CodeNotAllowed, "%q is not promoted: DELETE /v1/flavors/%s removes it from a region", f.Name, id)
	}
	regions, err := m.regions(ctx)
	if err != nil {
		return err
	}
	looks := m.look(ctx, regions, alone)
	nodes := nodesOf(f, looks)
	if len(nodes) > 0 && !uninstall {
		return flavor.Errorf(flavor.CodeNotAllowed, "%q is installed in %s: ?uninstall=true removes it from there first", f.Name, strings.Join(nodes, ", "))
	}
	none := f.Nodes // they have just been asked, and are none
	if uninstall {
		removed, err := m.uninstall(ctx, p, f, looks)
		if err != nil {
			return err
		}
		none = without(none, removed)
	}
	return m.store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		now, err := tx.Flavor(id)
		if flavor.CodeOf(err) == flavor.CodeNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if added := without(now.Nodes, none); len(added) > 0 {
			return flavor.Errorf(flavor.CodeNotAllowed, "%q was installed in %s meanwhile", now.Name, strings.Join(added, ", "))
		}
		return tx.DeleteFlavor(id)
	})
}

// uninstall removes f from all its nodes side by side, and tells which. A node
// that we created and someone changed since is told, and left; one that was
// adopted is theirs.
func (m *Market) uninstall(ctx context.Context, p flavor.Principal, f flavor.Flavor, looks map[string]*look) (removed []string, err error) {
	cat, err := m.store.Catalogue(ctx)
	if err != nil {
		return nil, err
	}
	nodes := nodesOf(f, looks)
	for _, i := range cat.Installed(f.ID) {
		if i.Created && !slices.Contains(nodes, i.Region) {
			nodes = append(nodes, i.Region)
		}
	}
	var targets []*look
	var regions []string
	for _, n := range nodes {
		if l := looks[n]; l != nil {
			targets, regions = append(targets, l), append(regions, n)
		}
	}
	if len(targets) == 0 {
		return nodes, nil
	}
	o, err := m.want(ctx, operation(flavor.Unlist, p, f, regions))
	if err != nil {
		return nil, err
	}
	return nodes, several("not removed everywhere; the flavor stays in the catalogue", m.workOff(ctx, o, targets, false, func(ctx context.Context, l *look) error {
		nodeID, err := m.nodeID(ctx, f, l)
		if err != nil {
			return err
		}
		return m.removeNode(ctx, m.clouds.Service(l.region), f, l.region.Name, nodeID)
	}))
}
